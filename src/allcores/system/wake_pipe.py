"""A pipe that ends the wait of a thread which polls its reading end."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class _End:
    """One end. It is closed once the last thread that is about to use it has let go: its number is no other file's."""

    __slots__ = ("is_over", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        #: it is to be closed
        self.is_over = False

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        if self.is_over:
            _close(self.number)


class WakePipe:
    """See the module. `wake` may be called by any thread, a signal's handler and a finalizer, also once it is closed.

    Args:
        place: Puts a descriptor where it is to be, and returns its number.

    Attributes:
        reads: The descriptor to be polled; -1 once it is closed.
    """

    def __init__(self, place: Callable[[int], int] = int) -> None:
        self.reads, writes = map(place, os.pipe())
        os.set_blocking(self.reads, False)
        os.set_blocking(writes, False)
        self._ends: tuple[_End, _End] | None = (_End(self.reads), _End(writes))

    def wake(self) -> None:
        """End the wait, or the next one."""
        ends = self._ends
        if ends is None:
            return
        try:
            os.write(ends[1].number, b"!")
        except OSError:  # it is full, and so ends the wait already
            pass

    def take(self) -> None:
        """Whoever has waited is awake: the next wait is one again."""
        try:
            os.read(self.reads, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close both ends. Idempotent."""
        self.reads = -1
        ends, self._ends = self._ends, None
        for end in ends or ():
            end.is_over = True
