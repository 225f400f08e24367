"""The items that a function is called with, and how often it was called on which.

Items are taken from all over the input, not from its start: inputs are often sorted. Where a function may be called
once per item only, each is handed out once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Sized
from time import perf_counter
from typing import Any

#: items of an input without a length that are read, at most, and for how many seconds
MOST_READ = 200_000
READ_S = 1.0
#: ranges of indices that are told one by one
MOST_RANGES = 20


class Beginning(Iterable[Any]):
    """The first items of an input that has more: a list of them would be taken for all that there are."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


class Sample:
    """Items of an input, in an order that is spread over it.

    Args:
        items: A sequence, which is looked into anywhere, or any iterable, of which the first items are read.
        total: How many there are, if that is known better.
        repeat: Items may be handed out again once all were.
    """

    def __init__(self, items: Iterable[Any], *, total: int | None = None, repeat: bool = True) -> None:
        __tracebackhide__ = True
        self._items: Any
        self.total: int | None
        #: all items of the input are at hand
        self.whole: bool
        if isinstance(items, Beginning):
            self._items, self.total, self.whole = items.items, total, False
        elif _has_places(items):
            self._items, self.whole = items, True
            self.total = self._items.__len__()
        else:
            self._items, self.whole = _read(iter(items))
            if total is None and isinstance(items, Sized):
                total = len(items)
            self.total = len(self._items) if self.whole else total
        self.count = len(self._items)
        self.repeat = repeat
        self._step = _spread(self.count)
        self._next = 0
        self._latest: list[int] = []
        #: index -> calls
        self.calls: Counter[int] = Counter()

    def cut(self, count: int) -> None:
        """Forget the items beyond so many, where more of an input were read than another time."""
        if not self.whole and count < self.count:
            self._items, self.count, self._step = self._items[:count], count, _spread(count)

    @property
    def left(self) -> int | None:
        """How many can still be taken; None for any number."""
        return None if self.repeat else max(0, self.count - self._next)

    def take(self, count: int) -> list[tuple[int, Any]]:
        """The next items with their indices; fewer if they come to their end, or if they repeat within one take."""
        count = min(count, self.count if self.repeat else self.count - self._next)
        found = []
        for _ in range(max(0, count)):
            index = self._next % self.count * self._step % self.count
            found.append((index, self._items[index]))
            self._next += 1
        self._latest = [index for index, _ in found]
        return found

    def called_again(self) -> None:
        """Note that the items of the latest `take` were called once more."""
        self.called(self._latest)

    def look(self, count: int) -> list[tuple[int, Any]]:
        """Items to look at, which stay to be taken."""
        return self.look_from(0, count)

    def look_from(self, first: int, count: int) -> list[tuple[int, Any]]:
        """The same, from the one at a place in the order of this sample on; from its start again at its end."""
        numbers = range(first, first + min(count, self.count))
        indices = [number % self.count * self._step % self.count for number in numbers]
        return [(index, self._items[index]) for index in indices]

    def beginning(self, count: int) -> list[tuple[int, Any]]:
        """The first items of the input, with their indices."""
        return [(index, self._items[index]) for index in range(min(count, self.count))]

    def first(self) -> Any:
        """The first item of the input."""
        return self._items[0]

    def called(self, indices: Iterable[int], times: int = 1) -> None:
        """Note calls."""
        for index in indices:
            self.calls[index] += times

    def called_on(self) -> list[list[int]]:
        """First and last index of each range of neighbours that the function was called on; at most so many."""
        ranges: list[list[int]] = []
        for index in sorted(self.calls):
            if ranges and ranges[-1][1] == index - 1:
                ranges[-1][1] = index
            elif len(ranges) == MOST_RANGES:
                break
            else:
                ranges.append([index, index])
        return ranges


def _has_places(items: Iterable[Any]) -> bool:
    """Whether `items[number]` is what an iteration gives: a mapping has keys there, and a table names of columns."""
    if not (hasattr(items, "__len__") and hasattr(items, "__getitem__")):
        return False
    return isinstance(items, Sequence) or not any(hasattr(items, name) for name in ("keys", "columns"))


def _read(iterator: Iterator[Any]) -> tuple[list[Any], bool]:
    """The first items, and whether there are no more."""
    until = perf_counter() + READ_S
    found: list[Any] = []
    for item in iterator:
        found.append(item)
        # at each: one may take as long as all of them should
        if len(found) > MOST_READ or perf_counter() > until:
            return found, False
    return found, True


def _spread(count: int) -> int:
    """A step that visits each of `count` places once, and evenly on the way: near the golden section, and coprime."""
    step = max(1, round(count * 0.618034))
    while math.gcd(step, max(1, count)) != 1:
        step += 1
    return step
