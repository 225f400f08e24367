"""Wakes the thread that reads a stream."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress


class Bell:
    """Wakes the one thread that reads a stream. `expect` and `ring` need the driver's lock, waiting does not."""

    __slots__ = ("_lock", "_wake", "expected")

    def __init__(self) -> None:
        #: held while nobody has rung
        self._lock = threading.Lock()
        self._lock.acquire()
        #: a thread waits, or is about to
        self.expected = False
        #: what ends the wait, if it is not one for `_lock`
        self._wake: Callable[[], None] | None = None

    def expect(self, wake: Callable[[], None] | None = None) -> None:
        """This thread is about to wait: in `wait`, or in something that `wake` ends."""
        self.expected = True
        self._wake = wake

    def ring(self) -> None:
        """Wake the thread that waits, if one does."""
        if self.expected:
            self.expected = False
            if self._wake is not None:
                self._wake()
                return
            with suppress(RuntimeError):  # a wait that was interrupted has left an earlier ring behind
                self._lock.release()

    def wait(self, seconds: float) -> None:
        """Until it rings. It may have rung for an earlier wait, which a signal's handler has ended: look again."""
        self._lock.acquire(timeout=seconds)
