"""transport/spin_wait.py: awake while answers come at once, asleep otherwise."""

from __future__ import annotations

import os
import select
from typing import cast

import pytest

from allcores.transport import spin_wait
from allcores.transport.spin_wait import AWAKE_NS, SpinWait, readable


class Clock:
    """Time that passes when somebody looks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0
        monkeypatch.setattr(spin_wait, "monotonic_ns", lambda: self.now)

    def pipe(self, *, after: int) -> select.poll:
        """A pipe that is readable `after` ns from now; a look takes a microsecond."""
        then = self.now + after

        class Pipe:
            def poll(_, milliseconds: float) -> list[tuple[int, int]]:
                self.now += 1_000
                return [(3, 1)] if self.now >= then else []

        return cast(select.poll, Pipe())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def answer(habit: SpinWait, clock: Clock, after: int) -> bool:
    """Wait for an answer that comes after so many ns, asleep if need be; whether it was met awake."""
    then = clock.now + after
    awake = habit.look(clock.pipe(after=after))
    clock.now = max(clock.now, then)
    habit.answered()
    return awake


def test_nobody_looks_out_before_an_answer_came_quickly(clock: Clock) -> None:
    """The first wait is asleep: nothing is known of this pipe."""
    habit = SpinWait()
    assert not habit.look(clock.pipe(after=5_000))
    assert clock.now == 0


def test_calls_that_follow_each_other_are_met_awake(clock: Clock) -> None:
    habit = SpinWait()
    assert [answer(habit, clock, 20_000) for _ in range(4)] == [False, True, True, True]


def test_one_long_wait_ends_the_habit(clock: Clock) -> None:
    """It costs AWAKE_NS once; then everybody sleeps until an answer is quick again."""
    habit = SpinWait()
    assert [answer(habit, clock, after) for after in (20_000, 20_000)] == [False, True]
    begun = clock.now
    assert not habit.look(clock.pipe(after=1 << 60))
    assert clock.now - begun <= AWAKE_NS + 2_000
    clock.now += 1_000_000_000
    habit.answered()
    begun = clock.now
    assert [answer(habit, clock, after) for after in (1 << 40, 20_000, 20_000)] == [False, False, True]


def test_a_real_pipe() -> None:
    """What is looked at is the pipe that was named."""
    here, there = os.pipe()
    try:
        pollable = readable(here)
        assert pollable is not None
        assert not pollable.poll(0)
        os.write(there, b"!")
        assert pollable.poll(0)
    finally:
        os.close(here)
        os.close(there)


def test_without_poll_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no poll(), as on Windows, there is nothing to look at."""
    monkeypatch.delattr(select, "poll")
    assert readable(0) is None
