"""A set kept as ranges is the set; and its table can be kept up by what it says has changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from allcores.journal.ranges import RangeSet

MOVES = st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 8), st.booleans()), max_size=40)


@given(MOVES)
def test_is_the_set_and_tells_its_changes(moves: list[tuple[bool, int, int, bool]]) -> None:
    """After any adding and discarding: the same numbers, ranges apart from each other, and a table that follows."""
    ranges, plain, table = RangeSet(), set[int](), dict[int, int]()
    for adds, start, length, looks in moves:
        if adds:
            ranges.add(start, start + length)
            plain |= set(range(start, start + length))
        else:
            ranges.discard(start, start + length)
            plain -= set(range(start, start + length))
        if looks:
            gone, come = ranges.changes()
            for each in gone:
                table.pop(each, None)
            table.update(come)
            assert sorted(table.items()) == list(ranges)
    assert {number for start, stop in ranges for number in range(start, stop)} == plain
    assert all(stop < start for (_, stop), (start, _) in zip(list(ranges), list(ranges)[1:], strict=False))
    assert (ranges.count, ranges.end) == (len(plain), max(plain, default=-1) + 1)
    for number in range(50):
        assert (number in ranges) == (number in plain)
        hole, stop = ranges.hole_from(number)
        assert hole not in plain and not set(range(number, hole)) - plain
        assert stop is None or (stop in plain and not set(range(hole, stop)) & plain)
