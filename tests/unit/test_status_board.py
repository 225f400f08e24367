"""transport/status_board.py: one slot per worker; what one writes, another reads, and nobody else's slot changes."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allcores.scheduler.messages import WorkerProgress
from allcores.system import posix
from allcores.transport import status_board
from allcores.transport.positions import NO_LIMIT, PHASE_IDLE, PHASE_RUNNING, mark, together_word
from allcores.transport.status_board import (
    CLAIMED,
    CURRENT,
    LIMIT,
    OUTBOX_BYTES,
    PHASE,
    SEQUENCE,
    SLOT_BYTES,
    SLOT_WORDS,
    STARTED,
    USED,
    Board,
    size,
)

SLOTS = 3


@pytest.fixture
def boards() -> Iterator[tuple[Board, Board]]:
    """The same board mapped twice, as by parent and worker."""
    descriptor = posix.anonymous_file("board", size(SLOTS))
    pair = Board(descriptor, SLOTS), Board(descriptor, SLOTS)
    os.close(descriptor)
    for slot in range(SLOTS):
        pair[0].clear(slot)
    yield pair
    for each in pair:
        each.close()


words = st.integers(0, 2**64 - 1)


halves = st.integers(0, 2**32 - 1)


@given(st.integers(0, SLOTS - 1), words, halves, st.integers(1, 2**32), words, st.integers(0, 4), words)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_a_worker_writes_is_seen(
    boards: tuple[Board, Board],
    number: int,
    sequence: int,
    position: int,
    together: int,
    started: int,
    phase: int,
    claimed: int,
) -> None:
    """What the parent reads is what the worker stored in its slot, whole 64-bit words; other slots stay as they are."""
    parent, worker = boards
    others = [parent.progress(other) for other in range(SLOTS) if other != number]
    slot = worker.slot(number)
    slot[STARTED], slot[SEQUENCE], slot[CURRENT], slot[PHASE], slot[CLAIMED] = (
        started,
        sequence,
        together_word(position, together),
        phase,
        claimed,
    )
    del slot
    assert parent.progress(number) == (sequence, position, started, phase, claimed, together)
    assert WorkerProgress(*parent.progress(number)) == WorkerProgress(
        sequence, position, started, phase, claimed, together
    )
    assert [parent.progress(other) for other in range(SLOTS) if other != number] == others


@given(st.integers(0, SLOTS - 1), words)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_the_parent_limits_is_seen(boards: tuple[Board, Board], number: int, limit: int) -> None:
    """The limit is the one word that the parent writes; the worker reads it whole."""
    parent, worker = boards
    parent.set_limit(number, limit)
    assert worker.slot(number)[LIMIT] == worker.word(number, LIMIT) == limit
    parent.set_limit(number, NO_LIMIT)


def test_a_slot_is_made_fit_for_the_next_worker(boards: tuple[Board, Board]) -> None:
    """Nothing of a dead worker is left: it is idle, has no limit, and its outbox counts as empty."""
    parent, worker = boards
    slot = worker.slot(1)
    for index in range(SLOT_WORDS):
        slot[index] = 12345
    del slot
    parent.clear(1)
    assert parent.progress(1) == (0, 0, 0, PHASE_IDLE, 0, 1)
    assert parent.used(1) == 0
    assert parent.word(1, LIMIT) == NO_LIMIT
    assert [parent.word(1, index) for index in range(SLOT_WORDS) if index != LIMIT] == [0] * (SLOT_WORDS - 1)


def test_outboxes_lie_side_by_side(boards: tuple[Board, Board]) -> None:
    """Each worker's outbox is its own, and none reaches into a slot."""
    parent, worker = boards
    for number in range(SLOTS):
        with worker.outbox(number) as outbox:
            assert len(outbox) == OUTBOX_BYTES
            outbox[:] = bytes([number + 1]) * OUTBOX_BYTES
    for number in range(SLOTS):
        with parent.outbox(number) as outbox:
            assert bytes(outbox) == bytes([number + 1]) * OUTBOX_BYTES
        assert parent.progress(number) == (0, 0, 0, PHASE_IDLE, 0, 1)


def test_an_outbox_is_never_read_beyond_its_end(boards: tuple[Board, Board]) -> None:
    """A worker gone mad may store any number of used bytes; the parent reads no more than there are."""
    parent, worker = boards
    worker.slot(0)[USED] = 2**63
    assert parent.used(0) == OUTBOX_BYTES


def test_the_head_and_the_slots_keep_apart(boards: tuple[Board, Board]) -> None:
    """What the parent notes of the pool changes no slot, and the head is not touched by clearing one."""
    parent, worker = boards
    parent.introduce(os.getpid(), 2, 123, 456, "ä" * 300)
    parent.note(10, 2, 1)
    parent.note_maps(5, 20)
    head = bytes(worker._bytes[: status_board.HEAD_BYTES])
    assert head[:8] == b"allcores"
    words = struct.unpack_from(f"{status_board.HEAD_WORDS}Q", head)
    assert words[status_board.HEAD_SLOTS : status_board.HEAD_STARTED + 1] == (SLOTS, os.getpid(), 2, 123)
    assert words[status_board.HEAD_DONE : status_board.HEAD_MEMORY_LIMIT + 1] == (10, 2, 1, 5, 20, 456)
    assert head[status_board.HEAD_WORDS * 8 :][: words[status_board.HEAD_NAME_BYTES]].decode() == "ä" * 128
    assert [worker.progress(number) for number in range(SLOTS)] == [(0, 0, 0, PHASE_IDLE, 0, 1)] * SLOTS
    parent.identify(1, 77)
    assert [worker.word(number, status_board.WORKER) for number in range(SLOTS)] == [0, 77, 0]
    for number in range(SLOTS):
        parent.clear(number)
    assert bytes(worker._bytes[: status_board.HEAD_BYTES]) == head


def test_slots_do_not_share_cache_lines() -> None:
    """Two workers that write all the time do not slow each other down."""
    assert SLOT_BYTES % 64 == 0
    indices = [
        status_board.SEQUENCE,
        CURRENT,
        STARTED,
        CLAIMED,
        LIMIT,
        PHASE,
        USED,
        status_board.DONE,
        status_board.BUSY,
        status_board.PID,
    ]
    indices += [status_board.WORKER, status_board.FIRST]
    assert len(set(indices)) == len(indices)
    assert max(indices) < SLOT_WORDS


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_marks_are_ordered_as_work_is(sequence: int, position: int, other: int, there: int) -> None:
    """Later work has a larger mark, and none is as large as "no limit"."""
    assert (mark(sequence, position) < mark(other, there)) is ((sequence, position) < (other, there))
    assert mark(sequence, position) <= NO_LIMIT
    assert mark(sequence, position) >> 32 == sequence
    assert PHASE_IDLE < PHASE_RUNNING
