"""The scheduler hands out chunks."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.unit.scheduler.harness import SECOND, Boom, Harness, take_all
from tests.unit.simulation import MILLI

from allcores.errors import InternalError
from allcores.limits import Retry
from allcores.outcome import Failure, Kind
from allcores.scheduler.chunk_size import MOST_NS, Chunker
from allcores.scheduler.input_demand import RESERVE
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.messages import Launch, Peek, Send, SetLimit, WorkerProgress
from allcores.scheduler.scheduler import CROWDED_NS
from allcores.scheduler.series import Series
from allcores.scheduler.state import DEPTH
from allcores.scheduler.timeouts import PEEK_NS
from allcores.scheduler.work_stealing import CONFIRM_NS
from allcores.transport.positions import PHASE_RUNNING, mark


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


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_no_worker_holds_more_than_the_depth_that_was_asked_for(depth: int) -> None:
    """Short chunks or long ones; and as much is asked of the input as finds a place."""
    harness = Harness(3, depth=depth)
    map_state = harness.map_state()
    map_state.chunker.observe(1, MILLI, 10)
    assert harness.scheduler.demand.room(map_state) == 3 * depth + 3
    for _ in range(3 * depth + 2):
        harness.add(map_state)
    workers = [worker for worker, *_ in harness.sent()]
    assert sorted(workers[:3]) == [1, 2, 3]
    assert sorted(workers) == sorted([1, 2, 3] * depth)
    assert len(map_state.pending) == 2
    harness.results(1, 1, 0, 1)
    assert [worker for worker, *_ in harness.sent()] == [1]


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


@pytest.mark.parametrize("count", [0, 1])
def test_whose_reader_held_back_is_woken_by_what_a_map_that_has_ended_gives_back(count: int) -> None:
    """It is the only map by then; of a pipeline whose first stage raises, say, what a later one wants is left."""
    harness = Harness(1)
    busy, waiting = harness.map_state(), harness.map_state()
    harness.add(busy, 2)
    harness.commands()
    harness.scheduler.cancel(busy, harness.now)
    harness.scheduler.forget(busy)
    harness.scheduler.state.dirty_maps.clear()
    harness.results(1, 1, 0, count)
    assert waiting in harness.scheduler.state.dirty_maps and harness.scheduler.demand.wants_input(waiting)


@pytest.mark.parametrize("cancelled", [False, True])
def test_whose_reader_held_back_is_woken_when_the_first_that_is_known_of_its_items_is_no_outcome(
    cancelled: bool,
) -> None:
    """The first attempt was not the last, or was one of the part before it, which was given up: now more may be out."""
    harness = Harness(2, ready=False)
    series: Series[MapState] = Series()
    retry = Retry(times=1, wait_s=1_000.0)
    first, second = [harness.map_state(retry=retry) for _ in range(2)]
    if cancelled:
        for each in (first, second):
            harness.scheduler.forget(each)
            each.series, each.place, each.chunker = series, each.number, first.chunker
            harness.scheduler.open(each)
    harness.ready(1)
    for _ in range(2):
        harness.add(first, 2)
    if cancelled:
        harness.scheduler.cancel(first, harness.now)
    waiting = second if cancelled else first
    harness.ready(2)
    harness.state.dirty_maps.clear()
    failures = None if cancelled else [Failure(0, Kind.FAILED, Boom())]
    harness.results(1, 1, 0, 1, ended=False, failures=failures)
    assert waiting in harness.state.dirty_maps and harness.scheduler.demand.wants_input(waiting)


@pytest.mark.parametrize("exhausted", [False, True])
def test_whose_reader_held_back_is_woken_when_a_worker_takes_the_place_of_one_that_is_lost(exhausted: bool) -> None:
    """Its only item was settled by that loss: no result of its own comes any more that could wake it."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state)
    harness.at(1, 1, 0)
    harness.gone(1)
    assert take_all(map_state) == [(0, 1, [Kind.WORKER_LOST])]
    map_state.exhausted = exhausted
    harness.scheduler.state.dirty_maps.clear()
    harness.ready(2)
    assert (map_state in harness.scheduler.state.dirty_maps) is not exhausted


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


def test_a_worker_that_starts_late_pulls_no_more_than_that() -> None:
    """It gets a chunk that waits at another worker; the input is not asked for a fifth item of unknown result size."""
    harness = Harness(4, ready=False)
    map_state = harness.map_state()
    for worker in (1, 2):
        harness.ready(worker)
    while harness.scheduler.demand.room(map_state) > 0:
        harness.add(map_state)
    sent = harness.sent()
    assert sorted(worker for worker, *_ in sent) == [1, 1, 2, 2]
    harness.ready(3)
    assert harness.scheduler.demand.room(map_state) == 0
    assert not harness.scheduler.demand.starving(map_state) and not harness.scheduler.demand.wants_input(map_state)
    for worker in (1, 2):
        harness.at(worker, 1, 0)
    harness.pass_time(SECOND)
    assert any(isinstance(command, SetLimit) for command in harness.commands())


def test_what_waits_for_its_next_attempt_leaves_room() -> None:
    """Else all workers would be idle for the pause of the first items' retries."""
    harness = Harness(2)
    map_state = harness.map_state(retry=Retry(times=1, wait_s=60.0))
    for _ in range(2):
        harness.add(map_state)
    for worker in (1, 2):
        harness.results(worker, 1, 0, 1, failures=[Failure(0, Kind.FAILED, ValueError())])
    assert harness.scheduler.demand.room(map_state) > 0 and harness.scheduler.demand.starving(map_state)


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


def test_what_is_seen_of_a_later_chunk_waits_for_the_earlier_one() -> None:
    """The outbox tells of chunk 2 while the report of chunk 1 is in the pipe; nothing of that runs again for it."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state)
    harness.add(map_state)
    assert [first for _, first, _, _ in harness.sent()] == [0, 1]
    harness.results(1, 2, 0, 1, leaving=True)
    assert (take_all(map_state), harness.commands()) == ([], [])
    harness.results(1, 1, 0, 1)
    harness.results(1, 2, 0, 1, leaving=True)
    assert take_all(map_state) == [(0, 1, []), (1, 1, [])]
    assert harness.commands() == [Launch(2)]
    assert harness.state.counters.requeues == 0


@pytest.mark.parametrize("maps", range(2, 7))
def test_a_turn_from_which_nothing_came_is_had_again(maps: int) -> None:
    """Workers end after each chunk, and give back what waits behind it: the next one begins with that."""
    harness = Harness(1)
    map_states = [harness.map_state() for _ in range(maps)]
    for _ in range(10):
        for map_state in map_states:
            harness.add(map_state)
    served: Counter[int] = Counter()
    for worker in range(1, 4 * maps + 1):
        first, *waiting = [order.chunk for order in harness.commands() if isinstance(order, Send)]
        assert waiting
        served[first.map_state.number] += 1
        harness.results(worker, 1, 0, 1, leaving=True)
        harness.gone(worker, idle=True)
        harness.ready(worker + 1)
    assert set(served.values()) == {4}


def test_chunks_may_end_in_another_order_than_they_were_sent() -> None:
    """Threads that read a serial pool at the same time run what is there."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state)
    harness.add(map_state)
    harness.commands()
    harness.results(1, 2, 0, 1)
    harness.results(1, 1, 0, 1)
    assert take_all(map_state) == [(0, 1, []), (1, 1, [])]


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
