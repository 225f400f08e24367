"""What a node tells of finished items, and what the program makes of it: one undoes the other."""

from __future__ import annotations

import pickle
from fractions import Fraction
from typing import Any

import pytest

from allcores.adapters.cluster import decoding
from allcores.adapters.cluster.encoding import failed_part, nothing_of, results_of
from allcores.adapters.cluster.messages import NodeChunk, NodeResults
from allcores.outcome import Failure, Kind
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.function import Function
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.messages import Results
from allcores.scheduler.segment import Segment

#: index of the first item
FIRST = 100


def node_chunk(length: int, *, detailed: bool = False) -> NodeChunk:
    return NodeChunk(7, 1, b"", length, 0, False, FIRST, 1, False, None, 0, b"", detailed)


def plain(start: int, values: list[int], total_ns: int = 0) -> Segment:
    """As workers send it: pickled, and read by nobody yet."""
    return Segment(FIRST + start, len(values), [], payloads=[pickle.dumps(values)], total_ns=total_ns)


def loaded(start: int, values: list[Any], durations: list[int] | None = None) -> Segment:
    return Segment(FIRST + start, len(values), [], values=values, durations=durations)


def read(told: NodeResults, length: int) -> Results:
    map_state = MapState(1, chunker=Chunker())
    chunk = Chunk(map_state, Function(1, None, b"", "one", "function"), FIRST, list(range(length)))
    return decoding.results_of(3, pickle.loads(pickle.dumps(told)), chunk)


def values_of(event: Results) -> list[Any]:
    if event.values is not None:
        return event.values
    return [value for payload in event.payloads for value in pickle.loads(payload)]


def test_what_workers_have_pickled_is_passed_on_unread() -> None:
    segments = [Segment(FIRST, 3, [], payloads=[b"one", memoryview(b"two")], total_ns=5), plain(3, [4], 6)]
    (told,) = results_of(node_chunk(4), 0, segments, ended=True)
    assert told.payloads == [b"one", b"two", pickle.dumps([4])]
    assert (told.start, told.length, told.total_ns, told.ended, told.failures) == (0, 4, 11, True, [])


def test_values_are_those_of_the_node() -> None:
    (told,) = results_of(node_chunk(5), 2, [plain(2, [1, 2]), loaded(4, [3])], ended=False)
    event = read(told, 5)
    assert (event.start, event.count, event.ended, values_of(event)) == (2, 3, False, [1, 2, 3])


def test_values_that_may_not_unpickle_travel_one_by_one() -> None:
    """And apart from those that do, which stay as they are; only the last of them ends the chunk."""
    segments = [plain(0, [1, 2]), loaded(2, [Fraction(1, 2), 3]), plain(4, [5])]
    told = results_of(node_chunk(5), 0, segments, ended=True)
    assert [(each.start, each.length, each.ended) for each in told] == [(0, 2, False), (2, 2, False), (4, 1, True)]
    assert [value for each in told for value in values_of(read(each, 5))] == [1, 2, Fraction(1, 2), 3, 5]


def test_failures_have_their_places_among_values() -> None:
    between = loaded(1, [2, 4])
    between.count, between.failures = 3, [Failure(1, Kind.FAILED, ValueError("no"))]
    told = results_of(node_chunk(5), 0, [plain(0, [1]), between, plain(4, [5])], ended=True)
    assert [(each.start, each.length, each.ended) for each in told] == [(0, 1, False), (1, 3, False), (4, 1, True)]
    events = [read(each, 5) for each in told]
    assert [values_of(event) for event in events] == [[1], [2, 4], [5]]
    assert [event.failures for event in (events[0], events[2])] == [None, None]
    assert events[1].failures is not None
    ((offset, kind, error, _),) = events[1].failures
    assert (offset, kind, type(error), str(error)) == (2, Kind.FAILED, ValueError, "no")


@pytest.mark.parametrize("kind", [Kind.FAILED, Kind.CANCELLED, Kind.TIMED_OUT, Kind.WORKER_LOST])
@pytest.mark.parametrize("detailed", [True, False])
def test_a_value_of_many_items_is_not_told_beside_failures(kind: Kind, detailed: bool) -> None:
    """Where values are merged (`Pool.reduce`) what returned has one for all of it, if nothing near it failed."""
    durations = [1, 1, 1] if detailed else None
    one = Segment(FIRST, 3, [], payloads=[pickle.dumps([(b"123",)])], durations=durations)
    read_already = Segment(FIRST + 5, 3, [], values=[(b"678",)], durations=durations)
    segments = [one, failed_part(FIRST + 3, [(kind, ValueError())] * 2), read_already]
    told = results_of(node_chunk(8, detailed=detailed), 0, segments, ended=True)
    assert sum(each.length for each in told) == 8
    assert sum(len(each.failures) for each in told) == 2
    for event in (read(each, 8) for each in told):
        assert event.failures is None or len(values_of(event)) + len(event.failures) == event.count
    assert [value for each in told for value in values_of(read(each, 8))] == [(b"123",), (b"678",)]


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("never")


def test_a_result_that_cannot_be_pickled_fails_alone() -> None:
    (told,) = results_of(node_chunk(3), 0, [loaded(0, [Fraction(1), Unpicklable(), Fraction(3)])], ended=True)
    event = read(told, 3)
    assert values_of(event) == [1, 3]
    assert event.failures is not None
    assert [failure.offset for failure in event.failures] == [1]


@pytest.mark.parametrize("detailed", [True, False])
def test_seconds_of_each_item_travel_where_they_are_wanted(detailed: bool) -> None:
    segments = [loaded(0, [1, 2], [10, 20]), failed_part(FIRST + 2, [(Kind.CANCELLED, ValueError())])]
    told = results_of(node_chunk(3, detailed=detailed), 0, segments, ended=True)
    assert [each.durations for each in told] == ([[10, 20], [0]] if detailed else [None, None])


def test_an_end_is_told_without_outcomes() -> None:
    (told,) = results_of(node_chunk(3), 3, [], ended=True)
    assert (told.start, told.length, told.ended) == (3, 0, True)
    assert read(told, 3).ended
    assert read(nothing_of(node_chunk(3), unread=True), 3).unloadable
