"""What observers of a pool get: frozen events, in the past tense.

Times are monotonic nanoseconds unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from allcores.outcome import Kind, Outcome
from allcores.system.plain_record import record


@record
class MapStarted:
    """A map began.

    Attributes:
        map_number: Numbers the maps of a pool, from 1.
        total: Items of the input, None if unknown.
    """

    map_number: int
    total: int | None


@record
class Progress:
    """Items of a map that are settled so far.

    Attributes:
        done: Items that have an outcome.
        failed: Of these, not ok.
        total: Items of the input, None if unknown.
    """

    map_number: int
    done: int
    failed: int
    total: int | None


@record
class TaskFailed:
    """An item got an outcome that is not ok."""

    map_number: int
    outcome: Outcome[Any]


@record
class TaskRetried:
    """An attempt failed and another will follow after `wait_s` seconds."""

    map_number: int
    index: int
    attempt: int
    kind: Kind
    error: BaseException
    wait_s: float


@record
class MapEnded:
    """A map is over: finished, cancelled or failed."""

    map_number: int
    done: int
    failed: int
    cancelled: bool


@record
class WorkerStarted:
    """A worker is ready.

    Attributes:
        actor: The class whose object it is for; None for a worker of the pool.
    """

    worker: int
    pid: int | None
    actor: str | None = None


@record
class WorkerEnded:
    """A worker is gone; reason in words.

    Attributes:
        actor: See `WorkerStarted`.
    """

    worker: int
    reason: str
    actor: str | None = None


@record
class MemoryHeld:
    """Memory is short: nothing new is started as long as anything runs.

    Attributes:
        available: Bytes of memory that can still be had.
        reserve: Bytes that are to stay available.
    """

    available: int
    reserve: int


@record
class MemoryReleased:
    """There is memory again, and work goes on.

    Attributes:
        available: Bytes of memory that can still be had.
        reserve: Bytes that are to stay available.
        seconds: How long nothing was started.
    """

    available: int
    reserve: int
    seconds: float


@record
class TaskPreempted:
    """A running task was ended because memory ran out, and requeued: not an attempt.

    Attributes:
        times: How often this item was preempted so far.
    """

    map_number: int
    index: int
    times: int
    worker: int


@record
class PoolBroken:
    """No outcome can be had any more.

    Attributes:
        error: What all waiting callers get.
    """

    error: BaseException


@record
class PoolOpened:
    """A pool is about to start its workers.

    Attributes:
        backend: As in `Pool(backend=...)`.
    """

    name: str
    backend: str
    workers: int


@record
class PoolEnded:
    """A pool is closed, and its workers are gone."""

    name: str


# The two that come often are tuples: they are made in a quarter of a frozen dataclass's time.


class WorkRecord(NamedTuple):
    """Consecutive items that a worker finished, as it reported them.

    Attributes:
        first: Index of the first.
        attempts: How many.
        busy_ns: Time in the function, of all of them.
        durations: Nanoseconds of each, if workers report them (`outcomes()`, threads, serial).
        items: Of the whole chunk; these begin at `offset`. Neither list may be changed, or kept.
    """

    first: int
    attempts: int
    busy_ns: int
    durations: Sequence[int] | None
    items: Sequence[Any]
    offset: int


class WorkReported(NamedTuple):
    """What a worker reported: attempts that ended. Reports within a few milliseconds are one event.

    Attributes:
        attempts: How many.
        failed: How many of these did not return.
        begin_ns: When it had this work.
        end_ns: When its report was seen.
        busy_ns: Time of that in the function.
        size_bytes: Of items and results, pickled.
    """

    worker: int
    map_number: int
    attempts: int
    failed: int
    begin_ns: int
    end_ns: int
    busy_ns: int
    size_bytes: int
    records: Sequence[WorkRecord]


class InputRead(NamedTuple):
    """Items were pulled from the input and handed over, by the thread that reads the results.

    Attributes:
        items: How many.
        begin_ns: When this began.
        end_ns: When it ended.
        pull_ns: Time of that in the input's own iterator.
        pack_ns: Time of pickling and handing over.
        held_ns: How long before this nothing could be pulled, since results waited for an earlier one or to be read.
        ended: The input is at its end.
    """

    map_number: int
    items: int
    begin_ns: int
    end_ns: int
    pull_ns: int
    pack_ns: int
    held_ns: int
    ended: bool


PoolEvent = (
    MapStarted
    | Progress
    | TaskFailed
    | TaskRetried
    | TaskPreempted
    | MapEnded
    | WorkerStarted
    | WorkerEnded
    | MemoryHeld
    | MemoryReleased
    | PoolBroken
    | PoolOpened
    | PoolEnded
    | WorkReported
    | InputRead
)


class OfSeveral:
    """An observer that several pools may have at a time: each of them numbers its maps from 1, so it is told whose."""

    def take(self, event: PoolEvent, pool: Hashable) -> None:
        """Take one event of a pool: an object that stands for that, equal to no other."""
        raise NotImplementedError

    def __call__(self, event: PoolEvent) -> None:
        """Take one event. What it does not know, it ignores."""
        self.take(event, None)


class OfOne:
    """What one pool tells in the place of an observer that several may have."""

    def __init__(self, observer: OfSeveral) -> None:
        self._observer = observer
        self.sees_work: bool = getattr(observer, "sees_work", True)
        if hasattr(observer, "attach"):
            self.attach = observer.attach

    def of_another(self) -> OfOne:
        """The same observer, told by another pool."""
        return OfOne(self._observer)

    def __repr__(self) -> str:
        return repr(self._observer)

    def __call__(self, event: PoolEvent) -> None:
        """Take one event."""
        self._observer.take(event, self)


def of_one_pool(observer: Callable[[PoolEvent], object]) -> Callable[[PoolEvent], object]:
    """The observer as one pool is to tell it; one whose class has its own way to be told is told in that way.

    Of what stands for a pool already there is another one: settings may be for several pools, one after the other or
    at a time (`configure`).
    """
    if isinstance(observer, OfOne):
        return observer.of_another()
    if isinstance(observer, OfSeveral) and type(observer).__call__ is OfSeveral.__call__:
        return OfOne(observer)
    return observer
