"""scheduler/map_state.py: credit, order, and the end of a call."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.errors import PoolClosed
from allcores.outcome import Failure, Kind
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.function import Function
from allcores.scheduler.item_words import describe
from allcores.scheduler.map_state import BYTES_TAKEN, Chunk, MapState
from allcores.scheduler.segment import Segment

FUNCTION = Function(3, print, b"", "call", "work")


def map_of(*, chunker: Chunker | None = None, **options: object) -> MapState:
    return MapState(1, chunker=chunker or Chunker(1), **options)  # type: ignore[arg-type]


def chunk_of(map_state: MapState, items: int, *, size_bytes: int = 0, **options: Any) -> Chunk:
    chunk = Chunk(
        map_state, FUNCTION, map_state.pulled, list(range(map_state.pulled, map_state.pulled + items)), **options
    )
    chunk.size_bytes = size_bytes
    return chunk


def segment_of(start: int, count: int, **options: object) -> Segment:
    items = list(range(start, start + count))
    options.setdefault("values", items)
    return Segment(start, count, items, **options)  # type: ignore[arg-type]


def drain(map_state: MapState) -> list[int]:
    """Indices of all outcomes that are ready."""
    return [
        index for segment in iter(map_state.take, None) for index in range(segment.start, segment.start + segment.count)
    ]


# --- order ----------------------------------------------------------------------------------------


@st.composite
def cuts(draw: st.DrawFn) -> list[tuple[int, int]]:
    """An input cut into segments (start, count), in the order in which they are settled."""
    counts = draw(st.lists(st.integers(1, 5), min_size=1, max_size=30))
    starts = [sum(counts[:n]) for n in range(len(counts))]
    return draw(st.permutations(list(zip(starts, counts, strict=True))))


@given(cuts())
def test_ordered_maps_deliver_in_order(settled: Sequence[tuple[int, int]]) -> None:
    """Outcomes come in input order, each once, and as soon as all before them are there."""
    map_state = map_of()
    total = sum(count for _, count in settled)
    map_state.add(chunk_of(map_state, total))
    map_state.exhausted = True
    got: list[int] = []
    known: set[int] = set()
    for start, count in settled:
        map_state.settle(segment_of(start, count))
        known.update(range(start, start + count))
        got += drain(map_state)
        complete = next((index for index in range(total) if index not in known), total)
        assert got == list(range(complete))
    assert got == list(range(total))
    assert map_state.finished


@given(cuts())
def test_unordered_maps_deliver_at_once(settled: Sequence[tuple[int, int]]) -> None:
    """Outcomes come as they are settled, each once."""
    map_state = map_of(ordered=False)
    map_state.add(chunk_of(map_state, sum(count for _, count in settled)))
    for start, count in settled:
        map_state.settle(segment_of(start, count))
        assert drain(map_state) == list(range(start, start + count))


def test_calls_deliver_at_once() -> None:
    """Submitted calls have no order: a slow one holds nobody up."""
    map_state = map_of(calls=True)
    for _ in range(3):
        map_state.add(chunk_of(map_state, 1))
    map_state.settle(segment_of(2, 1))
    assert drain(map_state) == [2]


# --- credit ---------------------------------------------------------------------------------------


@given(st.integers(1, 50), st.integers(1, 100_000), st.lists(st.integers(0, 5000), max_size=200), st.booleans())
def test_credit_is_never_overdrawn(items_limit: int, bytes_limit: int, sizes: list[int], ordered: bool) -> None:
    """Items that are out never exceed the limit. Nor do bytes, beyond what one pull could not know of."""
    rng = random.Random(len(sizes))
    map_state = map_of(chunker=Chunker(), items_limit=items_limit, bytes_limit=bytes_limit, ordered=ordered)
    waiting: list[tuple[int, int, int]] = []
    for size in sizes:
        want = map_state.want(2)
        before = map_state.bytes_out
        assert 0 <= want <= max(0, map_state.credit)
        if want:
            assert before < bytes_limit or map_state.pulled == map_state.consumed
            start = map_state.pulled
            map_state.add(chunk_of(map_state, want, size_bytes=size * want))
            waiting.append((start, want, size))
        assert map_state.pulled - map_state.consumed <= items_limit
        if waiting and (not want or rng.random() < 0.5):
            start, count, each = waiting.pop(rng.randrange(len(waiting)))
            map_state.chunker.observe(count, 1000 * count, each * count)
            map_state.settle(segment_of(start, count, size_bytes=each * count))
        if not want or rng.random() < 0.5:
            drain(map_state)
    for start, count, each in waiting:
        map_state.settle(segment_of(start, count, size_bytes=each * count))
    drain(map_state)
    assert map_state.consumed == map_state.pulled == map_state.settled
    assert map_state.bytes_out == 0
    assert map_state.credit >= 1


def test_without_credit_nothing_is_pulled() -> None:
    """What was pulled and not handed to the consumer counts, settled or not; handing it over returns the credit."""
    map_state = map_of(chunker=Chunker(4), items_limit=8)
    assert map_state.want(1) == 2, "each worker can hold several chunks within the limit"
    for _ in range(4):
        map_state.add(chunk_of(map_state, 2))
    assert map_state.credit == 0
    assert map_state.want(1) == 0
    map_state.settle(segment_of(0, 2))
    assert map_state.want(1) == 0
    assert drain(map_state) == [0, 1]
    assert map_state.want(1) == 2


def test_bytes_hold_the_input_back() -> None:
    """With known sizes, no more is pulled than fits; outcomes that grow count with their full size."""
    map_state = map_of(chunker=Chunker(10), items_limit=1000, bytes_limit=1000)
    map_state.chunker.observe(10, 1000, 10 * 100)
    assert map_state.want(1) == 10
    map_state.add(chunk_of(map_state, 4, size_bytes=40))
    assert map_state.credit == 6, "40 bytes now, but outcomes of 100 bytes each may come of them"
    map_state.add(chunk_of(map_state, 6, size_bytes=60))
    assert map_state.credit == 0
    map_state.settle(segment_of(0, 4, size_bytes=40))
    drain(map_state)
    assert map_state.credit == 4


def test_an_item_larger_than_the_limit_still_passes() -> None:
    """One item is always allowed when nothing is out: it must not stop the map for ever."""
    map_state = map_of(bytes_limit=10)
    map_state.chunker.observe(1, 1000, 10_000)
    for index in range(3):
        assert map_state.credit == 1
        map_state.add(chunk_of(map_state, 1, size_bytes=10_000))
        assert map_state.credit == 0
        map_state.settle(segment_of(index, 1, size_bytes=10_000))
        drain(map_state)


def test_rounding_costs_no_credit() -> None:
    """Bytes that a chunk's parts cannot share evenly come back with the last of them."""
    map_state = map_of(ordered=False)
    map_state.add(chunk_of(map_state, 3, size_bytes=10))
    for index in range(3):
        map_state.settle(segment_of(index, 1, size_bytes=3))
    drain(map_state)
    assert map_state.bytes_out == 0


