"""What observers of a pool get: frozen events, in the past tense.

Times are monotonic nanoseconds unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
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
