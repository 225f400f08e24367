"""The items that a function is called with, and how often it was called on which.

Items are taken from all over the input, not from its start: inputs are often sorted. Where a function may be called
once per item only, each is handed out once.
"""

from __future__ import annotations

import copy
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Sized
from time import perf_counter
from typing import Any

from allcores.advisor.measuring.patience import Patience, TooLong
from allcores.errors import UsageError
from allcores.system import procfs
from allcores.system.cores import machine_memory
from allcores.transport.refilled_items import as_pulled

#: items of an input without a length that are read, at most, and for how many seconds
MOST_READ = 200_000
READ_S = 1.0
#: part of the available memory that items may take which are read, and seconds between two looks at what they take
MEMORY_PART, LOOK_S = 0.2, 0.02
#: of a sequence that may read, or make, each item as it is asked for: so many are looked at, and seconds of one that is
#: at hand
LOOKS, QUICK_S = 32, 20e-6
#: sequences whose items are at hand
IN_MEMORY = (list, tuple, range, str, bytes)
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
        items: A sequence, which is looked into anywhere, or any iterable, of which the first items are read. Of a
            sequence that takes long to give an item (it reads it from a disk, say) as many are read as of those, from
            all over it.
        total: How many there are, if that is known better.
        repeat: Items may be handed out again once all were.
        patience_s: Seconds in which an iterable has to give an item.

    Raises:
        UsageError: It gave none.
    """

    def __init__(
        self,
        items: Iterable[Any],
        *,
        total: int | None = None,
        repeat: bool = True,
        patience_s: float = math.inf,
    ) -> None:
        __tracebackhide__ = True
        self._items: Any
        #: the places of these in the input; None: those that they have there
        self._places: list[int] | None = None
        self.total: int | None
        #: all items of the input are at hand
        self.whole: bool
        #: the first item of the input is `items[0]`
        self.in_order = _has_places(items)
        if isinstance(items, Beginning):
            self._items, self.total, self.whole = items.items, total, False
        elif _has_places(items):
            self._items, self.whole = items, True
            self.total = self._items.__len__()
            if (held := _held(self._items)) is not None:
                self._places, self._items = [index for index, _ in held], [item for _, item in held]
                self.whole = len(held) == self.total
        else:
            self._items, self.whole = _read(as_pulled(items), Patience(patience_s))
            if total is None and isinstance(items, Sized):
                total = len(items)
            # Who says that there are fewer is wrong: so many were read.
            read = len(self._items)
            self.total = read if self.whole else None if total is None else max(int(total), read)
        self.count = len(self._items)
        self.repeat = repeat
        #: what is handed out are copies: the function changes its items, and these are the program's
        self.copied = False
        self._step = _spread(self.count)
        self._next = 0
        self._latest: list[int] = []
        #: index -> calls
        self.calls: Counter[int] = Counter()

    def cut(self, count: int) -> None:
        """Forget the items beyond so many, where more of an input were read than another time."""
        if not self.whole and count < self.count:
            self._items, self.count, self._step = self._items[:count], count, _spread(count)
            self._places = None if self._places is None else self._places[:count]

    @property
    def left(self) -> int | None:
        """How many can still be taken; None for any number."""
        return None if self.repeat else max(0, self.count - self._next)

    def take(self, count: int) -> list[tuple[int, Any]]:
        """The next items with their indices; fewer if they come to their end, or if they repeat within one take."""
        count = min(count, self.count if self.repeat else self.count - self._next)
        found: list[tuple[int, Any]] = []
        self._latest = []
        for _ in range(max(0, count)):
            place = self._next % self.count * self._step % self.count
            self._latest.append(place)
            found.append(self._at(place))
            self._next += 1
        return found

    def take_again(self) -> list[tuple[int, Any]]:
        """The items of the latest `take` once more, as they were then."""
        return [self._at(place) for place in self._latest]

    def look(self, count: int) -> list[tuple[int, Any]]:
        """Items to look at, which stay to be taken."""
        return self.look_from(0, count)

    def look_from(self, first: int, count: int) -> list[tuple[int, Any]]:
        """The same, from the one at a place in the order of this sample on; from its start again at its end."""
        numbers = range(first, first + min(count, self.count))
        return [self._at(number % self.count * self._step % self.count) for number in numbers]

    def beginning(self, count: int) -> list[tuple[int, Any]]:
        """The first items of the input, with their indices."""
        return [self._at(place) for place in range(min(count, self.count))]

    def _at(self, place: int) -> tuple[int, Any]:
        """What is at a place of those that are at hand, with its index in the input."""
        item = self._items[place]
        return (place if self._places is None else self._places[place]), copy_of(item) if self.copied else item

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


def copy_of(item: Any) -> Any:
    """A copy in which nothing is the item's own; the item itself, if it has none."""
    try:
        return copy.deepcopy(item)
    except Exception:
        return item


def _has_places(items: Iterable[Any]) -> bool:
    """Whether `items[number]` is what an iteration gives: a mapping has keys there, and a table names of columns."""
    if not (hasattr(items, "__len__") and hasattr(items, "__getitem__")):
        return False
    return isinstance(items, Sequence) or not any(hasattr(items, name) for name in ("keys", "columns"))


class _Room:
    """How much of the memory items may take: a second is enough to make gigabytes of them."""

    def __init__(self) -> None:
        available = machine_memory().available
        self._most = math.inf if available is None else MEMORY_PART * available + self._taken()
        self._due = perf_counter() + LOOK_S

    def is_full(self) -> bool:
        """Whether they take as much as they may."""
        now = perf_counter()
        if now < self._due:
            return False
        self._due = now + LOOK_S
        return self._taken() > self._most

    def _taken(self) -> int:
        return procfs.resident_bytes(os.getpid()) or 0


def _held(items: Any) -> list[tuple[int, Any]] | None:
    """Items of a sequence that takes long to give one, with their indices; None for one that has them at hand.

    Asked for again and again, they would take longer than all measurements.
    """
    count = len(items)
    if isinstance(items, IN_MEMORY) or not count:
        return None
    step, start, room = _spread(count), perf_counter(), _Room()
    found: list[tuple[int, Any]] = []
    for number in range(min(count, MOST_READ)):
        index = number * step % count
        found.append((index, items[index]))
        passed = perf_counter() - start
        if number + 1 == LOOKS and passed < LOOKS * QUICK_S:
            return None
        if passed > READ_S or room.is_full():
            break
    return found if count > LOOKS or passed > LOOKS * QUICK_S else None


def _read(iterator: Iterator[Any], patience: Patience) -> tuple[list[Any], bool]:
    """The first items, and whether there are no more."""
    __tracebackhide__ = True
    until, room = perf_counter() + READ_S, _Room()
    found: list[Any] = []
    try:
        with patience:
            for item in patience.of(iterator):
                found.append(item)
                # at each: one may take as long as all of them should
                if len(found) > MOST_READ or perf_counter() > until or room.is_full():
                    return found, False
    except TooLong:
        if not found:
            raise UsageError(patience.sentence()) from None
        return found, False
    return found, True


def _spread(count: int) -> int:
    """A step that visits each of `count` places once, and evenly on the way: near the golden section, and coprime."""
    step = max(1, round(count * 0.618034))
    while math.gcd(step, max(1, count)) != 1:
        step += 1
    return step
