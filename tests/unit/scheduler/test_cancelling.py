"""The scheduler: cancelled calls and maps."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.scheduler.harness import SECOND, Boom, Harness, take_all
from tests.unit.simulation import MILLI

from allcores.limits import Retry
from allcores.outcome import Failure, Kind
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.messages import Kill, Launch, Send, SetLimit
from allcores.scheduler.work_stealing import CONFIRM_NS
from allcores.scheduler.worker_state import Lifecycle, Termination
from allcores.transport.positions import NO_LIMIT, PHASE_FUNCTION, PHASE_OUTPUT, mark


def test_cancelling_ends_what_runs_after_the_grace() -> None:
    """Waiting items are dropped, nothing more is started, what still runs after `grace_s` is ended."""
    harness = Harness(1, grace_s=0.5)
    map_state, other = harness.map_state(), harness.map_state()
    harness.add(map_state, 3)
    harness.add(other, 2)
    harness.add(map_state, 3)
    harness.at(1, 1, 0)
    harness.commands()
    harness.scheduler.cancel(map_state, harness.now)
    assert harness.commands() == [SetLimit(1, mark(1, 0))]
    assert map_state.finished and not map_state.pending
    harness.pass_time(SECOND // 2 - 1)
    assert harness.commands() == []
    harness.pass_time(1)
    assert [type(order) for order in harness.commands()] == [Kill, Launch]
    harness.gone(1)
    harness.ready(2)
    assert harness.sent() == [(2, 0, 2, 1)], "the other map's items run elsewhere"
    assert map_state.take() is None
    assert harness.state.counters.count(Kind.CANCELLED) == 6


def test_cancelled_work_that_ends_in_its_grace_saves_its_worker() -> None:
    """A worker that finishes the cancelled item in time is kept, and free again."""
    harness = Harness(1, grace_s=0.5)
    map_state, other = harness.map_state(), harness.map_state()
    harness.add(map_state, 3)
    harness.at(1, 1, 0)
    harness.scheduler.cancel(map_state, harness.now)
    harness.commands()
    harness.results(1, 1, 0, 1)
    assert harness.state.counters.count(Kind.CANCELLED) == 3
    assert harness.state.counters.count(Kind.OK) == 0
    assert harness.commands() == [SetLimit(1, NO_LIMIT)]
    harness.add(other)
    assert harness.sent() == [(1, 0, 1, 1)]
    harness.at(1, 2, 0)
    harness.pass_time(SECOND)
    assert harness.commands() == []
    assert map_state.take() is None


def test_the_work_of_others_is_not_ended_with_a_cancelled_map() -> None:
    """When the grace is over and the worker runs somebody else's item, it goes on."""
    harness = Harness(1, grace_s=0.5)
    map_state, other = harness.map_state(), harness.map_state()
    harness.add(other, 3)
    harness.add(map_state, 3)
    harness.at(1, 1, 0)
    harness.commands()
    harness.scheduler.cancel(map_state, harness.now)
    harness.pass_time(SECOND)
    assert harness.commands() == [SetLimit(1, mark(2, 0))]
    harness.results(1, 1, 0, 3)
    harness.results(1, 2, 0, 0)
    assert harness.commands() == [SetLimit(1, NO_LIMIT)]
    assert take_all(other) == [(0, 3, [])]
    assert harness.scheduler.demand.hungry


@pytest.mark.parametrize("calls", [False, True])
def test_what_waits_behind_a_cancelled_item_does_not_wait_for_its_grace(calls: bool) -> None:
    """It runs where a worker is idle."""
    harness = Harness(2, grace_s=1_000.0)
    map_state, other = harness.map_state(calls=calls), harness.map_state(calls=calls)
    chunk = harness.add(map_state)
    harness.add(other, 1)
    harness.add(other, 1)
    harness.end_of_input(map_state, other)
    assert harness.sent() == [(1, 0, 1, 1), (2, 0, 1, 1), (1, 1, 1, 1)]
    harness.at(1, 1, 0)
    harness.at(2, 1, 0)
    if calls:
        harness.scheduler.cancel_chunk(chunk, harness.now)
    else:
        harness.scheduler.cancel(map_state, harness.now)
    harness.results(2, 1, 0, 1)
    harness.pass_time(SECOND)
    assert harness.sent() == [(2, 1, 1, 1)]


