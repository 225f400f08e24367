"""What `allcores profile` costs a program, beside cProfile, py-spy and Scalene where they are installed.

    python -m benchmarks.advice.run --profile [--rounds N] [-o FILE]

Each program writes down the seconds, of the clock and of its process' CPU, between its first line and its last: what a
profiler costs before and after is told apart, as "start". In each round every contender runs each program once, in
shuffled order. The table has medians of ratios within a round, and their quartiles; on a busy machine
read the CPU column. `pip install py-spy scalene` brings the others (the extra `bench` has both).
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CLOCK = """
import atexit, time
_began = time.perf_counter(), time.process_time()
def _tell():
    with open("seconds.txt", "w") as file:
        file.write(f"{time.perf_counter() - _began[0]} {time.process_time() - _began[1]}")
"""
#: name -> program; each takes about two seconds of CPU
PROGRAMS = {
    "Python loop": "def f(n):\n    t = 0\n    for i in range(n):\n        t += i * i % 7\n    return t\n"
    "out = []\nfor n in range(120):\n    out.append(f(200_000))\n",
    "small calls": "def g(x):\n    return x + 1\ndef f(n):\n    t = 0\n    for i in range(n):\n        t = g(t)\n"
    "    return t\nout = [f(200_000) for n in range(100)]\n",
    "deep recursion": "def f(n):\n    return 1 if n < 2 else f(n - 1) + f(n - 2)\ndef deep(n):\n"
    "    return f(18) if n == 0 else deep(n - 1)\nout = [deep(200) for n in range(300)]\n",
    "regex": "import re\ntext = 'ab 12 ' * 100_000\nout = [len(re.findall(r'\\w+', text)) for n in range(60)]\n",
    "hashes": "import hashlib\ndata = b'x' * 1_000_000\nout = [hashlib.sha256(data).hexdigest() for n in range(800)]\n",
}


def commands() -> dict[str, list[str]]:
    """How each contender runs a script."""
    python = sys.executable
    found = {
        "python": [python],
        "allcores profile": [python, "-m", "allcores", "profile", "--report", "report.txt"],
        "cProfile": [python, "-m", "cProfile", "-o", "out.prof"],
    }
    spy = shutil.which("py-spy", path=f"{Path(python).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if spy is not None:
        found["py-spy"] = [spy, "record", "-r", "100", "-f", "raw", "-o", "out.txt", "--", python]
    if importlib.util.find_spec("scalene") is not None:
        found["scalene"] = [python, "-m", "scalene", "run", "--cpu-only", "-o", "scalene.json"]
    return found


def seconds(command: list[str], script: Path) -> tuple[float, float, float]:
    """Seconds of the clock and of CPU inside of a program, and of the clock from outside."""
    told = script.with_name("seconds.txt")
    told.unlink(missing_ok=True)
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    began = time.perf_counter()
    done = subprocess.run(
        [*command, script.name], cwd=script.parent, env=environ, capture_output=True, text=True, timeout=300
    )
    whole = time.perf_counter() - began
    if not told.exists():
        raise RuntimeError(f"{command}: {done.stderr[-500:]}")
    clock, cpu = map(float, told.read_text().split())
    return clock, cpu, whole


def measure(rounds: int, programs: int = len(PROGRAMS)) -> list[dict[str, object]]:
    """Rows of a program and a contender, with the ratios to plain python of each round; of the first programs."""
    order = random.Random(7)
    contenders = commands()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as place:
        for name, source in list(PROGRAMS.items())[:programs]:
            script = Path(place, "program.py")
            script.write_text(f"{CLOCK}\n{source}\n_tell()\n")
            ratios: dict[str, list[tuple[float, float, float]]] = {each: [] for each in contenders}
            for _ in range(rounds):
                turn = list(contenders)
                order.shuffle(turn)
                taken: dict[str, tuple[float, float, float]] = {}
                for each in turn:
                    try:
                        taken[each] = seconds(contenders[each], script)
                    except (RuntimeError, subprocess.TimeoutExpired) as error:
                        print(f"{each}: {error}", file=sys.stderr)
                for each, (clock, cpu, whole) in taken.items():
                    plain = taken.get("python")
                    if plain is not None:
                        ratios[each].append((clock / plain[0], cpu / plain[1], whole - clock))
            for each, values in ratios.items():
                if values:
                    rows.append({"program": name, "contender": each, "ratios": values})
    return rows


def table(rows: list[dict[str, object]]) -> str:
    """The rows as Markdown."""
    lines = ["| program | contender | clock | CPU | quartiles of CPU | start, s |", "|---|---|---|---|---|---|"]
    for row in rows:
        values = row["ratios"]
        assert isinstance(values, list)
        clock, cpu, start = (sorted(part) for part in zip(*values, strict=True))
        low, high = cpu[len(cpu) // 4], cpu[-1 - len(cpu) // 4]
        lines.append(
            f"| {row['program']} | {row['contender']} | {statistics.median(clock):.2f} | {statistics.median(cpu):.3f} |"
            f" {low:.3f} to {high:.3f} | {statistics.median(start):.2f} |"
        )
    return "\n".join(lines)


def summary(rows: list[dict[str, object]]) -> dict[str, float]:
    """Contender -> the median of its CPU seconds over those of plain Python, over all programs and rounds."""
    found: dict[str, list[float]] = {}
    for row in rows:
        values = row["ratios"]
        assert isinstance(values, list)
        found.setdefault(str(row["contender"]), []).extend(cpu for _, cpu, _ in values)
    return {contender: round(statistics.median(values), 4) for contender, values in found.items()}
