"""Counts that stay small however long a run is: a histogram, the slowest items, causes of failures."""

from __future__ import annotations

import heapq
import os
import re
from collections import Counter
from collections.abc import Sequence
from operator import mul
from typing import Any

from allcores.events import WorkRecord, WorkReported
from allcores.outcome import Kind

#: time of the items in a record before the last few: what a worker seals at once, and a burst, ns
ROUTINE_NS = 1_050_000
#: items that a worker may time together
GROUP = 8
#: of many items quicker than this, ns, one in so many is counted for all
QUICK_NS = 10_000
SPEAKS_FOR = 8
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

    def add_each(self, durations: Sequence[int], busy_ns: int, longest_ns: int) -> None:
        """An item per duration. Of many quick and equal ones some speak for all: counting costs as much as they."""
        number = len(durations)
        if number >= 8 * SPEAKS_FOR and busy_ns < QUICK_NS * number and longest_ns < 16 * busy_ns // number:
            durations = durations[::SPEAKS_FOR]
        # No line of Python runs per item.
        found = Counter(map(int.bit_length, map(mul, durations, durations)))
        if len(durations) == number:
            self.buckets.update(found)
            return
        left = number
        for bucket, count in found.items():
            share = count * number // len(durations)
            self.buckets[bucket] += share
            left -= share
        self.buckets[(busy_ns * busy_ns // (number * number)).bit_length()] += left


def bucket_ns(bucket: int) -> tuple[float, float]:
    """The times that a bucket holds: from, to (without it), ns."""
    return (2 ** ((bucket - 1) / 2) if bucket else 0.0), 2 ** (bucket / 2)


class Slowest:
    """The items that took longest.

    How many items an entry speaks of: 1, the item; more, one of these; negative, that many with this mean.
    """

    def __init__(self) -> None:
        #: (ns, tie breaker, flow, first index, how many, worker, name), a heap: the quickest of the slowest is first
        self.heap: list[tuple[int, int, int, int, int, int, str]] = []
        self._ties = 0
        #: what takes no longer need not be looked at
        self.least_ns = -1

    def add(self, ns: int, map_number: int, first: int, count: int, worker: int, name: str) -> None:
        """Offer one; it is kept if it is among the slowest."""
        self._ties += 1
        entry = (ns, -self._ties, map_number, first, count, worker, name)
        if len(self.heap) < MOST_SLOWEST:
            heapq.heappush(self.heap, entry)
        else:
            heapq.heappushpop(self.heap, entry)
        if len(self.heap) == MOST_SLOWEST:
            self.least_ns = self.heap[0][0]

    def estimate(self, record: WorkRecord, map_number: int, worker: int, histogram: Histogram) -> None:
        """Count the items of a record that has one time for all of them.

        A worker makes a record as soon as it is worth ROUTINE_NS. What is beyond that was spent in the last item,
        or in one of the last few, which share one reading of the clock.
        """
        number, beyond_ns = record.attempts, record.busy_ns - ROUTINE_NS
        if beyond_ns <= ROUTINE_NS:
            mean_ns = record.busy_ns // number
            histogram.add(mean_ns, number)
            if mean_ns > self.least_ns:
                self.add(mean_ns, map_number, record.first, -number, worker, name_of(record.items[record.offset]))
            return
        histogram.add(ROUTINE_NS // number, number - 1)
        histogram.add(beyond_ns, 1)
        if beyond_ns > self.least_ns:
            few = min(number, GROUP)
            name = name_of(record.items[record.offset + number - 1])
            self.add(beyond_ns, map_number, record.first + number - few, few, worker, name)

    def look_at(self, record: WorkRecord, map_number: int, worker: int) -> None:
        """Offer the items of a record that has a time for each."""
        durations = record.durations or ()
        for position, ns in enumerate(durations):
            if ns > self.least_ns:
                name = name_of(record.items[record.offset + position])
                self.add(ns, map_number, record.first + position, 1, worker, name)


class Causes:
    """Failures and retries by what caused them: texts that differ in numbers only are one cause."""

    def __init__(self) -> None:
        #: key -> [kind, text, failures, retries, flow, index, worker, name of the first]
        self.known: dict[tuple[str, str], list[Any]] = {}

    def add(
        self,
        kind: Kind,
        error: BaseException | None,
        map_number: int,
        index: int,
        worker: int | None,
        name: str,
        retry: bool,
    ) -> str:
        """Count one; its text."""
        line = line_of(error)
        text = line if len(line) <= MOST_TEXT else line[: MOST_TEXT - 1] + "…"
        key = (kind.value, _VARYING.sub("#", line)[:MOST_TEXT])
        cause = self.known.get(key)
        if cause is None:
            if len(self.known) >= MOST_CAUSES:
                key, text = (kind.value, ""), f"further causes, beyond the first {MOST_CAUSES}"
                cause = self.known.get(key)
            if cause is None:
                cause = self.known[key] = [kind.value, text, 0, 0, map_number, index, worker, name]
        cause[3 if retry else 2] += 1
        if name and not cause[7] and (map_number, index) == (cause[4], cause[5]):
            # Only at its last attempt its name is told.
            cause[6], cause[7] = worker, name
        return text


class Aggregates:
    """All counts of a run."""

    def __init__(self) -> None:
        self.histogram = Histogram()
        self.slowest = Slowest()
        self.causes = Causes()
        self.counts = dict.fromkeys(("attempts", "failed", "retries", "workers_started", "workers_ended"), 0)

    def add(self, event: WorkReported) -> None:
        """Count attempts."""
        map_number, worker = event.map_number, event.worker
        self.counts["attempts"] += event.attempts
        self.counts["failed"] += event.failed
        histogram, slowest = self.histogram, self.slowest
        for record in event.records:
            if record.durations:
                longest = max(record.durations)
                histogram.add_each(record.durations, record.busy_ns, longest)
                if longest > slowest.least_ns:
                    slowest.look_at(record, map_number, worker)
            elif record.attempts == 1:
                histogram.add(record.busy_ns, 1)
                if record.busy_ns > slowest.least_ns:
                    slowest.add(
                        record.busy_ns, map_number, record.first, 1, worker, name_of(record.items[record.offset])
                    )
            else:
                slowest.estimate(record, map_number, worker, histogram)

    def snapshot(self) -> dict[str, Any]:
        """All of it as plain lists and numbers, for the file."""
        return {
            **self.counts,
            "histogram": sorted(self.histogram.buckets.items()),
            "slowest": [[entry[0], *entry[2:]] for entry in sorted(self.slowest.heap, reverse=True)],
            "causes": sorted(self.causes.known.values(), key=lambda cause: -cause[2] - cause[3]),
        }


#: numbers, addresses, and what stands in quotes: they tell apart items, not causes
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+(?:[.,]\d+)*|'[^'\n]*'|\"[^\"\n]*\"|\([^()\n]*\)")


def line_of(error: BaseException | None) -> str:
    """The first line of an error, up to some hundred characters."""
    if error is None:
        return "no error"
    try:
        said = str(error)[: 4 * MOST_TEXT]
    except Exception:
        said = "(its text cannot be made)"
    line = said.strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


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
