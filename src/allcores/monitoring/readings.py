"""What is counted, whoever exports it: one list of figures, read from pools and from their events."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable, Sequence
from copy import copy
from dataclasses import fields, replace
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from allcores.events import MapEnded, MapStarted, OfSeveral, PoolEnded, PoolEvent, TaskFailed, WorkerEnded
from allcores.outcome import Kind

if TYPE_CHECKING:
    from allcores.pool.pool import Pool
    from allcores.pool.statistics import Statistics

#: names of error classes that are told apart; a label with any number of values would grow without bound
MOST_CAUSES = 50
#: seconds that separate the buckets of how long maps take
MAP_BOUNDS_S = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36_000.0)
#: the same for items; those of the pool, powers of two of a nanosecond, are fitted in
ITEM_BOUNDS_S = (1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0)


class Metric(NamedTuple):
    """A number that is exported.

    Attributes:
        kind: "counter" or "gauge".
        unit: As in the name, "" for a plain number.
    """

    name: str
    kind: str
    text: str
    unit: str = ""


class Histogram(NamedTuple):
    """Items by the seconds they took.

    Attributes:
        counts: Items at or below each bound, and one more for what is above all.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    total: float


def added(several: Sequence[Histogram]) -> Histogram:
    """Histograms of the same bounds as one; at least one is needed."""
    counts = [sum(column) for column in zip(*(each.counts for each in several), strict=True)]
    return Histogram(several[0].bounds, counts, sum(each.total for each in several))


ITEMS = Metric("items", "counter", "Items that have an outcome, by kind")
FAILURES = Metric("failures", "counter", "Items whose outcome was read and is not ok, by cause")
RETRIES = Metric("retries", "counter", "Attempts granted after a failure")
REQUEUES = Metric("requeues", "counter", "Items requeued because their worker ended under them")
STARTED = Metric("workers_started", "counter", "Workers started")
ENDED = Metric("workers_ended", "counter", "Workers that ended, for whatever reason")
BUSY = Metric("busy_seconds", "counter", "Time that workers spent in functions", "seconds")
WORKERS = Metric("workers", "gauge", "Workers that live")
WORKERS_BUSY = Metric("workers_busy", "gauge", "Workers that hold work")
IN_FLIGHT = Metric("items_in_flight", "gauge", "Items pulled and not yet handed to a consumer")
BYTES_IN_FLIGHT = Metric("bytes_in_flight", "gauge", "Bytes of these", "bytes")
SHARED = Metric("shared_memory_bytes", "gauge", "Shared memory in use or kept", "bytes")

METRICS = (
    ITEMS, FAILURES, RETRIES, REQUEUES, STARTED, ENDED, BUSY, WORKERS, WORKERS_BUSY, IN_FLIGHT, BYTES_IN_FLIGHT,
    SHARED,
)  # fmt: skip

#: labels of one sample: (name, value) pairs, the pool's name first
Labels = tuple[tuple[str, str], ...]


def _sum(one: Statistics, other: Statistics) -> Statistics:
    return replace(one, **{each.name: getattr(one, each.name) + getattr(other, each.name) for each in fields(one)})


def _counted(now: Statistics) -> float:
    """What only grows, in one number."""
    counts = now.ok + now.failed + now.timed_out + now.workers_lost + now.cancelled
    return counts + now.workers_started + now.retries + now.requeues + now.busy_seconds


def _sum_of(times: list[tuple[float, int]]) -> int:
    return sum(number for _, number in times)


