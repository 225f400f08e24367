"""The memory policy and admission: when work is held, who is ended, and who may start meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.scheduler.harness import Harness
from tests.unit.simulation import MILLI

from allcores.errors import WorkerLost
from allcores.events import MemoryHeld, MemoryReleased, TaskPreempted
from allcores.limits import Retry, reserve_of
from allcores.outcome import Failure, Kind
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.map_state import MapState
from allcores.scheduler.memory_policy import (
    CLOSE_NS,
    EASE_FACTOR,
    EASE_NS,
    FAR_NS,
    GONE_NS,
    MAX_PREEMPTIONS,
    MemoryPolicy,
    Running,
    youngest,
)
from allcores.scheduler.messages import Kill, SetLimit
from allcores.scheduler.timers import Timer
from allcores.scheduler.work_stealing import CONFIRM_NS

MB = 1_000_000
TOTAL, RESERVE = 10_000 * MB, 1_000 * MB
SECOND = 1_000 * MILLI


class Machine:
    """A `MemoryPolicy` with a clock, and workers that began one after the other."""

    def __init__(self, weights: dict[int, int] | None = None) -> None:
        self.memory_policy = MemoryPolicy(RESERVE)
        self.weights = weights or {}
        self.dying: set[int] = set()
        self.now = 100 * SECOND

    def look(self, available_mb: int, *, after_ns: int = CLOSE_NS) -> int | None:
        """The worker that is to be ended, if any. Worker n began n ns after the others."""
        self.now += after_ns
        running = [Running(worker, worker) for worker in self.weights if worker not in self.dying]
        ended = self.memory_policy.look(
            available_mb * MB, TOTAL, running, self.weights.__getitem__, self.now, dying=self.dying.__contains__
        )
        if ended is not None:
            self.dying.add(ended.worker)
        return ended.worker if ended is not None else None


# --- the decision ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total_mb", "reserve_mb"),
    [(512, 51.2), (2_000, 200), (3_000, 200), (16_000, 800), (64_000, 3_200), (10**6, 4_000)],
)
def test_the_reserve_follows_the_size_of_the_machine(total_mb: int, reserve_mb: float) -> None:
    assert reserve_of("auto", total_mb * MB) == int(reserve_mb * MB)
    assert reserve_of(123, total_mb * MB) == 123


def test_work_is_held_below_the_reserve_and_goes_on_well_above_it() -> None:
    """Between the two it stays as it is: no flutter."""
    machine = Machine()
    states = []
    for available in (5_000, 1_100, 1_000, 999, 1_001, 1_249, 1_250, 1_100, 900):
        assert machine.look(available) is None
        states.append(machine.memory_policy.held)
    assert states == [False, False, False, True, True, True, False, False, True]


def test_looks_are_more_frequent_close_to_the_reserve() -> None:
    machine = Machine()
    pauses = []
    for available in (9_000, 3_000, 2_999, 900, 9_000):
        machine.look(available)
        pauses.append(machine.memory_policy.pause_ns)
    assert pauses == [FAR_NS, FAR_NS, CLOSE_NS, CLOSE_NS, FAR_NS]


def test_the_youngest_is_ended_below_half_of_the_reserve_one_at_a_time() -> None:
    """The next one only when it is gone, or will not go."""
    machine = Machine({1: 2_000 * MB, 2: 2_000 * MB, 3: 2_000 * MB})
    assert machine.look(501) is None
    assert machine.look(499) == 3
    assert machine.look(400) is None
    machine.dying.clear()
    del machine.weights[3]
    assert machine.look(400) == 2
    assert machine.look(300) is None
    assert machine.look(300, after_ns=GONE_NS) == 1


def test_who_holds_too_little_is_left_alone() -> None:
    """The young ones that hold less than their share of what is missing would be ended for nothing."""
    heavy = Machine({1: 3_000 * MB, 2: 20 * MB, 3: 20 * MB})
    assert heavy.look(100) == 1
    others = Machine({1: 20 * MB, 2: 20 * MB, 3: 20 * MB})
    assert others.look(0) is None and others.memory_policy.held
    others.weights = dict.fromkeys(others.weights, 2_000 * MB)
    assert others.look(0) is None, "they are not weighed at each look"
    assert others.look(0, after_ns=FAR_NS) == 3


def test_after_an_end_fewer_are_busy_for_as_long_as_it_had_taken_to_show() -> None:
    machine = Machine({1: 2_000 * MB, 2: 2_000 * MB, 3: 2_000 * MB, 4: 2_000 * MB})
    assert machine.look(100) == 4
    took_ns = machine.now - 4
    assert took_ns * EASE_FACTOR > EASE_NS
    assert machine.memory_policy.most == 3
    del machine.weights[4]
    machine.look(5_000, after_ns=EASE_FACTOR * took_ns - 1)
    assert machine.memory_policy.most == 3
    machine.look(5_000, after_ns=1)
    assert machine.memory_policy.most == 4
    machine.memory_policy.ease(5)
    assert machine.memory_policy.most == 4
    machine.memory_policy.ease(4)
    assert machine.memory_policy.most is None


WEIGHTS = st.lists(st.integers(0, 2_000), max_size=8)


@given(st.lists(st.tuples(st.integers(0, 3_000), WEIGHTS, st.integers(FAR_NS, 3 * SECOND)), max_size=30))
def test_what_always_holds(looks: list[tuple[int, list[int], int]]) -> None:
    """Whoever is ended runs, holds its share of what is missing, and is the youngest of those that do."""
    machine = Machine()
    for available, weights, after_ns in looks:
        machine.weights = {number: weight * MB for number, weight in enumerate(weights)}
        machine.dying.clear()
        was_held = machine.memory_policy.held
        ended = machine.look(available, after_ns=after_ns)
        assert machine.memory_policy.held is (available < 1_000 or (was_held and available < 1_250))
        assert machine.memory_policy.most is None or machine.memory_policy.most >= 1
        missing = 1_000 - available
        able = [number for number, weight in enumerate(weights) if weight * len(weights) >= missing]
        assert ended == (max(able) if available < 500 and able else None)
        # Ending those that could be ended helps; if nobody is, all of them together hold too little.
        if ended is None and available < 500:
            assert sum(weights) < missing


def test_of_those_that_began_together_one_is_ended() -> None:
    assert youngest([Running(1, 5), Running(2, 5)], 10, lambda worker: 10) in (Running(1, 5), Running(2, 5))
    assert youngest([], 10, lambda worker: 10) is None


# --- the scheduler's part ------------------------------------------------------------------------


class Squeezed(Harness):
    """A scheduler whose machine has as much memory as the test says."""

    def __init__(self, workers: int, **limits: Any) -> None:
        super().__init__(workers, memory_reserve=RESERVE, **limits)
        self.available_mb = 9_000
        self.weights = dict.fromkeys(range(1, 20), 2_000 * MB)
        self.scheduler.admission.watch(lambda: (self.available_mb * MB, TOTAL), self.weights.__getitem__)

    def have(self, available_mb: int, *, after_ns: int = FAR_NS) -> None:
        """So much is available, and it has been looked at."""
        self.available_mb = available_mb
        self.now += after_ns
        self.scheduler.tick(self.now)

    def runs(self, *workers: int) -> None:
        """They run the first item of what they hold, each having begun later than the one before."""
        for worker in workers:
            self.now += MILLI
            self.at(worker, self.state.worker_states[worker].chunks[0].sequence, 0)

    def events_of(self, kind: type) -> list[Any]:
        return [each for each in self.state.events if isinstance(each, kind)]

    def kills(self) -> list[int]:
        return [order.worker for order in self.commands() if isinstance(order, Kill)]


def test_held_work_is_not_handed_out_until_there_is_memory() -> None:
    harness = Squeezed(2)
    map_state = harness.map_state()
    harness.add(map_state)
    [(first, *_)] = harness.sent()
    harness.runs(first)
    harness.have(900)
    harness.add(map_state)
    harness.add(map_state)
    assert harness.sent() == []
    harness.have(2_000)
    assert [sent[1] for sent in harness.sent()] == [1, 2]
    assert harness.events_of(MemoryHeld) == [MemoryHeld(900 * MB, RESERVE)]
    [released] = harness.events_of(MemoryReleased)
    assert released.seconds == pytest.approx(FAR_NS / 1e9)


def test_with_nobody_busy_one_chunk_starts_however_short_memory_is() -> None:
    harness = Squeezed(2)
    map_state = harness.map_state(total=5)
    harness.add(map_state)
    [(first, *_)] = harness.sent()
    harness.runs(first)
    harness.have(0)
    harness.commands()
    harness = worker_states_after_loss(harness, first)
    for _ in range(3):
        harness.add(map_state)
    started = []
    for _ in range(4):
        [(worker, index, *_)] = harness.sent()
        started.append(index)
        harness.weights[worker] = 0
        harness.runs(worker)
        harness.have(0)
        harness.results(worker, harness.state.worker_states[worker].last_sequence, 0, 1)
    assert started == [0, 1, 2, 3]


def worker_states_after_loss(harness: Squeezed, worker: int) -> Squeezed:
    """The worker that was ended is gone, and another is ready."""
    harness.gone(worker)
    for each in harness.state.worker_states:
        if each not in harness.board:
            harness.ready(each)
    return harness


def test_no_input_is_pulled_while_work_is_held() -> None:
    harness = Squeezed(2)
    map_state = harness.map_state()
    harness.add(map_state)
    [(first, *_)] = harness.sent()
    harness.runs(first)
    assert harness.scheduler.demand.room(map_state) > 0 and harness.scheduler.demand.starving(map_state)
    harness.have(900)
    assert harness.scheduler.demand.room(map_state) == 0
    assert not harness.scheduler.demand.starving(map_state) and not harness.scheduler.demand.wants_input(map_state)
    harness.state.dirty_maps.clear()
    harness.results(first, 1, 0, 1)
    assert map_state in harness.state.dirty_maps
    assert harness.scheduler.demand.room(map_state) == 1 and harness.scheduler.demand.starving(map_state)


def test_what_waits_at_workers_is_stolen_but_not_from_the_oldest() -> None:
    harness = Squeezed(2)
    map_state = harness.map_state(chunker=Chunker(3))
    for _ in range(4):
        harness.add(map_state, 3)
    held = {
        worker: [chunk.first for chunk in worker_state.chunks]
        for worker, worker_state in harness.state.worker_states.items()
    }
    old, young = sorted(held)
    harness.commands()
    harness.runs(old, young)
    harness.have(900, after_ns=CLOSE_NS)
    assert [order.worker for order in harness.commands() if isinstance(order, SetLimit)] == [young]
    harness.now += CONFIRM_NS
    harness.scheduler.tick(harness.now)
    assert [len(chunk.items) for chunk in harness.state.worker_states[old].chunks] == [3, 3]
    kept = harness.state.worker_states[young].chunks
    assert sum(len(chunk.items) for chunk in kept) == 1
    assert sum(len(chunk.items) for chunk in map_state.pending) == 5
    assert map_state.pending[0].first == held[young][0] + 1
    assert harness.sent() == []


def test_the_ended_item_goes_to_the_front_and_is_no_attempt() -> None:
    harness = Squeezed(2)
    map_state = harness.map_state()
    harness.add(map_state)
    harness.add(map_state)
    sent = {index: worker for worker, index, *_ in harness.sent()}
    harness.runs(sent[0], sent[1])
    harness.have(100)
    assert harness.kills() == [sent[1]]
    worker_states_after_loss(harness, sent[1])
    [chunk] = map_state.pending
    assert (chunk.first, chunk.attempt, chunk.preempted) == (1, 1, 1)
    assert harness.state.counters.preempted == 1
    assert harness.events_of(TaskPreempted) == [TaskPreempted(map_state.number, 1, 1, sent[1])]
    harness.have(9_000)
    assert harness.sent() == [], "one less than before may be busy"
    harness.results(sent[0], 1, 0, 1)
    assert [sent[1:] for sent in harness.sent()] == [(1, 1, 1)]


def test_an_item_that_was_requeued_too_often_runs_alone_and_is_then_told() -> None:
    """While it runs nobody else is given work, and it does not start before they are done."""
    harness = Squeezed(3)
    map_state, other = harness.map_state(), harness.map_state()
    chunk = harness.add(map_state)
    chunk.preempted = MAX_PREEMPTIONS - 1
    harness.add(other)
    sent = {order.chunk.map_state: order.worker for order in harness.commands() if hasattr(order, "chunk")}
    harness.runs(sent[other], sent[map_state])
    harness.have(100)
    worker_states_after_loss(harness, sent[map_state])
    harness.commands()
    harness.have(9_000)
    harness.now += EASE_FACTOR * SECOND
    harness.have(9_000)
    assert not harness.sent(), "somebody else is still busy"
    harness.results(sent[other], 1, 0, 1)
    [(worker, index, items, attempt)] = harness.sent()
    assert (index, items, attempt) == (0, 1, 1)
    harness.add(other)
    assert not harness.sent(), "it runs alone"
    harness.runs(worker)
    harness.have(100)
    assert harness.kills() == [worker]
    worker_states_after_loss(harness, worker)
    segment = map_state.take()
    assert segment is not None and segment.failures
    error = segment.failures[0].error
    assert segment.failures[0].kind is Kind.WORKER_LOST and isinstance(error, WorkerLost)
    assert "used 1.9 GB, 95.4 MB were left, 953.7 MB are kept in reserve" in str(error)
    assert (error.peak_memory, error.attempts, error.index) == (2_000 * MB, 1, 0)
    assert [sent[1] for sent in harness.sent()] == [1]


def alone(harness: Squeezed, map_state: MapState) -> int:
    """One item was preempted so often that it runs alone, with plenty of memory; the worker that has it."""
    chunk = harness.add(map_state)
    chunk.preempted = MAX_PREEMPTIONS - 1
    [(worker, *_)] = harness.sent()
    harness.runs(worker)
    harness.have(100)
    assert harness.kills() == [worker]
    harness.available_mb = 9_000
    worker_states_after_loss(harness, worker)
    [(worker, *_)] = harness.sent()
    harness.runs(worker)
    for _ in range(3):
        harness.have(9_000, after_ns=EASE_FACTOR * SECOND)
    assert harness.state.narrow and harness.scheduler.demand.room(map_state) == 0
    return worker


@pytest.mark.parametrize("end", ["returns", "fails", "is lost", "is cancelled"])
def test_once_it_has_run_alone_all_workers_have_as_much_as_before(end: str) -> None:
    harness = Squeezed(2)
    wide = Squeezed(2)
    map_state, other = harness.map_state(retry=Retry(times=1, wait_s=1.0)), harness.map_state()
    worker = alone(harness, map_state)
    harness.state.dirty_maps.clear()
    if end == "returns":
        harness.results(worker, 1, 0, 1)
    elif end == "is lost":
        map_state.retry = Retry()
        harness.gone(worker)
    else:
        harness.results(worker, 1, 0, 1, failures=[Failure(0, Kind.FAILED, ValueError())])
        assert harness.state.narrow, "its second attempt is alone, too"
        if end == "is cancelled":
            harness.add(other)
            [(busy, *_)] = harness.sent()
            harness.scheduler.cancel(map_state, harness.now)
            harness.have(9_000)
            harness.results(busy, harness.state.worker_states[busy].last_sequence, 0, 1)
        else:
            harness.tick(2 * SECOND)
            [(worker, _, _, attempt)] = harness.sent()
            assert attempt == 2
            harness.results(worker, harness.state.worker_states[worker].last_sequence, 0, 1)
    assert not harness.state.narrow
    assert other in harness.state.dirty_maps, "its reader may pull more"
    wide_map = wide.map_state()
    for worker in harness.state.worker_states:
        harness.ready(worker)
    assert harness.scheduler.demand.room(harness.map_state()) == wide.scheduler.demand.room(wide_map) > 1
    for _ in range(6):
        harness.add(other)
        wide.add(wide_map)
    assert len(harness.sent()) == len(wide.sent()) > 2


def test_an_idle_pool_sleeps() -> None:
    """Looks are made while work is out only, however it was left."""
    harness = Squeezed(2)
    assert all(alarm[2] is not Timer.MEMORY for alarm in harness.state.timers.heap)
    map_state = harness.map_state()
    harness.add(map_state)
    [(first, *_)] = harness.sent()
    assert [alarm[2] for alarm in harness.state.timers.heap].count(Timer.MEMORY) == 1
    harness.runs(first)
    harness.have(900)
    assert [alarm[2] for alarm in harness.state.timers.heap].count(Timer.MEMORY) == 1
    harness.results(first, 1, 0, 1)
    harness.have(900)
    assert all(alarm[2] is not Timer.MEMORY for alarm in harness.state.timers.heap)


def test_none_leaves_memory_alone() -> None:
    harness = Harness(1, memory_reserve=None)
    harness.scheduler.admission.watch(lambda: (0, TOTAL), lambda worker: 0)
    map_state = harness.map_state()
    harness.add(map_state)
    assert all(alarm[2] is not Timer.MEMORY for alarm in harness.state.timers.heap)
    assert not harness.state.narrow