def test_one_item_at_a_time_is_possible() -> None:
    """items_in_flight=1 works."""
    map_state = map_of(chunker=Chunker(), items_limit=1)
    for index in range(5):
        assert map_state.want(4) == 1
        map_state.add(chunk_of(map_state, 1))
        assert map_state.want(4) == 0
        map_state.settle(segment_of(index, 1))
        assert drain(map_state) == [index]


def test_an_input_longer_than_announced_is_read_to_its_end() -> None:
    """`total` comes from len() and may be wrong: it sizes chunks, it does not end the input."""
    map_state = map_of(chunker=Chunker(), total=2)
    for _ in range(5):
        assert map_state.want(2) == 1
        map_state.add(chunk_of(map_state, 1))


# --- the end --------------------------------------------------------------------------------------


def test_a_map_ends_when_all_is_handed_over() -> None:
    """Finished is: no more input, each item settled, each outcome taken."""
    map_state = map_of()
    map_state.add(chunk_of(map_state, 2))
    map_state.settle(segment_of(0, 2))
    drain(map_state)
    assert not map_state.finished, "more input may come"
    map_state.exhausted = True
    assert map_state.finished
    late = map_of()
    late.add(chunk_of(late, 2))
    late.exhausted = True
    assert not late.finished
    late.settle(segment_of(0, 2))
    assert not late.finished, "an outcome waits for the consumer"
    drain(late)
    assert late.finished


def test_an_empty_input_is_finished_at_once() -> None:
    """No item, no wait."""
    map_state = map_of()
    map_state.exhausted = True
    assert map_state.finished
    assert map_state.want(2) == 0


def test_a_broken_pool_ends_a_map_after_what_is_ready() -> None:
    """Outcomes that are there are handed over first."""
    map_state = map_of()
    map_state.add(chunk_of(map_state, 3))
    map_state.settle(segment_of(0, 1))
    map_state.broken = PoolClosed("closed")
    assert not map_state.finished
    assert drain(map_state) == [0]
    assert map_state.finished


# --- taking several at once -----------------------------------------------------------------------


