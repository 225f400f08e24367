"""What a process that the program or a task forks sees of blocks: as of other memory, a copy of that moment.

Blocks are mapped from a file, and what is mapped so is one for a process and its forks: each would see what the other
writes to a result, and both what is put there next, once the first has let go of it. So right before a fork

- views of results become private mappings, of which each process copies the pages that it writes to;
- all that is viewed is held, until the fork and what it forked in its turn are gone. They have an end of a pipe.

    program ──fork──► child: its views, and the writing end
       │                        │ ends, or becomes another program
       └─ holds the views ◄─────┘ end of file: they may go
"""

from __future__ import annotations

import gc
import os
import threading
from time import monotonic_ns

from allcores.system import posix
from allcores.system.weak_objects import WeakObjects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from allcores.shared_memory.arena import Arena

#: Between two looks at whether forks are gone, ns. More often costs rounds of a pool's loop system calls.
LOOK_NS = 50_000_000


class _Fork:
    """A fork of this process, or the wish for one.

    Args:
        descriptor: Where its end shows; -1: there was none to be had, and what it views is held for good.
        views: What it views.
    """

    __slots__ = ("_file", "descriptor", "views")

    def __init__(self, descriptor: int, views: list[Any]) -> None:
        self.descriptor = descriptor
        self.views = views
        self._file = None if descriptor < 0 else os.fstat(descriptor).st_ino

    def is_over(self) -> bool:
        """Whether nobody has the writing end any more."""
        try:
            # The program may close it, and its number be given to a file of its own.
            if self.descriptor < 0 or os.fstat(self.descriptor).st_ino != self._file:
                return False
            return not os.read(self.descriptor, 1)
        except OSError:  # nothing to read, mostly
            return False


#: those of this process's own pools, and of the one that it works for
_arenas: WeakObjects[Arena] = WeakObjects()
_forks: list[_Fork] = []
#: one thread at a time looks
_looking = threading.Lock()
_looked_ns = 0
#: by thread: the writing end that the process which it forks now is to have
_writing: dict[int, int] = {}
#: the writing ends of this process, if it is a fork
_kept: list[int] = []


def watch(arena: Arena) -> None:
    """What is viewed of these blocks is to be as it was in forks of this process."""
    _arenas.add(arena)


def look(*, now: bool = True) -> None:
    """Let go of what forks have viewed that are gone.

    Args:
        now: Also if that was done a moment ago.
    """
    global _looked_ns
    if not _forks or (not now and monotonic_ns() - _looked_ns < LOOK_NS) or not _looking.acquire(blocking=False):
        return
    try:
        _looked_ns = monotonic_ns()
        over = [each for each in _forks if each.is_over()]
        for each in over:
            _forks.remove(each)
            os.close(each.descriptor)
    finally:
        _looking.release()


def _collected(phase: str, _: object) -> None:
    """Garbage is being collected: a program that has closed its pools may do nothing else that we see."""
    if phase == "stop":
        look(now=False)


def _before() -> None:
    look()
    views = [view for arena in _arenas.all() for view in arena.part()]
    if not views:
        return
    if _collected not in gc.callbacks:
        gc.callbacks.append(_collected)
    try:
        read, write = map(posix.move_fd_high, os.pipe())
    except OSError:
        _forks.append(_Fork(-1, views))
        return
    os.set_blocking(read, False)
    _writing[threading.get_ident()] = write
    _forks.append(_Fork(read, views))


def _after_in_parent() -> None:
    write = _writing.pop(threading.get_ident(), None)
    if write is not None:
        os.close(write)


def _after_in_child() -> None:
    global _looking
    # Another thread may have been looking.
    _looking = threading.Lock()
    write = _writing.pop(threading.get_ident(), None)
    if write is not None:
        _kept.append(write)
    # Those of forks at the same time, and of earlier ones.
    for other in (*_writing.values(), *(each.descriptor for each in _forks)):
        if other >= 0:
            os.close(other)
    _writing.clear()
    _forks.clear()
    # Nobody is told by a fork what it views.
    _arenas.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
