"""Connections to a store's database: opened when needed, given back, closed before a fork, and never made anew.

Reading takes a connection of its own and sees one moment. Writing is serial: `BEGIN IMMEDIATE` in SQLite, a lock of
the transaction's in PostgreSQL, so that what was read in it is still true at its end.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from time import monotonic_ns, sleep
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from allcores.failpoints import failpoint
from allcores.jobs.errors import (
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreGone,
    StoreReadOnly,
)
from allcores.jobs.location import Location
from allcores.system import sqlite_files

#: seconds for which another process's lock is waited for
BUSY_S = 10.0
#: connections that are kept for later; more at once are closed after use
KEPT = 4
#: seconds that a fork waits for transactions of other threads
FORK_S = 5.0
#: seconds between two looks whether another session still has a lock
SESSION_LOOK_S = 0.05
#: the lock of transactions that write, in PostgreSQL
WRITE_LOCK = 0x61636A62

#: databases of this process: their connections are closed before a fork
_databases: weakref.WeakSet[Database] = weakref.WeakSet()


class Database:
    """A database that is there, for all threads of a process and of its forked children.

    Args:
        location: Where it is.
        busy_s: Seconds for which another process's lock is waited for.
        synchronous: SQLite only: FULL survives a power cut, NORMAL may lose the last transactions in one.
    """

    def __init__(self, location: Location, *, busy_s: float = BUSY_S, synchronous: str = "FULL") -> None:
        self.location = location
        self.busy_s = busy_s
        self._synchronous = synchronous
        self._guard = threading.Condition()
        self._idle: list[Connection] = []
        self._used = 0
        self._forking = False
        self._closed = False
        self._pid = os.getpid()
        #: device and number of the file, once it was opened
        self._identity: tuple[int, int] | None = None
        self._engine = self._made_engine()
        _databases.add(self)

    @property
    def dialect(self) -> str:
        """Either "sqlite" or "postgresql"."""
        return "sqlite" if self.location.url is None else "postgresql"

    def _made_engine(self) -> Engine:
        if self.location.url is None:
            return create_engine("sqlite://", creator=self._connected, poolclass=NullPool)
        return create_engine(
            self.location.url,
            poolclass=NullPool,
            connect_args={"connect_timeout": int(self.busy_s), "application_name": "allcores"},
        )

    def _connected(self) -> sqlite3.Connection:
        path = self.location.path
        assert path is not None
        db = sqlite_files.connect(path, writable=os.access(path, os.W_OK), busy_s=self.busy_s)
        try:
            # Text that is not UTF-8 is one damaged row, and no reason to read none at all.
            db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            db.execute("PRAGMA cell_size_check = ON")
            db.execute("PRAGMA temp_store = MEMORY")
            db.execute(f"PRAGMA synchronous = {self._synchronous}")
            # Only the supervisor moves the log into the file: two that do so at once have damaged files (SQLite
            # before 3.51.3).
            db.execute("PRAGMA wal_autocheckpoint = 0")
        except BaseException:
            sqlite_files.close(db)
            raise
        return db

    # -- connections ---------------------------------------------------------------------------------------------

    def _taken(self) -> Connection:
        with self._guard:
            if self._pid != os.getpid():
                self._forget()
            self._guard.wait_for(lambda: not self._forking, timeout=FORK_S)
            if self._closed:
                raise StoreError(f"the store {self.location.name} is closed")
            self.check_file()
            connection = self._idle.pop() if self._idle else None
            self._used += 1
        if connection is not None:
            if self.dialect == "sqlite" or _answers(connection):
                return connection
            self._end(connection)  # the server has ended its session, and may give another
            connection = None
        try:
            connection = self._engine.connect()
            self.check_file()
            return connection
        except BaseException:
            if connection is not None:
                self._end(connection)
            with self._guard:
                self._used -= 1
                self._guard.notify_all()
            raise

    def _given_back(self, connection: Connection, *, keep: bool) -> None:
        with self._guard:
            self._used -= 1
            keep = keep and len(self._idle) < KEPT and not self._closed
            if keep:
                self._idle.append(connection)
            self._guard.notify_all()
        if not keep:
            self._end(connection)

    def _end(self, connection: Connection) -> None:
        with contextlib.suppress(Exception):
            raw: Any = connection.connection.dbapi_connection
            if isinstance(raw, sqlite3.Connection):
                connection.detach()
                sqlite_files.close(raw)
            else:
                connection.close()

    def check_file(self) -> None:
        """The file that was opened still has its name: what is written to another one is lost."""
        path = self.location.path
        if path is None:
            return
        try:
            there = os.stat(path)
        except FileNotFoundError:
            raise StoreGone(
                f"the store {path} was removed: nothing is made anew in its place. Put the file back (a backup, say),"
                " or restart to begin with an empty one"
            ) from None
        except OSError as error:
            raise StoreError(f"the store {path} cannot be looked at: {error.strerror}") from None
        identity = (there.st_dev, there.st_ino)
        if self._identity is None:
            self._identity = identity
        elif self._identity != identity:
            raise StoreGone(
                f"another file has the name of the store {path}: nothing is read from it or written to it."
                " Put the old one back, or restart what uses the store if the new one is right"
            )

    def _forget(self) -> None:
        """Leave connections to the process that this one was forked from."""
        sqlite_files_of_parent.extend(self._idle)
        self._idle = []
        self._used = 0
        self._forking = False
        self._pid = os.getpid()
        self._engine = self._made_engine()

    # -- use -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one moment.

        Raises:
            StoreError: It cannot be read.
        """
        with self._translated(), self._connection() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN")
            yield connection

    @contextlib.contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """A connection in a transaction that nobody else writes beside; committed at the end of the block.

        Args:
            durable: Wait for the disk. False: a power cut may undo it, but never without undoing all that was
                committed after it; what a crash of a program leaves is the same.

        Raises:
            StoreError: Nothing was written.
        """
        with self._translated(), self._connection() as connection:
            if self.dialect == "sqlite":
                self._set_synchronous(connection, self._synchronous if durable else "NORMAL")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                if not durable:
                    connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{int(self.busy_s * 1000)}ms'")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
            failpoint("jobs.begin")
            yield connection
            failpoint("jobs.commit.before")
            connection.commit()
            failpoint("jobs.commit.after")

    def _set_synchronous(self, connection: Connection, wanted: str) -> None:
        # Outside of a transaction: SQLite refuses it in one.
        if connection.info.get("synchronous", self._synchronous) != wanted:
            connection.exec_driver_sql(f"PRAGMA synchronous = {wanted}")
            connection.info["synchronous"] = wanted

    @contextlib.contextmanager
    def plain(self) -> Iterator[Connection]:
        """A connection outside of a transaction."""
        with self._translated(), self._connection() as connection:
            yield connection

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection]:
        connection = self._taken()
        keep = False
        try:
            yield connection
            keep = True
        except DBAPIError as error:
            keep = not error.connection_invalidated and self.dialect == "sqlite"
            raise
        except StoreError:
            raise
        except Exception:
            keep = True
            raise
        finally:
            try:
                connection.rollback()
            except Exception:
                keep = False
            self._given_back(connection, keep=keep)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise translated(self, error) from error

    def session_lock(self, number: int, wait_s: float = 0.0) -> SessionLock | None:
        """A lock of a session in PostgreSQL, held until it is closed; None if another session has it.

        Args:
            number: Of the lock.
            wait_s: How long another session may still have it, at most: the server notices a process that was killed,
                or that has closed its connection, a moment later.
        """
        until = monotonic_ns() + int(wait_s * 1e9)
        with self._translated():
            connection = self._engine.connect()
            try:
                while True:
                    taken = connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({number})").scalar()
                    connection.commit()
                    if taken or monotonic_ns() >= until:
                        break
                    sleep(SESSION_LOOK_S)
            except BaseException:
                connection.close()
                raise
        if not taken:
            connection.close()
            return None
        return SessionLock(connection, number)

    def close(self) -> None:
        """Close what is open; a transaction of another thread goes on to its end."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        if self._pid == os.getpid():
            for each in idle:
                self._end(each)

    def before_fork(self) -> None:
        """No connection is open, and none is opened, while this process forks: SQLite's locks are the process's."""
        with self._guard:
            if self._pid != os.getpid():
                self._forget()
            self._guard.wait_for(lambda: self._used == 0, timeout=FORK_S)
            self._forking = True
            idle, self._idle = self._idle, []
        for each in idle:
            self._end(each)

    def after_fork(self, *, in_child: bool) -> None:
        """Connections may be opened again."""
        if in_child:
            self._guard = threading.Condition()
            self._forget()
        else:
            with self._guard:
                self._forking = False
                self._guard.notify_all()


def _answers(connection: Connection) -> bool:
    """Whether a session in PostgreSQL is there still."""
    try:
        connection.exec_driver_sql("SELECT 1")
        connection.rollback()
    except DBAPIError:
        return False
    return True


class SessionLock:
    """A lock that a session in PostgreSQL has."""

    def __init__(self, connection: Connection, number: int) -> None:
        self._connection = connection
        self._number = number
        self._guard = threading.Lock()
        self._lost = False

    def is_alive(self) -> bool:
        """Whether the session is there: with it goes the lock."""
        with self._guard:
            try:
                if not self._lost:
                    self._connection.exec_driver_sql("SELECT 1")
                    self._connection.commit()
            except SQLAlchemyError:
                # For good: another session would not have the lock.
                self._lost = True
            return not self._lost

    def close(self) -> None:
        """Let others have it, and end the session; idempotent."""
        with self._guard:
            if not self._lost and not self._connection.closed:
                # The server ends a session some time after its connection is closed: others would be refused meanwhile.
                with contextlib.suppress(SQLAlchemyError):
                    self._connection.exec_driver_sql(f"SELECT pg_advisory_unlock({self._number})")
                    self._connection.commit()
            self._connection.close()


#: connections of the process that this one was forked from: neither used nor closed, nor collected
sqlite_files_of_parent: list[Connection] = []


def _before_fork() -> None:
    for each in list(_databases):
        each.before_fork()


def _after_fork(in_child: bool) -> None:
    for each in list(_databases):
        each.after_fork(in_child=in_child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork(False),
        after_in_child=lambda: _after_fork(True),
    )


def translated(database: Database, error: DBAPIError) -> StoreError:
    """What to say of a database's error."""
    name = database.location.name
    raw = error.orig
    code = getattr(raw, "sqlite_errorcode", None)
    if database.dialect == "postgresql":
        return _translated_postgresql(database, raw, error)
    if code is None:
        return StoreDamaged(_damaged(name, raw))
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(
            f"the store {name} is locked by another process for more than {database.busy_s:g} s: try again"
        )
    if primary == sqlite3.SQLITE_FULL or code in (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE):
        return StoreFull(f"there is no room for the store {name}: its disk is full, or has reached a limit")
    if code == sqlite3.SQLITE_READONLY_DBMOVED:
        return StoreGone(f"the file of the store {name} has its name no more: put it back, or restart what uses it")
    if primary == sqlite3.SQLITE_READONLY:
        return StoreReadOnly(
            f"the store {name} can only be read: {_read_only(database) or 'its disk, file or folder'} is read-only for"
            " this user"
        )
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreDamaged(_damaged(name, raw))
    if primary == sqlite3.SQLITE_CANTOPEN:
        return StoreError(f"the store {name} cannot be opened ({raw}): is its folder there, and this user's?")
    return StoreError(f"the store {name} cannot be used: {raw}")


