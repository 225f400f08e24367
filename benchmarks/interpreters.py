"""What workers that are interpreters cost, beside processes and threads: start, memory, items, and work in Python.

python benchmarks/interpreters.py              prints a table; needs Python 3.14 or later
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks.processes import RUN, environment  # noqa: E402  (the path must be set first)
from benchmarks.quiet import Quiet  # noqa: E402
from benchmarks.rows import Spread  # noqa: E402
from benchmarks.tasks import add_one  # noqa: E402

BACKENDS = ("processes", "interpreters", "threads")
ROUNDS = 5
#: for a quiet moment, for each sample
PATIENCE_S = 6.0
#: workers whose memory is compared with that of one
MANY = 9
ITEMS = 200_000
#: items of work in Python, and turns of the loop in each: about 2 ms
WORK, TURNS = 400, 50_000


def count(turns: int) -> int:
    """Work in Python alone."""
    total = 0
    for number in range(turns):
        total += number & 3
    return total


def measured(backend: str) -> dict[str, float]:
    """All figures, in this program. Nothing of allcores was loaded before."""
    import allcores

    _ = allcores.Pool
    started = time.perf_counter()
    with allcores.Pool(2, backend=backend) as pool:
        assert pool.submit(add_one, 1).result() == 2
        first_ms = (time.perf_counter() - started) * 1e3
        list(pool.imap(add_one, range(1_000)))
        started = time.perf_counter()
        assert sum(pool.imap(add_one, range(ITEMS))) == ITEMS * (ITEMS + 1) // 2
        item_us = (time.perf_counter() - started) / ITEMS * 1e6
        started = time.perf_counter()
        alone = [count(TURNS) for _ in range(WORK)]
        loop_s = time.perf_counter() - started
        started = time.perf_counter()
        assert pool.map(count, [TURNS] * WORK) == alone
        speedup = loop_s / (time.perf_counter() - started)
    one, many = (_memory_mb(backend, workers) for workers in (1, MANY))
    return {"first_ms": first_ms, "worker_mb": (many - one) / (MANY - 1), "item_us": item_us, "speedup": speedup}


def _memory_mb(backend: str, workers: int) -> float:
    """Of this program and all that it has started, shared pages by halves, when each worker has done something."""
    import allcores

    with allcores.Pool(workers, backend=backend) as pool:
        # Long enough that all are at it.
        pool.map(count, [TURNS] * (20 * workers), chunk=1)
        parents = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
        family = {os.getpid()}
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        return sum(map(_pss_mb, family))


def _pss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def _run(backend: str, runs: list[dict[str, float]]) -> float:
    """One more in a program of its own; its number."""
    command = [sys.executable, __file__, backend]
    done = subprocess.run(
        command, env=environment(RUN), stdout=subprocess.PIPE, text=True, timeout=120, check=True, cwd=ROOT
    )
    runs.append(json.loads(done.stdout))
    return len(runs) - 1


def main() -> int:
    """Each backend in a program of its own, in turn; the table on standard output."""
    if len(sys.argv) > 1:
        print(json.dumps(measured(sys.argv[1])))
        return 0
    if importlib.util.find_spec("concurrent.interpreters") is None:
        print(f"interpreters need Python 3.14 or later, and this is {platform.python_version()}: nothing is measured")
        return 0
    found: dict[str, list[dict[str, float]]] = {backend: [] for backend in BACKENDS}
    quiet = Quiet(PATIENCE_S)
    for turn in range(ROUNDS):
        for backend in (*BACKENDS[turn % 3 :], *BACKENDS[: turn % 3]):
            runs: list[dict[str, float]] = []
            found[backend].append(runs[int(quiet.undisturbed(partial(_run, backend, runs)))])
    words = {
        "first_ms": "first result of a new pool, two workers, ms",
        "worker_mb": "memory of one more worker, MB",
        "item_us": "an item of `imap` over x+1, µs",
        "speedup": "items of 2 ms of Python, times as fast as a loop",
    }
    others = Spread.of(quiet.seen)
    assert others is not None
    print(
        f"CPython {platform.python_version()}, {os.cpu_count()} cores, Linux {platform.release()}; {ROUNDS} rounds; "
        f"other programs used {others.median:.2g} ({others.low:.2g} to {others.high:.2g}) cores\n"
    )
    print("| what | " + " | ".join(f"`{backend}`" for backend in BACKENDS) + " |")
    print("|---|" + "---|" * len(BACKENDS))
    for key, text in words.items():
        cells = []
        for backend in BACKENDS:
            spread = Spread.of(each[key] for each in found[backend])
            assert spread is not None
            cells.append(f"{spread.median:.3g} ({spread.low:.3g} to {spread.high:.3g})")
        print(f"| {text} | " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
