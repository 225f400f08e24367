"""What a worker gets when it starts, and not later: objects of `multiprocessing` that are shared by being inherited.

Locks, queues, shared values and connections refuse to be pickled but while a process is being made. For what goes to
`setup` and `preload` we say that this is so, as multiprocessing does for its own processes: descriptors are collected
beside the pickle, and each worker that starts, now or later, is sent copies of them before anything else.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: descriptors in one message: the kernel takes up to 253
MOST_AT_ONCE = 200


class Legacy:
    """What goes along with a pickle: to multiprocessing it is the process that is being made.

    Args:
        forks: The receivers are forked from this very process.
    """

    def __init__(self, *, forks: bool = False) -> None:
        self.forks = forks
        #: copies of our own, open until `close`
        self.descriptors: list[int] = []
        self._indexes: dict[int, int] = {}
        #: semaphores without a name that other processes have: see `transport.semaphores`
        self.others: dict[tuple[str, int], int] | None = None
        #: what a forked process finds where it is, by id
        self._kept: list[int] = []

    def duplicate_for_child(self, descriptor: int) -> int:
        """Have the receivers get this descriptor; returns its number among those."""
        index = self._indexes.get(descriptor)
        if index is None:
            index = self._indexes[descriptor] = len(self.descriptors)
            self.descriptors.append(os.dup(descriptor))
        return index

    def DupFd(self, index: int) -> Handed:
        """What is pickled in place of a descriptor."""
        return Handed(index)

    def keep(self, obj: object) -> int:
        """Have forked receivers find `obj` itself."""
        _kept[id(obj)] = obj
        self._kept.append(id(obj))
        return id(obj)

    def close(self) -> None:
        """No more receivers."""
        self.abandon()
        for key in self._kept:
            _kept.pop(key, None)

    def abandon(self) -> None:
        """In a forked copy of this process: let go of descriptors."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()


class Handed:
    """A descriptor, in a pickle."""

    def __init__(self, index: int) -> None:
        self._index = index

    def detach(self) -> int:
        """A copy for the caller to close."""
        return os.dup(received(self._index))


class _ThisThread(threading.local):
    #: what this thread pickles is for processes that are about to start
    legacy: Legacy | None = None
    #: what it pickles is for any number of processes, at any time
    many = False
    received: Sequence[int] = ()


this_thread = _ThisThread()
_kept: dict[int, object] = {}


def kept(key: int) -> object:
    """In a forked process: what was kept for it."""
    return _kept[key]


def received(index: int) -> int:
    """A descriptor that came with the pickle that is being opened."""
    return this_thread.received[index]


@contextlib.contextmanager
def to_new_processes(legacy: Legacy) -> Iterator[None]:
    """While this lasts, what this thread pickles is for processes that are about to start."""
    context = sys.modules.get("multiprocessing.context")
    if context is None:
        # Nobody can have an object of it.
        yield
        return
    before, popen = this_thread.legacy, context.get_spawning_popen()
    this_thread.legacy = legacy
    context.set_spawning_popen(legacy)
    try:
        yield
    finally:
        this_thread.legacy = before
        context.set_spawning_popen(popen)


@contextlib.contextmanager
def to_many() -> Iterator[None]:
    """While this lasts, what this thread pickles is for any number of processes, at any time."""
    before, this_thread.many = this_thread.many, True
    try:
        yield
    finally:
        this_thread.many = before


@contextlib.contextmanager
def opening(descriptors: Sequence[int]) -> Iterator[None]:
    """In a new process, while it opens a pickle that these came along with; they are closed afterwards."""
    this_thread.received = descriptors
    try:
        yield
    finally:
        this_thread.received = ()
        for descriptor in descriptors:
            os.close(descriptor)


def legacy() -> Legacy | None:
    """What this thread pickles for processes that are about to start, if it does so."""
    return this_thread.legacy