def _read_only(database: Database) -> str:
    """What cannot be written to: SQLite gives its log the rights that the file had."""
    path = str(database.location.path)
    names = (path, f"{path}-wal", f"{path}-shm", os.path.dirname(path))
    return ", ".join(each for each in names if os.path.exists(each) and not os.access(each, os.W_OK))


def _damaged(name: str, raw: object) -> str:
    return (
        f"the store {name} is damaged ({raw}). It is kept as it is. End what uses it, then save what can be saved:"
        f" sqlite3 {name!r} .recover | sqlite3 saved.sqlite; or put a backup in its place, with no -wal beside it"
    )


def _locked(database: Database) -> str:
    name = database.location.name
    return f"the store {name} is locked by another process for more than {database.busy_s:g} s: try again"


def _translated_postgresql(database: Database, raw: Any, error: DBAPIError) -> StoreError:
    name = database.location.name
    state = getattr(raw, "sqlstate", None) or ""
    sentence = (str(raw).splitlines() or [""])[0]
    if state in ("55P03", "40P01", "40001", "57014"):
        return StoreBusy(_locked(database))
    if state.startswith("53"):
        return StoreFull(f"the server of the store {name} has no room: {sentence}")
    if state in ("25006", "42501"):
        return StoreReadOnly(f"the store {name} can only be read: {sentence}")
    if isinstance(error, OperationalError) and not state:
        return StoreGone(f"the server of the store {name} cannot be reached: {sentence}")
    return StoreError(f"the store {name} cannot be used: {sentence}")


def scalar(connection: Connection, statement: str, **values: Any) -> Any:
    """The one value of a query, None if there is none."""
    return connection.execute(sqlalchemy.text(statement), values).scalar()
