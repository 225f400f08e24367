"""Connections to SQLite files, and what becomes of them in a forked child: it neither uses nor closes them."""

from __future__ import annotations

import os
import sqlite3

from allcores.system import deferral, forks

#: connections of this process
_open: set[sqlite3.Connection] = set()
#: those of the process that this one was forked from
_inherited: list[sqlite3.Connection] = []


@forks.in_child
def _after_fork() -> None:
    # Closing one in the child would let go of nothing that is the child's; and the garbage collector
    # must not do so either.
    _inherited.extend(_open)
    _open.clear()


def connect(path: str, *, writable: bool, busy_s: float) -> sqlite3.Connection:
    """A connection to a file that is there, for any thread, one at a time; transactions are begun by hand.

    Args:
        path: The file.
        writable: Open it for reading and writing.
        busy_s: Seconds for which another connection's lock is waited for.

    Raises:
        sqlite3.Error: It cannot be opened.
    """
    uri = "file:" + os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    db: sqlite3.Connection | None = None
    try:
        # In a section: Ctrl-C comes before there is a connection, or once it is noted, and can be closed.
        outermost = deferral.enter()
        try:
            db = sqlite3.connect(
                f"{uri}?mode={'rw' if writable else 'ro'}",
                uri=True,
                isolation_level=None,
                timeout=busy_s,
                check_same_thread=False,
            )
            _open.add(db)
        finally:
            if outermost:
                deferral.leave()
    except BaseException:
        if db is not None:
            close(db)
        raise
    return db


def close(db: sqlite3.Connection) -> None:
    """Close a connection of this process; one of the process that this was forked from is left alone."""
    if db in _open:
        _open.discard(db)
        db.close()
