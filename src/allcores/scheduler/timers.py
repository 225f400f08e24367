"""Timers: what the scheduler has to look at later, in the order in which it is due.

Nothing here reads a clock: the owner of the scheduler waits until `next_ns`, and then calls `Scheduler.tick`.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections.abc import Iterator
from typing import Any

from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.worker_state import Lifecycle, WorkerState

#: Timers that need not be exact are due at multiples of this, ns. Longer: they come late. Shorter: each wakes a thread.
ROUGH_NS = 100_000_000
#: Looks that come this much too late do so because the program was stopped, ns. Smaller: on a busy machine what hangs
#: is ended late. Larger: stops that are shorter cost what runs its seconds.
STILL_NS = 2_000_000_000
#: Timers that may be set until those without a meaning are dropped.
MOST_TIMERS = 32


class Timer(enum.Enum):
    """What is due. The subject is a worker's record unless said otherwise."""

    #: another attempt of an item; subject: its chunk
    RETRY = "retry"
    #: look for work to take from busy workers; no subject
    STEAL = "steal"
    #: a limit that was set to take work back must be visible by now
    CONFIRM = "confirm"
    #: chunks wait behind an item that may take long
    BEHIND = "behind"
    #: finished items of a chunk may wait, unsent, behind one that takes long
    PEEK = "peek"
    #: an item may have used up its timeout
    DEADLINE = "deadline"
    #: a worker may not have begun what it was given
    BEGIN = "begin"
    #: the grace period of what was cancelled is over
    GRACE = "grace"
    #: a worker may not be ready in time
    SETUP = "setup"
    #: what is loaded for all workers may not be ready in time; subject: when it began, ns
    PRELOAD = "preload"
    #: look at the memory that is left; no subject
    MEMORY = "memory"


class Timers:
    """A heap of timers. Times are monotonic nanoseconds."""

    __slots__ = ("_most", "_ties", "heap")

    def __init__(self) -> None:
        #: (due ns, tie breaker, timer, subject)
        self.heap: list[tuple[int, int, Timer, Any]] = []
        self._ties = itertools.count()
        self._most = MOST_TIMERS

    def set(self, due_ns: int, timer: Timer, subject: Any = None) -> None:
        """Have `Scheduler.tick` deal with `subject` at `due_ns`."""
        heapq.heappush(self.heap, (due_ns, next(self._ties), timer, subject))
        if len(self.heap) > self._most:
            self.drop_stale()

    def set_rough(self, due_ns: int, timer: Timer, subject: Any = None) -> None:
        """The same for what may come a little late: several that are due at about the same time wake once."""
        self.set(-(-due_ns // ROUGH_NS) * ROUGH_NS, timer, subject)

    def still_ns(self, now: int) -> int:
        """For how long nobody looked though it was time, ns, for the program was stopped; 0 if that was not long."""
        late = now - self.heap[0][0] if self.heap else 0
        return late if late >= STILL_NS else 0

    def pop_due(self, now: int) -> tuple[Timer, Any, int] | None:
        """Remove the first timer that is due.

        Returns:
            The timer, its subject, and when it was due; None if nothing is due at `now`.
        """
        if not self.heap or self.heap[0][0] > now:
            return None
        due_ns, _, timer, subject = heapq.heappop(self.heap)
        return timer, subject, due_ns

    @property
    def next_ns(self) -> int | None:
        """When the next timer is due; None if none is set."""
        return self.heap[0][0] if self.heap else None

    @property
    def retry_is_set(self) -> bool:
        """True if an attempt is due later: only time can bring it about."""
        return any(True for _ in self.retries())

    def retries(self) -> Iterator[Chunk]:
        """The attempts that are due later, as chunks of one item."""
        return (subject for _, _, timer, subject in self.heap if timer is Timer.RETRY)

    def drop_stale(self) -> None:
        """Drop the timers that have no meaning any more: of workers that are gone or did what was watched."""
        self.heap = [entry for entry in self.heap if _matters(entry[0], entry[2], entry[3])]
        heapq.heapify(self.heap)
        # So seldom that each timer pays for about one look at another.
        self._most = max(MOST_TIMERS, 2 * len(self.heap))

    def drop_retries(self, map_state: MapState) -> list[Chunk]:
        """Drop the attempts of a map that are due later.

        Returns:
            Their chunks, of one item each.
        """
        dropped = [chunk for chunk in self.retries() if chunk.map_state is map_state]
        if dropped:
            self.heap = [
                entry for entry in self.heap if entry[2] is not Timer.RETRY or entry[3].map_state is not map_state
            ]
            heapq.heapify(self.heap)
        return dropped

    def clear(self) -> None:
        """Drop all timers."""
        self.heap.clear()


def _matters(due_ns: int, timer: Timer, subject: Any) -> bool:
    """Whether there would be anything to do about this timer."""
    if not isinstance(subject, WorkerState):
        return True
    if subject.lifecycle is Lifecycle.GONE or (timer is Timer.SETUP and subject.lifecycle is not Lifecycle.STARTING):
        return False
    return timer is not Timer.DEADLINE or subject.deadline_ns == due_ns
