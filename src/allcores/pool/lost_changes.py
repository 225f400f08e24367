"""Says once when a function of the program fills a global, or counts in it: in a worker's copy, and so in vain."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from allcores.system import caller

if TYPE_CHECKING:
    from allcores.backends.base import ChangesLost


class LostChangeWarning(UserWarning):
    """A function has changed a global of its module in a worker process: the program's own stays as it is.

    Each worker has a copy of what the function refers to. Return what the program is to have, and put it together
    there, or have `Pool.reduce` do so. It is said once per function and global.
    """


class LostChanges:
    """Those of one pool.

    Attributes:
        untold: What workers have noticed and nobody was told of yet; empty nearly always.
    """

    def __init__(self) -> None:
        self.untold: deque[tuple[str, str]] = deque()
        self._known: set[tuple[str, str]] = set()

    def note(self, event: ChangesLost) -> None:
        """A worker has noticed it; with the driver's lock held."""
        for name in event.names:
            if (key := (event.function, name)) not in self._known:
                self._known.add(key)
                self.untold.append(key)

    def tell(self) -> None:
        """Warn, at the line of the program that reads results; on its thread, without locks."""
        names: dict[str, list[str]] = {}
        while self.untold:
            function, name = self.untold.popleft()
            names.setdefault(function, []).append(name)
        for function, changed in names.items():
            what = " and ".join(f"'{name}'" for name in changed)
            caller.warn(
                f"{function} has changed {what} in a worker process, where it has a copy: here nothing changes. Return "
                "what you need and put it together here, or let Pool.reduce do it. If it is meant so (a cache, say), "
                "give it a name with 'cache' in it, or ignore allcores.LostChangeWarning.",
                LostChangeWarning,
            )
