"""The scheduler: functions that get batches. One that fails is divided, and an item is charged only if it was alone."""

from __future__ import annotations

import pytest
from tests.unit.scheduler.harness import SECOND, Boom, Harness, take_all
from tests.unit.simulation import MILLI

from allcores.errors import BatchError
from allcores.events import TaskPreempted
from allcores.limits import Retry
from allcores.outcome import Failure, Kind
from allcores.scheduler.batch_size import BATCH_PARTS, BATCH_PATIENCE, Batch, BatchChunker
from allcores.scheduler.exit_settlement import MAX_REQUEUES
from allcores.scheduler.map_state import MapState
from allcores.scheduler.messages import Kill, Send
from allcores.scheduler.timeouts import LATE_NS
from allcores.scheduler.work_stealing import CONFIRM_NS, SOON_NS
from allcores.scheduler.worker_state import Termination
from allcores.transport.positions import PHASE_LOADING, mark


def batches(harness: Harness, batch: Batch = 16, **options: object) -> MapState:
    return harness.map_state(chunker=BatchChunker(None, batch, 1 << 28), **options)


def pending(map_state: MapState) -> list[tuple[int, int, int, int]]:
    """(first, items, batch, attempt) of what waits."""
    return [(chunk.first, len(chunk.items), chunk.batch, chunk.attempt) for chunk in map_state.pending]


def test_a_chunk_says_how_many_items_a_call_gets() -> None:
    harness = Harness(1)
    harness.add(batches(harness), 40)
    harness.add(harness.map_state(), 1)
    assert [order.chunk.batch for order in harness.commands() if isinstance(order, Send)] == [16, 0]


def test_a_batch_whose_worker_dies_runs_again_in_parts_uncharged() -> None:
    """What was sealed stays, what was finished before it is requeued whole, and so is what comes after it."""
    harness = Harness(1)
    map_state = batches(harness, retry=Retry(times=3))
    harness.add(map_state, 64)
    harness.results(1, 1, 0, 16, ended=False)
    harness.at(1, 1, 32, together=16)
    harness.gone(1)
    assert take_all(map_state) == [(0, 16, [])]
    part = 16 // BATCH_PARTS
    assert pending(map_state) == [
        (16, 16, 16, 1),
        *((first, part, part, 1) for first in range(32, 48, part)),
        (48, 16, 16, 1),
    ]
    assert harness.state.counters.requeues == 48
    assert harness.state.counters.retries == 0


def test_an_item_that_was_alone_is_charged() -> None:
    harness = Harness(1)
    map_state = batches(harness)
    harness.add(map_state, 2)
    harness.at(1, 1, 0, together=2)
    harness.gone(1)
    assert pending(map_state) == [(0, 1, 1, 1), (1, 1, 1, 1)]
    harness.ready(2)
    harness.at(2, 1, 0)
    harness.gone(2)
    assert take_all(map_state) == [(0, 1, [Kind.WORKER_LOST])]
    assert pending(map_state) == [(1, 1, 1, 1)]


def test_a_batch_that_finished_as_its_worker_died_counts() -> None:
    harness = Harness(1)
    map_state = batches(harness)
    harness.add(map_state, 32)
    harness.at(1, 1, 0, together=16)
    harness.results(1, 1, 0, 16, ended=False)
    harness.gone(1)
    assert take_all(map_state) == [(0, 16, [])]
    assert pending(map_state) == [(16, 16, 16, 1)]


def test_an_exit_without_a_cause_is_no_reason_to_divide() -> None:
    """Its template was killed, say: the batch comes again as it is; then it may be the cause, and is divided."""
    harness = Harness(1)
    map_state = batches(harness)
    harness.add(map_state, 16)
    for worker in range(1, MAX_REQUEUES + 2):
        harness.at(worker, 1, 0, together=16)
        assert not pending(map_state)
        harness.gone(worker, unattributed=True)
        if worker <= MAX_REQUEUES:
            assert pending(map_state) == [(0, 16, 16, 1)]
        harness.ready(worker + 1)
    assert [order.chunk.batch for order in harness.commands() if isinstance(order, Send)][-1] == 16 // BATCH_PARTS
    assert map_state.failed == 0


def test_a_chunk_that_cannot_be_unpickled_is_taken_apart() -> None:
    harness = Harness(1)
    map_state = batches(harness)
    harness.add(map_state, 3)
    harness.at(1, 1, 0, phase=PHASE_LOADING)
    harness.gone(1)
    assert pending(map_state) == [(0, 1, 1, 1), (1, 1, 1, 1), (2, 1, 1, 1)]


