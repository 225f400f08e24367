"""Five what-ifs, applied: `python -m benchmarks.advice.run --what-ifs`.

The advisor is asked about a workload; then what one of its what-ifs proposes is done, and runs against the loop of
today, in pairs, each in a process of its own. How far the predicted speed-up is from the measured one is a part of
the latter.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from allcores.advisor.measuring.machine import Load
from benchmarks.advice import fresh
from benchmarks.advice.workloads import ALL

#: pairs of today's loop and what was applied
PAIRS = 5
#: seconds of one advice
BUDGET_S = 10.0


@dataclass(frozen=True, slots=True)
class Change:
    """What is applied.

    Attributes:
        what_if: Its name, as the advisor prints it.
        workload: That is asked about.
        applied: The workload with the change; the same where a setting or the input is what changes.
        options: Of the setting, that change.
        part: Of the workload's items that the advisor is given; the rest is there for more items.
        factor: How many times as many items run once it is applied.
    """

    what_if: str
    workload: str
    applied: str
    options: dict[str, Any] = field(default_factory=dict)
    part: float = 1.0
    factor: int = 1


CHANGES = (
    Change("compact results", "large results", "large results, a figure of each"),
    Change("paths instead of data", "large arguments", "large arguments, by path"),
    Change("without share", "one large argument", "one large argument", {"share": False}),
    Change("10 times as many items", "a loop in Python", "a loop in Python", part=0.1, factor=10),
    # of so few that a loop is recommended for them
    Change("10 times as many items", "small hashes", "small hashes", part=0.05, factor=10),
)


def apply(change: Change, pairs: int, budget: float, numbers: Random) -> dict[str, Any]:
    """What was predicted of a change, and what it did."""
    load = Load()
    count = max(1, int(len(ALL[change.workload].items()) * change.part))
    advice = fresh.advise(change.workload, count, budget)
    found: dict[str, Any] = {"what_if": change.what_if, "workload": change.workload}
    proposed = next((each for each in advice["what_ifs"] if each["name"] == change.what_if), None)
    processes = next((each for each in advice["patterns"] if each["pattern"] == "processes"), None)
    if proposed is None or processes is None:
        names = [each["name"] for each in advice["what_ifs"]]
        return {**found, "problem": f"the advisor has not proposed it, but {names}"}
    # Another function has other items a chunk: they size themselves.
    chunk = processes["chunk"] if change.applied == change.workload else None
    setting = {**processes, "chunk": chunk, **change.options}
    count *= change.factor
    ratios = fresh.speedups(change.applied, count, setting, pairs, numbers, loop=change.workload)
    measured = statistics.median(ratios)
    predicted = proposed["predicted"]
    return {
        **found,
        "predicted": predicted,
        "measured": round(measured, 3),
        "ratios": [round(each, 3) for each in ratios],
        "off": round(abs(predicted["speedup"] / measured - 1), 3),
        "holds": predicted["low"] <= measured <= predicted["high"],
        "other_cores": load.others(),
    }


def all_of_them(
    changes: Sequence[Change] = CHANGES,
    *,
    pairs: int = PAIRS,
    budget: float = BUDGET_S,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Each change."""
    numbers = Random(2)
    found = []
    for change in changes:
        try:
            found.append(apply(change, pairs, budget, numbers))
        except fresh.Failed as problem:
            found.append({"what_if": change.what_if, "workload": change.workload, "problem": str(problem)})
        say(str(found[-1]))
    return found


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many came within 15 % of what was predicted."""
    measured = [each for each in found if "off" in each]
    return {
        "what_ifs": len(found),
        "within_15_percent": sum(each["off"] <= 0.15 for each in measured),
        "held": sum(each["holds"] for each in measured),
        "not_measured": [each["what_if"] for each in found if "off" not in each],
    }
