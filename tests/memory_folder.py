"""A folder in memory for what tests write, where there is room for it.

Each commit of a database, and each file that is made whole, waits for the disk: on a usual one that is half of the time
of tests of jobs, runs and caches. What is asked of the disk is the same (a test that is about that sees the calls); a
process that is killed leaves its files as they are on either, and no test cuts the power.

Whoever sets TMPDIR has the files there, and pytest keeps those of the latest runs: `make test TMPDIR=/var/tmp`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import IO

from allcores.system.cores import machine_memory

#: a file system in memory, on Linux
PLACE = Path("/dev/shm")
#: Short: the address of a Unix socket in it (of a manager, say, in a test's folder) has room for 107 characters.
PREFIX = "ac-tests-"
#: Bytes that must be free there, and of memory beside them: a run writes about one GiB. The rest is for what runs.
ROOM = 4 << 30
_LOCK = "in-use"


def has_room() -> bool:
    """Whether files of a run can be there; programs among them are run, too."""
    if sys.platform != "linux":
        return False
    try:
        found = os.statvfs(PLACE)
    except OSError:
        return False
    memory = machine_memory().available or 0
    runs_programs = not found.f_flag & os.ST_NOEXEC
    return runs_programs and found.f_bavail * found.f_frsize >= ROOM and memory >= 2 * ROOM


class MemoryFolder:
    """One for this run, until it is removed. Those of runs that were killed are removed first.

    A lock says that it is in use. This process has it, and copies that are forked from it, for as long as they live.
    """

    def __init__(self) -> None:
        _remove_left()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=PLACE))
        # As the usual one: a server that refuses to be run by root has its files there as another user.
        self.path.chmod(0o1777)
        # Nobody sees it before it is locked: what has no such file is let alone.
        unnamed = self.path / f"{_LOCK}.new"
        self._lock = unnamed.open("w")
        _lock(self._lock)
        unnamed.rename(self.path / _LOCK)

    def remove(self) -> None:
        """A browser may still write there, hence errors are ignored."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _remove_left() -> None:
    """Remove what is named as ours, is this user's, and has the file that runs lock, with a lock that nobody has."""
    for path in PLACE.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # of somebody else's, or in use, or gone by now
            if path.is_symlink() or path.stat().st_uid != os.getuid():
                continue
            with (path / _LOCK).open("r+") as lock:
                _lock(lock)
                shutil.rmtree(path, ignore_errors=True)


def _lock(file: IO[str]) -> None:
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
