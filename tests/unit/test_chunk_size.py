"""scheduler/chunk_size.py: chunks that are right for items of 0.3 µs and of 30 s, and for both mixed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.scheduler.chunk_size import (
    EACH_WORKER_NS,
    MOST_BYTES,
    MOST_ITEMS,
    MOST_NS,
    PARTS,
    TAIL_NS,
    TAIL_PARTS,
    TARGET_NS,
    Chunker,
)

MICRO, MILLI, SECOND = 1_000, 1_000_000, 1_000_000_000

measurements = st.lists(st.tuples(st.integers(1, 10_000), st.integers(0, 10**12), st.integers(0, 10**9)), max_size=8)


def learned(ns: float, *, item_bytes: int = 0, rounds: int = 10) -> Chunker:
    """A chunker that has seen items of `ns`, in chunks of the sizes that it asked for."""
    chunker = Chunker()
    for _ in range(rounds):
        count = chunker.size(workers=2)
        chunker.observe(count, int(ns * count), item_bytes * count)
    return chunker


def test_the_first_chunk_is_one_item() -> None:
    """Nothing is known yet, and the first item may take an hour."""
    assert Chunker().size(workers=8) == 1
    assert Chunker().size(workers=8, remaining=10**6, credit=10**6) == 1
    assert Chunker().mean_ns is None
    assert Chunker().mean_bytes == 0


@pytest.mark.parametrize("ns", [0.0, 0.3, 300.0, 1_000.0])
def test_quick_items_reach_full_chunks_in_three_steps(ns: float) -> None:
    """While items are cheap, chunks grow at once, not by and by."""
    chunker = learned(ns, rounds=3)
    assert chunker.size(workers=2) == min(MOST_ITEMS, TARGET_NS // max(1, int(ns)))


@pytest.mark.parametrize("ns", [300, 10 * MICRO, 200 * MICRO, MILLI, 7 * MILLI])
def test_chunks_aim_at_the_same_work(ns: int) -> None:
    """Whatever an item takes, a chunk is about TARGET_NS of work, as far as the cap on items allows."""
    size = learned(ns).size(workers=2)
    assert size == pytest.approx(min(MOST_ITEMS, TARGET_NS / ns), rel=0.5)


def test_chunks_grow_with_the_run() -> None:
    """Short at first, then a share of the time so far, then no longer than MOST_NS: reports cost as much each."""
    chunker = Chunker()
    so_far = 0
    while so_far < 5 * SECOND:
        count = chunker.size(workers=4)
        if so_far:
            wanted = min(max(TARGET_NS, so_far / PARTS), MOST_NS)
            # The first steps are those of the growth from one item.
            assert count * 100 * MICRO == pytest.approx(wanted, rel=0.1) or so_far < TARGET_NS
        # Four workers report one chunk each.
        for _ in range(4):
            chunker.observe(count, count * 100 * MICRO, 0)
        so_far += count * 100 * MICRO
    assert count * 100 * MICRO == pytest.approx(MOST_NS, rel=0.1)


def test_many_workers_report_less_often() -> None:
    """There is one parent, whose time for reports does not grow with the workers."""
    chunker = Chunker()
    chunker.observe(1_000, 10_000 * SECOND, 0)
    chunker.size(workers=128)
    assert chunker.target_ns == 128 * EACH_WORKER_NS > MOST_NS


def test_chunks_are_short_while_others_wait() -> None:
    """However long the run: another map's work must not wait for ours."""
    chunker = learned(MICRO * 100, rounds=1_000)
    assert chunker.size(workers=2, brief=True) * 100 * MICRO == pytest.approx(TARGET_NS, rel=0.1)
    assert chunker.target_ns == TARGET_NS
    assert chunker.size(workers=2) * 100 * MICRO == pytest.approx(MOST_NS, rel=0.1)


@pytest.mark.parametrize("ns", [MOST_NS, SECOND, 30 * SECOND])
def test_long_items_travel_alone(ns: int) -> None:
    """An item that is as long as a chunk should be is a chunk."""
    assert learned(ns).size(workers=2) == 1


def test_a_load_that_changes_is_followed() -> None:
    """After a few measurements of items that became slow, chunks are small; the other way round, large."""
    chunker = learned(300)
    for _ in range(3):
        count = chunker.size(workers=2)
        chunker.observe(count, count * 50 * MILLI, 0)
    assert chunker.size(workers=2) * 50 * MILLI <= 4 * MOST_NS
    for _ in range(40):
        count = chunker.size(workers=2)
        chunker.observe(count, count * 300, 0)
    assert chunker.size(workers=2) > MOST_ITEMS // 2


