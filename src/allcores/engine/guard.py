"""The driver's lock, held so that Ctrl-C cannot tear a decision in two.

KeyboardInterrupt is raised in the main thread between any two bytecodes. In the middle of a turn it
would leave a chunk taken from one list and not yet put into another, and its items would never be
settled. So while the main thread holds this lock, the interrupt is noted, and raised at the end.
"""

from __future__ import annotations

import threading

# The C functions behind `signal.signal` and `signal.getsignal`: their wrappers turn numbers into enums,
# which costs 5 µs a call, and this is in the path of every submitted call.
from _signal import getsignal, signal  # type: ignore[import-not-found]
from signal import SIGINT
from threading import get_ident
from types import FrameType
from typing import Any


class Guard:
    """A context manager around a lock. Not reentrant; for short sections that never wait."""

    __slots__ = ("_frame", "_handler", "_lock", "_main", "_noted")

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._main = threading.main_thread().ident
        self._handler: Any = None
        self._noted = False
        self._frame: FrameType | None = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = True
        self._frame = frame

    def __enter__(self) -> None:
        # Written out, not by way of enter(): this is in the path of every submitted call.
        if get_ident() == self._main and callable(handler := getsignal(SIGINT)):
            signal(SIGINT, self._note)
            self._lock.acquire()
            self._handler = handler
        else:
            self._lock.acquire()

    def enter(self, *, wait: bool = True) -> bool:
        """Take the lock; False if `wait` is off and somebody else has it (who may be ourselves)."""
        handler: Any = None
        if get_ident() == self._main:
            handler = getsignal(SIGINT)
            if callable(handler):
                signal(SIGINT, self._note)
            else:
                handler = None
        if not self._lock.acquire(blocking=wait):
            if handler is not None:
                signal(SIGINT, handler)
            return False
        if handler is not None:
            self._handler = handler
        return True

    def __exit__(self, *_: object) -> None:
        handler = self._handler
        if handler is None or get_ident() != self._main:
            self._lock.release()
            return
        self._handler = None
        self._lock.release()
        signal(SIGINT, handler)
        if self._noted:
            frame, self._frame, self._noted = self._frame, None, False
            handler(SIGINT, frame)
