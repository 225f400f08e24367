"""Programs whose loop that is worth a map is known: each has one, marked `# here`, and others that are not."""

from __future__ import annotations

WORK = """
def work(n):
    total = 0
    for i in range(n):
        total += i * i % 7
    return total
"""

COMPREHENSION = f"""
{WORK}

def main():
    results = [work(200_000 + n) for n in range(60)]  # here
    print(sum(results))

main()
"""

APPEND = f"""
{WORK}

def smooth(values):
    previous = 0.0
    smoothed = []
    for value in values:
        previous = 0.9 * previous + 0.1 * value
        smoothed.append(previous)
    return smoothed

def main():
    smoothed = smooth(list(range(400_000)))
    results = []
    for n in range(50):  # here
        size = 200_000 + n
        if n % 10 == 3:
            continue
        results.append(work(size))
    print(len(smoothed), sum(results))

if __name__ == "__main__":
    main()
"""

NESTED = """
def distance(a, b):
    total = 0
    for x, y in zip(a, b):
        total += (x - y) ** 2
    return total

def main():
    rows = [[(i * j) % 101 for j in range(60)] for i in range(260)]
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
"""

MAP = f"""
{WORK}

sizes = [200_000 + n for n in range(60)]
print(sum(map(work, sizes)))  # here
"""

FRAME = """
import pandas as pd

def score(row):
    total = 0
    for i in range(400):
        total += (row["a"] * i + row["b"]) % 7
    return total

def main():
    frame = pd.DataFrame({"a": range(800), "b": range(800)})
    scores = frame.apply(score, axis=1)  # here
    print(scores.sum(), list(scores.index[:3]), scores.dtype)

main()
"""

METHOD = f"""
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
model.run(55)
print(sum(model.scores))
"""

GENERATOR = f"""
{WORK}

def produce(count):
    for n in range(count):
        yield 200_000 + n

print(sum(work(n) for n in produce(60)))  # here
"""

FILES = """
import re, sys
from pathlib import Path

def main(folder):
    for number in range(25):
        (folder / f"{number}.txt").write_text(f"word{number} another, and more; " * 30_000)
    counts = {}
    for path in sorted(folder.glob("*.txt")):  # here
        text = path.read_text()
        words = re.findall(r"[a-z]+[0-9]*", text)
        counts[path.name] = len(set(words)), len(words)
    print(len(counts), counts["7.txt"])

main(Path(sys.argv[1]))
"""

WAITING = """
import time

def fetch(number):
    time.sleep(0.03)
    return number * 2

def main():
    pages = []
    for number in range(40):  # here
        pages.append(fetch(number))
    print(pages)

main()
"""

TOTAL = f"""
{WORK}

def prepare():
    values = [1]
    for i in range(200_000):
        values.append((values[-1] * 31 + 7) % 1_000_003)
    return values

def main():
    values = prepare()
    total = 0.0
    count = 0
    for n in values[:60]:  # here
        total += work(200_000 + n % 5) / 3
        count += 1
    print(total, count)

main()
"""

#: name -> (source, pattern)
KNOWN = {
    "comprehension": (COMPREHENSION, "processes"),
    "append": (APPEND, "processes"),
    "nested": (NESTED, "processes"),
    "map": (MAP, "processes"),
    "frame": (FRAME, "processes"),
    "method": (METHOD, "processes"),
    "generator": (GENERATOR, "processes"),
    "files": (FILES, "processes"),
    "waiting": (WAITING, "threads"),
    "total": (TOTAL, "processes"),
}


def line_of(source: str) -> int:
    """The line that is marked."""
    return next(number for number, line in enumerate(source.splitlines(), 1) if line.endswith("# here"))


def patched(source: str, diff: str) -> str:
    """The source after a unified diff."""
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
        elif line.startswith("-"):
            assert lines[at] == line[1:]
            at += 1
        elif line.startswith(" "):
            assert lines[at] == line[1:]
            done.append(line[1:])
            at += 1
    return "".join(done + lines[at:])