class TestDeadlines:
    """One timeout, and BATCH_PATIENCE times the mean of the others."""

    @staticmethod
    def running(mean_ns: int | None, *, together: int = 16) -> tuple[Harness, MapState]:
        harness = Harness(1)
        map_state = batches(harness, timeout_ns=SECOND)
        if mean_ns is not None:
            harness.add(map_state, 16)
            harness.results(1, 1, 0, 16, total_ns=16 * mean_ns)
        harness.add(map_state, 32)
        harness.at(1, 1 if mean_ns is None else 2, 0, together=together)
        harness.commands()
        return harness, map_state

    @staticmethod
    def ended_after(harness: Harness) -> int:
        """ns until its worker is ended."""
        begun = harness.now
        while not any(isinstance(order, Kill) for order in harness.commands()):
            alarm = harness.scheduler.next_timer_ns
            assert alarm is not None
            harness.now = max(harness.now, alarm)
            harness.tick()
        return harness.now - begun

    @pytest.mark.parametrize("mean_ms", [1, 10])
    def test_what_hangs_is_found_before_each_item_has_used_up_a_timeout(self, mean_ms: int) -> None:
        harness, _ = self.running(mean_ms * MILLI)
        expected = SECOND + 15 * BATCH_PATIENCE * mean_ms * MILLI
        assert expected <= self.ended_after(harness) <= expected + 2 * LATE_NS

    @pytest.mark.parametrize("mean_ns", [None, 900 * MILLI])
    def test_no_batch_has_more_than_its_items_have(self, mean_ns: int | None) -> None:
        """So while nothing is known, and with items that take nearly as long as they may."""
        harness, _ = self.running(mean_ns)
        assert 16 * SECOND <= self.ended_after(harness) <= 16 * SECOND + 2 * LATE_NS

    def test_a_part_of_a_batch_is_looked_at_in_its_own_time(self) -> None:
        """It raised just after it began, and of its halves one item is alone: it has one timeout, not sixteen."""
        harness, _ = self.running(None)
        harness.pass_time(300 * MILLI)
        harness.at(1, 1, 5, together=1)
        assert SECOND <= self.ended_after(harness) <= SECOND + 2 * LATE_NS

    def test_each_item_of_what_overran_runs_alone(self) -> None:
        harness, map_state = self.running(None)
        self.ended_after(harness)
        harness.gone(1)
        assert pending(map_state) == [*((first, 1, 1, 1) for first in range(16)), (16, 16, 16, 1)]
        assert not take_all(map_state)


class TestStealing:
    def test_whole_batches_are_stolen(self) -> None:
        """Half of what is not started, rounded so that each side keeps whole batches."""
        harness = Harness(2)
        map_state = batches(harness, ordered=False)
        harness.results(1, 1, 0, 0)
        harness.add(map_state, 16)
        harness.results(1, 1, 0, 16, total_ns=16 * MILLI)
        harness.add(map_state, 16 * 7)
        harness.end_of_input(map_state)
        harness.at(1, 2, 0, claimed=mark(2, 16), together=16)
        harness.commands()
        harness.scheduler.starved(harness.now)
        harness.pass_time(SOON_NS + 2 * CONFIRM_NS)
        (sent,) = harness.sent()
        assert (sent[1] - 16) % 16 == 0
        assert sent[2] % 16 == 0
        assert sent[2] in (32, 48)

    def test_a_batch_that_runs_is_not_stolen_from(self) -> None:
        harness = Harness(2)
        map_state = batches(harness, ordered=False)
        harness.add(map_state, 16)
        harness.end_of_input(map_state)
        harness.at(1, 1, 0, claimed=mark(1, 16), together=16)
        harness.commands()
        harness.pass_time(20 * SECOND)
        assert harness.sent() == []


def test_for_want_of_memory_a_batch_comes_again_in_parts() -> None:
    """Smaller calls may need less of it. Observers are told of each item."""
    harness = Harness(1)
    map_state = batches(harness)
    harness.add(map_state, 16)
    harness.at(1, 1, 0, together=16)
    termination = Termination(Kind.WORKER_LOST, Boom(1), "memory ran out", 1, 0, preempted=True, together=16)
    harness.scheduler.terminate(harness.state.worker_states[1], termination, harness.now)
    harness.state.events.clear()
    harness.gone(1)
    assert [chunk[:3] for chunk in pending(map_state)] == [(first, 2, 2) for first in range(0, 16, 2)]
    assert {chunk.preempted for chunk in map_state.pending} == {1}
    told = [event for event in harness.state.events if isinstance(event, TaskPreempted)]
    assert sorted((event.index, event.times) for event in told) == [(index, 1) for index in range(16)]


def test_a_function_that_breaks_its_contract_is_not_tried_again() -> None:
    harness = Harness(1)
    map_state = batches(harness, retry=Retry(times=3))
    harness.add(map_state, 2)
    failures = [Failure(n, Kind.FAILED, BatchError("one of two", expected=2, returned=1)) for n in range(2)]
    harness.results(1, 1, 0, 2, failures=failures)
    assert take_all(map_state) == [(0, 2, [Kind.FAILED, Kind.FAILED])]


class TestCredit:
    def test_a_batch_waits_for_the_credit_that_it_takes(self) -> None:
        """Credit comes back item by item: a call for each would be what batches are to avoid."""
        harness = Harness(1)
        map_state = batches(harness, items_limit=40)
        assert map_state.want(1) == 16
        harness.add(map_state, 16)
        harness.add(map_state, 16)
        assert map_state.credit == 8
        assert map_state.want(1) == 0
        assert not map_state.may_pull
        harness.results(1, 1, 0, 16)
        map_state.take()
        assert map_state.want(1) == 16

    def test_with_nothing_out_a_batch_is_what_there_is_credit_for(self) -> None:
        """A limit that is smaller than a batch must not stop the map."""
        map_state = batches(Harness(1), items_limit=10)
        assert map_state.may_pull
        assert map_state.want(1) == 10
