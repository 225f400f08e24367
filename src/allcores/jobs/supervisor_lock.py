"""One supervisor per store: a lock that dies with its holder.

On this machine a POSIX record lock, which a forked child does not inherit; for a store on a server also a lock of a
session there, so that supervisors on several machines cannot meet.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from allcores.errors import NotSupported
from allcores.jobs.database import Database
from allcores.jobs.model import AlreadySupervised, StoreError
from allcores.system.own_files import REOPEN
from allcores.system.posix import LINUX

FILE = "supervisor.lock"
#: beside the one of transactions
_SESSION_LOCK = 0x61636A63

#: struct flock on Linux: type, whence, start, length, pid
_FLOCK = struct.Struct("@hhqqi")

_held: set[str] = set()
_guard = threading.Lock()


def _after_fork() -> None:
    global _guard
    _held.clear()
    _guard = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class SupervisorLock:
    """The right to claim jobs of a store, held from now on; usable with `with`.

    Args:
        folder: Of the store.
        database: Of the store.
        before_release: Called before others may have it.

    Raises:
        AlreadySupervised: Another process has it.
        StoreError: It cannot be taken.
    """

    def __init__(self, folder: Path, database: Database, before_release: Callable[[], None] = lambda: None) -> None:
        self._path = os.path.join(os.path.realpath(folder), FILE)
        self._fd = -1
        self._before_release = before_release
        self._pid = os.getpid()
        self._session: Any = None
        with _guard:
            if self._path in _held:
                raise AlreadySupervised("this process is the supervisor of the store already", pid=os.getpid())
            self._fd = _locked(self._path, database.location.name)
            if not is_same_file(self._fd, self._path):
                os.close(self._fd)
                raise StoreError(f"the folder of the store {database.location.name} was removed a moment ago")
            _held.add(self._path)
        try:
            with contextlib.suppress(OSError):  # a full disk: the number is for messages only
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
            if database.dialect == "postgresql":
                self._session = database.session_lock(_SESSION_LOCK)
                if self._session is None:
                    raise AlreadySupervised(
                        f"a process on another machine is the supervisor of the store {database.location.name}"
                    )
        except BaseException:
            self.release()
            raise

    @property
    def held(self) -> bool:
        """Whether this process has it; a lock in a server is looked at."""
        if self._fd < 0 or self._pid != os.getpid():
            return False
        return self._session is None or bool(self._session.is_alive())

    def release(self) -> None:
        """Let others have it; idempotent. In a forked child nothing happens."""
        if self._pid != os.getpid():
            return
        self._before_release()
        with _guard:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                _held.discard(self._path)
                os.close(fd)
        if self._session is not None:
            self._session.close()

    def __enter__(self) -> SupervisorLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def supervisor_of(folder: Path) -> int | None:
    """The process that is the supervisor of the store with this folder; None if there is none on this machine.

    0 if there is one and its number cannot be read.
    """
    path = os.path.join(os.path.realpath(folder), FILE)
    with _guard:
        if path in _held:
            return os.getpid()
        try:
            fd = os.open(path, os.O_RDWR | REOPEN)
        except OSError:
            return None
        try:
            return (_holder(fd) or 0) if _is_taken(fd) else None
        finally:
            os.close(fd)


def _is_taken(fd: int) -> bool:
    """Whether another process has the lock. It is not taken to find out: a supervisor that starts would be refused."""
    if LINUX:
        import fcntl

        asked = fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        return bool(_FLOCK.unpack_from(asked)[0] != fcntl.F_UNLCK)
    try:
        _take(fd)
    except OSError:
        return True
    return False


def _locked(path: str, name: str) -> int:
    try:
        # Opened only now: closing another descriptor of the file would end a lock that we have on it.
        fd = os.open(path, os.O_RDWR | os.O_CREAT | REOPEN, 0o600)
    except OSError as error:
        raise StoreError(
            f"the supervisor's lock of the store {name} cannot be opened: {path}: {error.strerror}"
        ) from None
    try:
        _take(fd)
    except OSError:
        pid = _holder(fd)
        os.close(fd)
        who = f"process {pid}" if pid else "another process"
        raise AlreadySupervised(f"{who} is the supervisor of the store {name}: one is enough", pid=pid) from None
    return fd


def _take(fd: int) -> None:
    try:
        import fcntl
    except ImportError:
        raise NotSupported("supervisors of jobs need a POSIX system") from None
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _holder(fd: int) -> int | None:
    try:
        return int(os.pread(fd, 32, 0))
    except (OSError, ValueError):
        return None


def is_same_file(fd: int, path: str) -> bool:
    """Whether the file that is open still has its name."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    here = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
