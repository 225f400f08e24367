"""How often a predicted interval holds what is measured: `python -m benchmarks.advice.run --coverage N`.

Each run takes the next workload, with so many of its items that a loop takes about a second. In a fresh process the
advisor is asked; of what it prints, the interval of what it recommends counts, or, where that is the loop, that of the
best other pattern, for the loop was recommended because of it. Then this setting and the loop run in pairs, in shuffled
order, each in a process of its own, and the middle of their ratios is what was measured.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from allcores.advisor.measuring.machine import Load
from allcores.advisor.model.intervals import Interval
from benchmarks.advice import fresh
from benchmarks.advice.workloads import WORKLOADS

#: seconds of a loop over the items that a workload gets, and of one advice
LOOP_S, BUDGET_S = 1.0, 3.0
#: pairs of the loop and the setting in each run
PAIRS = 2
#: predicted below this, a setting is not run: nobody would use it, and it takes several times the loop's seconds
LEAST_SPEEDUP = 0.4


def printed(advice: dict[str, Any]) -> dict[str, Any] | None:
    """The pattern whose printed interval is looked at; None where nothing but a loop can be used."""
    patterns: list[dict[str, Any]] = advice["patterns"]
    able = [each for each in patterns if each["workers"] > 1 and each["pattern"] != "library"]
    if advice["recommendation"]["workers"] > 1 and advice["recommendation"]["pattern"] != "library":
        return able[0]  # the recommended one stands first
    best = max(able, key=lambda each: each["predicted"]["speedup"], default=None)
    return best if best is not None and best["predicted"]["speedup"] >= LEAST_SPEEDUP else None


def available(names: Iterable[str]) -> list[str]:
    """Those whose library is there."""
    needs = {name: WORKLOADS[name].needs for name in names}
    return [name for name, need in needs.items() if need is None or importlib.util.find_spec(need) is not None]


def one_run(name: str, count: int, budget: float, pairs: int, numbers: Random) -> dict[str, Any]:
    """The advice, and what its setting did."""
    advice = fresh.advise(name, count, budget)
    pattern = printed(advice)
    found = {"workload": name, "items": count, "verdict": advice["verdict"], "kind": advice["kind"]}
    if pattern is None:
        return {**found, "left_out": "nothing but a loop can be used, or it is far slower"}
    ratios = fresh.speedups(name, count, pattern, pairs, numbers)
    measured = statistics.median(ratios)
    low, high = pattern["predicted"]["low"], pattern["predicted"]["high"]
    confirmed = pattern["measured"]
    return {
        **found,
        "setting": {key: pattern[key] for key in ("pattern", "workers", "chunk", "share", "preload")},
        "predicted": pattern["predicted"],
        "confirmed": confirmed,
        "measured": round(measured, 4),
        "ratios": [round(each, 4) for each in ratios],
        "holds": low <= measured <= high,
        "half_width": Interval(**pattern["predicted"]).half_width,
        "confirmed_holds": None if confirmed is None else confirmed["low"] <= measured <= confirmed["high"],
    }


def runs(
    names: Sequence[str],
    count: int,
    *,
    budget: float = BUDGET_S,
    loop_s: float = LOOP_S,
    pairs: int = PAIRS,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Runs until `count` of them have a measured interval; workloads without one are asked once.

    Args:
        names: Workloads, one after the other and from the start again.
        count: How many.
        budget: Seconds of one advice.
        loop_s: Seconds of a loop over a workload's items.
        pairs: Of the loop and the setting in each run.
        say: Told each run as a line.
    """
    numbers = Random(1)
    left = available(names)
    counts: dict[str, int] = {}
    found: list[dict[str, Any]] = []
    while left and sum("holds" in each for each in found) < count:
        for name in list(left):
            load, began = Load(), time.perf_counter()
            try:
                if name not in counts:
                    counts[name] = fresh.count_for(name, loop_s)
                each = one_run(name, counts[name], budget, pairs, numbers)
            except fresh.Failed as problem:
                each = {"workload": name, "left_out": str(problem)}
            each["other_cores"] = load.others()
            each["seconds"] = round(time.perf_counter() - began, 1)
            found.append(each)
            say(json.dumps(each))
            if "left_out" in each:
                left.remove(name)
            if sum("holds" in each for each in found) >= count:
                break
    return found


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Shares that hold, all together and by workload, and how wide the intervals are."""
    measured = [each for each in found if "holds" in each]
    if not measured:
        return {"runs": 0}
    confirmed = [each["confirmed_holds"] for each in measured if each["confirmed_holds"] is not None]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for each in measured:
        by_name.setdefault(each["workload"], []).append(each)
    errors = [abs(each["predicted"]["speedup"] / each["measured"] - 1) for each in measured]
    return {
        "runs": len(measured),
        "contained": round(sum(each["holds"] for each in measured) / len(measured), 3),
        "half_width": round(statistics.median(each["half_width"] for each in measured), 3),
        "error": round(statistics.median(errors), 3),
        "confirmed_contained": round(sum(confirmed) / len(confirmed), 3) if confirmed else None,
        "by_workload": {
            name: f"{sum(each['holds'] for each in some)} of {len(some)}: predicted "
            f"{statistics.median(each['predicted']['speedup'] for each in some):.2f}, measured "
            f"{statistics.median(each['measured'] for each in some):.2f}, half-width "
            f"{statistics.median(each['half_width'] for each in some):.2f}"
            for name, some in by_name.items()
        },
        "left_out": {each["workload"]: each["left_out"] for each in found if "left_out" in each},
        "seconds": round(sum(each["seconds"] for each in found)),
    }
