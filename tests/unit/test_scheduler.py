"""scheduler/scheduler.py: who gets which chunk, what is retried, who is ended. Told as events and orders.

The stories come first; then Hypothesis plays whole worlds (see simulation.py) and checks what must always hold.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.simulation import MICRO, MILLI, Deed, Script, Task, World, world_of

from allcores.errors import BrokenPool, InternalError, SetupError, TaskTimeout
from allcores.events import TaskRetried, WorkerEnded
from allcores.limits import Limits, Retry
from allcores.outcome import Failure, Kind
from allcores.scheduler.activity import ActivityBatcher
from allcores.scheduler.chunk_size import MOST_NS, Chunker
from allcores.scheduler.input_demand import RESERVE
from allcores.scheduler.map_state import Chunk, Function, MapState, Segment
from allcores.scheduler.messages import (
    Kill,
    Launch,
    Peek,
    Results,
    Send,
    SetLimit,
    Stop,
    WorkerGone,
    WorkerProgress,
)
from allcores.scheduler.scheduler import CROWDED_NS, Scheduler
from allcores.scheduler.settlement import MAX_REQUEUES
from allcores.scheduler.state import DEPTH
from allcores.scheduler.timeouts import PEEK_NS, START_NS
from allcores.scheduler.timers import MOST_TIMERS, Timer
from allcores.scheduler.work_stealing import CONFIRM_NS, SOON_NS
from allcores.scheduler.worker_state import Lifecycle, Termination
from allcores.scheduler.workers import MOST_FAILED_STARTS, MOST_FAILED_STARTS_LATER, MOST_KILLED_STARTS, STOPPED_NS
from allcores.transport.positions import (
    NO_LIMIT,
    PHASE_IDLE,
    PHASE_LOADING,
    PHASE_RUNNING,
    PHASE_SEALING,
    mark,
)

FUNCTION = Function(1, None, b"", "one", "function")
SECOND = 1_000 * MILLI


class Boom(Exception):
    """What a worker died of."""


class Harness:
    """A scheduler with a board that the test writes, and a clock that the test moves."""

    def __init__(self, workers: int = 1, *, ready: bool = True, **limits: Any) -> None:
        self.board: dict[int, WorkerProgress] = {}
        self.scheduler = Scheduler(workers, Limits(**limits), self.board.get, rng=random.Random(1))
        self.state = self.scheduler.state
        self.now = SECOND
        self.maps = 0
        self.scheduler.fill(self.now)
        if ready:
            self.commands()
            # In reverse: of the idle, the one that came last is the first to be given work.
            for worker in reversed(self.state.worker_states):
                self.ready(worker)

    def commands(self, *, peeks: bool = False) -> list[Any]:
        """What was ordered since the last look."""
        commands, self.state.commands = self.state.commands, []
        return [order for order in commands if peeks or not isinstance(order, Peek)]

    def sent(self) -> list[tuple[int, int, int, int]]:
        """Of the orders since the last look, what was sent: worker, first item, items, attempt."""
        return [
            (order.worker, order.chunk.first, len(order.chunk.items), order.chunk.attempt)
            for order in self.commands()
            if isinstance(order, Send)
        ]

    def map_state(self, **options: Any) -> MapState:
        self.maps += 1
        options.setdefault("chunker", Chunker(1))
        map_state = MapState(self.maps, **options)
        self.scheduler.open(map_state)
        return map_state

    def add(self, map_state: MapState, items: int = 1, *, size_bytes: int = 0) -> Chunk:
        first = map_state.pulled
        chunk = Chunk(map_state, FUNCTION, first, list(range(first, first + items)))
        chunk.future = object() if map_state.calls else None
        chunk.size_bytes = size_bytes
        self.scheduler.add(chunk, self.now)
        return chunk

    def end_of_input(self, *maps: MapState) -> None:
        for map_state in maps:
            map_state.exhausted = True

    def ready(self, worker: int) -> None:
        self.scheduler.ready(worker, self.now)

    def results(self, worker: int, sequence: int, start: int, count: int, *, ended: bool = True, **more: Any) -> None:
        failed = {failure.offset for failure in more.get("failures") or ()}
        values = [position for position in range(start, start + count) if position not in failed]
        # Long enough that chunks are no short ones.
        total_ns = more.pop("total_ns", count * 6 * MILLI)
        event = Results(worker, sequence, start, count, total_ns, values=values, ended=ended, **more)
        self.scheduler.results(event, self.now)

    def at(
        self, worker: int, sequence: int, position: int, *, since: int | None = None, phase: int = PHASE_RUNNING
    ) -> WorkerProgress:
        """Write a worker's slot."""
        started = 0 if phase == PHASE_IDLE else self.now if since is None else since
        self.board[worker] = WorkerProgress(sequence, position, started, phase)
        return self.board[worker]

    def gone(self, worker: int, *, unattributed: bool = False, idle: bool = False, **more: bool) -> None:
        """The worker's process has ended where its slot says."""
        running = None if idle else self.board.get(worker)
        event = WorkerGone(worker, running, Kind.WORKER_LOST, Boom(worker), "it died", unattributed, **more)
        self.scheduler.gone(event, self.now)

    def tick(self, after_ns: int = 0) -> None:
        self.now += after_ns
        self.scheduler.tick(self.now)

    def pass_time(self, until_ns: int, *, alarms: int = 1000) -> None:
        """Let `until_ns` pass; ring each alarm when it is due."""
        until = self.now + until_ns
        while (alarm := self.scheduler.next_timer_ns) is not None and alarm <= until:
            alarms -= 1
            assert alarms, "alarms without end"
            self.now = max(self.now, alarm)
            self.tick()
        self.now = until


def take_all(map_state: MapState) -> list[tuple[int, int, list[Kind]]]:
    """Segments that are ready, as (start, count, kinds of failures)."""
    return [
        (segment.start, segment.count, [failure.kind for failure in segment.failures or ()])
        for segment in iter(map_state.take, None)
    ]


