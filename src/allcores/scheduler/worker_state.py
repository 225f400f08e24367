"""The one record of a worker, and the table of its moves.

STARTING ──ready──► READY ──told to stop, recycled──► LEAVING ──► GONE
    └────────────────┴────────── died, killed ────────────────────┘
"""

from __future__ import annotations

import enum
from collections import deque

from allcores.errors import InternalError
from allcores.outcome import Kind
from allcores.scheduler.map_state import Chunk
from allcores.transport.positions import NO_LIMIT, PHASE_RUNNING


class Lifecycle(enum.Enum):
    """What a worker can be. Only a READY one is given chunks."""

    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"
    GONE = "gone"


#: state -> the states that may follow
MOVES: dict[Lifecycle, frozenset[Lifecycle]] = {
    Lifecycle.STARTING: frozenset({Lifecycle.READY, Lifecycle.LEAVING, Lifecycle.GONE}),
    Lifecycle.READY: frozenset({Lifecycle.LEAVING, Lifecycle.GONE}),
    Lifecycle.LEAVING: frozenset({Lifecycle.GONE}),
    Lifecycle.GONE: frozenset(),
}


class Termination:
    """Why the parent decided to end a worker, and which item gets that as its outcome.

    Attributes:
        kind: The outcome of that item, with `error`.
        reason: Why, for the log.
        sequence: Its chunk; 0 if no item is charged.
        position: Its position in the chunk.
        phase: What the worker was doing then.
        together: Items in the call that ran, from `position` on.
        preempted: The item is requeued instead, and comes again when there is memory.
    """

    __slots__ = ("error", "kind", "phase", "position", "preempted", "reason", "sequence", "together")

    def __init__(
        self,
        kind: Kind,
        error: BaseException,
        reason: str,
        sequence: int,
        position: int,
        phase: int = PHASE_RUNNING,
        *,
        preempted: bool = False,
        together: int = 1,
    ) -> None:
        self.together = together
        self.phase = phase
        self.preempted = preempted
        self.kind = kind
        self.error = error
        self.reason = reason
        self.sequence = sequence
        self.position = position

    def charges(self, sequence: int, position: int) -> bool:
        """Whether the item at this position of that chunk was running when this was decided."""
        if sequence != self.sequence or self.phase != PHASE_RUNNING:
            return False
        return self.position <= position < self.position + self.together


class WorkerState:
    """All that the scheduler knows of one worker."""

    __slots__ = (
        "behind_watched",
        "busy_ns",
        "chunks",
        "confirming",
        "deadline_ns",
        "excused",
        "failed_starts_before",
        "heard_ns",
        "last_sequence",
        "lifecycle",
        "limit",
        "peek_watched",
        "preparing",
        "seen_ns",
        "start_watched",
        "started_ns",
        "tails",
        "termination",
        "unsent",
        "worker",
    )

    def __init__(self, worker: int, started_ns: int, failed_starts: int = 0) -> None:
        self.worker = worker
        #: starts that had failed in a row when this worker was ordered
        self.failed_starts_before = failed_starts
        self.started_ns = started_ns
        #: when it last reported work; kept only while the pool is observed
        self.seen_ns = 0
        #: when it last reported anything
        self.heard_ns = 0
        self.lifecycle = Lifecycle.STARTING
        #: what it holds, in the order in which it will run them
        self.chunks: deque[Chunk] = deque()
        #: how many of these are tails
        self.tails = 0
        self.last_sequence = 0
        #: mark from which on it may start nothing; while one is set, nothing is sent
        self.limit = NO_LIMIT
        #: when a limit that was set to steal work must be visible, and the board is to be read, ns; 0 without one
        self.confirming = 0
        #: when its DEADLINE timer is due; None if none is set
        self.deadline_ns: int | None = None
        #: Marks of items that were given their seconds once more, for the program had been stopped, and until when, ns;
        #: 0 stands for the worker's start.
        self.excused: dict[int, int] = {}
        #: its BEHIND timer is set
        self.behind_watched = False
        #: its PEEK timer is set
        self.peek_watched = False
        #: its BEGIN timer is set
        self.start_watched = False
        #: the first chunk for which it was seen to unpickle what that needs, and when first, ns
        self.preparing = (0, 0)
        #: when it was last seen to be busy with something between two chunks, ns
        self.busy_ns = 0
        #: bytes for it that were not in its pipe then
        self.unsent = 0
        self.termination: Termination | None = None

    def move(self, lifecycle: Lifecycle) -> None:
        """Change the state.

        Raises:
            InternalError: `MOVES` does not have this one.
        """
        if lifecycle not in MOVES[self.lifecycle]:
            raise InternalError(f"worker {self.worker} cannot go from {self.lifecycle.value} to {lifecycle.value}")
        self.lifecycle = lifecycle

    def owes_before(self, chunk: Chunk) -> bool:
        """Whether a chunk that it was given before this one has items that were not heard of.

        A worker that leaves has run them before, or never will. (Threads that share a serial pool run in no order.)
        """
        for held in self.chunks:
            if held is chunk:
                return False
            if held.done < len(held.items):
                return True
        return False

    def find(self, sequence: int) -> Chunk | None:
        """The chunk with this number, if the worker holds it."""
        for chunk in self.chunks:
            if chunk.sequence == sequence:
                return chunk
        return None

    @property
    def open(self) -> bool:
        """It may be sent a chunk."""
        return self.lifecycle is Lifecycle.READY and self.limit == NO_LIMIT and self.termination is None

    def __repr__(self) -> str:
        return f"<WorkerState {self.worker} {self.lifecycle.value} {list(self.chunks)}>"
