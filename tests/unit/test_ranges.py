"""A set kept as ranges is the set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from allcores.runs.ranges import RangeSet

MOVES = st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 8)), max_size=40)


@given(MOVES)
def test_is_the_set(moves: list[tuple[bool, int, int]]) -> None:
    """After any adding and discarding: the same numbers, in ranges apart from each other."""
    ranges, plain = RangeSet(), set[int]()
    for adds, start, length in moves:
        if adds:
            ranges.add(start, start + length)
            plain |= set(range(start, start + length))
        else:
            ranges.discard(start, start + length)
            plain -= set(range(start, start + length))
    assert {number for start, stop in ranges for number in range(start, stop)} == plain
    assert all(stop < start for (_, stop), (start, _) in zip(list(ranges), list(ranges)[1:], strict=False))
    assert (ranges.count, ranges.end) == (len(plain), max(plain, default=-1) + 1)
    for number in range(50):
        assert (number in ranges) == (number in plain)
        hole, stop = ranges.hole_from(number)
        assert hole not in plain and not set(range(number, hole)) - plain
        assert stop is None or (stop in plain and not set(range(hole, stop)) & plain)
