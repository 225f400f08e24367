"""Is there enough memory? Readings in; out come: hold, release, and which worker to end.

Pure: the time, what is available and what a worker holds are arguments. Three levels, all shares of
the reserve, the memory that must stay available:

    available   ≥ 125 %      < 100 %             < 50 %
                OPEN ───────► HELD ─────────────► HELD, and one task at a time is ended
                 ▲             │                   and requeued: the youngest whose end helps
                 └── release ──┘
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from allcores.limits import reserve_of

#: Parts of the reserve: below END_SHARE tasks are ended; at RELEASE_SHARE work goes on. Closer to 1 it would go on
#: and off with every item; further away a machine that others fill would be held for long.
END_SHARE = 0.5
RELEASE_SHARE = 1.25
#: Nearer than this many reserves, looks are made more often.
CLOSE_RESERVES = 3
#: Pause between two looks, ns, far from the reserve and close to it. A look costs some 0.1 ms.
FAR_NS = 100_000_000
CLOSE_NS = 20_000_000
#: An ended worker has this long to go before another is ended, ns: its memory is free when it is gone.
GONE_NS = 1_000_000_000
#: After a task was ended, one more worker is given work each time so long, ns, passed without want ...
EASE_NS = 2_000_000_000
#: ... or this many times as long as the ended task had run, if that is longer: so long it takes to show.
EASE_FACTOR = 4
#: An item is preempted this often; the next time it runs alone, and has nothing more to wait for.
MAX_PREEMPTIONS = 2


class Running(NamedTuple):
    """A worker that runs something, and since when (ns)."""

    worker: int
    since_ns: int


class MemoryPolicy:
    """What is decided about memory, and what was.

    Args:
        setting: `Limits(memory_reserve=...)`.
    """

    def __init__(self, setting: int | Literal["auto"]) -> None:
        self._setting = setting
        #: nothing new is started as long as anything runs
        self.held = False
        #: workers that may be busy at a time; None for all
        self.most: int | None = None
        #: of the last look, bytes
        self.available = self.reserve = 0
        #: until the next look
        self.pause_ns = CLOSE_NS
        self._ended: int | None = None
        self._ended_at = 0
        #: before that no end of a worker would help
        self._measure_memory_at = 0
        self._ease_ns = EASE_NS
        self._eased_at = 0

    def look(
        self,
        available: int,
        total: int,
        running: Iterable[Running],
        resident_tree_bytes: Callable[[int], int],
        now: int,
        *,
        dying: Callable[[int], bool],
    ) -> Running | None:
        """Take in a reading, and set `held`, `most` and `pause_ns` by it.

        Args:
            available: Bytes that are left.
            total: Bytes that there are.
            running: The workers that could be ended.
            resident_tree_bytes: Bytes that the end of a worker would give back.
            now: The time, ns.
            dying: Whether a worker that was ended has not gone yet.

        Returns:
            The worker that is to be ended; None if none is.
        """
        reserve = reserve_of(self._setting, total)
        self.available, self.reserve = available, reserve
        if available < reserve:
            self.held = True
        elif available >= RELEASE_SHARE * reserve:
            self.held = False
        self.pause_ns = CLOSE_NS if self.held or available < CLOSE_RESERVES * reserve else FAR_NS
        if self.held:
            self._eased_at = now
        elif self.most is not None and now - self._eased_at >= self._ease_ns:
            self.most += 1
            self._eased_at = now
        if available >= END_SHARE * reserve or now < self._measure_memory_at:
            return None
        if self._ended is not None and dying(self._ended) and now - self._ended_at < GONE_NS:
            return None
        running = list(running)
        ended = youngest(running, reserve - available, resident_tree_bytes)
        if ended is not None:
            self._ended, self._ended_at = ended.worker, now
            self.most = max(1, len(running) - 1)
            self._ease_ns = max(EASE_NS, EASE_FACTOR * (now - ended.since_ns))
        else:
            # Measuring many workers costs milliseconds: not at each look, on a machine that others have filled.
            self._measure_memory_at = now + FAR_NS
        return ended

    def ease(self, workers: int) -> None:
        """With so many workers, a bound that bounds none of them is dropped."""
        if self.most is not None and self.most >= workers:
            self.most = None


def youngest(running: Iterable[Running], missing: int, resident_tree_bytes: Callable[[int], int]) -> Running | None:
    """The one that began last, of those whose end would give back at least their share of `missing` bytes.

    None if there is no such: then other processes have the memory, and ending tasks would not bring it back.
    """
    running = list(running)
    for each in sorted(running, key=lambda each: each.since_ns, reverse=True):
        if resident_tree_bytes(each.worker) * len(running) >= missing:
            return each
    return None
