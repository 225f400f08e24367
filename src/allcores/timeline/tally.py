"""Counts that stay small however long a run is: a histogram, the slowest items, causes of failures."""

from __future__ import annotations

import heapq
import os
import re
from collections import Counter
from collections.abc import Sequence
from operator import mul
from typing import Any

from allcores.engine.events import WorkRecord
from allcores.outcome import Kind

#: slowest items that are kept
MOST_SLOWEST = 20
#: causes of failures that are told apart; the rest is counted together
MOST_CAUSES = 100
#: characters of a cause, and of an item's name
MOST_TEXT = 160
MOST_NAME = 60


class Histogram:
    """Item times in buckets of half an octave: bucket k holds times below 2**(k/2) ns, down to 2**((k-1)/2)."""

    def __init__(self) -> None:
        self.buckets: Counter[int] = Counter()

    def add(self, mean_ns: int, count: int) -> None:
        """`count` items that took `mean_ns` each."""
        self.buckets[(mean_ns * mean_ns).bit_length()] += count

    def add_each(self, durations: Sequence[int]) -> None:
        """An item per duration; no line of Python runs per item."""
        self.buckets.update(map(int.bit_length, map(mul, durations, durations)))


def bucket_ns(bucket: int) -> tuple[float, float]:
    """The times that a bucket holds: from, to (without it), ns."""
    return (2 ** ((bucket - 1) / 2) if bucket else 0.0), 2 ** (bucket / 2)


class Slowest:
    """The items that took longest, as far as their times are known one by one; else means of their records."""

    def __init__(self) -> None:
        #: (ns, tie breaker, flow, first index, count, worker, name), a heap: the quickest of the slowest is first
        self.heap: list[tuple[int, int, int, int, int, int, str]] = []
        self._ties = 0
        #: what takes no longer need not be looked at
        self.least_ns = -1

    def add(self, ns: int, flow: int, first: int, count: int, worker: int, name: str) -> None:
        """Offer one; it is kept if it is among the slowest."""
        self._ties += 1
        entry = (ns, -self._ties, flow, first, count, worker, name)
        if len(self.heap) < MOST_SLOWEST:
            heapq.heappush(self.heap, entry)
        else:
            heapq.heappushpop(self.heap, entry)
        if len(self.heap) == MOST_SLOWEST:
            self.least_ns = self.heap[0][0]

    def look_at(self, record: WorkRecord, flow: int, worker: int) -> None:
        """Offer the items of a record that has a time for each."""
        durations = record.durations or ()
        for position, ns in enumerate(durations):
            if ns > self.least_ns:
                name = name_of(record.items[record.offset + position])
                self.add(ns, flow, record.first + position, 1, worker, name)


class Causes:
    """Failures and retries by what caused them: texts that differ in numbers only are one cause."""

    def __init__(self) -> None:
        #: key -> [kind, text, failures, retries, flow, index, worker, name of the first]
        self.known: dict[tuple[str, str], list[Any]] = {}

    def add(
        self, kind: Kind, error: BaseException | None, flow: int, index: int, worker: int | None, name: str, retry: bool
    ) -> str:
        """Count one; its text."""
        text = text_of(error)
        key = (kind.value, _DIGITS.sub("#", text))
        cause = self.known.get(key)
        if cause is None:
            if len(self.known) >= MOST_CAUSES:
                key, text = (kind.value, ""), f"further causes, beyond the first {MOST_CAUSES}"
                cause = self.known.get(key)
            if cause is None:
                cause = self.known[key] = [kind.value, text, 0, 0, flow, index, worker, name]
        cause[3 if retry else 2] += 1
        return text


#: numbers, addresses, and what stands in quotes: they tell apart items, not causes
_DIGITS = re.compile(r"0x[0-9a-fA-F]+|\d+|'[^'\n]*'|\"[^\"\n]*\"|\([^()\n]*\)")


def text_of(error: BaseException | None) -> str:
    """An error in one short line."""
    if error is None:
        return "no error"
    try:
        said = str(error)[: 4 * MOST_TEXT]
    except Exception:
        said = "(its text cannot be made)"
    line = said.strip().split("\n", 1)[0]
    text = f"{type(error).__name__}: {line}" if line else type(error).__name__
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def name_of(item: Any) -> str:
    """A short name of an item. Only of what is cheap to look at: an array's repr may take seconds."""
    if isinstance(item, os.PathLike):
        try:
            item = os.fspath(item)
        except Exception:
            return type(item).__name__
    if isinstance(item, str):
        # The end of a path says more than its beginning.
        return item if len(item) <= MOST_NAME else f"{item[:20]}…{item[-(MOST_NAME - 21) :]}"
    if item is None or type(item) in (bool, float) or (type(item) is int and item.bit_length() < 128):
        return repr(item)
    if type(item) is tuple and 0 < len(item) <= 4:
        text = f"({', '.join(map(name_of, item))})"
        return text if len(text) <= MOST_NAME else text[: MOST_NAME - 1] + "…"
    return type(item).__name__
