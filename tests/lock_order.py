"""The order in which a thread may take the locks of a pool, checked whenever a test takes one.

The order is written down in `allcores.pool.driver`. Locks that are taken in one order by all threads cannot wait for
each other in a circle. A thread that breaks it gets `WrongOrder` in place of the lock, also if nobody else would have
wanted it at that moment: so the first test that goes the wrong way finds it, and not a program that stands still.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from allcores.pool.interrupt_lock import InterruptSafeLock
from allcores.system.deferral import Lock
from allcores.system.fork_lock import ForkLock

#: kind of lock -> its place: while one is held, none of the same place or of an earlier one may be taken, except itself
PLACES: dict[type[Any], int] = {InterruptSafeLock: 1, ForkLock: 2, Lock: 3}
#: of these a thread may hold several: those of shared memory, among which the arena's comes last
SEVERAL = {ForkLock, Lock}

_local = threading.local()


class WrongOrder(AssertionError):
    """A lock was about to be taken out of order."""


def held() -> list[object]:
    """Locks that this thread holds, the first first."""
    if not hasattr(_local, "held"):
        _local.held = []
    found: list[object] = _local.held
    return found


def check(lock: object) -> None:
    """Raises WrongOrder if this thread may not take this lock now."""
    kind = type(lock)
    for other in held():
        if other is lock:
            return
    for other in held():
        before, place = PLACES[type(other)], PLACES[kind]
        if before > place or (before == place and kind not in SEVERAL):
            raise WrongOrder(f"{kind.__name__} is taken by a thread that holds a {type(other).__name__}")


def _watch(kind: type[Any]) -> None:
    enter, leave = kind.__enter__, kind.__exit__

    def checked_enter(self: Any) -> None:
        check(self)
        enter(self)
        held().append(self)

    def checked_exit(self: Any, *raised: object) -> None:
        mine = held()
        for position in reversed(range(len(mine))):
            if mine[position] is self:
                del mine[position]
                break
        leave(self, *raised)

    kind.__enter__, kind.__exit__ = checked_enter, checked_exit


def install() -> None:
    """Check all locks of this process from now on, and of those that are forked from it."""
    for kind in PLACES:
        _watch(kind)
    # The thread that forks may hold locks (a launch does); in the copy it goes on without them.
    os.register_at_fork(after_in_child=lambda: held().clear())
