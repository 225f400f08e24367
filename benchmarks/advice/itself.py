"""A setting beside itself (A/A), by the code that confirms advice: `python -m benchmarks.advice.run --aa N`.

`confirm` runs the loop and the setting twice, as if they were two, in its shuffled and balanced rounds, and what
decides between a first choice and a runner-up says whether they differ. Comparisons are spread over some workloads,
which differ in how they run: processes, threads, threads that wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

from allcores.advisor.confirm import confirm
from allcores.advisor.measuring.sample import Sample
from allcores.advisor.model.decision import Prediction, decide
from allcores.advisor.model.intervals import ratio_interval
from allcores.advisor.model.probes import Probes
from allcores.advisor.model.verdict import compared
from allcores.advisor.probing import Probing
from benchmarks.advice.workloads import WORKLOADS

SOME = ("a loop in Python", "zlib", "sleep", "JSON", "small hashes")
#: seconds of one comparison, and of the probe that comes before those of a workload
COMPARISON_S, PROBE_S = 4.0, 6.0


def of_one(name: str, count: int, seconds: float, first_seed: int) -> list[dict[str, Any]]:
    """So many comparisons with one workload, whose workers stay."""
    workload = WORKLOADS[name]
    sample = Sample(workload.items())
    probing = Probing(workload.fn, sample, began=perf_counter(), budget=PROBE_S)
    found = []
    try:
        probes = probing.run()
        first = next(each for each in decide(probes).predictions if each.setting.workers > 1)
        for number in range(count):
            found.append(_one(name, probing, sample, probes, first, seconds, first_seed + number))
    finally:
        probing.close()
    return found


def _one(
    name: str, probing: Probing, sample: Sample, probes: Probes, first: Prediction, seconds: float, seed: int
) -> dict[str, Any]:
    again = replace(first, limit=f"{first.limit}, again")
    end = perf_counter() + seconds
    assert probing.pool is not None
    confirmation = confirm(
        WORKLOADS[name].fn,
        sample,
        probes,
        [first, again],
        pools={False: probing.pool},
        shared=probing.shared,
        left=lambda: end - perf_counter(),
        seed=seed,
    )
    ratios, others = confirmation.ratios[first], confirmation.ratios[again]
    apart = ratio_interval([one / other for one, other in zip(ratios, others, strict=False)])
    return {
        "workload": name,
        "setting": f"{first.setting.workers} {first.setting.pattern}",
        "rounds": len(ratios),
        "ratio": round(apart.speedup, 4),
        "interval": [round(apart.low, 4), round(apart.high, 4)],
        "differs": compared(ratios, others),
    }


def comparisons(
    count: int,
    names: Sequence[str] = SOME,
    *,
    seconds: float = COMPARISON_S,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """So many, spread over workloads."""
    found: list[dict[str, Any]] = []
    for place, name in enumerate(names):
        share = count * (place + 1) // len(names) - count * place // len(names)
        for each in of_one(name, share, seconds, first_seed=len(found)) if share else []:
            found.append(each)
            say(str(each))
    return found


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many were called no different; one with too few rounds to tell is not."""
    return {
        "comparisons": len(found),
        "no_difference": sum(each["differs"] is False for each in found),
        "different": [each for each in found if each["differs"]],
        "too_few_rounds": sum(each["differs"] is None for each in found),
    }
