"""What happened, and what to do about it.

Two families: events go into the scheduler (past tense), commands come out of it (imperative). Times are monotonic
nanoseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from allcores.outcome import Failure, Kind
from allcores.scheduler.map_state import Chunk
from allcores.system.plain_record import open_record
from allcores.transport.positions import mark


class WorkerProgress(NamedTuple):
    """What a worker's slot on the status board says at one moment.

    Attributes:
        sequence: The chunk it is at.
        position: The item of it.
        started_ns: When the current step began; 0 if the worker is between chunks.
        phase: One of the PHASE_* numbers of `transport.positions`.
        claimed: Mark up to which it may start items without looking at its limit again; 0: up to the item it runs.
        together: Items in the call that runs, that item the first of them: more than one in a batch.
    """

    sequence: int
    position: int
    started_ns: int
    phase: int
    claimed: int = 0
    together: int = 1

    @property
    def reach(self) -> int:
        """The mark of the first item that it cannot have started."""
        return self.claimed or mark(self.sequence, self.position) + self.together

    def unstarted_from(self, sequence: int) -> int:
        """Position in chunk `sequence` from which on nothing can have been started."""
        reach = self.reach
        return reach & 0xFFFFFFFF if reach >> 32 == sequence else 0


class Work(NamedTuple):
    """What a worker has done since it began.

    Attributes:
        pid: None for a thread of this process.
        done: Items.
    """

    pid: int | None
    done: int
    busy_ns: int


# --- events ---------------------------------------------------------------------------------------


@open_record
class Results:
    """A worker finished `count` items of a chunk, from `start` on.

    Attributes:
        payloads: Pickled lists of values that follow each other; none if `values` holds them already.
        failures: Sorted by offset; `values` has no entry for them.
        durations: Of each item, ns, where the map asked for them.
        parts: (items, ns) of each report of which this was joined, for observers; none if it is one.
        ended: The worker holds no more of this chunk.
        leaving: Nor will it start anything else.
        unloadable: The chunk would not unpickle as one; nothing of it was started.
        tail: What is left of the chunk runs already, on a node that has cores for more.
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
    tail: bool = False


@open_record
class WorkerGone:
    """A worker's process is gone.

    Attributes:
        running: Where it was; None if it ran nothing.
        kind: What the item at `running` gets, with `error`.
        reason: Why it exited, for the log.
        unattributed: No known fault of an item (its template died, say): the item is requeued instead.
        killed: By a signal that other processes send (SIGKILL, SIGTERM), not by what it did itself.
        in_setup: It was running the setup function, or the preload function if each worker runs that.
        preparing: It was unpickling what the first chunk that it holds needs.
    """

    worker: int
    running: WorkerProgress | None
    kind: Kind
    error: BaseException
    reason: str
    unattributed: bool = False
    killed: bool = False
    in_setup: bool = False
    preparing: bool = False


# --- commands -------------------------------------------------------------------------------------


class Send(NamedTuple):
    """Give `chunk` to `worker`."""

    worker: int
    chunk: Chunk


class SetLimit(NamedTuple):
    """Write on the board: start nothing at or after `limit`."""

    worker: int
    limit: int


class Revoke(NamedTuple):
    """Start nothing more of a chunk that a node has; what of it is not started comes back as cancelled.

    Attributes:
        running: End also what runs: nobody wants it any more.
        for_others: What is not started is for an idle node: one that prepares for it (imports modules, say) begins it
            itself, perhaps. False: it is for nobody.
    """

    worker: int
    sequence: int
    running: bool
    for_others: bool = False


class Kill(NamedTuple):
    """End `worker`; it is replaced.

    Attributes:
        at_once: It gets no time to do so by itself.
    """

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


Command = Peek | Send | SetLimit | Revoke | Kill | Stop | Launch
