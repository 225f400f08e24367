"""The scheduler: stealing from workers that have much."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.scheduler.harness import SECOND, Harness, take_all
from tests.unit.simulation import MICRO, MILLI

from allcores.outcome import Kind
from allcores.scheduler.activity import ActivityBatcher
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.map_state import MapState
from allcores.scheduler.messages import Send, SetLimit, WorkerProgress
from allcores.scheduler.timers import Timer
from allcores.scheduler.work_stealing import CONFIRM_NS, SOON_NS
from allcores.transport.positions import (
    NO_LIMIT,
    PHASE_FUNCTION,
    PHASE_IDLE,
    PHASE_LOADING,
    PHASE_OUTPUT,
    PHASE_RUNNING,
    mark,
)


def two_workers_one_busy(behind: int = 1) -> tuple[Harness, MapState]:
    """Worker 1 has run its first item for a moment, others wait behind it; worker 2 has just become idle."""
    harness = Harness(2)
    map_state = harness.map_state(ordered=False)
    harness.add(map_state)
    harness.add(map_state)
    harness.add(map_state, behind)
    harness.end_of_input(map_state)
    harness.at(1, 1, 0)
    harness.at(2, 1, 0)
    harness.commands()
    return harness, map_state


def test_observers_are_told_of_each_report_that_was_joined() -> None:
    """One event of many reports is one turn for the scheduler, and as many records for those who look on."""
    harness = Harness()
    harness.state.activity_batcher = ActivityBatcher()
    map_state = harness.map_state(chunker=Chunker(6))
    harness.add(map_state, 6)
    harness.results(1, 1, 0, 6, total_ns=9, parts=[(2, 4), (1, 2), (3, 3)])
    harness.state.activity_batcher.settle(map_state)
    events: list[Any] = []
    harness.state.activity_batcher.tell(events)
    (report,) = events
    assert (report.attempts, report.busy_ns) == (6, 9)
    assert [(each.first, each.attempts, each.busy_ns) for each in report.records] == [(0, 2, 4), (2, 1, 2), (3, 3, 3)]


def test_between_two_calls_nobody_looks_for_work() -> None:
    """With all workers idle there is nothing to take: no alarm rings for it, no thread is woken."""
    harness = Harness(2)
    map_state = harness.map_state(calls=True)
    harness.add(map_state)
    before = [what for _, _, what, _ in harness.state.timers.heap]
    harness.results(1, 1, 0, 1)
    assert [what for _, _, what, _ in harness.state.timers.heap] == before
    harness.add(map_state)
    harness.add(map_state)
    harness.results(1, 2, 0, 1)
    assert Timer.STEAL in [what for _, _, what, _ in harness.state.timers.heap]


@pytest.mark.parametrize("items", [(1, 1), (3,)], ids=str)
def test_what_waits_while_a_function_is_unpickled_is_stolen(items: tuple[int, ...]) -> None:
    """A module takes seconds to be imported: another worker imports it meanwhile, for all but one of the items."""
    harness = Harness(2, ready=False)
    map_state = harness.map_state(ordered=False)
    for each in items:
        harness.add(map_state, each)
    harness.end_of_input(map_state)
    harness.ready(1)
    harness.at(1, 0, 0, phase=PHASE_FUNCTION, since=0)
    harness.commands()
    held = harness.state.worker_states[1].chunks
    assert sum(len(chunk.items) for chunk in held) == sum(items)
    harness.ready(2)
    harness.pass_time(SECOND, alarms=10_000)
    assert [(chunk.first, len(chunk.items)) for chunk in held if chunk.items] == [(0, 1)]
    assert harness.state.counters.stolen == sum(items) - 1


@pytest.mark.parametrize("phase", [PHASE_FUNCTION, PHASE_OUTPUT])
def test_what_a_busy_worker_keeps(phase: int) -> None:
    """Whole batches of what it imports for; nothing if it waits for others to read what was printed."""
    harness = Harness(2, ready=False)
    map_state = harness.map_state(ordered=False)
    chunk = harness.add(map_state, 12)
    chunk.batch = 4
    harness.end_of_input(map_state)
    harness.ready(1)
    harness.at(1, 0, 0, phase=phase, since=0)
    harness.ready(2)
    harness.pass_time(SECOND, alarms=10_000)
    kept = sum(len(each.items) for each in harness.state.worker_states[1].chunks)
    assert kept == (4 if phase == PHASE_FUNCTION else 0)


def test_waiting_work_is_stolen() -> None:
    """At the end of the input an idle worker gets what waits behind a busy one, once that is sure not to run."""
    harness, map_state = two_workers_one_busy(behind=3)
    harness.now += 30 * MILLI
    harness.results(2, 1, 0, 1, total_ns=MICRO)
    harness.tick(SOON_NS)
    assert harness.commands() == [SetLimit(1, mark(1, 1))]
    harness.tick(CONFIRM_NS - 1)
    assert harness.commands() == []
    harness.tick(1)
    assert harness.sent() == [(2, 2, 3, 1)]
    assert harness.state.counters.stolen == 3
    harness.results(1, 1, 0, 1)
    assert harness.commands() == []
    harness.results(1, 2, 0, 0)
    assert harness.commands()[0] == SetLimit(1, NO_LIMIT)
    harness.results(2, 2, 0, 3)
    assert map_state.settled == 5 and map_state.finished is False
    take_all(map_state)
    assert map_state.finished


@pytest.mark.parametrize(
    "place",
    [
        WorkerProgress(1, 0, SECOND, PHASE_RUNNING, mark(1, 2)),
        WorkerProgress(2, 0, SECOND, PHASE_RUNNING),
        WorkerProgress(2, 0, SECOND, PHASE_LOADING, mark(2, 0)),
    ],
)
def test_what_was_passed_is_not_stolen(place: WorkerProgress) -> None:
    """A worker that was past the limit before it saw it keeps its work; its own report tells where it stopped."""
    harness, map_state = two_workers_one_busy(behind=3)
    harness.now += 30 * MILLI
    harness.results(2, 1, 0, 1, total_ns=MICRO)
    harness.tick(SOON_NS)
    assert harness.commands() == [SetLimit(1, mark(1, 1))]
    harness.board[1] = place
    harness.tick(CONFIRM_NS)
    assert harness.commands() == []
    harness.results(1, 1, 0, 1)
    harness.results(1, 2, 0, 1)
    assert harness.commands()[0] == SetLimit(1, NO_LIMIT)
    assert harness.state.counters.stolen == 0
    take_all(map_state)
    assert map_state.settled == 3


def test_a_timer_of_an_earlier_limit_confirms_nothing() -> None:
    """The limit was lifted, and there is another, which the worker may not see yet."""
    harness, _ = two_workers_one_busy(behind=3)
    harness.now += 30 * MILLI
    harness.results(2, 1, 0, 1, total_ns=MICRO)
    harness.tick(SOON_NS)
    assert harness.commands() == [SetLimit(1, mark(1, 1))]
    harness.now += CONFIRM_NS // 2
    harness.results(1, 1, 0, 1)
    harness.results(1, 2, 0, 0)
    assert harness.commands()[0] == SetLimit(1, NO_LIMIT)
    worker_state = harness.state.worker_states[1]
    assert worker_state.chunks and not worker_state.confirming
    harness.board[1] = WorkerProgress(2, 0, 0, PHASE_IDLE)
    harness.scheduler._stealing._begin(worker_state, mark(worker_state.chunks[0].sequence, 0), harness.now)
    harness.tick(CONFIRM_NS - CONFIRM_NS // 2)
    assert worker_state.confirming and harness.state.counters.stolen == 0
    harness.tick(CONFIRM_NS // 2)
    assert not worker_state.confirming and harness.state.counters.stolen > 0


def test_unstarted_items_of_a_running_chunk_are_stolen() -> None:
    """Half of what a long chunk has not started goes to who is idle; split among several idle workers."""
    harness = Harness(3)
    map_state = harness.map_state(ordered=False)
    map_state.chunker.observe(1, 10 * MILLI, 0)
    harness.add(map_state, 21)
    harness.end_of_input(map_state)
    harness.at(1, 1, 0)
    harness.commands()
    harness.now += 5 * MILLI
    harness.gone(2, idle=True)
    harness.ready(4)
    harness.tick(SOON_NS)
    assert SetLimit(1, mark(1, 11)) in harness.commands()
    harness.tick(CONFIRM_NS)
    assert sorted(harness.sent()) in ([(3, 11, 5, 1), (4, 16, 5, 1)], [(3, 16, 5, 1), (4, 11, 5, 1)])
    harness.results(1, 1, 0, 11)
    harness.results(3, 1, 0, 5)
    harness.results(4, 1, 0, 5)
    assert sum(count for _, count, _ in take_all(map_state)) == 21
    assert map_state.finished


def test_a_limit_is_never_loosened_before_all_is_back() -> None:
    """Cancelling what waits behind a limit leaves the limit where it is."""
    harness = Harness(1)
    map_state, other = harness.map_state(), harness.map_state(calls=True)
    harness.add(map_state, 3)
    call = harness.add(other)
    harness.at(1, 1, 0)
    harness.commands()
    harness.scheduler.stop(map_state, harness.now)
    assert harness.commands() == [SetLimit(1, mark(1, 1))]
    harness.scheduler.cancel_chunk(call, harness.now)
    harness.pass_time(SECOND)
    assert harness.commands() == []
    harness.results(1, 1, 0, 1)
    harness.results(1, 2, 0, 0)
    assert harness.commands() == [SetLimit(1, NO_LIMIT)]


def test_a_map_without_credit_gets_help() -> None:
    """A consumer that may pull no more has idle workers help with what is out."""
    harness = Harness(2)
    map_state = harness.map_state(items_limit=4, chunker=Chunker(4))
    harness.pass_time(SECOND)
    harness.add(map_state, 4)
    assert map_state.credit == 0
    harness.at(1, 1, 0)
    harness.pass_time(SECOND)
    harness.commands()
    harness.scheduler.starved(harness.now)
    harness.pass_time(100 * MILLI)
    assert harness.sent() == [(2, 1, 3, 1)]


def test_little_is_taken_while_the_input_goes_on() -> None:
    """While there is input and credit the consumer feeds the idle; only what waits behind a long item is freed."""
    harness, map_state = two_workers_one_busy()
    map_state.exhausted = False
    harness.now += 30 * MILLI
    harness.results(2, 1, 0, 1, total_ns=MICRO)
    harness.pass_time(10 * MILLI)
    assert harness.commands() == []
    harness.pass_time(SECOND)
    assert [order for order in harness.commands() if isinstance(order, Send)]


def test_work_that_waits_behind_a_long_item_is_stolen() -> None:
    """It is noticed in time that an item takes long, also when nothing else happens any more."""
    harness, map_state = two_workers_one_busy()
    harness.results(2, 1, 0, 1, total_ns=MICRO)
    assert harness.commands() == [], "too early to tell"
    harness.pass_time(SECOND)
    assert (2, 2, 1, 1) in harness.sent(), "worker 2 has been idle for a second"
    assert map_state.settled == 1


def test_looking_for_work_to_steal_ends() -> None:
    """With nothing to take, an idle worker costs no alarms; with something that cannot be taken, few."""
    harness = Harness(2)
    map_state = harness.map_state()
    harness.add(map_state)
    harness.end_of_input(map_state)
    harness.at(1, 1, 0)
    harness.gone(2, idle=True)
    harness.ready(3)
    harness.pass_time(10 * SECOND, alarms=600)
    assert harness.sent()[1:] == []


def test_a_worker_with_a_limit_is_given_nothing() -> None:
    """From the moment a limit is set until all its chunks are back, a worker gets no new chunk."""
    harness, map_state = two_workers_one_busy(behind=3)
    harness.now += 30 * MILLI
    harness.results(2, 1, 0, 1, total_ns=MICRO)
    harness.tick(SOON_NS)
    assert harness.commands() == [SetLimit(1, mark(1, 1))]
    other = harness.map_state()
    for _ in range(6):
        harness.add(other)
    harness.tick(CONFIRM_NS)
    harness.results(1, 1, 0, 1)
    assert {worker for worker, *_ in harness.sent()} == {2}
    harness.results(1, 2, 0, 0)
    commands = harness.commands()
    assert commands[0] == SetLimit(1, NO_LIMIT)
    assert [order.worker for order in commands[1:]] == [1, 1]
    assert map_state.pulled == 5


def test_what_was_stolen_may_have_been_the_bomb() -> None:
    """A worker that dies as it unpickles a chunk dies over all that was sent to it, also what is not in it any more."""
    harness = Harness(2)
    map_state = harness.map_state(ordered=False)
    map_state.chunker.observe(1, 10 * MILLI, 0)
    harness.add(map_state, 2)
    harness.end_of_input(map_state)
    harness.board[1] = WorkerProgress(0, 0, 0, PHASE_IDLE)
    harness.state.set_limit(harness.state.worker_states[1], mark(1, 1))
    harness.state.worker_states[1].confirming = harness.now
    harness.state.timers.set(harness.now, Timer.CONFIRM, harness.state.worker_states[1])
    harness.tick()
    assert harness.sent() == [(1, 0, 1, 1), (2, 1, 1, 1)]
    harness.board[1] = WorkerProgress(1, 0, harness.now, PHASE_LOADING, mark(1, 0))
    harness.gone(1)
    assert take_all(map_state) == []
    assert harness.sent() == [(2, 0, 1, 1)]
    harness.board[2] = WorkerProgress(2, 0, harness.now, PHASE_LOADING, mark(2, 0))
    harness.results(2, 1, 0, 1)
    harness.gone(2)
    assert take_all(map_state) == [(1, 1, []), (0, 1, [Kind.WORKER_LOST])], "alone, it is at fault"
