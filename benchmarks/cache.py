"""What it costs to keep a result and to find one, beside joblib.Memory where that is installed.

    python benchmarks/cache.py [ITEMS]

Each line: µs an item of a map in one worker, without a cache, with an empty one (misses), and with a full one (hits);
the least of three rounds. The last column is the size of what is kept on the disk.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import numpy as np

import allcores

ROUNDS = 3


def double(item: Any) -> Any:
    """Next to nothing, so that the cache is what is measured."""
    return item * 2


def inputs(items: int) -> dict[str, Sequence[Any]]:
    """Items by what they are."""
    return {
        "whole numbers": range(items),
        "texts of 1 kB": [f"{number:01000}" for number in range(items)],
        "tuples": [(number, str(number), 0.5) for number in range(items)],
        "arrays of 8 kB": [np.full(1000, number, float) for number in range(items // 4)],
        "arrays of 1 MB": [np.full(125_000, number, float) for number in range(max(5, items // 100))],
    }


def bytes_of(folder: str) -> int:
    """What a folder takes."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def measure(run: Callable[[str | None], list[Any]], wanted: int) -> tuple[float, float, float, int]:
    """Seconds without a cache, with an empty and with a full one; bytes of that."""
    times: tuple[list[float], ...] = ([], [], [])
    size = 0
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="allcores-bench-") as folder:
            for place, where in enumerate((None, os.path.join(folder, "cache"), os.path.join(folder, "cache"))):
                begun = time.perf_counter()
                results = run(where)
                times[place].append(time.perf_counter() - begun)
                assert len(results) == wanted, "wrong results"
            size = bytes_of(folder)
    return min(times[0]), min(times[1]), min(times[2]), size


def main(items: int) -> None:
    """Print the table."""
    try:
        joblib: Any = importlib.import_module("joblib")
    except ImportError:
        joblib = None
        print("joblib is not installed: pip install joblib")
    print(f"{'items':<16}{'':<18}{'none':>10}{'miss':>10}{'hit':>10}{'kept, kB':>12}")
    with allcores.Pool(1) as pool:
        pool.map(double, range(1000))
        for name, each in inputs(items).items():
            ways: dict[str, Callable[[str | None], list[Any]]] = {
                "allcores": lambda folder, each=each: pool.map(double, each, cache=folder)  # type: ignore[misc]
            }
            if joblib is not None:
                # In this process: it has no pool of its own for that, and so nothing that travels.
                def remembered(folder: str | None, each: Sequence[Any] = each) -> list[Any]:
                    memory = joblib.Memory(folder, verbose=0)
                    return list(map(memory.cache(double), each))

                ways["joblib.Memory"] = remembered
            for way, run in ways.items():
                none, miss, hit, size = (seconds * 1e6 / len(each) for seconds in measure(run, len(each)))
                size = size * len(each) / 1e6 / 1000
                print(f"{name:<16}{way:<18}{none:>10.1f}{miss:>10.1f}{hit:>10.1f}{size:>12,.0f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