class _Seen:
    """One pool, and what it said last: counters must not vanish with it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = weakref.ref(pool)
        self.name = pool.name
        self.statistics = pool.statistics()
        self.times = pool.item_times()
        self._lock = threading.RLock()  # held to keep what the pool said

    def joined(self, other: _Seen) -> _Seen:
        """What both did, of one name, when they are gone."""
        found = copy(self)
        found.statistics = _sum(self.statistics, other.statistics)
        times = dict(self.times)
        for below_s, number in other.times:
            times[below_s] = times.get(below_s, 0) + number
        found.times = sorted(times.items())
        return found

    def refresh(self) -> bool:
        """Ask the pool again; False if it is gone or closed, and its gauges with it."""
        pool = self.pool()
        if pool is None:
            return False
        # Without a lock of ours: this takes the pool's.
        statistics, times = pool.statistics(), pool.item_times()
        with self._lock:
            # Another thread may have asked later, and be back before: a counter that falls is taken for one that began
            # anew, and after the end of the pool nobody would correct it.
            if _counted(statistics) >= _counted(self.statistics):
                self.statistics = statistics
            if _sum_of(times) >= _sum_of(self.times):
                self.times = times
        return not pool.closed


class Readings(OfSeveral):
    """An observer, base of the exporters."""

    sees_work = False

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards all below: events and questions come from any thread
        self._pools: list[_Seen] = []
        #: (pool, number of the map) -> when it began
        self._began: dict[tuple[Hashable, int], float] = {}
        self._causes: dict[str, int] = {}
        self._ended = 0
        self._map_counts = [0] * (len(MAP_BOUNDS_S) + 1)
        self._map_seconds = 0.0

    def attach(self, pool: Pool) -> None:
        """A pool to be read; it does this itself."""
        seen = _Seen(pool)
        with self._lock:
            self._pools.append(seen)

    def take(self, event: PoolEvent, pool: Hashable) -> None:
        """See `OfSeveral`."""
        if isinstance(event, MapStarted):
            with self._lock:
                self._began[pool, event.map_number] = monotonic()
        elif isinstance(event, MapEnded):
            with self._lock:
                began_s = self._began.pop((pool, event.map_number), None)
            self._refresh()
            if began_s is not None:
                self._map_took(monotonic() - began_s)
        elif isinstance(event, TaskFailed):
            error = event.outcome.error
            cause = type(error).__name__ if error is not None else event.outcome.kind.value
            with self._lock:
                if cause not in self._causes and len(self._causes) >= MOST_CAUSES:
                    cause = "other"
                self._causes[cause] = self._causes.get(cause, 0) + 1
        elif isinstance(event, WorkerEnded):
            with self._lock:
                self._ended += 1
            self._refresh()
        elif isinstance(event, PoolEnded):
            # Calls made by `submit` are in no map, and threads that end are not told of.
            self._refresh()

    def _map_took(self, seconds: float) -> None:
        with self._lock:
            self._map_counts[sum(seconds > bound for bound in MAP_BOUNDS_S)] += 1
            self._map_seconds += seconds

    def _refresh(self) -> list[tuple[_Seen, bool]]:
        with self._lock:
            pools = list(self._pools)
        # Outside of our lock: this takes the pool's.
        found = [(seen, seen.refresh()) for seen in pools]
        with self._lock:
            self._join()
        return found

    def _join(self) -> None:
        """Those that are gone are one for each name from now on: a program may have any number after one another."""
        gone: dict[str, _Seen] = {}
        kept = []
        for seen in self._pools:
            if seen.pool() is not None:
                kept.append(seen)
            else:
                gone[seen.name] = gone[seen.name].joined(seen) if seen.name in gone else seen
        self._pools = [*kept, *gone.values()]

    def samples(self, metric: Metric) -> list[tuple[Labels, float]]:
        """The values of one metric now."""
        if metric is FAILURES or metric is ENDED:
            with self._lock:
                if metric is ENDED:
                    return [((), float(self._ended))]
                return [((("cause", cause),), float(count)) for cause, count in self._causes.items()]
        sums: dict[Labels, float] = {}
        for seen, open_now in self._refresh():
            for labels, value in _of(metric, seen.statistics):
                if metric.kind == "gauge" and not open_now:
                    value = 0.0
                key = (("pool", seen.name), *labels)
                sums[key] = sums.get(key, 0.0) + value
        return list(sums.items())

    def maps(self) -> Histogram:
        """Seconds that maps took."""
        with self._lock:
            return Histogram(MAP_BOUNDS_S, list(self._map_counts), self._map_seconds)

    def items(self) -> dict[Labels, Histogram]:
        """Seconds that items took, for each pool. Those measured together count with their mean."""
        found: dict[Labels, Histogram] = {}
        for seen, _ in self._refresh():
            key = (("pool", seen.name),)
            before = found.get(key) or Histogram(ITEM_BOUNDS_S, [0] * (len(ITEM_BOUNDS_S) + 1), 0.0)
            counts = list(before.counts)
            for below_s, number in seen.times:
                # The middle of what the pool's bucket holds decides where it goes.
                counts[sum(0.75 * below_s > bound for bound in ITEM_BOUNDS_S)] += number
            found[key] = Histogram(ITEM_BOUNDS_S, counts, before.total + seen.statistics.busy_seconds)
        return found


def _of(metric: Metric, now: Statistics) -> list[tuple[Labels, float]]:
    if metric is ITEMS:
        counts = {
            Kind.OK: now.ok,
            Kind.FAILED: now.failed,
            Kind.TIMED_OUT: now.timed_out,
            Kind.WORKER_LOST: now.workers_lost,
            Kind.CANCELLED: now.cancelled,
        }
        return [((("kind", kind.value),), float(count)) for kind, count in counts.items()]
    values = {
        RETRIES: now.retries,
        REQUEUES: now.requeues,
        STARTED: now.workers_started,
        BUSY: now.busy_seconds,
        WORKERS: now.workers,
        WORKERS_BUSY: now.busy,
        IN_FLIGHT: now.items_in_flight,
        BYTES_IN_FLIGHT: now.bytes_in_flight,
        SHARED: now.block_bytes + now.shared_bytes,
    }
    return [((), float(values[metric]))]
