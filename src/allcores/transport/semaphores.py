"""Locks and semaphores of multiprocessing's fork context, for workers that are not forked from this process.

Such a semaphore has no name: it is a page of memory that only processes forked from its maker have. So that others
can have it, its page is moved into a file of ours, at the same address, where all that refers to it stays good: the
semaphore in this process, methods taken from it, threads that wait for it. A worker maps the file.

A process that was forked before would go on with the old page, and a lock that excludes only some is none. So that
is refused, with the way out.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref
from multiprocessing import synchronize
from typing import Any

from allcores.errors import NotSupported
from allcores.system import posix, procfs
from allcores.transport import inheritance

_PAGE = mmap.PAGESIZE
#: pages of a process's file: one for each semaphore that was moved and lives
_PAGES = 16_384
#: glibc's sem_t: the value in the lower half of a word, the number of those who wait in the upper
_WORD = ctypes.c_uint64
#: Added to the number of those who wait: it must not be too low for a moment, or nobody would be woken. Too high costs
#: a system call for each release.
_BIAS = 1 << 48
_VALUE = (1 << 32) - 1
_FIXED, _MOVE = 0x10, 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = _libc.mremap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
]
_libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.sem_post.argtypes = _libc.sem_trywait.argtypes = [ctypes.c_void_p]
_FAILED = ctypes.c_void_p(-1).value

_ADVICE = "make it with multiprocessing.get_context('spawn'), or give the pool start_method='fork'"


class _File:
    """Pages in a file of this process's own."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.descriptor = posix.move_fd_high(posix.anonymous_file("semaphores", _PAGE * _PAGES))
        self.used = 0
        #: semaphores in it that live
        self.alive = 0
        #: pages whose semaphores are gone: at address, page
        self.gone: list[tuple[int, int]] = []
        self.free: list[int] = []

    def page(self, maps: list[procfs.Mapping]) -> int:
        """The offset of a page that nobody uses."""
        inode = os.fstat(self.descriptor).st_ino
        # A method taken from a semaphore may outlive it, and keeps it mapped.
        mapped = {each.start for each in maps if each.inode == inode}
        self.free += [page for address, page in self.gone if address not in mapped]
        self.gone = [each for each in self.gone if each[0] in mapped]
        if self.free:
            return self.free.pop()
        if self.used == _PAGES:
            raise NotSupported(f"more than {_PAGES:,} semaphores of the fork context are in use; {_ADVICE}")
        self.used += 1
        return (self.used - 1) * _PAGE


_file: _File | None = None
#: address of a page that was moved, or that came with a file -> descriptor of the file, offset in it
_places: dict[int, tuple[int, int]] = {}
#: files that came from this process's parent: device and inode -> address
_received: dict[tuple[int, int], int] = {}


def _reduce(semaphore: Any) -> Any:
    legacy = inheritance.legacy()
    inner = semaphore._semlock
    if legacy is None or inner.name is not None:
        return semaphore.__reduce_ex__(5)
    if legacy.forks:
        return inheritance.kept, (legacy.keep(semaphore),)
    page, offset = inner.handle // _PAGE * _PAGE, inner.handle % _PAGE
    if page not in _places:
        _move(semaphore, page, legacy)
    descriptor, start = _places[page]
    place = (legacy.duplicate_for_child(descriptor), start + offset)
    return _rebuild, (type(semaphore), place, inner.kind, inner.maxvalue)


#: for a pickler's dispatch table
REDUCERS = dict.fromkeys(
    (synchronize.Lock, synchronize.RLock, synchronize.Semaphore, synchronize.BoundedSemaphore), _reduce
)


def _rebuild(kind: Any, place: tuple[int, int], *facts: int) -> Any:
    """The semaphore, in another process."""
    index, offset = place
    descriptor = inheritance.received(index)
    status = os.fstat(descriptor)
    file = status.st_dev, status.st_ino
    address = _received.get(file)
    if address is None:
        # For as long as this process lives: what was made of it may be anywhere.
        address, _ = posix.map_memory(descriptor, 0, status.st_size, mmap.MAP_SHARED)
        _received[file] = address
        own = posix.move_fd_high(os.dup(descriptor))
        _places.update({address + start: (own, start) for start in range(0, status.st_size, _PAGE)})
    semaphore = kind.__new__(kind)
    semaphore.__setstate__((address + offset, *facts, None))
    return semaphore


def _move(semaphore: Any, page: int, legacy: inheritance.Legacy) -> None:
    """Put the page of a semaphore into our file."""
    global _file
    if not (posix.LINUX and sys.maxsize > 1 << 32 and sys.byteorder == "little" and "glibc" in _libc_version()):
        raise NotSupported(f"one of the fork context cannot be shared with workers here; {_ADVICE}")
    maps = procfs.mappings("self")
    here = next((each for each in maps if each.start <= page < each.end), None)
    if here is None or here.end - here.start != _PAGE or not here.inode:
        raise NotSupported(f"its memory is not found; {_ADVICE}")
    if legacy.others is None:
        legacy.others = _semaphores_of_others()
    sharer = legacy.others.get((here.device, here.inode))
    if sharer is not None:
        raise NotSupported(f"it is of the fork context and shared with process {sharer}, a fork of this one; {_ADVICE}")
    if _file is None or _file.pid != os.getpid():
        _file = _File()
    file, start = _file, _file.page(maps)
    handle = semaphore._semlock.handle
    old = _libc.mremap(page, 0, _PAGE, _MOVE)  # a second view of the same page
    if old is None or old == _FAILED:
        raise NotSupported(f"its memory cannot be shared here; {_ADVICE}")
    try:
        before = _WORD.from_address(old + handle - page)
        content = bytearray(ctypes.string_at(old, _PAGE))
        copied = before.value
        ctypes.c_uint64.from_buffer(content, handle - page).value = copied + _BIAS
        os.pwrite(file.descriptor, content, start)
        address = _libc.mmap(
            page, _PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _FIXED, file.descriptor, start
        )
        if address != page:
            raise NotSupported(f"its memory cannot be shared here; {_ADVICE}")
        # What other threads have done in between, and those that sleep over the old page.
        change = (before.value & _VALUE) - (copied & _VALUE)
        for _ in range(abs(change)):
            (_libc.sem_post if change > 0 else _libc.sem_trywait)(handle)
        for _ in range(before.value >> 32):
            _libc.sem_post(old + handle - page)
    finally:
        _libc.munmap(old, _PAGE)
    _places[page] = (file.descriptor, start)
    file.alive += 1
    weakref.finalize(semaphore, _gone, file, page, start).atexit = False


def _gone(file: _File, page: int, start: int) -> None:
    global _file
    _places.pop(page, None)
    file.gone.append((page, start))
    file.alive -= 1
    if not file.alive and file is _file and file.pid == os.getpid():
        _file = None
        os.close(file.descriptor)


def _libc_version() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return ""


def _semaphores_of_others() -> dict[tuple[str, int], int]:
    """Pages of semaphores that other processes of this program have, by device and inode, and one that has it.

    Servers of managers do not count: they use none of the program's.
    """
    from multiprocessing import active_children

    servers = {child.pid for child in active_children() if "Manager-" in child.name}
    found: dict[tuple[str, int], int] = {}
    for process in sorted(procfs.processes()):
        if process == os.getpid() or process in servers or not procfs.runs_the_same_program(process):
            continue
        found.update({(each.device, each.inode): process for each in procfs.mappings(process) if "/sem." in each.path})
    return found
