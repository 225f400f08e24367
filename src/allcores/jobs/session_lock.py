"""A lock that a session in PostgreSQL has: as long as the session is there, and as no other session has it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from time import monotonic_ns, sleep
from typing import NamedTuple

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from allcores.jobs.database import Database

#: seconds between two looks whether another session still has a lock
SESSION_LOOK_S = 0.05
#: The server ends a session whose machine or network is gone after some 25 s, and not after two hours: its lock would
#: keep the next supervisor out for so long. Sockets of this machine do not know of it, and need not.
_WHO = text(
    "SELECT pid, CAST(backend_start AS text) AS begun, set_config('tcp_keepalives_idle', '10', false),"
    " set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false)"
    " FROM pg_stat_activity WHERE pid = pg_backend_pid()"
)
_END = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = :pid AND CAST(backend_start AS text) = :begun"
)


class Session(NamedTuple):
    """A session's process in the server, and when that began: what has this number later is another one."""

    pid: int
    begun: str


class SessionLock:
    """See the module. Taken by `SessionLock.take`."""

    def __init__(self, database: Database, connection: Connection, number: int) -> None:
        self._database = database
        self._connection = connection
        self._number = number
        self._guard = threading.Lock()
        self._lost = False

    @classmethod
    def take(
        cls,
        database: Database,
        number: int,
        wait_s: float,
        ours: list[Session],
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> SessionLock | None:
        """Take a lock of a session, held until it is closed; None if another session has it.

        Args:
            database: Of the store.
            number: Of the lock.
            wait_s: How long another session may still have it, at most: the server notices a process that was killed,
                or that has closed its connection, a moment later.
            ours: Sessions that were begun for this lock and not seen to end, all lost with their connections; this one
                is added before it asks for the lock. The server may have given it to one whose connection broke before
                the answer came, and may not have noticed that: they are ended.
            is_wanted: Asked once the server is reached, which may take long: False if the lock is not wanted any more,
                and another one may have been taken instead, whose session is among these.

        Raises:
            StoreError: The server cannot be reached.
        """
        until = monotonic_ns() + int(wait_s * 1e9)
        with database.translating():
            connection = database.session()
            try:
                found = cls(database, connection, number)
                if not is_wanted():
                    connection.close()
                    return None
                former = ours[:]
                session = Session(*connection.execute(_WHO).one()[:2])
                ours.append(session)
                while True:
                    for each in former[:]:
                        if connection.execute(_END, {"pid": each.pid, "begun": each.begun}).first() is None:
                            former.remove(each)
                            _forget(ours, each)
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
            _forget(ours, session)
            return None
        return found

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
                self._database.lost_session()
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


def _forget(sessions: list[Session], session: Session) -> None:
    """It has ended. Another thread may have found that, too."""
    with contextlib.suppress(ValueError):
        sessions.remove(session)
