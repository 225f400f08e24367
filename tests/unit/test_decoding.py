"""backends/processes/decoding.py: what a worker sent, as the scheduler understands it."""

from __future__ import annotations

import pickle

import pytest

from allcores.backends.processes.decoding import joined, results_of
from allcores.pool.segment_values import open_segment
from allcores.scheduler.segment import Segment
from allcores.shared_memory.buffers import MARK
from allcores.transport import frames


def record(start: int, values: list[int], flags: int = 0, *, sequence: int = 1) -> frames.Record:
    """A record of plain values, as it comes out of a frame."""
    payload = pickle.dumps(values, 5)
    return sequence, start, len(values), flags | frames.PLAIN, 1_000 * len(values), payload


def test_plain_records_that_follow_each_other_become_one() -> None:
    """Values, counts, times and the end of the chunk are those of all of them."""
    event = results_of(7, record(0, [1, 2]), None)
    assert joined(event, record(2, [3]))
    assert joined(event, record(3, [4, 5], frames.ENDED | frames.LEAVING))
    assert (event.start, event.count, event.total_ns, event.ended, event.leaving) == (0, 5, 5_000, True, True)
    assert event.parts == [(2, 2_000), (1, 1_000), (2, 2_000)]
    segment = Segment(0, event.count, [None] * 5, payloads=event.payloads)
    assert open_segment(segment) == [1, 2, 3, 4, 5]


def test_an_end_without_values_is_joined() -> None:
    """A worker that stopped at its limit reports no item, but that it is done."""
    event = results_of(7, record(0, [1]), None)
    assert joined(event, (1, 1, 0, frames.ENDED, 0, b""))
    assert (event.count, event.ended, len(event.payloads)) == (1, True, 1)


@pytest.mark.parametrize(
    "other",
    [
        record(3, [4]),
        record(2, [3], sequence=2),
        (1, 2, 1, frames.MIXED, 1_000, b"else"),
        (1, 2, 1, frames.PLAIN, 1_000, MARK + b"rest"),
        (1, 0, 0, frames.ENDED | frames.UNLOADABLE, 0, b""),
    ],
    ids=["a gap", "another chunk", "failures", "a block", "unloadable"],
)
def test_others_stand_for_themselves(other: frames.Record) -> None:
    event = results_of(7, record(0, [1, 2]), None)
    assert not joined(event, other)
    assert (event.count, len(event.payloads), event.ended) == (2, 1, False)


def test_nothing_follows_an_end() -> None:
    event = results_of(7, record(0, [1], frames.ENDED), None)
    assert not joined(event, record(1, [2]))
