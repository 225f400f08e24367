"""The judge of `benchmarks/advice`: it sees a wrong verdict, and its workloads work."""

from __future__ import annotations

import importlib.util

import pytest
from benchmarks.advice import coverage, itself, programs
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


def pattern(name: str, workers: int, speedup: float) -> dict[str, object]:
    predicted = {"speedup": speedup, "low": speedup * 0.9, "high": speedup * 1.1}
    return {"pattern": name, "workers": workers, "predicted": predicted}


LOOP = pattern("serial", 1, 1.0)


def test_the_interval_that_counts_is_that_of_what_is_recommended() -> None:
    processes, threads = pattern("processes", 2, 1.8), pattern("threads", 2, 1.9)
    advice = {"recommendation": processes, "patterns": [processes, LOOP, threads]}
    assert coverage.printed(advice) is processes


def test_beside_a_loop_it_is_the_best_of_the_others() -> None:
    patterns = [LOOP, pattern("processes", 2, 0.6), pattern("threads", 2, 0.9)]
    assert coverage.printed({"recommendation": LOOP, "patterns": patterns}) is patterns[2]
    assert coverage.printed({"recommendation": LOOP, "patterns": [LOOP, pattern("processes", 2, 0.1)]}) is None
    assert coverage.printed({"recommendation": LOOP, "patterns": [LOOP]}) is None


def test_runs_are_counted() -> None:
    run = {"workload": "zlib", "predicted": {"speedup": 1.9}, "measured": 1.8, "half_width": 0.1, "seconds": 2.0}
    found = [{**run, "holds": holds, "confirmed_holds": None} for holds in (True, True, True, False)]
    left_out = {"workload": "tiny items", "left_out": "far slower", "seconds": 1.0}
    counts = coverage.summary([*found, left_out])
    assert (counts["runs"], counts["contained"], counts["half_width"]) == (4, 0.75, 0.1)
    assert counts["by_workload"]["zlib"].startswith("3 of 4")
    assert counts["left_out"] == {"tiny items": "far slower"}


def test_a_comparison_of_few_rounds_is_not_called_no_difference() -> None:
    counts = itself.summary([{"differs": False}, {"differs": None}, {"differs": True}])
    assert (counts["comparisons"], counts["no_difference"], counts["too_few_rounds"]) == (3, 1, 1)


def test_the_programs_of_a_profile_are_known() -> None:
    """Ten, all valid, each with its loop marked but the one in which nothing is worth it."""
    assert len(programs.PROGRAMS) == 10
    assert len(programs.CHANGED) == 5
    for source in programs.PROGRAMS.values():
        compile(source, "program", "exec")
    assert sum(programs.line_of(source) is None for source in programs.PROGRAMS.values()) == 1


def test_a_diff_is_applied() -> None:
    source = "a = 1\nb = 2\nc = 3\n"
    diff = "--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a = 1\n-b = 2\n+b = 4\n c = 3\n"
    assert programs.patched(source, diff) == "a = 1\nb = 4\nc = 3\n"
