"""The write-ahead log of SQLite is moved into the file by one process at a time, and by no other connection.

Two connections that did so in the same moment have damaged files (SQLite 3.7.0 to 3.51.2, but for 3.44.6 and 3.50.7).
So every connection leaves it alone, and whoever wants to do it takes a lock first: the supervisor from time to time,
and without a supervisor who finds that the log has become large.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from allcores.jobs.database import Database
from allcores.system import forks
from allcores.system.own_files import REOPEN

LOCK = "checkpoint.lock"
#: bytes of the log at which the supervisor moves it, and at which another process does
OF_SUPERVISOR, OF_OTHERS = 4 * 1024**2, 64 * 1024**2
#: transactions after which the supervisor looks again: the file of the log does not become smaller
COMMITS = 128

_guard = threading.Lock()


@forks.in_child
def _after_fork() -> None:
    global _guard
    _guard = threading.Lock()


def size_of_log(database: Database) -> int:
    """Bytes of the write-ahead log; 0 if there is none."""
    if database.location.path is None:
        return 0
    try:
        return os.stat(database.location.path + "-wal").st_size
    except OSError:
        return 0


def checkpoint(database: Database, folder: Path, *, whole: bool = False) -> bool:
    """Move the log into the file as far as nobody reads it; False if another process is at it.

    Args:
        database: Of the store.
        folder: Of the store.
        whole: Wait for readers and writers, and make the log empty.
    """
    if database.dialect != "sqlite":
        return False
    import fcntl

    with _guard:
        try:
            fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | REOPEN, 0o600)
        except OSError:
            return False
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with database.plain() as connection:
                busy = connection.exec_driver_sql(f"PRAGMA wal_checkpoint({'TRUNCATE' if whole else 'PASSIVE'})").one()
            return not busy[0]
        except BlockingIOError:
            return False
        finally:
            with contextlib.suppress(OSError):
                os.close(fd)
