"""Whether it is the cluster that is silent, or this program that did not listen."""

from __future__ import annotations

from allcores.adapters.cluster.silence import LATE_NS, Looks

SECOND = 1_000_000_000


def test_looks_that_come_in_time_excuse_nothing() -> None:
    looks = Looks(0)
    assert [looks.late_ns(second * SECOND, SECOND) for second in range(1, 30)] == [0] * 29


def test_a_look_that_comes_early_excuses_nothing() -> None:
    """Something has arrived."""
    looks = Looks(0)
    assert looks.late_ns(SECOND, 25 * SECOND) == 0


def test_time_in_which_this_program_did_not_run_is_told() -> None:
    """It was stopped for twenty seconds while it slept for one, or while it did not sleep at all."""
    looks = Looks(0)
    assert looks.late_ns(21 * SECOND, SECOND) == 20 * SECOND
    assert looks.late_ns(22 * SECOND, SECOND) == 0
    assert looks.late_ns(22 * SECOND + LATE_NS + 1, 0) == LATE_NS + 1
    assert looks.late_ns(30 * SECOND, SECOND) == 8 * SECOND - LATE_NS - 1 - SECOND