def lonely(map_state: MapState) -> Segment:
    segment = map_state.take()
    assert segment is not None
    assert map_state.take() is None
    return segment


# --- handing out ----------------------------------------------------------------------------------


def test_a_pool_begins_at_full_strength() -> None:
    """As many workers are launched as were asked for, once; none is given work before it is ready."""
    harness = Harness(3, ready=False)
    assert harness.commands() == [Launch(1), Launch(2), Launch(3)]
    map_state = harness.map_state()
    harness.add(map_state)
    harness.scheduler.fill(harness.now)
    assert harness.commands() == []
    harness.ready(2)
    assert harness.sent() == [(2, 0, 1, 1)]


def test_idle_workers_come_first() -> None:
    """No worker gets a second chunk while another has none, and none gets more than DEPTH."""
    harness = Harness(3)
    map_state = harness.map_state()
    for _ in range(3 * DEPTH + 2):
        harness.add(map_state)
    workers = [worker for worker, *_ in harness.sent()]
    assert sorted(workers[:3]) == [1, 2, 3]
    assert sorted(workers) == sorted([1, 2, 3] * DEPTH)
    assert len(map_state.pending) == 2


def test_the_next_chunk_waits_at_the_worker() -> None:
    """A worker that ends a chunk gets the next at once, in the order of the input, whatever others do."""
    harness = Harness(1)
    map_state = harness.map_state()
    for _ in range(4):
        harness.add(map_state)
    assert harness.sent() == [(1, 0, 1, 1), (1, 1, 1, 1)]
    harness.results(1, 1, 0, 1)
    assert harness.sent() == [(1, 2, 1, 1)]
    harness.results(1, 2, 0, 1)
    assert harness.sent() == [(1, 3, 1, 1)]
    assert take_all(map_state) == [(0, 1, []), (1, 1, [])]


def test_whose_reader_held_back_is_woken_when_a_worker_is_idle() -> None:
    """A slow input is not pulled while all workers are busy, with another map perhaps: its end is news for all."""
    harness = Harness(1)
    busy, waiting = harness.map_state(), harness.map_state()
    harness.add(busy)
    harness.commands()
    harness.scheduler.state.dirty_maps.clear()
    harness.results(1, 1, 0, 1)
    assert waiting in harness.scheduler.state.dirty_maps and harness.scheduler.demand.wants_input(waiting)
    waiting.exhausted = True
    harness.add(busy)
    harness.scheduler.state.dirty_maps.clear()
    harness.results(1, 2, 0, 1)
    assert waiting not in harness.scheduler.state.dirty_maps


def test_maps_are_served_in_turn() -> None:
    """A map with a hundred chunks keeps another one waiting for one chunk, not for a hundred."""
    harness = Harness(1)
    large, small, other = harness.map_state(), harness.map_state(), harness.map_state()
    for _ in range(100):
        harness.add(large)
    harness.commands()
    small_chunks = [harness.add(small) for _ in range(3)]
    other_chunks = [harness.add(other) for _ in range(3)]
    for sequence in range(1, 12):
        harness.results(1, sequence, 0, 1)
    served = [order.chunk.map_state.number for order in harness.commands() if isinstance(order, Send)]
    assert all(chunk.sequence for chunk in small_chunks + other_chunks)
    assert served[:9] in ([1, 2, 3] * 3, [2, 3, 1] * 3)
    assert set(served[9:]) == {1}


def test_there_is_room_for_everybody_and_a_reserve() -> None:
    """`room` counts chunks for whoever is idle or has space, and some more; pending ones are subtracted."""
    harness = Harness(4, ready=False)
    map_state = harness.map_state()
    assert harness.scheduler.demand.room(map_state) == 4, (
        "nobody is ready yet: the first chunks shall wait for those who start"
    )
    assert harness.scheduler.demand.hungry
    map_state.chunker.observe(1, 6 * MILLI, 10)
    assert harness.scheduler.demand.room(map_state) == 8
    for worker in (1, 2, 3, 4):
        harness.ready(worker)
    assert harness.scheduler.demand.room(map_state) == 4 * DEPTH + 4
    for _ in range(4 * DEPTH + 3):
        harness.add(map_state)
    assert len(map_state.pending) == 3
    assert harness.scheduler.demand.room(map_state) in (1, 5)
    harness.results(1, 1, 0, 1)
    assert harness.scheduler.demand.room(map_state) == 2
    assert not harness.scheduler.demand.hungry
    many = Harness(100, ready=False)
    known = many.map_state()
    known.chunker.observe(1, MILLI, 10)
    assert many.scheduler.demand.room(known) == 100 + RESERVE


