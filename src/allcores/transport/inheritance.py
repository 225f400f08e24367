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
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

#: descriptors in one message: the kernel takes up to 253
MOST_AT_ONCE = 200


class Legacy:
    """What goes along with a pickle: to multiprocessing it is the process that is being made.

    forks: the receivers are forked from this very process.
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


class _Here(threading.local):
    legacy: Legacy | None = None
    many = False
    received: Sequence[int] = ()


_here = _Here()
_kept: dict[int, object] = {}


def kept(key: int) -> object:
    """In a forked process: what was kept for it."""
    return _kept[key]


def received(index: int) -> int:
    """A descriptor that came with the pickle that is being opened."""
    return _here.received[index]


@contextlib.contextmanager
def to_new_processes(legacy: Legacy) -> Iterator[None]:
    """While this lasts, what this thread pickles is for processes that are about to start."""
    context = sys.modules.get("multiprocessing.context")
    if context is None:
        # Nobody can have an object of it.
        yield
        return
    before, popen = _here.legacy, context.get_spawning_popen()
    _here.legacy = legacy
    context.set_spawning_popen(legacy)
    try:
        yield
    finally:
        _here.legacy = before
        context.set_spawning_popen(popen)


@contextlib.contextmanager
def to_many() -> Iterator[None]:
    """While this lasts, what this thread pickles is for any number of processes, at any time."""
    before, _here.many = _here.many, True
    try:
        yield
    finally:
        _here.many = before


def _refuse(connection: object) -> tuple[Any, ...]:
    raise TypeError(f"{type(connection).__name__} objects can be handed over once")


@contextlib.contextmanager
def opening(descriptors: Sequence[int]) -> Iterator[None]:
    """In a new process, while it opens a pickle that these came along with; they are closed afterwards."""
    _here.received = descriptors
    try:
        yield
    finally:
        _here.received = ()
        for descriptor in descriptors:
            os.close(descriptor)


def legacy() -> Legacy | None:
    """What this thread pickles for processes that are about to start, if it does so."""
    return _here.legacy


def reducers(data: bytes | None = None) -> Mapping[Any, Any] | None:
    """How to pickle what multiprocessing has ways of its own for; None where plain pickle will do.

    data: what plain pickle made of it, if that was tried. It copies the number of a connection's descriptor, which
    means something else in another process.
    """
    if _here.legacy is None and (
        data is None or "multiprocessing.connection" not in sys.modules or b"multiprocessing.connection" not in data
    ):
        return None
    from multiprocessing.reduction import ForkingPickler

    known: Mapping[Any, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    if _here.legacy is None and _here.many:
        from multiprocessing.connection import Connection

        return {**known, Connection: _refuse}
    if "multiprocessing.synchronize" not in sys.modules:
        return known
    from allcores.transport import semaphores

    return {**known, **semaphores.REDUCERS}
