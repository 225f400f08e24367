"""The book that the dispatcher keeps on one worker.

STARTING ──ready──► READY ──told to stop, recycled──► LEAVING ──► GONE
    └────────────────┴────────── died, killed ────────────────────┘
"""

from __future__ import annotations

import enum
from collections import deque

from allcores.engine.flow import Chunk
from allcores.outcome import Kind
from allcores.transport.marks import NO_LIMIT, PHASE_RUNNING


class Life(enum.Enum):
    """What a worker can be. Only a READY one is given chunks."""

    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"
    GONE = "gone"


#: state -> the states that may follow
MOVES: dict[Life, frozenset[Life]] = {
    Life.STARTING: frozenset({Life.READY, Life.LEAVING, Life.GONE}),
    Life.READY: frozenset({Life.LEAVING, Life.GONE}),
    Life.LEAVING: frozenset({Life.GONE}),
    Life.GONE: frozenset(),
}


class Doom:
    """Why the parent decided to end a worker, and which item gets that as its outcome.

    sequence, position: the item; sequence 0 if no item is to blame. phase: what it was doing then.
    postponed: it is put back instead, and comes again when there is memory.
    """

    __slots__ = ("error", "kind", "phase", "position", "postponed", "reason", "sequence")

    def __init__(
        self,
        kind: Kind,
        error: BaseException,
        reason: str,
        sequence: int,
        position: int,
        phase: int = PHASE_RUNNING,
        *,
        postponed: bool = False,
    ) -> None:
        self.phase = phase
        self.postponed = postponed
        self.kind = kind
        self.error = error
        self.reason = reason
        self.sequence = sequence
        self.position = position


class Desk:
    """One worker as the dispatcher sees it."""

    __slots__ = (
        "behind_watched",
        "chunks",
        "confirming",
        "deadline_ns",
        "doom",
        "failed_starts_before",
        "heard_ns",
        "last_sequence",
        "life",
        "limit",
        "peek_watched",
        "seen_ns",
        "start_watched",
        "started_ns",
        "worker",
    )

    def __init__(self, worker: int, started_ns: int, failed_starts: int = 0) -> None:
        self.worker = worker
        #: starts that had failed in a row when this worker was ordered
        self.failed_starts_before = failed_starts
        self.started_ns = started_ns
        #: when it last reported work; kept only while somebody observes
        self.seen_ns = 0
        #: when it last reported anything
        self.heard_ns = 0
        self.life = Life.STARTING
        #: what it holds, in the order in which it will run them
        self.chunks: deque[Chunk] = deque()
        self.last_sequence = 0
        #: mark from which on it may start nothing; while one is set, nothing is sent
        self.limit = NO_LIMIT
        #: a limit was set to take work back, and the board is to be read once it must be visible
        self.confirming = False
        #: when the next deadline alarm for this worker rings; None if none is set
        self.deadline_ns: int | None = None
        #: an alarm that asks whether what waits behind its running item waits too long is set
        self.behind_watched = False
        #: an alarm that asks whether it has finished items that it does not report is set
        self.peek_watched = False
        #: an alarm that asks whether it has begun what it was given is set
        self.start_watched = False
        self.doom: Doom | None = None

    def move(self, life: Life) -> None:
        """Change state; an illegal move is our mistake and says so."""
        if life not in MOVES[self.life]:
            raise AssertionError(f"worker {self.worker} cannot go from {self.life.value} to {life.value}")
        self.life = life

    def find(self, sequence: int) -> Chunk | None:
        """The chunk with this number, if the worker holds it."""
        for chunk in self.chunks:
            if chunk.sequence == sequence:
                return chunk
        return None

    @property
    def open(self) -> bool:
        """It may be sent a chunk."""
        return self.life is Life.READY and self.limit == NO_LIMIT and self.doom is None

    def __repr__(self) -> str:
        return f"<Desk {self.worker} {self.life.value} {list(self.chunks)}>"
