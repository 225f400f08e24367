"""The calls of a function that is measured: which items, how many of them, and what is left of the seconds."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from allcores.advisor.measuring.sample import Sample
from allcores.advisor.model.probes import Travel

#: part of the budget for each measurement
EACH_PART = 0.035
#: part of the seconds that are left which a measurement may take that has an item at least: beyond it, it is not made
LEFT_PART = 0.25
#: part of the budget without which it is of no use to go on
LEAST_PART = 0.15
#: items of a measurement, at most
MOST_ITEMS = 200_000
#: bytes of its items and results, at most
MOST_BYTES = 256 << 20


class Calls:
    """Takes items for the measurements of one function, and notes that they were called.

    Args:
        fn: The function.
        sample: Its items.
        began: When the budget began, as `perf_counter` tells it.
        budget: Seconds for everything.

    Attributes:
        item_s: Seconds of a call, as soon as they are known.
        failed: Calls of its loop that raised.
    """

    def __init__(self, fn: Callable[[Any], Any], sample: Sample, began: float, budget: float) -> None:
        self.fn = fn
        self.sample = sample
        self.began = began
        self.budget = budget
        self.item_s = 0.0
        self.failed = 0

    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget - (perf_counter() - self.began)

    def fits(self, calls: int) -> bool:
        """Whether there is time for so many calls, one after the other, and for what else is to be measured."""
        return calls * self.item_s <= LEFT_PART * self.left()

    def count(self, item_s: float, *, least: int = 1, most: int = MOST_ITEMS) -> int:
        """How many items of so many seconds fill a measurement."""
        return max(least, min(most, int(EACH_PART * self.budget / max(item_s, 1e-9))))

    def most(self, way: Travel) -> int:
        """How many items a measurement with workers may have, by their bytes."""
        return max(2, min(MOST_ITEMS, int(MOST_BYTES / max(1.0, way.bytes_in + way.bytes_out))))

    def take(self, count: int) -> list[Any]:
        """Items, noted as called once."""
        taken = self.sample.take(count)
        self.sample.called(index for index, _ in taken)
        return [item for _, item in taken]

    def take_same(self, items: list[Any]) -> list[Any]:
        """The items of the latest `take` again, as they were, where that is allowed, else as many others."""
        if not self.sample.repeat:
            return self.take(len(items))
        again = self.sample.take_again()
        self.sample.called(index for index, _ in again)
        return [item for _, item in again]
