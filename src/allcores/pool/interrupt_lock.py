"""The driver's lock: held in a section, so that no decision is torn, and never waited for by its own holder."""

from __future__ import annotations

import threading
from threading import get_ident

from allcores.errors import PoolBusy
from allcores.system.deferral import enter, leave


class InterruptSafeLock:
    """A context manager around a lock, for short sections that never wait (see `allcores.system.deferral`).

    Not reentrant: code that a holder runs without meaning to (a `__reduce__` of an item) and that uses
    the same pool gets `PoolBusy`, for it would wait for itself.
    """

    __slots__ = ("_lock", "_outermost", "owner")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outermost = False
        #: the thread that holds it, 0 if none does
        self.owner = 0

    def __enter__(self) -> None:
        me = get_ident()
        if self.owner == me:
            raise PoolBusy()
        outermost = enter()
        self._lock.acquire()
        self.owner = me
        self._outermost = outermost

    def __exit__(self, *_: object) -> None:
        outermost = self._outermost
        self.owner = 0
        self._lock.release()
        if outermost:
            leave()

    def renew(self) -> None:
        """In a forked copy of this process: whoever held it does not exist here."""
        self._lock = threading.Lock()
        self.owner = 0

    @property
    def mine(self) -> bool:
        """This thread holds it."""
        return self.owner == get_ident()
