"""Files that one process at a time holds, until it lets go or ends, however it ends.

A POSIX record lock, not flock: a forked child does not inherit it, so that a worker that lives a moment longer than its
killed parent does not keep what that had. Such a lock says nothing within one process; a set of our own does. Closing
any descriptor of the file would end it, hence files that are held are opened by nobody else here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import sys
import threading

from allcores.system import forks
from allcores.system.own_files import REOPEN
from allcores.system.posix import LINUX

#: how systems say that another process holds a lock; all else is that there can be none
_HELD = frozenset((errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK))
#: struct flock on Linux: type, whence, start, length, pid
_FLOCK = struct.Struct("@hhqqi")

_held: set[str] = set()
#: reentrant: the garbage collector may end a lock that nobody has any more, on the thread that takes another one
_guard = threading.RLock()


@forks.in_child
def _after_fork() -> None:
    global _guard
    _held.clear()
    _guard = threading.RLock()


class Held(Exception):
    """It is held.

    Attributes:
        pid: The process; None if that cannot be read.
        here: It is this very process.
    """

    def __init__(self, pid: int | None, *, here: bool = False) -> None:
        super().__init__(pid)
        self.pid = pid
        self.here = here


class FileLock:
    """A file, made if it is missing, that is this process's from now on.

    Args:
        path: Of the file; its folder is there.

    Raises:
        Held: It is held.
        FileNotFoundError: Its folder is not there, or the file was removed while it was locked.
        OSError: It cannot be opened, or its file system has no locks.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        self._fd = -1
        with _guard:
            if self._path in _held:
                raise Held(os.getpid(), here=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | REOPEN, 0o600)
            try:
                try:
                    _take(fd)
                except OSError as error:
                    if error.errno not in _HELD:
                        raise
                    raise Held(_holder(fd)) from None
                if not has_name(fd, self._path):
                    raise FileNotFoundError(f"{self._path} was removed a moment ago")
                # Before it is noted that it is held: a disk may be slow, and a signal's handler raise meanwhile.
                with contextlib.suppress(OSError):  # a full disk: the number is for messages only
                    os.ftruncate(fd, 0)
                    os.lseek(fd, 0, os.SEEK_SET)
                    os.write(fd, f"{os.getpid()}\n".encode())
                self._fd = fd
                _held.add(self._path)
            except BaseException:
                self._fd = -1
                _held.discard(self._path)
                os.close(fd)
                raise

    def __del__(self) -> None:
        # Ctrl-C may come before the holder has noted that it has it: nobody would let go of it.
        if getattr(self, "_fd", -1) >= 0:
            self.release()

    @property
    def held(self) -> bool:
        """Whether it was not released yet; in a forked child it never is its own."""
        return self._fd >= 0 and self._path in _held

    def in_place(self) -> bool:
        """Whether it has its name: others see the lock only there, so without it they may have one of their own."""
        return self._fd >= 0 and has_name(self._fd, self._path)

    def is_replaced(self) -> bool:
        """Whether another file has its name. One that is away is not replaced: it may come back.

        It is one look: what comes back between two would be away for the first, and there for the second.
        """
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return False
        return self._fd < 0 or not _is(there, self._fd)

    def release(self) -> None:
        """Let others have it; idempotent. In a forked child nothing happens."""
        with _guard:
            if self.held:
                fd, self._fd = self._fd, -1
                _held.discard(self._path)
                os.close(fd)


def holder(path: str) -> int | None:
    """The process that holds a file; None if there is none, 0 if there is one and its number cannot be read.

    The lock is not taken to find out, where the system can tell: who wants it at this moment would be refused.
    """
    path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
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


def has_name(fd: int, path: str) -> bool:
    """Whether the file that is open still has its name: what is removed takes its lock along."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return _is(there, fd)


def _is(there: os.stat_result, fd: int) -> bool:
    here = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino) or there.st_ino == 0


def _is_taken(fd: int) -> bool:
    try:
        if LINUX:
            import fcntl

            asked = fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            return bool(_FLOCK.unpack_from(asked)[0] != fcntl.F_UNLCK)
        _take(fd)
    except OSError as error:
        # Where there are no locks, nobody holds one.
        return error.errno in _HELD
    return False


def _take(fd: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(fd, 1 << 20, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        os.lseek(fd, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _holder(fd: int) -> int | None:
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        return int(os.read(fd, 32))
    except (OSError, ValueError):
        return None
