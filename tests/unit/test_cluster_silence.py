"""Whether it is the cluster that is silent, or this program that did not listen."""

from __future__ import annotations

from allcores.adapters.cluster.silence import LATE_NS, SILENT_NS, STALLED_NS, Looks, Silence

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


def test_a_silent_scheduler_is_looked_for_and_only_lost_when_nothing_is_there() -> None:
    silence = Silence(0)
    assert not silence.wants_to_know(SILENT_NS) and silence.wants_to_know(SILENT_NS + 1)
    assert silence.lost(SILENT_NS + 1, is_there=True) is None
    assert silence.lost(SILENT_NS + 1, is_there=False) == "nothing listens at its address any more"
    silence.failed("its scheduler does not answer (OSError)")
    assert silence.lost(SILENT_NS + 1, is_there=False) == "its scheduler does not answer (OSError)"
    silence.heard(SILENT_NS + 1)
    assert not silence.wants_to_know(SILENT_NS + 2)


def test_a_scheduler_whose_process_is_there_may_be_silent_for_a_minute() -> None:
    """It is looked for again and again, and an answer begins the minute anew."""
    silence = Silence(0)
    looks = 0
    for second in range(1, 61):
        now = second * SECOND
        assert silence.lost(now, is_there=True) is None
        if silence.wants_to_know(now):
            looks += 1
            silence.is_there(now)
    assert looks == 6
    told = silence.lost(STALLED_NS + 1, is_there=True)
    assert told == "it has not answered for 60 s, though its process is there"
    silence.heard(STALLED_NS + 1)
    assert silence.lost(STALLED_NS + 2, is_there=True) is None


def test_what_this_program_could_not_hear_counts_for_nobody() -> None:
    silence = Silence(0)
    silence.excuse(50 * SECOND, 50 * SECOND)
    assert not silence.wants_to_know(50 * SECOND + SILENT_NS)
    assert silence.lost(50 * SECOND + STALLED_NS, is_there=True) is None
    silence.excuse(99 * SECOND, 70 * SECOND)  # no later than now
    assert silence.wants_to_know(70 * SECOND + SILENT_NS + 1)
