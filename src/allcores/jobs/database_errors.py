"""What a database's error means for who uses the store: one of the errors of `jobs.errors`, and a sentence."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

from sqlalchemy.exc import DBAPIError, OperationalError

from allcores.jobs.errors import (
    StoreAway,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreGone,
    StoreReadOnly,
)
from allcores.jobs.location import Location

#: of PostgreSQL: the server ends, has crashed or only starts; and the classes of a connection that broke
_AWAY = ("57P01", "57P02", "57P03", "57P05", "08000", "08001", "08003", "08004", "08006")


def translated(location: Location, busy_s: float, error: DBAPIError) -> StoreError:
    """What to say of a database's error.

    Args:
        location: Of the store.
        busy_s: Seconds for which another process's lock is waited for.
        error: It.
    """
    name = location.name
    raw = error.orig
    code = getattr(raw, "sqlite_errorcode", None)
    if location.url is not None:
        return _of_postgresql(name, busy_s, raw, error)
    if code is None:
        return StoreDamaged(_damaged(name, raw))
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(_locked(name, busy_s))
    if primary == sqlite3.SQLITE_FULL or code in (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE):
        return StoreFull(f"there is no room for the store {name}: its disk is full, or has reached a limit")
    if code == sqlite3.SQLITE_READONLY_DBMOVED:
        return StoreGone(f"the file of the store {name} has its name no more: put it back, or restart what uses it")
    if primary == sqlite3.SQLITE_READONLY:
        return StoreReadOnly(
            f"the store {name} can only be read: {_read_only(location) or 'its disk, file or folder'} is read-only for"
            " this user"
        )
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreDamaged(_damaged(name, raw))
    if primary == sqlite3.SQLITE_CANTOPEN:
        return StoreError(f"the store {name} cannot be opened ({raw}): is its folder there, and this user's?")
    return StoreError(f"the store {name} cannot be used: {raw}")


def _read_only(location: Location) -> str:
    """What cannot be written to: SQLite gives its log the rights that the file had."""
    path = str(location.path)
    names = (path, f"{path}-wal", f"{path}-shm", os.path.dirname(path))
    return ", ".join(each for each in names if os.path.exists(each) and not os.access(each, os.W_OK))


def _damaged(name: str, raw: object) -> str:
    return (
        f"the store {name} is damaged ({raw}). It is kept as it is. End what uses it, then save what can be saved:"
        f" sqlite3 {name!r} .recover | sqlite3 saved.sqlite; or put a backup in its place, with no -wal beside it"
    )


def _locked(name: str, busy_s: float) -> str:
    return f"the store {name} is locked by another process for more than {busy_s:g} s: try again"


def _of_postgresql(name: str, busy_s: float, raw: Any, error: DBAPIError) -> StoreError:
    state = getattr(raw, "sqlstate", None) or ""
    sentence = (str(raw).splitlines() or [""])[0]
    if state in ("55P03", "40P01", "40001", "57014"):
        return StoreBusy(_locked(name, busy_s))
    if state.startswith("53"):
        return StoreFull(f"the server of the store {name} has no room: {sentence}")
    if state in ("25006", "42501"):
        return StoreReadOnly(f"the store {name} can only be read: {sentence}")
    if state in _AWAY or (isinstance(error, OperationalError) and not state):
        return StoreAway(f"the server of the store {name} cannot be reached: {sentence}")
    return StoreError(f"the store {name} cannot be used: {sentence}")
