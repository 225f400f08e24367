"""Pitfalls are named from what was measured, each with its way out."""

from __future__ import annotations

from tests.unit.advisor.test_decision import MS, probes

from allcores.advisor.model.decision import decide
from allcores.advisor.model.pitfalls import pitfalls
from allcores.advisor.model.probes import Library, Probes, Traits

SKLEARN = Library("sklearn", None, "n_jobs=-1", "n_jobs=1")
NUMPY = Library("numpy", 2, "OMP_NUM_THREADS=n, for linear algebra", "OMP_NUM_THREADS=1")


def fixes(given: Probes) -> dict[str, str]:
    return {each.name: each.fix for each in pitfalls(given, decide(given))}


def test_a_librarys_own_switch_is_named() -> None:
    """For one that is loaded and does not use its threads: what would have it do so, and what keeps it from it."""
    found = fixes(probes(libraries=(NUMPY, SKLEARN)))
    assert "n_jobs=-1" in found["a library's own way"]
    assert "n_jobs=1" in found["a library's own way"]
    assert not any("linear algebra" in each for each in found.values()), "NumPy itself computes on one core"
    assert "a library's own way" not in fixes(probes())


def test_one_that_uses_its_threads_is_parallel_already() -> None:
    found = fixes(probes(10 * MS, busy=1.9, late_ms=0.1, two_threads=1.0, two_processes=1.0, libraries=(SKLEARN,)))
    assert "n_jobs=1" in found["already parallel"]
    assert "a library's own way" not in found


def test_calls_that_raised_are_told() -> None:
    """A program that is given the code ends at the first of them."""
    assert "30 of 100 calls that were timed raised" in fixes(probes(traits=Traits(failed=30)))["calls that raise"]
    assert "calls that raise" not in fixes(probes())
