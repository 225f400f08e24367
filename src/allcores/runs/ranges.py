"""A set of whole numbers as ranges: what is settled of a run that is settled nearly in order.

Its size is the number of gaps, and gaps are items that are under way; so it does not grow with the run.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class RangeSet:
    """Numbers from 0 on, kept as sorted half-open ranges that neither touch nor overlap."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """See the class.

        Args:
            ranges: (start, stop), in any order.
        """
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Take in the numbers start … stop - 1; those that are in already do no harm."""
        if start >= stop:
            return
        starts, stops = self._starts, self._stops
        if stops and stops[-1] == start:  # by far the most frequent: the last range grows
            stops[-1] = stop
            return
        first = bisect_left(stops, start)
        last = bisect_right(starts, stop)
        if first < last:
            start, stop = min(start, starts[first]), max(stop, stops[last - 1])
        starts[first:last] = [start]
        stops[first:last] = [stop]

    def discard(self, start: int, stop: int) -> None:
        """Take out the numbers start … stop - 1."""
        if start >= stop:
            return
        kept = []
        starts, stops = self._starts, self._stops
        first = bisect_right(stops, start)
        last = bisect_left(starts, stop)
        for old, end in zip(starts[first:last], stops[first:last], strict=True):
            if old < start:
                kept.append((old, start))
            if end > stop:
                kept.append((stop, end))
        starts[first:last] = [old for old, _ in kept]
        stops[first:last] = [end for _, end in kept]

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._starts, number) - 1
        return place >= 0 and number < self._stops[place]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def __len__(self) -> int:
        """How many ranges."""
        return len(self._starts)

    @property
    def count(self) -> int:
        """How many numbers."""
        return sum(self._stops) - sum(self._starts)

    @property
    def end(self) -> int:
        """One more than the largest number; 0 if there is none."""
        return self._stops[-1] if self._stops else 0

    def hole_from(self, number: int) -> tuple[int, int | None]:
        """The first gap at or behind `number`, as (start, stop); stop is None for the one that never ends."""
        place = bisect_right(self._starts, number) - 1
        if place >= 0 and number < self._stops[place]:
            number = self._stops[place]
        after = bisect_right(self._starts, number)
        return number, self._starts[after] if after < len(self._starts) else None

    def __repr__(self) -> str:
        return f"RangeSet({list(self)})"