@pytest.mark.parametrize("chunk", [None, 7])
def test_until_results_are_known_each_worker_gets_one_chunk(chunk: int | None) -> None:
    """They may be large: what is pulled before the first is known is no more than the workers need to begin."""
    harness = Harness(4)
    map_state = harness.map_state(chunker=Chunker(chunk))
    while harness.scheduler.demand.room(map_state) > 0:
        harness.add(map_state, chunk or 1)
    assert [chunk.first // (map_state.chunker.fixed or 1) for chunk in sent_chunks(harness)] == [0, 1, 2, 3]
    assert not map_state.pending and not harness.scheduler.demand.starving(map_state)
    harness.results(4, 1, 0, chunk or 1)
    assert harness.scheduler.demand.room(map_state) > 4 and harness.scheduler.demand.starving(map_state)


def sent_chunks(harness: Harness) -> list[Chunk]:
    """What was sent since the last look."""
    return [order.chunk for order in harness.commands() if isinstance(order, Send)]


def test_reports_of_strangers_are_ignored() -> None:
    """Results of a worker or a chunk that is not known change nothing, nor do those that come twice."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 3)
    harness.results(7, 1, 0, 1)
    harness.results(1, 9, 0, 1)
    harness.ready(7)
    harness.results(1, 1, 0, 2, ended=False)
    harness.results(1, 1, 0, 2, ended=False)
    harness.results(1, 1, 2, 1)
    harness.results(1, 1, 2, 1)
    assert take_all(map_state) == [(0, 2, []), (2, 1, [])]
    assert harness.state.counters.count(Kind.OK) == 3 == harness.state.counters.items_done


def test_results_that_come_too_early_wait_for_their_turn() -> None:
    """What is read in an outbox while earlier results are still in the pipe makes nothing of these superfluous."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 4)
    harness.results(1, 1, 2, 1, ended=False)
    harness.results(1, 1, 0, 2, ended=False)
    harness.results(1, 1, 2, 1, ended=False)
    harness.results(1, 1, 3, 1)
    assert take_all(map_state) == [(0, 2, []), (2, 1, []), (3, 1, [])]
    harness.add(map_state, 2)
    harness.results(1, 2, 1, 1)
    harness.results(1, 2, 0, 1, ended=False)
    harness.results(1, 2, 1, 1)
    assert take_all(map_state) == [(4, 1, []), (5, 1, [])]


def test_a_chunk_that_takes_long_is_looked_into() -> None:
    """Items that are finished behind one that takes long are fetched; looking ends with the chunk."""
    harness = Harness(1)
    harness.add(harness.map_state(), 3)
    harness.commands()
    harness.pass_time(PEEK_NS)
    assert harness.commands(peeks=True) == [Peek(1)]
    harness.pass_time(10 * PEEK_NS, alarms=12)
    assert set(harness.commands(peeks=True)) == {Peek(1)}
    harness.results(1, 1, 0, 3)
    harness.pass_time(PEEK_NS)
    harness.commands()
    harness.pass_time(SECOND)
    assert harness.commands(peeks=True) == []


def test_rare_reports_are_not_looked_for_early() -> None:
    """Where chunks are long, nobody is woken to look for what they do not report yet."""
    harness = Harness(1)
    map_state = harness.map_state(chunker=Chunker())
    map_state.chunker.observe(1_000, 100 * SECOND, 0)
    map_state.chunker.size(workers=1)
    assert map_state.chunker.target_ns == MOST_NS
    for sequence in range(1, 8):
        harness.add(map_state, 3)
        harness.pass_time(MOST_NS)
        harness.results(1, sequence, 0, 3)
    assert Peek(1) not in harness.commands(peeks=True)
    harness.add(map_state, 3)
    harness.pass_time(3 * MOST_NS)
    assert Peek(1) in harness.commands(peeks=True)


@pytest.mark.parametrize("calls", [True, False])
def test_new_work_does_not_wait_for_long_chunks_of_others(calls: bool) -> None:
    """What a worker has not started of another map's long chunk is stolen, and the new work goes first."""
    harness = Harness(1)
    long = harness.map_state(chunker=Chunker())
    long.chunker.observe(100, 100 * MILLI, 0)
    harness.add(long, 100)
    harness.board[1] = WorkerProgress(1, 9, harness.now, PHASE_RUNNING, mark(1, 10))
    harness.commands()
    new = harness.map_state(calls=calls)
    harness.add(new)
    assert SetLimit(1, mark(1, 10)) in harness.commands()
    harness.pass_time(CONFIRM_NS)
    harness.results(1, 1, 0, 10)
    harness.results(1, 2, 0, 0)
    assert [order.chunk.map_state for order in harness.commands() if isinstance(order, Send)] == [new, long]
    assert harness.scheduler.demand.crowded(harness.now)
    assert not harness.scheduler.demand.crowded(harness.now + CROWDED_NS)


def test_short_chunks_of_others_are_waited_for() -> None:
    """Stealing costs more than waiting for a few milliseconds does."""
    harness = Harness(1)
    short = harness.map_state(chunker=Chunker())
    short.chunker.observe(100, 100 * MILLI, 0)
    harness.add(short, 20)
    harness.commands()
    harness.add(harness.map_state(calls=True))
    assert not [order for order in harness.commands() if isinstance(order, SetLimit)]


def test_an_idle_pool_sleeps() -> None:
    """When all is done, no alarm is left that would wake anybody up, again and again, for nothing."""
    harness = Harness(3, setup_s=30)
    map_state = harness.map_state(timeout_ns=SECOND, retry=Retry(times=1))
    for sequence in (1, 2):
        for _ in (1, 2, 3):
            harness.add(map_state, 3)
        for worker in (1, 2, 3):
            harness.results(worker, sequence, 0, 3)
    harness.end_of_input(map_state)
    take_all(map_state)
    harness.pass_time(60 * SECOND, alarms=50)
    assert harness.scheduler.next_timer_ns is None


def test_running_items_that_were_stolen_is_an_error() -> None:
    """A worker that reports more items than its chunk holds is our mistake, and does not go unseen."""
    harness = Harness(1)
    harness.add(harness.map_state(), 2)
    with pytest.raises(InternalError, match="stolen"):
        harness.results(1, 1, 0, 3)


# --- failures and retries -------------------------------------------------------------------------


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


# --- deaths ---------------------------------------------------------------------------------------


def test_only_the_item_that_ran_is_charged() -> None:
    """A worker that dies loses the outcome of one item. What was sealed stays; the rest goes back to the front."""
    harness = Harness(1)
    map_state = harness.map_state(ordered=False)
    harness.add(map_state, 6)
    harness.add(map_state, 2)
    harness.add(map_state, 2)
    harness.results(1, 1, 0, 2, ended=False)
    harness.at(1, 1, 3)
    harness.commands()
    harness.gone(1)
    assert take_all(map_state) == [(0, 2, []), (3, 1, [Kind.WORKER_LOST])]
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [
        (2, 1, 1),  # finished, but not sealed
        (4, 2, 1),
        (6, 2, 1),
        (8, 2, 1),
    ]
    assert harness.commands() == [Launch(2)]
    assert harness.state.counters.requeues == 5
    harness.ready(2)
    assert harness.sent() == [(2, 2, 1, 1), (2, 4, 2, 1)]


def test_an_item_that_finished_as_its_worker_died_counts() -> None:
    """When the death came after the sealing, no item is charged."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 3)
    harness.at(1, 1, 1)
    harness.results(1, 1, 0, 2, ended=False)
    harness.gone(1)
    assert take_all(map_state) == [(0, 2, [])]
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [(2, 1, 1)]


@pytest.mark.parametrize("phase", [PHASE_LOADING, PHASE_SEALING])
def test_a_death_over_a_whole_chunk_is_looked_into(phase: int) -> None:
    """Where the death cannot be pinned to one item, its items run one by one, uncharged: that will tell."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 3)
    harness.at(1, 1, 0 if phase == PHASE_LOADING else 2, phase=phase)
    harness.gone(1)
    assert take_all(map_state) == []
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [
        (0, 1, 1),
        (1, 1, 1),
        (2, 1, 1),
    ]
    harness.ready(2)
    harness.at(2, 1, 0, phase=phase)
    harness.gone(2)
    assert take_all(map_state) == [(0, 1, [Kind.WORKER_LOST])]


def test_items_that_would_not_unpickle_together_run_one_by_one() -> None:
    """A chunk that a worker could not unpickle comes back in pieces of one item."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 3)
    harness.commands()
    harness.results(1, 1, 0, 0, unloadable=True)
    assert harness.sent() == [(1, 0, 1, 1), (1, 1, 1, 1)]


def test_an_idle_worker_that_dies_is_replaced() -> None:
    """A death between two chunks costs nobody an outcome."""
    harness = Harness(2)
    map_state = harness.map_state()
    harness.add(map_state, 2)
    harness.at(1, 0, 0, phase=PHASE_IDLE)
    harness.commands()
    harness.gone(1, idle=True)
    assert harness.commands()[0] == Launch(3)
    assert map_state.settled == 0
    assert [event.worker for event in harness.state.events if isinstance(event, WorkerEnded)] == [1]
    harness.gone(1)
    assert harness.commands() == [], "a second notice of the same death is no news"


def test_a_chunk_that_waited_behind_the_item_that_ran_is_not_charged() -> None:
    """The second chunk of a dying worker goes back whole."""
    harness = Harness(1)
    map_state, other = harness.map_state(), harness.map_state()
    harness.add(map_state)
    harness.add(other, 3)
    harness.at(1, 1, 0)
    harness.gone(1)
    assert take_all(map_state) == [(0, 1, [Kind.WORKER_LOST])]
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in other.pending] == [(0, 3, 1)]


def test_a_worker_that_dies_at_its_limit_was_not_running_anything() -> None:
    """The item at the limit was never started: it is not charged, whether it was stolen already or not."""
    for confirmed in (False, True):
        harness = Harness(2)
        map_state = harness.map_state()
        harness.add(map_state, 4)
        harness.end_of_input(map_state)
        # Worker 1 has run items[0] for long; the rest is to be stolen.
        harness.at(1, 1, 0)
        harness.now += 100 * MILLI
        harness.gone(2, idle=True)
        harness.ready(3)
        harness.tick(SOON_NS)
        assert harness.state.worker_states[1].limit == mark(1, 1)
        assert harness.state.worker_states[1].confirming
        if confirmed:
            harness.tick(CONFIRM_NS)
        harness.commands()
        harness.results(1, 1, 0, 1, ended=False)
        harness.at(1, 1, 1)
        harness.gone(1)
        assert take_all(map_state) == [(0, 1, [])], "confirmed" if confirmed else "not yet confirmed"
        assert map_state.failed == 0


def test_an_unattributed_exit_charges_nobody() -> None:
    """When the template dies, the items that ran go back uncharged; but not for ever."""
    harness = Harness(1)
    map_state = harness.map_state(retry=Retry(times=0))
    harness.add(map_state)
    for deaths in range(1, MAX_REQUEUES + 2):
        harness.at(deaths, 1, 0)
        harness.gone(deaths, unattributed=True)
        if deaths <= MAX_REQUEUES:
            assert take_all(map_state) == []
            assert [chunk.attempt for chunk in map_state.pending] == [1]
            harness.ready(deaths + 1)
    assert take_all(map_state) == [(0, 1, [Kind.WORKER_LOST])]


def test_alarms_of_workers_that_are_gone_are_dropped() -> None:
    """However many are replaced, before any of their alarms is due."""
    harness = Harness(1)
    for worker in range(1, 10 * MOST_TIMERS):
        harness.gone(worker, idle=True)
        harness.ready(worker + 1)
    assert len(harness.state.timers.heap) <= MOST_TIMERS + 2


# --- starting -------------------------------------------------------------------------------------


def test_workers_that_end_before_they_are_ready_break_the_pool() -> None:
    """A few in a row, and every map is told once, instead of a restart loop."""
    harness = Harness(1, ready=False)
    map_state = harness.map_state()
    harness.add(map_state)
    for worker in range(1, MOST_FAILED_STARTS):
        harness.gone(worker, idle=True)
        assert not map_state.finished
    harness.commands()
    harness.gone(MOST_FAILED_STARTS, idle=True)
    assert isinstance(map_state.broken, BrokenPool)
    assert map_state.finished
    assert map_state in harness.state.dirty_maps
    assert harness.commands() == [], "nobody is launched into a broken pool"
    late = harness.map_state()
    assert late.broken is map_state.broken


def test_a_setup_that_ends_its_process_each_time_is_a_setup_error() -> None:
    """Once is a failed start like any other; several in a row, with no worker ever ready, are the setup's fault."""
    harness = Harness(1, ready=False)
    map_state = harness.map_state()
    for worker in range(1, MOST_FAILED_STARTS):
        harness.gone(worker, idle=True, in_setup=True)
        assert map_state.broken is None
        assert Launch(worker + 1) in harness.commands()
    harness.gone(MOST_FAILED_STARTS, idle=True, in_setup=True)
    assert isinstance(map_state.broken, SetupError)
    assert "setup function ended its process 3 times in a row" in str(map_state.broken)


def test_workers_killed_as_they_start_are_replaced() -> None:
    """Whoever kills them says nothing of the setup; only many in a row, and never a ready one, end the pool."""
    harness = Harness(1, ready=False)
    for worker in range(1, MOST_KILLED_STARTS):
        harness.gone(worker, idle=True, killed=True, in_setup=worker % 2 == 0)
        assert harness.state.broken is None
    harness.gone(MOST_KILLED_STARTS, idle=True, killed=True)
    assert isinstance(harness.state.broken, BrokenPool)


def test_workers_that_fail_side_by_side_count_once() -> None:
    """Ten that are struck at the same moment are one failed start each, and one in a row."""
    harness = Harness(10, ready=False)
    for worker in range(1, 11):
        harness.gone(worker, idle=True)
    assert harness.state.broken is None
    assert harness.state.failed_starts == 1
    for worker in range(11, 21):
        harness.gone(worker, idle=True)
    assert harness.state.failed_starts == 2


def test_one_that_gets_ready_ends_the_row() -> None:
    """Failed starts count only in a row; those that the template took along do not count."""
    harness = Harness(1, ready=False)
    worker = 1
    for _ in range(3):
        for _ in range(MOST_FAILED_STARTS - 1):
            harness.gone(worker, idle=True)
            worker += 1
        harness.ready(worker)
        harness.gone(worker, idle=True)
        worker += 1
    for _ in range(2 * MOST_FAILED_STARTS_LATER):
        harness.gone(worker, idle=True, unattributed=True)
        worker += 1
    assert harness.state.broken is None


@pytest.mark.parametrize("beside", [True, False])
def test_once_a_worker_was_ready_more_starts_may_fail(beside: bool) -> None:
    """Whether it is still there or not; but not for ever."""
    harness = Harness(2 if beside else 1, ready=False)
    map_state = harness.map_state()
    harness.ready(1)
    worker = 2
    if not beside:
        harness.gone(1, idle=True)
    for _ in range(MOST_FAILED_STARTS_LATER - 1):
        harness.gone(worker, idle=True, in_setup=True)
        worker += 1
    assert harness.state.broken is None
    if beside:
        harness.add(map_state)
        assert harness.sent() == [(1, 0, 1, 1)]
    harness.gone(worker, idle=True, in_setup=True)
    assert isinstance(map_state.broken, BrokenPool)


@pytest.mark.parametrize("ready", [0, 1])
def test_a_worker_that_was_stopped_as_it_started_is_replaced(ready: int) -> None:
    """A look every STOPPED_NS finds it; its neighbours, and the pool, are well."""
    harness = Harness(2, ready=False)
    stopped = {2}
    harness.state.is_stopped = stopped.__contains__
    if ready:
        harness.ready(1)
    harness.commands()
    harness.pass_time(STOPPED_NS - 1)
    assert harness.commands() == []
    harness.pass_time(1)
    assert harness.commands() == [Kill(2, "it was stopped while it started"), Launch(3)]
    harness.gone(2, idle=True, killed=True)
    harness.ready(3)
    assert harness.state.broken is None
    assert harness.state.failed_starts == 0


def test_workers_stopped_each_time_break_the_pool() -> None:
    """Some guardian stops them all: that ends, too."""
    harness = Harness(1, ready=False)
    harness.state.is_stopped = lambda worker: True
    for worker in range(1, MOST_KILLED_STARTS + 1):
        assert harness.state.broken is None
        harness.pass_time(STOPPED_NS)
        harness.gone(worker, idle=True, killed=True)
    assert isinstance(harness.state.broken, BrokenPool)


def test_a_template_that_was_stopped_as_it_loads_is_ended() -> None:
    """It would hold the pool for as long as a setup may take."""
    harness = Harness(1, ready=False)
    harness.scheduler.preload_began(harness.now)
    harness.commands()
    harness.state.is_stopped = lambda worker: worker == 0
    harness.pass_time(STOPPED_NS)
    assert harness.commands() == [Kill(0, "it was stopped")]
    assert harness.state.broken is None
    harness.pass_time(STOPPED_NS - 1)
    assert harness.commands() == []


def test_a_setup_that_hangs_beside_healthy_workers_is_a_failed_start() -> None:
    """The work goes on."""
    harness = Harness(2, ready=False, setup_s=3)
    harness.ready(1)
    harness.commands()
    harness.pass_time(3 * SECOND)
    assert harness.commands() == [Kill(2, "its setup took too long"), Launch(3)]
    assert harness.state.broken is None


def test_a_setup_that_hangs_is_reported() -> None:
    """After `setup_s` the worker is ended and everybody who waits gets a SetupError."""
    harness = Harness(1, ready=False, setup_s=3)
    map_state = harness.map_state()
    harness.commands()
    harness.pass_time(3 * SECOND - 1)
    assert not map_state.finished
    harness.pass_time(1)
    assert isinstance(map_state.broken, SetupError)
    assert Kill(1, "its setup took too long") in harness.commands()


def test_what_is_loaded_for_all_does_not_count_as_setup() -> None:
    """The workers' seconds begin when it is loaded, and are as many as ever."""
    harness = Harness(2, ready=False, setup_s=3)
    map_state = harness.map_state()
    harness.commands()
    harness.pass_time(1 * SECOND)
    harness.scheduler.preload_began(harness.now)
    harness.pass_time(3 * SECOND - 1)
    assert harness.state.broken is None
    harness.scheduler.preload_ended(harness.now)
    harness.pass_time(3 * SECOND - 1)
    assert map_state.broken is None and harness.commands() == []
    harness.pass_time(1)
    assert "was not ready after 3 s: its setup function" in str(map_state.broken)


def test_loading_for_all_has_its_own_seconds() -> None:
    """They are as many as a setup has. Who waits is told, once."""
    harness = Harness(2, ready=False, setup_s=3)
    map_state = harness.map_state()
    harness.pass_time(2 * SECOND)
    harness.scheduler.preload_began(harness.now)
    harness.pass_time(3 * SECOND - 1)
    assert map_state.broken is None
    harness.pass_time(1)
    assert isinstance(map_state.broken, SetupError)
    assert "The preload function was not done after 3 s" in str(map_state.broken)


def test_loading_that_ended_in_time_has_no_aftermath() -> None:
    """Also when a second template has begun anew before the first one's alarm."""
    harness = Harness(1, ready=False, setup_s=3)
    harness.scheduler.preload_began(harness.now)
    harness.pass_time(2 * SECOND)
    harness.scheduler.preload_ended(harness.now)
    harness.scheduler.preload_began(harness.now)
    harness.pass_time(3 * SECOND - 1)
    assert harness.state.broken is None
    harness.scheduler.preload_ended(harness.now)
    harness.ready(1)
    harness.pass_time(10 * SECOND)
    assert harness.state.broken is None


def test_a_setup_that_failed_is_reported_once() -> None:
    """The first error stays; workers that fail after it change nothing."""
    harness = Harness(2, ready=False)
    map_state = harness.map_state()
    first = SetupError("first")
    harness.scheduler.setup_failed(first)
    harness.gone(1, idle=True)
    assert map_state.broken is first
    assert harness.map_state().broken is first


def test_a_timely_setup_has_no_aftermath() -> None:
    """The alarm of a worker that got ready in time ends nobody."""
    harness = Harness(1, setup_s=3)
    harness.commands()
    harness.pass_time(10 * SECOND)
    assert harness.commands() == []
    assert harness.state.broken is None


# --- deadlines ------------------------------------------------------------------------------------


def test_a_deadline_is_for_each_item() -> None:
    """An item has its seconds from its own start; a chunk may take longer than that."""
    harness = Harness(1)
    map_state = harness.map_state(timeout_ns=SECOND)
    harness.add(map_state, 5)
    harness.commands()
    for position in range(5):
        harness.at(1, 1, position)
        harness.pass_time(SECOND * 9 // 10)
    assert harness.commands() == []
    harness.pass_time(SECOND * 3 // 10)
    assert isinstance(harness.commands()[0], Kill)


def test_a_timeout_ends_one_item() -> None:
    """The item that used up its seconds gets TaskTimeout with the facts; the others run elsewhere, uncharged."""
    harness = Harness(1)
    map_state = harness.map_state(timeout_ns=SECOND, ordered=False)
    harness.add(map_state, 3)
    harness.at(1, 1, 1)
    harness.commands()
    harness.pass_time(SECOND + MILLI)
    assert harness.commands() == [Kill(1, "items[1] timed out"), Launch(2)]
    harness.results(1, 1, 0, 1, ended=False)
    harness.gone(1)
    assert take_all(map_state)[:1] == [(0, 1, [])]
    harness.ready(2)
    assert harness.sent() == [(2, 2, 1, 1)]
    assert harness.state.counters.count(Kind.TIMED_OUT) == 1


def test_the_facts_of_a_timeout() -> None:
    """TaskTimeout carries index, seconds, attempts and worker."""
    harness = Harness(1)
    map_state = harness.map_state(timeout_ns=SECOND)
    harness.add(map_state, 3)
    harness.results(1, 1, 0, 3)
    harness.add(map_state, 3)
    take_all(map_state)
    harness.at(1, 2, 0)
    harness.pass_time(SECOND + MILLI)
    harness.gone(1)
    segment = lonely(map_state)
    assert segment.failures is not None
    (failure,) = segment.failures
    assert isinstance(failure.error, TaskTimeout)
    facts = failure.error
    assert (facts.index, facts.timeout, facts.attempts, facts.worker) == (3, 1.0, 1, 1)
    assert segment.durations == [SECOND + MILLI]


def test_an_item_that_beats_its_end_counts() -> None:
    """An item that is finished between the verdict and the end of its worker keeps its outcome."""
    harness = Harness(1)
    map_state = harness.map_state(timeout_ns=SECOND)
    harness.add(map_state, 3)
    harness.at(1, 1, 0)
    harness.pass_time(SECOND + MILLI)
    harness.results(1, 1, 0, 1, ended=False)
    harness.at(1, 1, 1)
    harness.gone(1)
    assert take_all(map_state) == [(0, 1, [])]
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [(1, 2, 1)]


def test_a_short_deadline_is_kept_behind_a_long_one() -> None:
    """A deadline is kept to the millisecond, whatever deadlines this worker was watched for before."""
    for earlier_is_done in (True, False):
        harness = Harness(1)
        long, short = harness.map_state(timeout_ns=60 * SECOND), harness.map_state(timeout_ns=SECOND // 10)
        harness.add(long)
        if not earlier_is_done:
            harness.add(short)
        harness.results(1, 1, 0, 1)
        if earlier_is_done:
            harness.add(short)
        harness.commands()
        harness.at(1, 2, 0)
        harness.pass_time(SECOND)
        assert any(isinstance(order, Kill) for order in harness.commands()), "a second later, it still runs"


def test_a_long_deadline_costs_few_looks() -> None:
    """Watching a worker through many quick chunks sets no alarm per chunk."""
    harness = Harness(1)
    map_state = harness.map_state(timeout_ns=60 * SECOND)
    for sequence in range(1, 200):
        harness.add(map_state)
        harness.results(1, sequence, 0, 1)
    assert len(harness.state.timers.heap) < 10


def test_loading_that_takes_too_long_is_not_the_first_items_fault() -> None:
    """When the deadline passed while a chunk of several was unpickled, its items run one by one, uncharged."""
    harness = Harness(1)
    map_state = harness.map_state(timeout_ns=SECOND)
    harness.add(map_state, 3)
    harness.at(1, 1, 0, phase=PHASE_LOADING)
    harness.pass_time(SECOND + MILLI)
    # Meanwhile, before the signal reached it, it got on to the first item.
    harness.at(1, 1, 0)
    harness.gone(1)
    assert take_all(map_state) == []
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [
        (0, 1, 1),
        (1, 1, 1),
        (2, 1, 1),
    ]


def test_a_worker_that_never_starts_its_chunk_is_ended() -> None:
    """A worker stopped while it was idle keeps its items from nobody: it is ended, and nobody is charged."""
    harness = Harness(1)
    map_state = harness.map_state(timeout_ns=SECOND)
    harness.add(map_state, 2)
    harness.at(1, 0, 0, phase=PHASE_IDLE)
    harness.commands()
    harness.pass_time(2 * START_NS)
    assert any(isinstance(order, Kill) for order in harness.commands())
    harness.gone(1, idle=True)
    assert take_all(map_state) == []
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [(0, 2, 1)]


def test_waiting_behind_a_long_item_is_not_idling() -> None:
    """A worker is not ended for a chunk that it could not begin before, however long that one has waited."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state)
    harness.now += MILLI
    harness.add(map_state)
    harness.at(1, 1, 0)
    harness.commands()
    harness.pass_time(2 * START_NS - 2 * MILLI)
    # The first chunk ends. Before the worker has begun the second one, the alarm rings.
    harness.at(1, 1, 0, phase=PHASE_IDLE)
    harness.results(1, 1, 0, 1)
    harness.pass_time(START_NS // 2)
    assert not any(isinstance(order, Kill) for order in harness.commands())
    harness.pass_time(START_NS)
    assert any(isinstance(order, Kill) for order in harness.commands())


def test_a_terminated_worker_is_given_nothing() -> None:
    """Its replacement starts at once; until it is reaped, its results count, but it gets no more work."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state)
    harness.add(map_state)
    harness.commands()
    worker_state = harness.state.worker_states[1]
    harness.scheduler.terminate(
        worker_state, Termination(Kind.WORKER_LOST, Boom(), "too much memory", 2, 0), harness.now
    )
    harness.add(map_state)
    assert harness.commands() == [Kill(1, "too much memory"), Launch(2)]
    harness.results(1, 1, 0, 1)
    assert harness.sent() == []
    assert take_all(map_state) == [(0, 1, [])]
    harness.at(1, 2, 0)
    harness.gone(1)
    assert take_all(map_state) == [(1, 1, [Kind.WORKER_LOST])]
    assert harness.commands() == []
    assert len(harness.state.worker_states) == 1


# --- cancelling -----------------------------------------------------------------------------------


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
    assert behind.future is not None
    for sequence in (1, 2):
        harness.results(2, sequence, 0, 1)
    assert [segment.future for segment in iter(map_state.take, None)] == [behind.future, last.future]
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


# --- stealing -----------------------------------------------------------------------------------


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
    harness.state.worker_states[1].confirming = True
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


# --- leaving and closing --------------------------------------------------------------------------


def test_a_worker_that_leaves_is_replaced_and_loses_nothing() -> None:
    """A worker that has run its share ends by itself; what it still held goes back to the front in old order."""
    harness = Harness(1)
    map_state = harness.map_state()
    for _ in range(3):
        harness.add(map_state, 2)
    harness.commands()
    harness.results(1, 1, 0, 1, leaving=True)
    assert harness.commands() == [Launch(2)]
    assert [(chunk.first, len(chunk.items)) for chunk in map_state.pending] == [(1, 1), (2, 2), (4, 2)]
    harness.gone(1, idle=True)
    assert harness.commands() == []
    harness.ready(2)
    assert harness.sent() == [(2, 1, 1, 1), (2, 2, 2, 1)]
    assert map_state.failed == 0


def test_closing_stops_the_idle_and_waits_for_the_busy() -> None:
    """Idle workers are told to stop at once, busy ones when they have finished; nobody is launched."""
    harness = Harness(2)
    map_state = harness.map_state()
    harness.add(map_state)
    harness.commands()
    harness.scheduler.close()
    assert harness.commands() == [Stop(2)]
    harness.gone(2, idle=True)
    assert harness.commands() == []
    harness.results(1, 1, 0, 1)
    assert harness.commands() == [Stop(1)]
    harness.gone(1, idle=True)
    assert harness.commands() == []
    assert harness.state.worker_states == {}


def test_closing_does_not_wait_for_those_that_start() -> None:
    """A worker in the middle of its setup is ended; one that gets ready at that moment is stopped."""
    harness = Harness(2, ready=False)
    harness.commands()
    harness.scheduler.close()
    assert [type(order) for order in harness.commands()] == [Kill, Kill]
    harness.ready(1)
    assert harness.commands() == [Stop(1)]
    for worker in (1, 2):
        harness.gone(worker, idle=True)
    assert harness.state.worker_states == {}
    assert harness.commands() == []
    assert harness.state.broken is None


def test_a_broken_pool_starts_nothing_more() -> None:
    """Once a pool is broken, its workers are given no more chunks of maps that nobody reads any more."""
    harness = Harness(2)
    map_state = harness.map_state()
    for _ in range(6):
        harness.add(map_state)
    harness.commands()
    harness.scheduler.break_off(BrokenPool("broken"))
    harness.results(1, 1, 0, 1)
    harness.at(2, 1, 0)
    harness.gone(2)
    assert harness.commands() == []


# --- whole worlds ---------------------------------------------------------------------------------


#: more than usual, and as many as HYPOTHESIS_PROFILE=search asks for
many = settings(max_examples=max(200, settings().max_examples))


@pytest.mark.slow
@many
@given(st.binary(max_size=1200))
@example(b"")
def test_every_world_comes_to_a_good_end(data: bytes) -> None:
    """Whatever fails, dies, hangs, is late, is cancelled or stolen, at every moment and in the end:

    each item gets exactly one outcome, its own, in order where that was asked for; never more items or bytes
    are out than there is credit for; no item is tried more often than allowed, and none is charged for what
    another did; no worker is given work that it may not start, or more chunks than it may hold; nothing is left
    behind, all workers are back, and it does not go on for ever.
    """
    world_of(data).run()


@pytest.mark.slow
@many
@given(st.integers(0, 2**32 - 1), st.sampled_from([100, 400, 1500]))
def test_every_wild_world_comes_to_a_good_end(seed: int, size: int) -> None:
    """The same, where every choice is made by dice from the beginning to the end."""
    world_of(random.Random(seed).randbytes(size)).run()


@given(st.binary(max_size=600), st.integers(1, 4), st.integers(1, 40))
def test_a_crash_costs_one_item(data: bytes, workers: int, items: int) -> None:
    """With one item that ends its worker each time, all others return, and that one says so."""
    world = World(workers, script=Script(data))
    bad = len(data) % items
    tasks = [Task(n, (Deed.CRASH if n == bad else Deed.RETURN,), 200 * MICRO) for n in range(items)]
    client = world.map(tasks, retry=Retry(times=data[0] % 3 if data else 0, wait_s=0.001))
    world.run()
    assert [task.index for task in tasks if task.outcome is not Kind.OK] == [bad]
    assert tasks[bad].executions == client.map_state.retry.times + 1
    assert world.state.counters.workers_started == workers + client.map_state.retry.times + 1


@pytest.mark.parametrize("bytes_limit", [1 << 28, 2_000])
@pytest.mark.parametrize("items_limit", [65_536, 16])
def test_credit_bounds_what_is_out(items_limit: int, bytes_limit: int) -> None:
    """Behind a straggler in an ordered stream, no more is pulled than the limits say, in items and in bytes."""
    world = World(3)
    tasks = [Task(n, duration_ns=50 * MICRO, size_bytes=10, result_bytes=100) for n in range(600)]
    tasks[0].duration_ns = 300 * MILLI
    client = world.map(tasks, total=False, items_limit=items_limit, bytes_limit=bytes_limit)
    world.run()
    assert client.peak_items <= items_limit
    # The first items are pulled before anything is known about their size.
    assert client.peak_bytes <= bytes_limit + 3 * DEPTH * 100
    if bytes_limit == 2_000 or items_limit == 16:
        assert client.peak_items <= 40


def test_all_maps_advance_together() -> None:
    """Maps of the same kind that are read at the same time end at about the same time."""
    world = World(2)
    clients = [world.map([Task(n, duration_ns=MILLI) for n in range(60)], chunk=1) for _ in range(3)]
    world.settle(until=lambda: any(client.over for client in clients))
    assert min(client.map_state.consumed for client in clients) > 40
    world.settle()


def test_uneven_work_ends_together() -> None:
    """At the end of an input no worker idles while others have a queue: the makespan is near the ideal."""
    world = World(4)
    durations = [random.Random(3).choice((MILLI // 10, MILLI, 20 * MILLI)) for _ in range(300)]
    world.map([Task(n, duration_ns=duration) for n, duration in enumerate(durations)])
    begun = world.clock
    world.settle()
    ideal = max(sum(durations) / 4, max(durations))
    assert world.clock - begun < 1.15 * ideal + 20 * MILLI


def test_long_items_behind_each_other_are_spread() -> None:
    """Calls that wait behind a long one move to whoever becomes idle."""
    world = World(2)
    durations = [MILLI, 500 * MILLI, MILLI, 500 * MILLI]
    world.calls([Task(n, duration_ns=duration) for n, duration in enumerate(durations)])
    begun = world.clock
    world.settle()
    assert world.clock - begun < 600 * MILLI


def test_slow_items_among_quick_ones_are_spread() -> None:
    """Slow items that stand together behind quick ones, in one chunk, do not wait for each other for long."""
    world = World(4)
    slow = {100, 101, 102, 103}
    world.map([Task(n, duration_ns=500 * MILLI if n in slow else MICRO) for n in range(400)])
    begun = world.clock
    world.settle()
    # The first of them holds its burst, no more.
    assert world.clock - begun < 1_250 * MILLI


def test_a_starved_stream_steals_work() -> None:
    """With the credit used up behind a long item, what waits behind it goes to idle workers."""
    world = World(2)
    tasks = [Task(n, duration_ns=MILLI) for n in range(100)]
    tasks[9].duration_ns = 500 * MILLI
    client = world.map(tasks, total=False, items_limit=16)
    world.settle(until=lambda: world.clock > 1_400 * MILLI)
    assert client.map_state.settled >= 20
    world.settle()


@pytest.mark.slow
@settings(max_examples=max(150, settings().max_examples))
@given(st.integers(0, 2**32 - 1), st.sampled_from([100, 400, 1500]))
def test_whatever_happens_while_memory_is_short(seed: int, size: int) -> None:
    """Tasks are requeued and come again, one at least always runs, and the outcomes are those of any other day."""
    world_of(random.Random(seed).randbytes(size), squeezed=True).run()


def test_the_first_reason_of_a_broken_pool_counts() -> None:
    """What fails because of it, later, does not replace it."""
    harness = Harness(2)
    map_state = harness.map_state()
    first, second = BrokenPool("first"), BrokenPool("second")
    harness.scheduler.break_off(first)
    harness.scheduler.break_off(second)
    assert map_state.broken is first
    assert harness.state.broken is first
