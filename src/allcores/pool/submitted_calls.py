"""The calls of one pool that have no outcome yet, and the maps behind `submit`, whose chunks they are."""

from __future__ import annotations

from collections import deque
from typing import Any

from allcores.errors import again
from allcores.pool.notifier import Due
from allcores.scheduler.map_state import MapState


class SubmittedCalls:
    """See the module. With the driver's lock held, but for what says otherwise.

    Args:
        due: Takes what futures are to be given once the lock is released.

    Attributes:
        maps: One for all calls with the same options, by these. They end with the pool.
        waiting: Futures that have no outcome yet.
    """

    def __init__(self, due: deque[Due]) -> None:
        self.maps: dict[object, MapState] = {}
        self.waiting: set[Any] = set()
        self._due = due

    def settle(self, map_state: MapState) -> None:
        """Calls of a map have an outcome, or nothing can bring them one any more."""
        while (segment := map_state.take()) is not None:
            self.waiting.discard(segment.future)
            self._due.append((segment.future, segment))
        if map_state.broken is not None:
            for future in list(self.waiting):
                self.waiting.discard(future)
                self._due.append((future, again(map_state.broken)))

    def abandon(self) -> None:
        """In a forked child: calls of the parent get no outcome here."""
        for future in [*self.waiting, *(future for future, _ in self._due)]:
            future.abandon()
        self.waiting.clear()
        self._due.clear()

    def drop(self) -> None:
        """Cancel every call that has no outcome: none will come. Without the lock."""
        while self.waiting:
            try:
                future = self.waiting.pop()
            except KeyError:  # another thread was quicker
                return
            future.drop()