@pytest.mark.parametrize("calls", [(False, False), (True, True), (False, True), (True, False)])
def test_each_cancelling_has_a_grace_of_its_own(calls: tuple[bool, bool]) -> None:
    """What is cancelled while the grace of something else runs is not ended at the end of that one."""
    harness = Harness(1, grace_s=0.5)
    for sequence, is_call in enumerate(calls, 1):
        map_state = harness.map_state(calls=is_call)
        chunk = harness.add(map_state)
        harness.at(1, sequence, 0)
        if is_call:
            harness.scheduler.cancel_chunk(chunk, harness.now)
        else:
            harness.scheduler.cancel(map_state, harness.now)
        harness.commands()
        if sequence == 1:
            harness.pass_time(SECOND // 4)
            harness.results(1, 1, 0, 1)
            harness.commands()
    # Of a call that is cancelled once more, the first time counts.
    if calls[1]:
        harness.pass_time(SECOND // 8)
        harness.scheduler.cancel_chunk(chunk, harness.now)
        harness.commands()
        harness.pass_time(SECOND // 8)
    else:
        harness.pass_time(SECOND // 4)
    assert harness.commands() == [], "the first one's grace is over"
    harness.pass_time(SECOND // 4 - 1)
    assert harness.commands() == []
    harness.pass_time(1)
    assert [type(order) for order in harness.commands()] == [Kill, Launch]


@pytest.mark.parametrize("chunks", [0, 1])
def test_a_terminated_worker_with_room_is_given_nothing(chunks: int) -> None:
    """Neither one that is idle nor one that could take a second chunk."""
    harness = Harness(1)
    map_state = harness.map_state()
    for _ in range(chunks):
        harness.add(map_state)
    harness.commands()
    harness.scheduler.terminate(
        harness.state.worker_states[1], Termination(Kind.WORKER_LOST, Boom(), "memory", 0, 0), harness.now
    )
    harness.add(map_state)
    assert harness.sent() == []
    harness.gone(1, idle=True)
    harness.ready(2)
    assert len(harness.sent()) == chunks + 1


def test_a_call_is_cancelled_alone() -> None:
    """Of several calls, the cancelled one is dropped while it waits, and ended when it runs."""
    harness = Harness(1, grace_s=0.5)
    map_state = harness.map_state(calls=True)
    running, behind, waiting, last = [harness.add(map_state, size_bytes=10) for _ in range(4)]
    harness.at(1, 1, 0)
    harness.commands()
    harness.scheduler.cancel_chunk(waiting, harness.now)
    harness.scheduler.cancel_chunk(running, harness.now)
    assert harness.commands() == [SetLimit(1, mark(1, 0))]
    harness.pass_time(SECOND)
    assert [type(order) for order in harness.commands()] == [Kill, Launch]
    harness.gone(1)
    harness.ready(2)
    assert harness.sent() == [(2, 1, 1, 1), (2, 3, 1, 1)]
    futures = [behind.future, last.future]
    assert None not in futures
    for sequence in (1, 2):
        harness.results(2, sequence, 0, 1)
    assert [segment.future for segment in iter(map_state.take, None)] == futures
    assert map_state.settled == map_state.pulled == map_state.consumed == 4
    assert map_state.bytes_out == 0


def _requeued(harness: Harness, map_state: MapState) -> Chunk:
    harness.add(map_state)
    call = harness.add(map_state)
    harness.at(1, 1, 0)
    harness.gone(1)
    return call


def _requeued_and_sent(harness: Harness, map_state: MapState) -> Chunk:
    call = _requeued(harness, map_state)
    harness.ready(2)
    harness.at(2, 1, 0)
    return call


def _retried(harness: Harness, map_state: MapState) -> Chunk:
    call = harness.add(map_state)
    harness.results(1, 1, 0, 1, failures=[Failure(0, Kind.FAILED, ValueError())])
    return call


def _retried_and_sent(harness: Harness, map_state: MapState) -> Chunk:
    call = _retried(harness, map_state)
    harness.pass_time(SECOND)
    harness.at(1, 2, 0)
    return call


@pytest.mark.parametrize("story", [_requeued, _requeued_and_sent, _retried, _retried_and_sent])
def test_cancelling_reaches_a_call_that_moved(story: Any) -> None:
    """A call can be cancelled by what `submit` made of it, also after it was requeued or waits for a retry."""
    harness = Harness(1, grace_s=0)
    map_state = harness.map_state(calls=True, retry=Retry(times=1, wait_s=0.1, on_worker_lost=False))
    call = story(harness, map_state)
    take_all(map_state)
    harness.commands()
    harness.scheduler.cancel_chunk(call, harness.now)
    harness.pass_time(SECOND)
    commands = harness.commands()
    assert not any(isinstance(order, Send) for order in commands)
    holders = [worker_state for worker_state in harness.state.worker_states.values() if worker_state.chunks]
    assert all(worker_state.termination is not None for worker_state in holders), f"it runs on: {holders}"
    for worker_state in holders:
        harness.gone(worker_state.worker)
    for worker, worker_state in list(harness.state.worker_states.items()):
        if worker_state.lifecycle is Lifecycle.STARTING:
            harness.ready(worker)
    assert harness.sent() == []
    assert map_state.take() is None
    assert map_state.settled == map_state.pulled == map_state.consumed
    assert harness.state.counters.count(Kind.CANCELLED) == 1


def test_cancelling_reaches_a_call_that_was_stolen() -> None:
    """A call that waited behind a busy worker and went to an idle one can still be cancelled."""
    harness = Harness(2, grace_s=0)
    map_state = harness.map_state(calls=True)
    calls = [harness.add(map_state) for _ in range(4)]
    harness.at(1, 1, 0)
    harness.at(2, 1, 0)
    harness.now += 100 * MILLI
    harness.results(2, 1, 0, 1)
    harness.results(2, 2, 0, 1)
    harness.pass_time(100 * MILLI)
    moved = [order for order in harness.commands() if isinstance(order, Send)][-1]
    assert moved.worker == 2 and moved.chunk.future is calls[2].future
    harness.at(2, 3, 0)
    harness.scheduler.cancel_chunk(calls[2], harness.now)
    harness.pass_time(SECOND)
    assert any(isinstance(order, Kill) and order.worker == 2 for order in harness.commands())


def test_stopping_lets_what_runs_finish() -> None:
    """`stop` starts nothing more: unstarted items are settled as cancelled, the running one counts."""
    harness = Harness(1, grace_s=0)
    map_state = harness.map_state(retry=Retry(times=3, wait_s=1), ordered=False)
    harness.add(map_state)
    harness.results(1, 1, 0, 1, failures=[Failure(0, Kind.FAILED, ValueError())])
    harness.add(map_state, 3)
    harness.add(map_state, 2)
    harness.add(map_state, 2)
    harness.at(1, 2, 1)
    harness.commands()
    harness.scheduler.stop(map_state, harness.now)
    assert harness.commands() == [SetLimit(1, mark(2, 2))]
    harness.pass_time(10 * SECOND)
    assert harness.commands() == []
    harness.results(1, 2, 0, 2)
    harness.results(1, 3, 0, 0)
    assert harness.commands() == [SetLimit(1, NO_LIMIT)]
    segments = take_all(map_state)
    cancelled = sum(len(kinds) for _, _, kinds in segments)
    assert all(kind is Kind.CANCELLED for _, _, kinds in segments for kind in kinds)
    assert cancelled == 1 + 1 + 2 + 2
    assert sum(count for _, count, _ in segments) == 8
    assert map_state.finished


def test_nothing_is_tried_again_after_stopping() -> None:
    """What fails after `stop` has failed: no further attempt is started for it."""
    harness = Harness(1)
    map_state = harness.map_state(retry=Retry(times=3, wait_s=0))
    harness.add(map_state)
    harness.at(1, 1, 0)
    harness.scheduler.stop(map_state, harness.now)
    harness.commands()
    harness.results(1, 1, 0, 1, failures=[Failure(0, Kind.FAILED, ValueError())])
    harness.pass_time(SECOND)
    assert harness.sent() == []
    assert take_all(map_state) == [(0, 1, [Kind.FAILED])]
    assert map_state.finished


@pytest.mark.parametrize("phase", [PHASE_FUNCTION, PHASE_OUTPUT])
def test_a_map_that_is_stopped_does_not_wait_for_what_was_not_begun(phase: int) -> None:
    """A worker that imports a module for it, or waits until its output is read, would say so minutes later."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 3)
    harness.at(1, 0, 0, phase=phase, since=0)
    harness.commands()
    harness.scheduler.stop(map_state, harness.now)
    assert harness.commands() == [SetLimit(1, mark(1, 0))]
    assert not map_state.finished
    harness.pass_time(2 * CONFIRM_NS)
    assert take_all(map_state) == [(0, 3, [Kind.CANCELLED] * 3)]
    assert map_state.finished and harness.state.counters.stolen == 0


def test_a_map_that_is_stopped_waits_for_what_runs() -> None:
    """And has back at once what is behind it, in the same chunk."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 3)
    harness.at(1, 1, 0, claimed=mark(1, 1))
    harness.scheduler.stop(map_state, harness.now)
    harness.pass_time(2 * CONFIRM_NS)
    assert not map_state.finished
    harness.results(1, 1, 0, 1)
    assert take_all(map_state) == [(0, 1, []), (1, 2, [Kind.CANCELLED] * 2)]
    assert map_state.finished
