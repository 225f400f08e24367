"""Ten programs as people write them, of some seconds each: the loop that is worth a map is marked `# here`.

None was written for a profiler. In the one without a mark nothing is worth it: its library uses the cores already.
The tests of the profiler run some of them smaller.
"""

from __future__ import annotations

WORK = """
def work(n):
    total = 0
    for i in range(n):
        total += i * i % 7
    return total
"""

_SOURCES = {
    "list comprehension": f"""
{WORK}

def main():
    table = [[i * j for j in range(300)] for i in range(300)]
    results = [work(200_000 + n) for n in range(SIZE)]  # here
    print(sum(results), len(table))

main()
""",
    "nested loops": """
def distance(a, b):
    total = 0
    for x, y in zip(a, b):
        total += (x - y) ** 2
    return total

def main():
    rows = [[(i * j) % 101 for j in range(60)] for i in range(SIZE)]
    nearest = {}
    for i, row in enumerate(rows):  # here
        best = None
        for j, other in enumerate(rows):
            if i != j:
                d = distance(row, other)
                if best is None or d < best:
                    best = d
        nearest[i] = best
    print(sum(nearest.values()), len(nearest))

main()
""",
    "a frame's apply": """
import pandas as pd

def score(row):
    total = 0
    for i in range(400):
        total += (row["a"] * i + row["b"]) % 7
    return total

def main():
    frame = pd.DataFrame({"a": range(SIZE), "b": range(SIZE)})
    scores = frame.apply(score, axis=1)  # here
    print(scores.sum(), list(scores.index[:3]), scores.dtype)

main()
""",
    "trees that are fitted": """
import numpy as np
from sklearn.tree import DecisionTreeRegressor

def main():
    numbers = np.random.default_rng(3).random((4_000, 12))
    target = numbers[:, 0] + numbers[:, 1] ** 2
    scores = {}
    for depth in range(2, 2 + SIZE):  # here
        tree = DecisionTreeRegressor(max_depth=depth, random_state=0)
        tree.fit(numbers[:3000], target[:3000])
        scores[depth] = tree.score(numbers[3000:], target[3000:])
    print(max(scores, key=scores.get))

main()
""",
    "regular expressions over files": """
import re, sys
from pathlib import Path

def main(folder):
    for number in range(SIZE):
        (folder / f"{number}.txt").write_text(f"word{number} another, and more; " * 30_000)
    counts = {}
    for path in sorted(folder.glob("*.txt")):  # here
        text = path.read_text()
        words = re.findall(r"[a-z]+[0-9]*", text)
        counts[path.name] = len(set(words)), len(words)
    print(len(counts), counts["7.txt"])

main(Path(sys.argv[1]))
""",
    "programs that are called": """
import subprocess, sys

def main():
    outputs = []
    for number in range(SIZE):  # here
        code = f"import time; time.sleep(0.05); print({number})"
        done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
        outputs.append(done.stdout.strip())
    print(" ".join(outputs))

main()
""",
    "a chain of generators": f"""
{WORK}

def read(count):
    for n in range(count):
        yield f"{{200_000 + n}}\\n"

def parse(lines):
    for line in lines:
        yield int(line)

print(sum(work(n) for n in parse(read(SIZE))))  # here
""",
    "a method": f"""
{WORK}

class Model:
    def __init__(self):
        self.scores = []
        self.offset = 3

    def score(self, n):
        return work(n) + self.offset

    def run(self, count):
        for n in range(count):  # here
            self.scores.append(self.score(200_000 + n))

model = Model()
model.run(SIZE)
print(sum(model.scores))
""",
    "matrices, parallel already": """
import numpy as np

def main():
    matrix = np.full((900, 900), 0.5)
    total = 0.0
    for number in range(SIZE):
        total += float((matrix @ matrix)[number, 0])
    print(total)

main()
""",
    "waiting for answers": """
import time

def fetch(number):
    time.sleep(0.03)
    return number * 2

def main():
    pages = []
    for number in range(SIZE):  # here
        pages.append(fetch(number))
    print(pages)

main()
""",
}
#: how often the loop runs: seconds of each program
_SIZES = {
    "list comprehension": 150,
    "nested loops": 560,
    "a frame's apply": 2_500,
    "regular expressions over files": 60,
    "programs that are called": 40,
    "a chain of generators": 150,
    "a method": 150,
    "matrices, parallel already": 60,
    "waiting for answers": 80,
    "trees that are fitted": 160,
}
#: those whose diff is applied, and whose gain is measured
CHANGED = ("list comprehension", "nested loops", "regular expressions over files", "a method", "waiting for answers")
#: what has to be importable for some of them
NEEDS = {"a frame's apply": "pandas", "trees that are fitted": "sklearn", "matrices, parallel already": "numpy"}


def program(name: str, size: int | None = None) -> str:
    """The source of one.

    Args:
        name: Of `PROGRAMS`.
        size: How often its loop runs; None for some seconds.
    """
    return f"SIZE = {_SIZES[name] if size is None else size}\n{_SOURCES[name]}"


PROGRAMS = {name: program(name) for name in _SOURCES}


def line_of(source: str) -> int | None:
    """The line that is marked; None without."""
    return next((number for number, line in enumerate(source.splitlines(), 1) if line.endswith("# here")), None)


def patched(source: str, diff: str) -> str:
    """The source after a unified diff of it, which has to fit."""
    lines = source.splitlines(keepends=True)
    done: list[str] = []
    at = 0
    for line in diff.splitlines(keepends=True)[2:]:
        if line.startswith("@@"):
            first = int(line.split()[1][1:].partition(",")[0])
            done += lines[at : first - 1]
            at = first - 1
        elif line.startswith("+"):
            done.append(line[1:])
        elif line[0] in " -":
            assert lines[at] == line[1:], (lines[at], line)
            done += lines[at : at + 1] if line[0] == " " else []
            at += 1
    return "".join(done + lines[at:])