def test_mixed_items_do_not_pile_up() -> None:
    """With items of 1 µs and of 100 ms mixed, no chunk of their kind is expected to hold many of the long ones."""
    rng = random.Random(1)
    chunker = Chunker()
    worst = 0
    for _ in range(300):
        count = chunker.size(workers=2)
        costs = [rng.choice((MICRO, 100 * MILLI)) for _ in range(count)]
        worst = max(worst, sum(cost == 100 * MILLI for cost in costs))
        chunker.observe(count, sum(costs), 0)
    assert worst <= 64


@given(measurements, st.integers(1, 128), st.none() | st.integers(1, 10**9), st.integers(1, 10**6))
def test_a_chunk_is_never_empty_nor_beyond_its_bounds(
    seen: list[tuple[int, int, int]], workers: int, remaining: int | None, credit: int
) -> None:
    """Whatever was measured: at least one item, at most MOST_ITEMS, at most the credit, at most MOST_BYTES."""
    chunker = Chunker()
    for count, total_ns, size_bytes in seen:
        chunker.observe(count, total_ns, size_bytes)
    size = chunker.size(workers=workers, remaining=remaining, credit=credit)
    assert 1 <= size <= min(MOST_ITEMS, credit)
    assert size == 1 or size * chunker.mean_bytes <= MOST_BYTES
    if chunker.mean_ns is not None:
        assert size == 1 or size * chunker.mean_ns <= chunker.target_ns * 1.001
        assert TARGET_NS <= chunker.target_ns <= max(MOST_NS, workers * EACH_WORKER_NS)


@given(measurements, st.integers(1, 64), st.integers(1, 100_000))
def test_chunks_shrink_towards_the_end(seen: list[tuple[int, int, int]], workers: int, remaining: int) -> None:
    """Near the end of a known input no worker gets more than its share, unless that is hardly any work."""
    chunker = Chunker()
    for count, total_ns, size_bytes in seen:
        chunker.observe(count, total_ns, size_bytes)
    size = chunker.size(workers=workers, remaining=remaining)
    share = -(-remaining // (2 * workers))
    assert size <= share or size * (chunker.mean_ns or 1) <= max(TAIL_NS, chunker.target_ns / TAIL_PARTS)
    assert size <= chunker.size(workers=workers)


@pytest.mark.parametrize("ns", [MICRO, 100 * MICRO, MILLI, SECOND])
def test_the_tail_is_worth_its_chunks(ns: int) -> None:
    """Shrinking stops where handing out would cost more than it wins: an input ends in a bounded number of chunks."""
    chunker = learned(ns)
    remaining, chunks = 20_000, 0
    while remaining > 0:
        remaining -= chunker.size(workers=4, remaining=remaining)
        chunks += 1
    assert chunks <= 20_000 * ns / TAIL_NS + 10 or ns >= SECOND
    assert remaining > -chunker.size(workers=4)


def test_large_items_travel_in_few() -> None:
    """Chunks are bounded by bytes: 100 kB an item are ten at a time, 10 MB an item one."""
    assert 5 <= learned(MICRO, item_bytes=100_000).size(workers=2) <= 10
    assert learned(MICRO, item_bytes=10_000_000).size(workers=2) == 1


@pytest.mark.parametrize("fixed", [1, 7, 10**6])
def test_a_fixed_size_is_kept(fixed: int) -> None:
    """The caller's size stays, whatever is measured, as far as there is credit."""
    chunker = Chunker(fixed)
    assert chunker.size(workers=4, credit=10**9) == fixed
    chunker.observe(1, 10**12, 10**9)
    assert chunker.size(workers=4, remaining=1, credit=10**9) == fixed
    assert chunker.size(workers=4, credit=3) == min(3, fixed)
    assert chunker.size(workers=4, credit=0) == 1


def test_an_empty_report_changes_nothing() -> None:
    """A report of no items, as at a limit, is no measurement."""
    chunker = learned(MICRO)
    before = chunker.size(workers=2), chunker.mean_ns
    chunker.observe(0, 10**12, 10**9)
    assert (chunker.size(workers=2), chunker.mean_ns) == before
