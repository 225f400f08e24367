"""What happened, what to do about it, and what the outside gets to know.

Three families: events go into the dispatcher (past tense), orders come out of it (imperative), and
news travels up to observers (frozen). Times are monotonic nanoseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from allcores.outcome import Kind, Outcome
from allcores.transport.marks import mark

if TYPE_CHECKING:
    from allcores.engine.flow import Chunk


class Glance(NamedTuple):
    """What a worker's slot on the status board says at one moment.

    started_ns: when the current step began; 0 if the worker is between chunks.
    phase: one of the PHASE_* numbers of `transport.marks`.
    claimed: mark up to which it may start items without looking at its limit again; 0: up to the
    item it runs.
    """

    sequence: int
    position: int
    started_ns: int
    phase: int
    claimed: int = 0

    @property
    def reach(self) -> int:
        """The mark of the first item that it cannot have started."""
        return self.claimed or mark(self.sequence, self.position) + 1

    def unstarted_from(self, sequence: int) -> int:
        """Position in chunk `sequence` from which on nothing can have been started."""
        reach = self.reach
        return reach & 0xFFFFFFFF if reach >> 32 == sequence else 0


class Work(NamedTuple):
    """What a worker has done since it began. pid: None for a thread of this process. done: items."""

    pid: int | None
    done: int
    busy_ns: int


class Failure(NamedTuple):
    """One item of a chunk that did not return.

    Attributes:
        offset: Position inside the chunk.
        unpickling: It was not the function that raised: the item, the function or the result would not unpickle.
    """

    offset: int
    kind: Kind
    error: BaseException
    unpickling: bool = False


# --- events ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Results:
    """A worker finished `count` items of a chunk, from `start` on.

    payloads: pickled lists of values that follow each other; none if `values` holds them already.
    failures: sorted by offset; values has no entry for them.
    parts: (items, ns) of each report of which this was joined, for observers; none if it is one.
    ended: the worker holds no more of this chunk. leaving: nor will it start anything else.
    unloadable: the chunk would not unpickle as one; nothing of it was started.
    """

    worker: int
    sequence: int
    start: int
    count: int
    total_ns: int
    payloads: Sequence[bytes | memoryview] = ()
    values: list[Any] | None = None
    failures: list[Failure] | None = None
    durations: list[int] | None = None
    size_bytes: int = 0
    parts: Sequence[tuple[int, int]] = ()
    ended: bool = False
    leaving: bool = False
    unloadable: bool = False


@dataclass(slots=True)
class WorkerGone:
    """A worker's process is gone.

    running: where it was, None if it ran nothing.
    kind, error: what the item at `running` gets. ready: whether it ever was.
    innocent: nobody's fault (its template died, say): the item is put back instead.
    killed: by a signal that other processes send (SIGKILL, SIGTERM), not by what it did itself.
    in_setup: it was running the setup function, or the preload function if each worker runs that.
    """

    worker: int
    running: Glance | None
    kind: Kind
    error: BaseException
    reason: str
    innocent: bool = False
    killed: bool = False
    in_setup: bool = False


# --- orders ---------------------------------------------------------------------------------------


class Send(NamedTuple):
    """Give `chunk` to `worker`."""

    worker: int
    chunk: Chunk


class SetLimit(NamedTuple):
    """Write on the board: start nothing at or after `limit`."""

    worker: int
    limit: int


class Kill(NamedTuple):
    """End `worker`; it is replaced. at_once: it gets no time to do so by itself."""

    worker: int
    reason: str
    at_once: bool = False


class Stop(NamedTuple):
    """Let `worker` end by itself: it holds nothing."""

    worker: int


class Launch(NamedTuple):
    """Start a worker with this number."""

    worker: int


class Peek(NamedTuple):
    """Look whether `worker` has finished items of its chunk that it has not sent."""

    worker: int


Order = Peek | Send | SetLimit | Kill | Stop | Launch

# --- news -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FlowStarted:
    """A map began. total: items, None if unknown."""

    flow: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    """Items of a flow that are settled so far."""

    flow: int
    done: int
    failed: int
    total: int | None


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """An item got an outcome that is not ok."""

    flow: int
    outcome: Outcome[Any]


@dataclass(frozen=True, slots=True)
class TaskRetried:
    """An attempt failed and another will follow after `wait_s` seconds."""

    flow: int
    index: int
    attempt: int
    kind: Kind
    error: BaseException
    wait_s: float


@dataclass(frozen=True, slots=True)
class FlowEnded:
    """A map is over: finished, cancelled or failed."""

    flow: int
    done: int
    failed: int
    cancelled: bool


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """A worker is ready."""

    worker: int
    pid: int | None


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """A worker is gone; reason in words."""

    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class MemoryHeld:
    """Memory is short: nothing new is started as long as anything runs. available, reserve: bytes."""

    available: int
    reserve: int


@dataclass(frozen=True, slots=True)
class MemoryReleased:
    """There is memory again, and work goes on. available, reserve: bytes. seconds: how long it was held."""

    available: int
    reserve: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TaskPostponed:
    """A running task was ended because memory ran out, and put back: not an attempt. times: so far."""

    flow: int
    index: int
    times: int
    worker: int


@dataclass(frozen=True, slots=True)
class PoolBroken:
    """No outcome can be had any more; error: what everybody who waits gets."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class PoolOpened:
    """A pool is about to start its workers. backend: "processes", "threads" or "serial"."""

    name: str
    backend: str
    workers: int


@dataclass(frozen=True, slots=True)
class PoolEnded:
    """A pool is closed, and its workers are gone."""

    name: str


# The two that come often are tuples: they are made in a quarter of a frozen dataclass's time.


class WorkRecord(NamedTuple):
    """Consecutive items that a worker finished, as it reported them.

    first: index of the first. attempts: how many. busy_ns: time in the function, of all of them.
    durations: of each, if workers report them (`outcomes()`, threads, serial).
    items: of the whole chunk; these begin at `offset`. Neither list may be changed, or kept.
    """

    first: int
    attempts: int
    busy_ns: int
    durations: Sequence[int] | None
    items: Sequence[Any]
    offset: int


class WorkReported(NamedTuple):
    """What a worker reported: attempts that ended. Reports within a few milliseconds are told as one.

    attempts, failed: how many, and how many of these did not return. begin_ns, end_ns: from when it had this work to
    when its report was seen; busy_ns: of that, in the function. size_bytes: of items and results, pickled.
    """

    worker: int
    flow: int
    attempts: int
    failed: int
    begin_ns: int
    end_ns: int
    busy_ns: int
    size_bytes: int
    records: Sequence[WorkRecord]


class InputRead(NamedTuple):
    """Items were pulled from the input and handed over, by the thread that reads the results.

    items: how many. begin_ns, end_ns: when. pull_ns: of that, in the input's own iterator; pack_ns: pickling and
    handing over. held_ns: how long before this nothing could be pulled, since results waited for an earlier one or
    to be read. ended: the input is at its end.
    """

    flow: int
    items: int
    begin_ns: int
    end_ns: int
    pull_ns: int
    pack_ns: int
    held_ns: int
    ended: bool


News = (
    FlowStarted
    | Progress
    | TaskFailed
    | TaskRetried
    | TaskPostponed
    | FlowEnded
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
