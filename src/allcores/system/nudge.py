"""Wakes a thread, whatever ends the call that does so.

The methods of `threading.Event` are written in Python: a signal's handler that raises in the middle of one (Ctrl-C)
leaves the lock in it held for good, and who waits for it, or sets it once more, never goes on.
"""

from __future__ import annotations

import contextlib
from queue import Empty, SimpleQueue


class Nudge:
    """Wakes the one thread that waits."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[None] = SimpleQueue()

    def give(self) -> None:
        """Have the thread go on, or not wait the next time. Several before that are one. Any thread may call it."""
        if self._waiting.empty():
            self._waiting.put(None)

    def wait(self, seconds: float | None) -> None:
        """Until it is given, or for so long; None: however long that takes."""
        with contextlib.suppress(Empty):
            self._waiting.get(timeout=seconds)
