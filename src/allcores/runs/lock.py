"""One process at a time works on a run: a lock that dies with its holder.

A POSIX record lock, not flock: a forked child does not inherit it, so that a worker that lives a moment
longer than its killed parent does not keep the run. Such a lock says nothing within one process; a set of
our own does.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

from allcores.errors import JournalError, RunInUse, RunNotFound
from allcores.system.own_files import REOPEN

LOCK = "lock"

_held: set[str] = set()
_guard = threading.Lock()


def _after_fork() -> None:
    global _guard
    _held.clear()
    _guard = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class RunLock:
    """The lock of the run in `folder`, held from now on.

    Raises:
        RunInUse: If another process has it.
        RunNotFound: If the folder is gone; JournalError.
    """

    def __init__(self, folder: str, name: str) -> None:
        self._key = os.path.realpath(folder)
        self._fd = -1
        with _guard:
            if self._key in _held:
                raise RunInUse(f"run {name} is at work in this very process: wait for its end", run=name)
            # Opened only now: closing another descriptor of the file would end a lock that we have on it.
            self._fd = _opened(os.path.join(folder, LOCK), name)
            try:
                _take(self._fd)
            except OSError:
                holder = _holder(self._fd)
                os.close(self._fd)
                who = f"process {holder}" if holder else "another process"
                raise RunInUse(
                    f"run {name} is at work in {who}: wait for its end, or begin a run of its own without --resume",
                    run=name,
                    pid=holder,
                ) from None
            if not _is_same(self._fd, os.path.join(folder, LOCK)):
                os.close(self._fd)
                raise RunNotFound(f"run {name} was removed a moment ago")
            _held.add(self._key)
            with contextlib.suppress(OSError):  # a full disk: the number is for messages only
                os.ftruncate(self._fd, 0)
                os.write(self._fd, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let others have it; idempotent."""
        with _guard:
            fd, self._fd = self._fd, -1
            if fd >= 0 and self._key in _held:
                _held.discard(self._key)
                os.close(fd)


def is_locked(folder: str) -> bool:
    """True if a process works on the run in `folder`."""
    key = os.path.realpath(folder)
    with _guard:
        if key in _held:
            return True
        try:
            fd = os.open(os.path.join(folder, LOCK), os.O_RDWR | REOPEN)
        except OSError:
            return False
        try:
            _take(fd)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False


def _opened(path: str, name: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | REOPEN, 0o600)
    except FileNotFoundError:
        raise RunNotFound(f"run {name} was removed a moment ago") from None
    except OSError as error:
        raise JournalError(f"cannot lock run {name}: {path}: {error.strerror}", run=name) from None


def _is_same(fd: int, path: str) -> bool:
    """True if the file that was locked still has its name: a run that is removed takes its lock along."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    here = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino) or there.st_ino == 0


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
