"""Connections to a store's database: opened when needed, given back, closed before a fork, and never made anew.

Reading takes a connection of its own and sees one moment. Writing is serial: `BEGIN IMMEDIATE` in SQLite, a lock of
the transaction's in PostgreSQL, so that what was read in it is still true at its end.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

import sqlalchemy
from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from allcores.failpoints import failpoint
from allcores.jobs import answers
from allcores.jobs.database_errors import translated
from allcores.jobs.errors import StoreAway, StoreError, StoreGone
from allcores.jobs.location import Location
from allcores.system import sqlite_files
from allcores.system.weak_objects import WeakObjects

#: seconds for which another process's lock is waited for
BUSY_S = 10.0
#: bytes that SQLite's log keeps for itself; below some MB it would be cut and grow again all the time
LOG_KEPT = 64 * 1024**2
#: connections that are kept for later; more at once are closed after use
KEPT = 4
#: seconds that a fork waits for transactions of other threads
FORK_S = 5.0
#: the lock of transactions that write, in PostgreSQL
WRITE_LOCK = 0x61636A62

#: databases of this process: their connections are closed before a fork
_databases: WeakObjects[Database] = WeakObjects()


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
        #: sessions in PostgreSQL that were found to have ended, or could not be had: who has seen another number than
        #: this one does not know whether the server has crashed
        self.sessions_lost = 0
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
        engine = create_engine(
            self.location.url, poolclass=NullPool, connect_args=_connect_args(self.location.url, self.busy_s)
        )
        answers.watch(engine)
        return engine

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
            # A log that grew during a long read is cut to this once it is begun again.
            db.execute(f"PRAGMA journal_size_limit = {LOG_KEPT}")
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
        try:
            if connection is not None:
                if self.dialect == "sqlite" or _answers(connection):
                    return connection
                self._end(connection)  # the server has ended its session, and may give another
                self.lost_session()
                connection = None
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
        with self.translating(), self._connection() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN")
            else:
                _see_one_moment(connection, True)
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
        with self.translating(), self._connection() as connection:
            if self.dialect == "sqlite":
                self._set_synchronous(connection, self._synchronous if durable else "NORMAL")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                _see_one_moment(connection, False)
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
        with self.translating(), self._connection() as connection:
            if self.dialect != "sqlite":
                _see_one_moment(connection, False)
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
            # Also where Ctrl-C meets the rollback: forks wait for what is not given back.
            clean = False
            try:
                with contextlib.suppress(Exception):
                    connection.rollback()
                    clean = True
            finally:
                self._given_back(connection, keep=keep and clean)

    @contextlib.contextmanager
    def translating(self) -> Iterator[None]:
        """What the database raises in the block is raised as a `StoreError`."""
        try:
            yield
        except DBAPIError as error:
            told = translated(self.location, self.busy_s, error)
            if isinstance(told, StoreAway):
                self.lost_session()
            raise told from error

    def session(self) -> Connection:
        """A session in PostgreSQL of its own, to be closed by who asked for it; for use in `translating`."""
        return self._engine.connect()

    def lost_session(self) -> None:
        """A session has ended by itself: the server has, perhaps, and what it had not written to its disk is undone."""
        with self._guard:
            self.sessions_lost += 1
            # They began before that, and will not be there either.
            idle, self._idle = self._idle, []
        for each in idle:
            self._end(each)

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


def _connect_args(url: URL, busy_s: float) -> dict[str, Any]:
    """Of connections to PostgreSQL: one whose server or network is gone without a word ends after so long, not never.

    Args:
        url: Of the store; what it says holds.
        busy_s: Seconds for which another process's lock is waited for.
    """
    seconds = max(2, math.ceil(busy_s))
    found = {
        "application_name": "allcores",
        "connect_timeout": seconds,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 1000 * seconds,
    }
    return {name: value for name, value in found.items() if name not in url.query}


def _see_one_moment(connection: Connection, wanted: bool) -> None:
    """Whether the next transaction of a session in PostgreSQL sees one moment, or each of its statements its own.

    One that writes waits for its lock in its first statement, and is to see what was written until it had that.
    """
    from psycopg import IsolationLevel

    raw: Any = connection.connection.dbapi_connection
    level = IsolationLevel.REPEATABLE_READ if wanted else None
    if raw.isolation_level != level:
        # Said to the server together with the beginning of the transaction.
        raw.isolation_level = level


def _answers(connection: Connection) -> bool:
    """Whether a session in PostgreSQL is there still."""
    try:
        connection.exec_driver_sql("SELECT 1")
        connection.rollback()
    except DBAPIError:
        return False
    return True


#: connections of the process that this one was forked from: neither used nor closed, nor collected
sqlite_files_of_parent: list[Connection] = []


def _before_fork() -> None:
    for each in _databases.all():
        each.before_fork()


def _after_fork(in_child: bool) -> None:
    for each in _databases.all():
        each.after_fork(in_child=in_child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork(False),
        after_in_child=lambda: _after_fork(True),
    )


def scalar(connection: Connection, statement: str, **values: Any) -> Any:
    """The one value of a query, None if there is none."""
    return connection.execute(sqlalchemy.text(statement), values).scalar()
