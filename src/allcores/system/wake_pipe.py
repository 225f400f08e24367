"""A pipe that ends the wait of a thread which polls its reading end."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class WakePipe:
    """See the module. `wake` may be called by any thread, a signal's handler and a finalizer, also once it is closed.

    Args:
        place: Puts a descriptor where it is to be, and returns its number.

    Attributes:
        reads: The descriptor to be polled; -1 once it is closed.
    """

    def __init__(self, place: Callable[[int], int] = int) -> None:
        self.reads, self._writes = map(place, os.pipe())
        os.set_blocking(self.reads, False)
        os.set_blocking(self._writes, False)

    def wake(self) -> None:
        """End the wait, or the next one."""
        try:
            os.write(self._writes, b"!")
        except OSError:  # it is full, and so ends the wait already; or it is closed
            pass

    def take(self) -> None:
        """Whoever has waited is awake: the next wait is one again."""
        try:
            os.read(self.reads, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close both ends. Idempotent."""
        reads, writes = self.reads, self._writes
        # Numbers that are never descriptors: to wake what is gone is no mistake.
        self.reads = self._writes = -1
        for descriptor in (reads, writes):
            if descriptor >= 0:
                os.close(descriptor)
