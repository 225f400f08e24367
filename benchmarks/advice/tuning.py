"""`tune` beside an exhaustive search: `python -m benchmarks.advice.run --tune`.

Every setting (backend x workers x chunk x depth, nothing left out for what a model says) runs the whole input, the
start of its pool included: the exhaustive search, whose seconds are counted. Then `allcores.tune` gets a part of these
seconds, in a fresh process. What it has found and the best of all then run against each other, in turn. One JSON object
is written: how far from the best it is, in which part of the seconds. A busy machine's figures prove nothing, so other
programs' load is kept with each.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from time import perf_counter
from typing import Any

import allcores
from allcores.advisor.measuring.machine import Load
from allcores.advisor.model.search import Ground, refined, space
from allcores.tuned.setting import PoolSetting
from benchmarks.advice.workloads import WORKLOADS, Workload

#: those of a few seconds, of different kinds
SOME = ("a loop in Python", "small items", "small hashes", "large hashes", "sleep", "large arguments", "uneven items")
#: part of the exhaustive search's seconds that `tune` gets
PART = 0.25
#: pairs of what was found and the best of all
PAIRS = 5
#: a setting that takes so many times as long as the loop is given up
HOPELESS = 3.0
#: seconds of a chunk's work from which on larger ones are not tried, as `tune` with 30 s has it
CHUNK_BUDGET_S = 30.0


def seconds_of(workload: Workload, items: Sequence[Any], setting: PoolSetting, most_s: float) -> float | None:
    """Seconds of the whole input, the start of the pool included; None if it cannot, or takes more than so many."""
    start = perf_counter()
    if setting.backend == "serial":
        kept = [workload.fn(item) for item in items]
        return perf_counter() - start if kept else None
    limits = allcores.Limits(depth=setting.depth)
    try:
        with (
            allcores.Pool(setting.workers, backend=setting.backend, limits=limits, logs=False) as pool,
            pool.imap(workload.fn, items, chunk=setting.chunk) as stream,
        ):
            results = iter(stream)
            while list(islice(results, max(1, len(items) // 50))):
                if perf_counter() - start > most_s:
                    return None
    except allcores.NotPicklable:
        return None
    return perf_counter() - start


def every_setting(items: Sequence[Any], loop_s: float, waits: bool) -> list[PoolSetting]:
    """All there are for an input, with every depth."""
    cores = allcores.core_budget().workers
    ground = Ground(len(items), len(items), loop_s / len(items), cores=cores, waits=waits)
    plain = space(ground, CHUNK_BUDGET_S)
    return [*plain, *refined(plain)]


def exhaustive(workload: Workload, items: Sequence[Any]) -> tuple[dict[PoolSetting, float], float]:
    """Setting -> seconds of the whole input, and the seconds of the whole search."""
    began = perf_counter()
    loop_cpu = sum(os.times()[:2])
    loop_s = seconds_of(workload, items, PoolSetting("serial"), 1e9)
    assert loop_s is not None
    waits = sum(os.times()[:2]) - loop_cpu < 0.5 * loop_s
    found = {PoolSetting("serial"): loop_s}
    for setting in every_setting(items, loop_s, waits):
        seconds = seconds_of(workload, items, setting, HOPELESS * loop_s)
        if seconds is not None:
            found[setting] = min(seconds, found.get(setting, seconds))
    return found, perf_counter() - began


def tune(name: str, budget: float) -> dict[str, Any]:
    """What `allcores.tune` finds, in a process of its own and a folder of its own: nothing is warm or known."""
    code = (
        "import json, allcores; from benchmarks.advice.workloads import WORKLOADS as w;"
        f" each = w[{name!r}]; print(json.dumps(allcores.tune(each.fn, each.items(), budget={budget}).as_dict()))"
    )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60 + 10 * budget,
            env={**os.environ, "ALLCORES_HOME": folder},
        )
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def from_best(workload: Workload, items: Sequence[Any], chosen: PoolSetting, best: PoolSetting, pairs: int) -> float:
    """How much longer what was found takes than the best of all, as a part; the median of pairs, in turn."""
    if chosen == best:
        return 0.0
    ratios = []
    for number in range(pairs):
        order = (chosen, best) if number % 2 == 0 else (best, chosen)
        seconds = {each: seconds_of(workload, items, each, 1e9) for each in order}
        ratios.append((seconds[chosen] or 1e9) / (seconds[best] or 1e9))
    return statistics.median(ratios) - 1


def measure(name: str, part: float, pairs: int) -> dict[str, Any]:
    """One workload."""
    workload = WORKLOADS[name]
    if workload.needs is not None and importlib.util.find_spec(workload.needs) is None:
        return {"left_out": f"{workload.needs} is not installed"}
    load = Load()
    items = workload.items()
    all_settings, seconds = exhaustive(workload, items)
    best = min(all_settings, key=lambda each: all_settings[each])
    tuning = tune(name, max(2.0, part * seconds))
    if "error" in tuning:
        return tuning
    chosen = PoolSetting(**tuning["setting"])
    return {
        "verdict": tuning["verdict"],
        "found": chosen.text,
        "best": best.text,
        "best_speedup": round(all_settings[PoolSetting("serial")] / all_settings[best], 3),
        "from_best": round(from_best(workload, items, chosen, best, pairs), 4),
        "part_of_seconds": round(tuning["seconds"] / seconds, 3),
        "settings": len(all_settings),
        "exhaustive_seconds": round(seconds, 1),
        "other_cores": load.others(),
    }


def all_of_them(
    names: Sequence[str] = SOME,
    *,
    part: float = PART,
    pairs: int = PAIRS,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, dict[str, Any]]:
    """Each workload."""
    found = {}
    for name in names:
        found[name] = measure(name, part, pairs)
        say(f"{name} {json.dumps(found[name])}")
    return found


def summary(found: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """How many came within 3 % of the best, in which part of the seconds."""
    measured = {name: each for name, each in found.items() if "found" in each}
    return {
        "workloads": len(measured),
        "within_3_percent": sum(each["from_best"] <= 0.03 for each in measured.values()),
        "beyond": [name for name, each in measured.items() if each["from_best"] > 0.03],
        "most_of_the_seconds": max((each["part_of_seconds"] for each in measured.values()), default=None),
    }