def test_small_segments_are_taken_together() -> None:
    """The consumer gets as many as are small, in order; what it has counts only once it was handed over."""
    map_state = map_of(items_limit=1600)
    map_state.add(chunk_of(map_state, 200))
    for start in range(0, 200, 20):
        map_state.settle(segment_of(start, 20, size_bytes=10))
    taken = map_state.take_some()
    assert [segment.start for segment in taken] == [0, 20, 40, 60, 80]
    assert (map_state.consumed, map_state.in_flight) == (0, 200)
    map_state.hand_over(taken[0])
    assert (map_state.consumed, map_state.in_flight, map_state.credit) == (0, 180, 1400)
    map_state.return_handed()
    map_state.return_handed()
    assert (map_state.consumed, map_state.in_flight, map_state.credit) == (20, 180, 1420)


def test_a_large_segment_is_taken_alone() -> None:
    """Neither many bytes nor a large part of the credit are held back by a consumer that takes its time."""
    map_state = map_of(items_limit=1600)
    map_state.add(chunk_of(map_state, 320))
    for start, count, size_bytes in ((0, 150, 0), (150, 1, BYTES_TAKEN + 1), (151, 1, 0), (152, 101, 0)):
        map_state.settle(segment_of(start, count, size_bytes=size_bytes))
    assert [[segment.start for segment in map_state.take_some()] for _ in range(5)] == [[0], [150], [151], [152], []]


def test_cancelling_forgets_what_waits() -> None:
    """Nothing is delivered after a cancellation, nothing is pulled; what is settled later is still counted."""
    map_state = map_of()
    map_state.add(chunk_of(map_state, 2))
    map_state.add(chunk_of(map_state, 2))
    map_state.settle(segment_of(2, 1))
    map_state.settle(segment_of(0, 1))
    map_state.cancel(0)
    assert map_state.finished
    assert not map_state.pending
    assert map_state.take() is None
    assert map_state.want(4) == 0
    map_state.settle(segment_of(1, 1))
    assert map_state.take() is None
    assert map_state.settled == 3


def test_failures_are_counted() -> None:
    """`failed` counts items, not segments."""
    map_state = map_of()
    map_state.add(chunk_of(map_state, 4))
    failures = [Failure(offset, Kind.FAILED, ValueError()) for offset in (1, 3)]
    map_state.settle(segment_of(0, 4, values=[0, 2], failures=failures))
    assert (map_state.settled, map_state.failed) == (4, 2)


# --- chunks ---------------------------------------------------------------------------------------


def test_a_part_of_a_chunk_keeps_what_counts() -> None:
    """Cut from a chunk: its items with their indices, their share of bytes, its attempt and its future; unsent."""
    map_state = map_of()
    map_state.pulled = 10
    whole = chunk_of(map_state, 5, size_bytes=50, attempt=3, requeues=2, future="future")
    whole.sequence, whole.worker, whole.done = 7, 8, 1
    part = whole.part(2, 4)
    assert (part.first, part.items, part.size_bytes) == (12, [12, 13], 20)
    assert (part.attempt, part.requeues, part.future) == (3, 2, "future")
    assert (part.sequence, part.worker, part.done) == (0, 0, 0)
    assert whole.part(3).items == [13, 14]
    assert whole.part(0, 1, requeues=4).requeues == 4


def test_a_part_of_a_call_is_cancelled_with_it() -> None:
    """Cancelling a call cancels whatever was cut from it, before or after."""
    map_state = map_of(calls=True)
    call = chunk_of(map_state, 1, future="future")
    before = call.part(0, 1)
    call.cancel_token.cancelled = True
    assert before.cancelled and call.part(0, 1).cancelled and before.part(0, 1).cancelled
    assert not chunk_of(map_state, 1, future="other").cancelled


class Nameless:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (3, "items[5] (3)"),
        ("a" * 1000, "items[5] ('aaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaaaaaaaaaaa')"),
        (list(range(1000)), "items[5] ([0, 1, 2, 3, 4, 5, ...])"),
    ],
)
def test_items_are_named_in_few_words(item: object, words: str) -> None:
    """An error message names the item by its place and a short look at it."""
    chunk = Chunk(map_of(), FUNCTION, 4, [None, item])
    assert describe(chunk, 1) == words


def test_an_item_that_cannot_be_shown_is_still_named() -> None:
    """A __repr__ that raises costs the words, not the message; a call is named by its function."""
    chunk = Chunk(map_of(), FUNCTION, 4, [Nameless()])
    assert describe(chunk, 0).startswith("items[4]")
    assert describe(Chunk(map_of(calls=True), FUNCTION, 0, [((), {})], future="future"), 0) == "work(...)"
