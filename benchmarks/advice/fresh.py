"""A workload in a process of its own, where nothing is loaded, warm or forked yet: as it is in a program of a user.

`python -m benchmarks.advice.fresh seconds NAME COUNT SETTING` runs the first items with a setting and prints seconds:
with the start of workers and what the function loads, without what `import allcores` takes. `... advise NAME COUNT
BUDGET` prints what the advisor says.

What a process did before moves its seconds by a factor: an allocator that has seen large arrays keeps their pages, and
its next loop is spared the page faults of the first; modules are loaded; the server that forks workers is there.
"""

from __future__ import annotations

import functools
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from random import Random
from time import perf_counter
from typing import Any

import allcores
from allcores.advisor.measuring import in_worker, travel
from benchmarks.advice.workloads import ALL

#: the loop, as `seconds` takes it
LOOP: dict[str, Any] = {"pattern": "serial"}


class Failed(Exception):
    """The process has not measured anything; its last line says why."""


# --- in the parent ----------------------------------------------------------------------------------


def seconds(name: str, count: int, setting: Mapping[str, Any], timeout: float = 120.0) -> float:
    """Seconds of the first `count` items with a setting: "pattern", "workers", "chunk", "share", "preload".

    Raises:
        Failed: The setting cannot be used, or takes longer than `timeout`.
    """
    return float(_run(["seconds", name, str(count), json.dumps(dict(setting))], timeout))


def advise(name: str, count: int, budget: float) -> dict[str, Any]:
    """What the advisor says about the first `count` items.

    Raises:
        Failed: It said nothing.
    """
    found: dict[str, Any] = json.loads(_run(["advise", name, str(count), str(budget)], 60 + 10 * budget))
    return found


def _run(arguments: Sequence[str], timeout: float) -> str:
    command = [sys.executable, "-m", "benchmarks.advice.fresh", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failed(f"{arguments}: not done after {timeout:.0f} s") from None
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return done.stdout.splitlines()[-1]


def speedups(
    name: str, count: int, setting: Mapping[str, Any], pairs: int, numbers: Random, *, loop: str | None = None
) -> list[float]:
    """The loop's seconds over the setting's, of pairs in shuffled order, each run in a process of its own.

    Args:
        name: The workload that has the setting.
        count: Items.
        setting: As `seconds` takes it.
        pairs: How many.
        numbers: Shuffle the order.
        loop: The workload whose loop it is compared with; None for the same.
    """
    found = []
    for _ in range(pairs):
        ways: dict[bool, Callable[[], float]] = {
            False: functools.partial(seconds, loop or name, count, LOOP),
            True: functools.partial(seconds, name, count, setting),
        }
        first = numbers.random() < 0.5
        taken = {way: ways[way]() for way in (first, not first)}
        found.append(taken[False] / taken[True])
    return found


def count_for(name: str, wanted_s: float) -> int:
    """So many items of a workload that a loop over them takes about that long; all there are if they take less."""
    items = ALL[name].items()
    first = max(1, min(len(items), 3))
    load = seconds(name, first, LOOP)
    for _ in range(8):
        taken = statistics.median(seconds(name, first, LOOP) for _ in range(2))
        # The first items may have loaded something, which the others do not.
        if (taken >= 0.5 * wanted_s and taken > 1.5 * load) or first == len(items):
            return max(1, min(len(items), round(first * wanted_s / taken)))
        first = min(len(items), first * max(2, min(30, int(0.7 * wanted_s / max(taken, 1e-3)))))
    return first


# --- in the process -------------------------------------------------------------------------------


def run_here(fn: Callable[[Any], Any], items: Sequence[Any], setting: Mapping[str, Any]) -> float:
    """Seconds of all items with a setting, in this process: of what the advice has to paste, which makes a list."""
    pool_class = allcores.Pool  # which is imported now
    start = perf_counter()
    if setting["pattern"] in ("serial", "library"):
        results = [fn(item) for item in items]
        assert len(results) == len(items)  # which has them kept until then
        return perf_counter() - start
    preload = functools.partial(in_worker.warm, fn, items[0]) if setting.get("preload") else None
    with pool_class(setting["workers"], backend=setting["pattern"], preload=preload, logs=False) as pool:
        if setting.get("share"):
            common = travel.common_object(items[:64])
            one = pool.share(common)
            items = [travel.replaced(item, common, one) for item in items]
        results = pool.map(fn, items, chunk=setting.get("chunk"))
    assert len(results) == len(items)
    return perf_counter() - start


def main(arguments: Sequence[str]) -> None:
    what, name, count, last = arguments
    workload = ALL[name]
    items = workload.items()[: int(count)]
    if what == "advise":
        print(json.dumps(allcores.advise(workload.fn, items, budget=float(last)).as_dict()))
    else:
        print(run_here(workload.fn, items, json.loads(last)))


if __name__ == "__main__":
    main(sys.argv[1:])
