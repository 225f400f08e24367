"""scheduler/work_stealing.py: what can be stolen from a worker, and where a chunk is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.function import Function
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.messages import WorkerProgress
from allcores.scheduler.work_stealing import STUCK_NS, WORTH_NS, split, stealable
from allcores.scheduler.worker_state import Lifecycle, WorkerState
from allcores.transport.positions import NO_LIMIT, PHASE_IDLE, PHASE_LOADING, PHASE_RUNNING, PHASE_SEALING, mark

FUNCTION = Function(1, None, b"", "one", "function")
MILLI = 1_000_000
NOW = 1_000 * MILLI


def worker_state_of(*chunks: int, mean_ns: int | None = None) -> WorkerState:
    """A worker's state with chunks of these sizes, numbered from 1."""
    chunker = Chunker()
    if mean_ns is not None:
        chunker.observe(1, mean_ns, 0)
    map_state = MapState(1, chunker=chunker)
    worker_state = WorkerState(1, 0)
    worker_state.lifecycle = Lifecycle.READY
    for sequence, count in enumerate(chunks, 1):
        chunk = Chunk(map_state, FUNCTION, map_state.pulled, list(range(count)))
        chunk.sequence = sequence
        map_state.pulled += count
        worker_state.chunks.append(chunk)
    return worker_state


def running(position: int, *, ns: int = 0, sequence: int = 1, claimed: int = 0) -> WorkerProgress:
    return WorkerProgress(sequence, position, NOW - ns, PHASE_RUNNING, mark(sequence, claimed) if claimed else 0)


# --- what is worth taking -------------------------------------------------------------------------


def test_chunks_that_wait_go_first() -> None:
    """Of a busy worker that gets on, the waiting chunk is taken, not what it is in the middle of."""
    worker_state = worker_state_of(10, 10, mean_ns=MILLI)
    assert stealable(worker_state, running(0, ns=MILLI), NOW) == (10 * MILLI, mark(2, 0))


def test_a_long_item_loses_everything_behind_it() -> None:
    """When the current item takes long, all that is unstarted goes, of its own chunk, too."""
    worker_state = worker_state_of(10, 10, mean_ns=MILLI)
    found = stealable(worker_state, running(3, ns=STUCK_NS + MILLI), NOW)
    assert found is not None
    assert found[1] == mark(1, 4)


def test_long_is_measured_by_the_others() -> None:
    """Where all items take long, one of usual length is not stuck."""
    worker_state = worker_state_of(3, mean_ns=100 * MILLI)
    assert stealable(worker_state, running(0, ns=STUCK_NS + MILLI), NOW) == (100 * MILLI, mark(1, 2))


def test_half_of_a_running_chunk_is_taken() -> None:
    """With nothing behind it, half of what is not started."""
    worker_state = worker_state_of(21, mean_ns=MILLI)
    assert stealable(worker_state, running(0), NOW) == (10 * MILLI, mark(1, 11))


def test_little_work_is_left_alone() -> None:
    """Stealing costs more than a few quick items are worth."""
    assert stealable(worker_state_of(10, 10, mean_ns=1000), running(0), NOW) is None
    assert stealable(worker_state_of(100, mean_ns=1000), running(0), NOW) is None
    assert stealable(worker_state_of(1, mean_ns=1000 * MILLI), running(0, ns=100 * MILLI), NOW) is None


def test_before_anything_is_measured_time_tells() -> None:
    """Without a mean, a waiting chunk is worth taking once the first item has run for a while."""
    worker_state = worker_state_of(1, 1)
    assert stealable(worker_state, running(0, ns=WORTH_NS - 1), NOW) is None
    found = stealable(worker_state, running(0, ns=WORTH_NS), NOW)
    assert found is not None
    assert found[1] == mark(2, 0)


@pytest.mark.parametrize(
    "progress", [None, WorkerProgress(0, 0, 0, PHASE_IDLE), WorkerProgress(1, 0, NOW - 1, PHASE_LOADING, mark(1, 0))]
)
def test_a_worker_that_has_not_begun_can_be_robbed(progress: WorkerProgress | None) -> None:
    """Before it runs its first item, half of the chunk can be taken."""
    found = stealable(worker_state_of(10, mean_ns=MILLI), progress, NOW)
    assert found is not None
    assert found[1] == mark(1, 5)


def test_claimed_items_are_not_taken() -> None:
    """What a worker may start without looking at the board again stays with it."""
    worker_state = worker_state_of(20, mean_ns=MILLI)
    found = stealable(worker_state, running(2, ns=STUCK_NS + MILLI, claimed=16), NOW)
    assert found is not None
    assert found[1] == mark(1, 16)


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=4),
    st.none() | st.integers(0, 100 * MILLI),
    st.integers(0, 25),
    st.integers(0, 25),
    st.integers(0, 200 * MILLI),
    st.sampled_from([PHASE_IDLE, PHASE_LOADING, PHASE_RUNNING, PHASE_SEALING]),
    st.integers(0, 25),
)
def test_what_is_stealable_is_never_what_may_have_started(
    counts: list[int], mean_ns: int | None, position: int, claimed: int, ns: int, phase: int, done: int
) -> None:
    """Whatever the worker is at: the limit lies behind all that is done, runs, or is claimed, and something is won."""
    worker_state = worker_state_of(*counts, mean_ns=mean_ns)
    head = worker_state.chunks[0]
    head.done = min(done, counts[0])
    position = max(min(position, counts[0] - 1), head.done - 1, 0)
    claimed = max(min(claimed, counts[0]), position + 1 if phase == PHASE_RUNNING else 0)
    started = 0 if phase == PHASE_IDLE else NOW - ns
    progress = WorkerProgress(1, position, started, phase, mark(1, claimed))
    found = stealable(worker_state, progress, NOW)
    if found is None:
        return
    won, limit = found
    assert won > 0
    assert limit >= mark(1, max(head.done, claimed))
    taken = sum(len(chunk.items) - split(chunk, limit) for chunk in worker_state.chunks)
    assert taken > 0
    assert limit < NO_LIMIT


# --- how a chunk is cut ---------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(0, 30), st.integers(1, 5), st.integers(0, 40))
def test_a_limit_cuts_where_it_says(sequence: int, count: int, limit_sequence: int, limit_position: int) -> None:
    """What stays is exactly what has a smaller mark than the limit."""
    chunk = Chunk(MapState(1, chunker=Chunker()), FUNCTION, 0, list(range(count)))
    chunk.sequence = sequence
    limit = mark(limit_sequence, limit_position)
    kept = [position for position in range(count) if mark(sequence, position) < limit]
    assert split(chunk, limit) == len(kept)
    assert split(chunk, NO_LIMIT) == count


# --- progress --------------------------------------------------------------------------------------


@given(st.integers(1, 1000), st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 1000))
def test_reach_is_what_cannot_have_started(sequence: int, position: int, claimed: int, other: int) -> None:
    """Without a claim a worker reaches to the end of its item; with one, as far as it claimed."""
    bare = WorkerProgress(sequence, position, 1, PHASE_RUNNING)
    assert bare.reach == mark(sequence, position + 1)
    assert bare.unstarted_from(sequence) == position + 1
    claiming = WorkerProgress(sequence, position, 1, PHASE_RUNNING, mark(sequence, claimed))
    assert claiming.reach == mark(sequence, claimed)
    assert claiming.unstarted_from(sequence) == claimed
    if other != sequence:
        assert bare.unstarted_from(other) == claiming.unstarted_from(other) == 0
