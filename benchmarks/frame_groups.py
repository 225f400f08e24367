"""A function of each group of a pandas frame: by pandas alone, joblib, by hand, and `allcores.frames.apply_groups`.

    python -m benchmarks.frame_groups                    # 2 million rows; 200, 2,000 and 20,000 groups
    python -m benchmarks.frame_groups --rows 100000 --groups 50 --rounds 1

The ways:

- pandas: `frame.groupby("key").apply(function)`.
- joblib: each group is an item, a frame that is copied to the worker.
- by hand: the frame is split by key, as many parts as workers, each with its groups; `pool.map` of pandas' own apply.
- apply_groups.

Prints a table: wall seconds and CPU seconds of the program and its workers, medians of rounds in shuffled turns.
Results are compared.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import joblib
import numpy as np
import pandas as pd

import allcores
from allcores import frames
from benchmarks.batches import cpu_seconds
from benchmarks.cross_validation import descendants


def data(rows: int, groups: int) -> Any:
    """Rows of groups of unequal sizes, in no order."""
    dice = np.random.default_rng(1)
    frame = pd.DataFrame(dice.standard_normal((rows, 4)), columns=["a", "b", "c", "d"])
    frame["key"] = (dice.random(rows) ** 2 * groups).astype(int)
    return frame


def function(group: Any) -> Any:
    """Some statistics of a group, in a few steps of pandas."""
    ranks = group["a"].rank()
    spread = group["b"].quantile(0.9) - group["b"].quantile(0.1)
    return float(ranks.corr(group["c"]) if len(group) > 2 else 0.0) + float(spread) + float(group["d"].median())


def of_part(part: Any) -> Any:
    return part.groupby("key").apply(function)


def by_pandas(pool: allcores.Pool, frame: Any) -> Any:
    return frame.groupby("key").apply(function)


def by_joblib(pool: allcores.Pool, frame: Any) -> Any:
    grouped = frame.groupby("key")
    found = joblib.Parallel(n_jobs=pool.workers)(joblib.delayed(function)(group) for _, group in grouped)
    return pd.Series(found, index=grouped.size().index)


def by_hand(pool: allcores.Pool, frame: Any) -> Any:
    numbers = frame["key"] % pool.workers
    parts = [frame[numbers == number] for number in range(pool.workers)]
    return pd.concat(pool.map(of_part, parts)).sort_index()


def by_groups(pool: allcores.Pool, frame: Any) -> Any:
    return frames.apply_groups(frame, "key", function, pool=pool)


WAYS: dict[str, Callable[[allcores.Pool, Any], Any]] = {
    "pandas": by_pandas,
    "joblib, an item per group": by_joblib,
    "by hand": by_hand,
    "`apply_groups`": by_groups,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--groups", default="200,2000,20000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=allcores.core_budget().workers)
    options = parser.parse_args()
    print(
        f"{options.rows:,} rows, {options.workers} workers, {options.rounds} rounds in shuffled turns; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at first, CPython {platform.python_version()}, "
        f"pandas {pd.__version__}, joblib {joblib.__version__}"
    )
    with allcores.Pool(options.workers) as pool:
        for way in WAYS.values():  # workers start and import what they need
            way(pool, data(1000, 10))
        for groups in map(int, options.groups.split(",")):
            frame = data(options.rows, groups)
            wall: dict[str, list[float]] = {way: [] for way in WAYS}
            cpu: dict[str, list[float]] = {way: [] for way in WAYS}
            expected: Any = None
            for _ in range(options.rounds):
                for name in random.sample(list(WAYS), len(WAYS)):
                    pids = descendants()
                    before, begun = cpu_seconds(pids), time.perf_counter()
                    found = WAYS[name](pool, frame)
                    wall[name].append(time.perf_counter() - begun)
                    cpu[name].append(cpu_seconds(pids) - before)
                    expected = found if expected is None else expected
                    assert np.allclose(found, expected), f"{name}: results differ"
                    assert found.index.equals(expected.index), f"{name}: other groups"
            print(f"\n{groups:,} groups\n\n| | wall, s | least | CPU, s |\n|---|---|---|---|", flush=True)
            for name in WAYS:
                medians = statistics.median(wall[name]), statistics.median(cpu[name])
                print(f"| {name} | {medians[0]:.2f} | {min(wall[name]):.2f} | {medians[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
