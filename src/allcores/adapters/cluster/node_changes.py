"""What functions have changed in vain in the workers of a node, on its way to the program: with the next reply."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from allcores.pool.lost_changes import LostChanges

if TYPE_CHECKING:
    from allcores.backends.base import ChangesLost


class NodeChanges(LostChanges):
    """Takes what a node's workers have noticed, and says nothing of it there, where nobody would read it."""

    def __init__(self) -> None:
        super().__init__()
        self._noted: deque[tuple[str, tuple[str, ...], tuple[str, ...]]] = deque()

    def note(self, event: ChangesLost) -> None:
        """See LostChanges."""
        self._noted.append((event.function, tuple(event.names), tuple(event.drawn)))

    def taken(self) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        """Functions, names of what each has changed, and drawn from: all that is here, which then is not any more."""
        return [self._noted.popleft() for _ in range(len(self._noted))]
