"""jobs/answers.py: whether a server is there that has not answered for long."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from allcores.jobs import answers
from allcores.jobs.answers import LATE_S, watched


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(answers, "monotonic", clock)
    return clock


def waiting() -> Generator[str, int, list[int]]:
    """As of psycopg: it asks until it was sent three answers."""
    found: list[int] = []
    while len(found) < 3:
        there = yield "for an answer"
        if there:
            found.append(there)
    return found


def test_what_waits_is_sent_what_is_there(clock: Clock) -> None:
    checks: list[float] = []
    watching = watched(waiting(), lambda: checks.append(clock.now))
    assert next(watching) == "for an answer"
    for there in (0, 1, 0, 2):
        assert watching.send(there) == "for an answer"
    with pytest.raises(StopIteration) as ended:
        watching.send(3)
    assert ended.value.value == [1, 2, 3]
    assert checks == []


def test_it_is_looked_after_the_server_each_time_that_nothing_came_for_long(clock: Clock) -> None:
    checks: list[float] = []
    watching = watched(waiting(), lambda: checks.append(clock.now))
    next(watching)
    for second in range(1, int(4 * LATE_S)):
        clock.now = second
        # In between something comes: from then on it is counted anew.
        watching.send(1 if second == int(1.5 * LATE_S) else 0)
    assert checks == [LATE_S, int(1.5 * LATE_S) + LATE_S, int(1.5 * LATE_S) + 2 * LATE_S]


def test_what_the_look_raises_ends_the_waiting(clock: Clock) -> None:
    def gone() -> None:
        raise ConnectionError

    inner = waiting()
    watching: Generator[Any, Any, Any] = watched(inner, gone)
    next(watching)
    clock.now = LATE_S
    with pytest.raises(ConnectionError):
        watching.send(0)
