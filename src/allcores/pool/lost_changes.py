"""Says once when a function of the program fills a global, or counts in it: in a worker's copy, and so in vain.

Or draws from a generator of random numbers, of which each worker has a copy: all of these draw the same.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from allcores.system import caller

if TYPE_CHECKING:
    from allcores.backends.base import ChangesLost


class LostChangeWarning(UserWarning):
    """A function has changed a global of its module in a worker process: the program's own stays as it is.

    Each worker has a copy of what the function refers to. Return what the program is to have, and put it together
    there, or have `Pool.reduce` do so. It is said once per function and global. A generator of random numbers is told
    of, too: all workers draw the same numbers from their copies.
    """


class LostChanges:
    """Those of one pool.

    Attributes:
        untold: What workers have noticed and nobody was told of yet; empty nearly always.
    """

    def __init__(self) -> None:
        self.untold: deque[tuple[str, str, bool]] = deque()
        self._known: set[tuple[str, str, bool]] = set()

    def note(self, event: ChangesLost) -> None:
        """A worker has noticed it; with the driver's lock held."""
        for names, drawn in ((event.names, False), (event.drawn, True)):
            for name in names:
                if (key := (event.function, name, drawn)) not in self._known:
                    self._known.add(key)
                    self.untold.append(key)

    def tell(self) -> None:
        """Warn, at the line of the program that reads results; on its thread, without locks."""
        names: dict[tuple[str, bool], list[str]] = {}
        while self.untold:
            try:
                function, name, drawn = self.untold.popleft()
            except IndexError:  # another thread was quicker
                break
            names.setdefault((function, drawn), []).append(name)
        for (function, drawn), changed in names.items():
            what = " and ".join(f"'{name}'" for name in changed)
            if drawn:
                caller.warn(
                    f"{function} draws random numbers from {what}, of which each worker process has a copy, so all of "
                    "them draw the same numbers. Make one for each item (numpy.random.default_rng([seed, index])), or"
                    " for each worker in setup=. If it is meant so, ignore allcores.LostChangeWarning.",
                    LostChangeWarning,
                )
                continue
            caller.warn(
                f"{function} has changed {what} in a worker process, where it has a copy: here nothing changes. Return "
                "what you need and put it together here, or let Pool.reduce do it. If it is meant so (a cache, say), "
                "give it a name with 'cache' in it, or ignore allcores.LostChangeWarning.",
                LostChangeWarning,
            )
