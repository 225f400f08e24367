"""The file of a cache: where it lies, whether it can be trusted, and how it is opened.

Values are unpickled, which may do anything, so nothing is read that another user could have written.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3

from allcores.errors import UsageError
from allcores.system import own_files, sqlite_files

#: the number is that of the layout: another one is another file
FILE = "allcores-cache-1.sqlite"
#: held by the one connection that moves the write-ahead log into the file
LOCK = "allcores-cache-1.lock"
#: "acrc": what SQLite keeps in the head of a file to say whose it is
APPLICATION = 0x61637263
#: Seconds for which another connection's lock is waited for, and by then it is said. Longer holds up the end of a map,
#: shorter loses entries.
BUSY_S = 0.5
#: what SQLite raises; UnicodeError where the very text of an error is damaged
ERRORS = (sqlite3.Error, UnicodeError, OverflowError)

_SCHEMA = (
    # Results of one function as it was: its code, what that names, and the version that it was given.
    "CREATE TABLE functions (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, name TEXT NOT NULL,"
    " entries INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,"
    " hits INTEGER NOT NULL DEFAULT 0, misses INTEGER NOT NULL DEFAULT 0)",
    # used: seconds since 1970; crc: of key and value. The value is last, so that the others are read without it.
    "CREATE TABLE entries (key BLOB NOT NULL UNIQUE, function INTEGER NOT NULL, used INTEGER NOT NULL,"
    " bytes INTEGER NOT NULL, crc INTEGER NOT NULL, value BLOB NOT NULL)",
    "CREATE INDEX entries_by_use ON entries (used)",
    # What there is of each function is counted where it changes.
    "CREATE TRIGGER entry_new AFTER INSERT ON entries BEGIN"
    " UPDATE functions SET entries = entries + 1, bytes = bytes + new.bytes WHERE id = new.function; END",
    "CREATE TRIGGER entry_gone AFTER DELETE ON entries BEGIN"
    " UPDATE functions SET entries = entries - 1, bytes = bytes - old.bytes WHERE id = old.function; END",
)


class NotUsable(Exception):
    """The cache cannot be used; its text says why, and the way out.

    Attributes:
        damaged: Its file is not what was written.
    """

    def __init__(self, text: str, *, damaged: bool = False) -> None:
        super().__init__(text)
        self.damaged = damaged


def default_folder() -> str:
    """Where results are kept unless a folder is named: in $ALLCORES_HOME, $XDG_CACHE_HOME, or ~/.cache."""
    if home := os.environ.get("ALLCORES_HOME"):
        return os.path.join(os.path.abspath(os.path.expanduser(home)), "cache")
    place = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(place):  # as the XDG specification asks for
        place = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(place, "allcores")


def check_trust(folder: str) -> None:
    """Raise UsageError if another user may have written what is in a cache; one that is not there is trusted.

    Raises:
        UsageError: It says what speaks against it.
        NotUsable: It cannot be told.
    """
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UsageError(f"the cache in {folder} is not used: there is a file of that name. Name another folder")
    paths = [folder, *(os.path.join(folder, FILE + end) for end in ("", "-wal", "-shm", "-journal"))]
    for path in paths:
        try:
            look = own_files.why_folder_not_trusted if path == folder else own_files.why_file_not_trusted
            reason = look(path)
        except OSError as error:
            raise NotUsable(f"the cache in {folder} cannot be looked at: {error.strerror}") from None
        if reason is not None:
            raise UsageError(
                f"the cache in {folder} is not used, for {path} cannot be trusted: {reason}. What is in a cache is"
                " unpickled, so use a folder of your own (cache='folder', Cache('folder'), $ALLCORES_HOME)"
            )


def opened(folder: str, *, create: bool = True) -> sqlite3.Connection | None:
    """A connection to the cache in a folder; None if there is none and none is to be made.

    One that can only be read is opened for reading.

    Raises:
        UsageError: It cannot be trusted.
        NotUsable: It cannot be opened, or is no cache.
    """
    path = os.path.join(folder, FILE)
    check_trust(folder)
    try:
        if not os.path.lexists(path):
            if not create:
                return None
            own_files.make_folders(folder)
            check_trust(folder)
            with contextlib.suppress(FileExistsError):  # of another process that begins it
                # Before SQLite does: it would let others read it.
                os.close(own_files.create(path))
    except OSError as error:
        raise NotUsable(f"the cache in {folder} cannot be made: {error.strerror}") from None
    except ValueError as error:
        raise NotUsable(f"the cache in {folder!r} cannot be made: {error}") from None
    try:
        return _connected(path, writable=may_be_written(folder))
    except ERRORS as error:
        raise trouble(folder, error) from None


def may_be_written(folder: str) -> bool:
    """Whether this user may write to a cache that is there: to its file, and for SQLite beside it."""
    return os.access(os.path.join(folder, FILE), os.W_OK) and os.access(folder, os.W_OK)


def _connected(path: str, *, writable: bool) -> sqlite3.Connection:
    db = sqlite_files.connect(path, writable=writable, busy_s=BUSY_S)
    try:
        # Text that is not UTF-8 is a damaged row, of which its checksum tells, and no reason to read none at all.
        db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        db.execute("PRAGMA cell_size_check = ON")
        if writable:
            if db.execute("PRAGMA application_id").fetchone() == (0,):
                _make(db)
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA wal_autocheckpoint = 0")
        if db.execute("PRAGMA application_id").fetchone() != (APPLICATION,):
            raise sqlite3.DatabaseError("it is not a cache of allcores")
    except BaseException:
        sqlite_files.close(db)
        raise
    return db


def _make(db: sqlite3.Connection) -> None:
    """Make the tables, unless another process does so at this moment."""
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            for statement in _SCHEMA:
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def is_locked(error: Exception) -> bool:
    """Whether another connection has the lock."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_gone(error: Exception) -> bool:
    """Whether the file that is open has its name no more: it was removed, and perhaps begun anew."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_DBMOVED


def is_readonly(folder: str, error: Exception) -> bool:
    """Whether this user may not write to the file; SQLite also says so of a damaged one."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY and not may_be_written(folder)


def is_damaged(folder: str, error: Exception) -> bool:
    """Whether the file is not what was written."""
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_READONLY:
        return may_be_written(folder)
    return code is None or code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def trouble(folder: str, error: Exception) -> NotUsable:
    """What to say of an error of SQLite's."""
    if "not a cache of allcores" in str(error):
        return NotUsable(
            f"the cache in {folder} is not used: {FILE} is there, and is not a cache of allcores. Name another folder"
        )
    if is_damaged(folder, error):
        way_out = f"allcores.Cache({folder!r}).clear() begins it anew"
        return NotUsable(f"the cache in {folder} is damaged ({error}): {way_out}", damaged=True)
    if is_locked(error):
        return NotUsable(f"the cache in {folder} is locked by another process for more than {BUSY_S:g} s")
    return NotUsable(f"the cache in {folder} cannot be used: {error}")


def remove(folder: str) -> None:
    """Remove the files of a damaged cache.

    Raises:
        UsageError: They cannot be trusted.
        NotUsable: They stay, or another program uses them.
    """
    check_trust(folder)
    # Without the file itself the log beside it says nothing, but one that is left would be taken for a new file's.
    for end in ("-wal", "-shm", "-journal", ""):
        if not own_files.remove_own_file(os.path.join(folder, FILE + end)):
            raise NotUsable(f"the cache in {folder} is damaged, and {FILE + end} cannot be removed: remove it by hand")
