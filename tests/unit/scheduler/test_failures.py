"""The scheduler: failures and retries."""

from __future__ import annotations

import pytest
from tests.unit.scheduler.harness import SECOND, Harness, lonely, take_all

from allcores.events import TaskRetried
from allcores.limits import Retry
from allcores.outcome import Failure, Kind


def test_failures_stand_among_the_values() -> None:
    """A chunk with failures is one segment: values of the others, failures with their offsets, all seconds."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 5)
    failures = [Failure(1, Kind.FAILED, ValueError(1)), Failure(4, Kind.FAILED, ValueError(4))]
    harness.results(1, 1, 0, 5, failures=failures, durations=[1, 2, 3, 4, 5])
    segment = lonely(map_state)
    assert segment.values == [0, 2, 3]
    assert [(failure.offset, failure.error.args) for failure in segment.failures or ()] == [(1, (1,)), (4, (4,))]
    assert segment.durations == [1, 2, 3, 4, 5]
    assert harness.state.counters.count(Kind.FAILED) == 2
    assert map_state.failed == 2


def test_failures_of_a_later_report_count_from_its_start() -> None:
    """Offsets in a segment count from the segment's start, not from the chunk's."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 5)
    harness.results(1, 1, 0, 3, ended=False)
    harness.results(1, 1, 3, 2, failures=[Failure(4, Kind.FAILED, ValueError())], durations=[3, 4])
    first, second = iter(map_state.take, None)
    assert (first.start, first.count) == (0, 3)
    assert (second.start, second.values, second.durations) == (3, [3], [3, 4])
    assert [failure.offset for failure in second.failures or ()] == [1]


def test_a_retried_item_leaves_its_neighbours_alone() -> None:
    """Only the failed item runs again, after its wait, by itself; the others are settled at once."""
    harness = Harness(1)
    map_state = harness.map_state(retry=Retry(times=1, wait_s=0.5, jitter=0), ordered=False)
    harness.add(map_state, 3)
    harness.commands()
    harness.results(1, 1, 0, 3, failures=[Failure(1, Kind.FAILED, ValueError())], durations=[1, 2, 3])
    segments = list(iter(map_state.take, None))
    assert [(segment.start, segment.values, segment.durations) for segment in segments] == [
        (0, [0], [1]),
        (2, [2], [3]),
    ]
    assert harness.scheduler.waiting_for_time
    assert harness.sent() == []
    harness.pass_time(SECOND // 2 - 1)
    assert harness.sent() == []
    harness.pass_time(1)
    assert harness.sent() == [(1, 1, 1, 2)]
    harness.results(1, 2, 0, 1)
    segment = lonely(map_state)
    assert (segment.start, segment.attempt, segment.items) == (1, 2, [1])
    assert not harness.scheduler.waiting_for_time


def test_attempts_are_counted_and_end() -> None:
    """`times` further attempts and no more; each wait is longer, each attempt is news."""
    harness = Harness(1)
    map_state = harness.map_state(retry=Retry(times=2, wait_s=0.1, jitter=0))
    harness.add(map_state)
    for attempt in (1, 2, 3):
        assert harness.sent() == [(1, 0, 1, attempt)]
        harness.results(1, attempt, 0, 1, failures=[Failure(0, Kind.FAILED, ValueError(attempt))])
        harness.pass_time(SECOND)
    segment = lonely(map_state)
    assert segment.attempt == 3
    assert [(failure.kind, failure.error.args) for failure in segment.failures or ()] == [(Kind.FAILED, (3,))]
    retried = [event for event in harness.state.events if isinstance(event, TaskRetried)]
    assert [(event.index, event.attempt, event.wait_s) for event in retried] == [(0, 1, 0.1), (0, 2, 0.2)]
    assert harness.state.counters.retries == 2
    assert harness.state.counters.items_done == 1


@pytest.mark.parametrize(
    ("retry", "error", "again"),
    [
        (Retry(times=1), ValueError(), True),
        (Retry(times=1, on=OSError), ValueError(), False),
        (Retry(times=1, on=(OSError, ValueError)), ValueError(), True),
        (Retry(times=1, on=OSError), ConnectionError(), True),
        (Retry(times=0), ValueError(), False),
    ],
)
def test_only_chosen_exceptions_are_retried(retry: Retry, error: Exception, again: bool) -> None:
    """`on` chooses by type, subclasses included."""
    harness = Harness(1)
    map_state = harness.map_state(retry=retry)
    harness.add(map_state)
    harness.results(1, 1, 0, 1, failures=[Failure(0, Kind.FAILED, error)])
    assert harness.scheduler.waiting_for_time is again
    assert bool(map_state.ready) is not again


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("switched_on", [True, False])
def test_lost_workers_and_timeouts_have_switches_of_their_own(lost: bool, switched_on: bool) -> None:
    """`on_worker_lost` and `on_timeout` decide about retries, not the exception types in `on`."""
    harness = Harness(1)
    retry = Retry(
        times=1,
        on=KeyError,
        on_worker_lost=switched_on if lost else not switched_on,
        on_timeout=not switched_on if lost else switched_on,
    )
    map_state = harness.map_state(retry=retry, timeout_ns=SECOND)
    harness.add(map_state)
    harness.at(1, 1, 0)
    if not lost:
        harness.pass_time(2 * SECOND)
    harness.gone(1)
    assert harness.scheduler.waiting_for_time is switched_on
    if not switched_on:
        assert take_all(map_state) == [(0, 1, [Kind.WORKER_LOST if lost else Kind.TIMED_OUT])]
