"""scheduler/batch_size.py: batches that are right for functions of a microsecond and of a second an item."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.scheduler.batch_size import (
    BATCH_GROWTH,
    BATCH_MOST_NS,
    BATCH_NS,
    BATCH_PATIENCE,
    BATCH_TAIL,
    Batch,
    BatchChunker,
    allowed_ns,
)
from allcores.scheduler.chunk_size import MOST_ITEMS

MICRO, MILLI, SECOND = 1_000, 1_000_000, 1_000_000_000
PLENTY = 1 << 40


def learned(
    call_ns: float, item_ns: float, *, item_bytes: int = 0, rounds: int = 40, limit: int = PLENTY
) -> BatchChunker:
    """One that has seen calls that take `call_ns`, and `item_ns` for each of their items."""
    chunker = BatchChunker(None, "auto", limit)
    for _ in range(rounds):
        size = chunker.size(workers=2)
        calls = -(-size // chunker.batch)
        chunker.observe(size, int(call_ns * calls + item_ns * size), item_bytes * size, chunker.batch)
    return chunker


def test_batches_begin_with_one_item_and_grow_step_by_step() -> None:
    chunker = BatchChunker(None, "auto", PLENTY)
    sizes = []
    for _ in range(5):
        sizes.append(chunker.size(workers=4))
        chunker.observe(sizes[-1], sizes[-1] * MICRO, 0, chunker.batch)
        # While they grow a chunk is one batch.
        assert chunker.batch == sizes[-1]
    assert sizes == [BATCH_GROWTH**step for step in range(5)]


@pytest.mark.parametrize("item_ns", [10 * MICRO, 100 * MICRO, MILLI])
@pytest.mark.parametrize("call_ns", [0, MILLI // 10, MILLI])
def test_a_batch_takes_as_long_as_it_should(call_ns: int, item_ns: int) -> None:
    chunker = learned(call_ns, item_ns)
    chunker.size(workers=2)
    taken = call_ns + item_ns * chunker.batch
    assert 0.7 * BATCH_NS <= taken <= BATCH_NS or chunker.batch == MOST_ITEMS


@pytest.mark.parametrize("item_ns", [100 * MICRO, MILLI])
@pytest.mark.parametrize("call_ns", [10 * MILLI, 70 * MILLI, 150 * MILLI])
def test_a_call_with_a_price_of_its_own_is_shared_by_more(call_ns: int, item_ns: int) -> None:
    """Also by one that takes longer by itself than a batch should: it would be paid for each item for ever."""
    chunker = learned(call_ns, item_ns)
    chunker.size(workers=2)
    taken = call_ns + item_ns * chunker.batch
    assert taken <= BATCH_MOST_NS
    assert call_ns <= 0.25 * taken or chunker.batch == MOST_ITEMS


@pytest.mark.parametrize("item_ns", [40 * MILLI, 70 * MILLI])
def test_slow_items_that_gain_nothing_stay_in_small_batches(item_ns: int) -> None:
    """It is tried once."""
    chunker = learned(0, item_ns)
    chunker.size(workers=2)
    assert chunker.batch * item_ns <= BATCH_GROWTH * BATCH_NS


def test_items_that_take_long_run_one_by_one() -> None:
    chunker = learned(0, SECOND, rounds=5)
    assert (chunker.size(workers=2), chunker.batch) == (1, 1)


def test_a_first_call_that_warms_up_is_forgotten() -> None:
    """It takes a second, later ones a millisecond."""
    chunker = BatchChunker(None, "auto", PLENTY)
    chunker.observe(chunker.size(workers=1), SECOND, 0)
    for _ in range(30):
        size = chunker.size(workers=1)
        chunker.observe(size, size * MILLI, 0, chunker.batch)
    assert chunker.size(workers=1) >= 40


def test_memory_bounds_a_batch() -> None:
    """Two workers with four each in 256 MB, of 1 MB items: 32."""
    chunker = learned(0, 100 * MICRO, item_bytes=1_000_000, limit=256_000_000)
    chunker.size(workers=2)
    assert chunker.batch == 32


def test_at_the_end_batches_shrink() -> None:
    """Until each worker has two of what is left, but not to nothing."""
    chunker = learned(MILLI, 100 * MICRO)
    chunker.size(workers=4)
    usual = chunker.batch
    assert chunker.size(workers=4, remaining=4 * usual) == -(-usual // 2)
    assert chunker.size(workers=4, remaining=1) == usual // BATCH_TAIL


@pytest.mark.parametrize(("chunk", "batch", "size"), [(100, 32, 96), (5, 32, 32), (64, 32, 64), (None, 32, 32)])
def test_a_chunk_holds_whole_batches(chunk: int | None, batch: int, size: int) -> None:
    assert BatchChunker(chunk, batch, PLENTY).size(workers=2) == size


@given(
    st.one_of(st.just("auto"), st.integers(1, 10_000)),
    st.one_of(st.none(), st.integers(1, 10_000)),
    st.lists(st.tuples(st.integers(1, 10_000), st.integers(0, 10**12), st.integers(0, 10**9)), max_size=8),
    st.integers(1, 256),
    st.one_of(st.none(), st.integers(1, 10**6)),
    st.integers(1, 10**6),
)
def test_whatever_was_measured_a_chunk_is_whole_batches(
    batch: Batch, chunk: int | None, seen: list[tuple[int, int, int]], workers: int, remaining: int | None, credit: int
) -> None:
    chunker = BatchChunker(chunk, batch, 1 << 28)
    for count, total_ns, size_bytes in seen:
        chunker.observe(count, total_ns, size_bytes, chunker.batch)
        size = chunker.size(workers=workers, remaining=remaining, credit=credit)
        assert size >= chunker.batch >= 1
        assert size % chunker.batch == 0
        assert batch == "auto" or chunker.batch == batch
        assert batch != "auto" or chunker.batch <= min(credit, MOST_ITEMS, chunk or MOST_ITEMS)


@given(st.integers(1, 10**12), st.integers(2, 10_000), st.floats(0, 1e12))
def test_a_batch_has_at_least_one_timeout_and_at_most_one_each(timeout_ns: int, together: int, mean_ns: float) -> None:
    allowed = allowed_ns(timeout_ns, together, mean_ns)
    assert timeout_ns <= allowed <= timeout_ns * together
    assert allowed == timeout_ns * together or allowed >= timeout_ns + int(BATCH_PATIENCE * mean_ns * (together - 1))
    assert allowed_ns(timeout_ns, 1, mean_ns) == timeout_ns
    assert allowed_ns(timeout_ns, together, None) == timeout_ns * together
