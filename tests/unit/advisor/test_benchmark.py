"""The judge of `benchmarks/advice`: it sees a wrong verdict, and its workloads work."""

from __future__ import annotations

import importlib.util

import pytest
from benchmarks.advice.run import judge
from benchmarks.advice.tuning import every_setting, exhaustive, from_best
from benchmarks.advice.workloads import WORKLOADS, Workload

from allcores.tuned.setting import PoolSetting

INTERVAL = {"speedup": 1.9, "low": 1.7, "high": 2.1}


def row(pattern: str, seconds: float, **more: object) -> dict[str, object]:
    return {"pattern": pattern, "workers": 2, "chunk": None, "seconds": seconds, **more}


def test_a_right_verdict_is_right() -> None:
    found = [row("processes", 1.0), row("processes", 1.04, recommended=True), row("serial", 2.0)]
    judged = judge({"verdict": "parallel", "predicted": INTERVAL}, found)
    assert judged["from_best"] == 0.04
    assert judged["predicted_holds"]
    assert not judged["false_parallel"]
    assert not judged["false_serial"]


def test_a_wrong_verdict_is_seen() -> None:
    quick = [row("processes", 1.0), row("serial", 2.0, recommended=True), row("serial", 2.0)]
    assert judge({"verdict": "serial", "predicted": INTERVAL}, quick)["false_serial"]
    slow = [row("serial", 1.0), row("processes", 1.5, recommended=True)]
    judged = judge({"verdict": "parallel", "predicted": INTERVAL}, slow)
    assert judged["false_parallel"]
    assert judged["from_best"] == 0.5
    assert not judged["predicted_holds"]


@pytest.mark.parametrize("name", [name for name in WORKLOADS if name not in ("a heavy load", "scikit-learn")])
def test_each_workload_can_be_called(name: str) -> None:
    workload = WORKLOADS[name]
    if workload.needs is not None and importlib.util.find_spec(workload.needs) is None:
        pytest.skip(f"{workload.needs} is not installed")
    workload.fn(workload.items()[0])


def test_an_exhaustive_search_leaves_nothing_out() -> None:
    """Each backend, with several workers, chunks and depths: whatever a model would say."""
    found = every_setting(range(10_000), 1.0, waits=False)
    assert {each.backend for each in found} == {"serial", "threads", "processes"}
    assert {each.depth for each in found} == {None, 1, 8}
    assert len({each.workers for each in found}) > 1
    assert {None, 1, 8} <= {each.chunk for each in found}
    assert len(set(found)) == len(found)


@pytest.mark.slow
def test_an_exhaustive_search_runs_each_and_counts_its_seconds() -> None:
    found, seconds = exhaustive(Workload(abs, lambda: range(2)), range(2))
    assert PoolSetting("serial") in found
    assert seconds >= sum(found.values())


def test_what_is_the_best_is_no_further_from_it() -> None:
    best = PoolSetting("serial")
    assert from_best(Workload(abs, lambda: range(2)), range(2), best, best, 3) == 0.0
