"""A clock that is set ahead makes no job older at once; a machine that was off for long is believed after a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from allcores.jobs import store_keeping
from allcores.jobs.believed_time import KIND, NAME, BelievedTime
from allcores.jobs.model import Finished, State, Submission
from allcores.jobs.retention import Retention
from allcores.jobs.store import JobStore

DAY, HOUR, START = 86_400.0, 3_600.0, 1_800_000_000.0
AGE = 30 * DAY


def test_a_clock_that_goes_as_time_does_is_believed() -> None:
    """Also where it is corrected by less than a day, or set back."""
    seen = BelievedTime(None, START - HOUR)
    walls = [START, START + 60, START + HOUR, START - 5 * DAY, START - 5 * DAY + HOUR]
    assert [seen.look(wall, number * 60.0, AGE) for number, wall in enumerate(walls)] == walls
    assert seen.doubt is None


def test_a_clock_that_jumps_ahead_is_believed_after_a_day_and_time_goes_on_meanwhile() -> None:
    seen = BelievedTime(None, None)
    assert seen.look(START, 0.0, AGE) == START
    jump = START + 40 * DAY
    assert [seen.look(jump + after, after, AGE) for after in (60.0, HOUR, DAY)] == [
        START + after for after in (60.0, HOUR, DAY)
    ]
    assert seen.ahead == pytest.approx(40 * DAY)
    assert seen.look(jump + DAY + 61.0, DAY + 61.0, AGE) == jump + DAY + 61.0
    assert seen.doubt is None


def test_a_clock_that_is_put_right_again_leaves_nothing_behind() -> None:
    seen = BelievedTime(None, None)
    for wall, now in ((START, 0.0), (START + 40 * DAY, 60.0), (START + 120, 120.0)):
        believed = seen.look(wall, now, AGE)
    assert (believed, seen.doubt) == (START + 120, None)


def test_supervisors_that_run_for_an_hour_each_come_to_believe_it_together() -> None:
    note: dict[str, Any] | None = None
    clock, lives = START, 0
    while True:
        seen = BelievedTime(note, START)
        for minute in range(61):
            believed = seen.look(clock + minute * 60.0, minute * 60.0, AGE)
            note = seen.note(AGE) or note
        lives += 1
        clock += 40 * DAY if lives == 1 else HOUR
        if lives > 1 and seen.doubt is None:
            break
    assert 20 <= lives <= 30 and believed > START + 40 * DAY


def test_a_short_age_is_no_reason_to_doubt_for_longer_than_that() -> None:
    seen = BelievedTime(None, None)
    seen.look(START, 0.0, HOUR)
    assert seen.look(START + DAY, 60.0, HOUR) == START + 60.0
    assert seen.look(START + DAY + HOUR, 60.0 + HOUR, HOUR) == START + DAY + HOUR
    assert BelievedTime({"time": START, "doubt": None}, None).look(START + DAY, 0.0, 0.0) == START + DAY


class Clock:
    """Both clocks of a store's keeping."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.now = time.time(), 0.0
        monkeypatch.setattr(store_keeping, "time", self)

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.wall, self.now = self.wall + seconds, self.now + seconds


@pytest.mark.parametrize("restarted", [False, True])
def test_jobs_that_ended_today_outlive_a_clock_that_jumps_a_month_ahead(
    opened: Callable[[], JobStore],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    restarted: bool,
) -> None:
    """Whether the supervisor ran before that, or begins with it. It is said once, and they go once it is believed."""
    caplog.set_level(logging.WARNING, "allcores.jobs")
    store = opened()
    store.submit_many([Submission("f", {})] * 3)
    clock = Clock(monkeypatch)
    with store.become_supervisor():
        store.finish_many([(claim, Finished(State.SUCCEEDED)) for claim in store.claim(3, ["f"])])
        if not restarted:
            store.maintain(seconds=60.0)
        clock.wall += 31 * DAY
        for _ in range(3):
            clock.passes(60.0)
            assert store.maintain(seconds=60.0).jobs == 0
        assert [record.getMessage() for record in caplog.records] == [
            "the clock is 31 days ahead of the time that was seen to pass: jobs that would be too old by it are kept"
            " until this supervisor has run for 24 h 00 min with it, in case it is put right"
        ]
        assert store.records(KIND)[NAME]["doubt"] == DAY
        clock.passes(DAY)
        assert store.maintain(seconds=60.0).jobs == 3


def test_the_bounds_of_number_and_size_hold_whatever_the_clock_says(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.submit_many([Submission("f", {})] * 3)
    clock = Clock(monkeypatch)
    with store.become_supervisor():
        store.finish_many([(claim, Finished(State.SUCCEEDED)) for claim in store.claim(3, ["f"])])
        store.maintain(seconds=60.0)
        clock.wall += 31 * DAY
        assert store.maintain(Retention(rows=1), seconds=60.0).jobs == 2
