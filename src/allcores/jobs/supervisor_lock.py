"""One supervisor per store: a lock that dies with its holder.

On this machine a POSIX record lock, which a forked child does not inherit; for a store on a server also a lock of a
session there, so that supervisors on several machines cannot meet.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from allcores.errors import NotSupported
from allcores.jobs.database import Database
from allcores.jobs.errors import AlreadySupervised, StoreAway, StoreError, StoreGone
from allcores.jobs.session_lock import Session, SessionLock
from allcores.system.file_locks import FileLock, Held, holder

FILE = "supervisor.lock"
#: seconds that a server takes at most to notice that a session's process is gone: it may have been killed here, just
#: now, and this one be started in its place
SESSION_ENDS_S = 5.0
#: beside the one of transactions
SESSION_LOCK = 0x61636A63


class SupervisorLock:
    """The right to claim jobs of a store, held from now on; usable with `with`.

    Args:
        folder: Of the store.
        database: Of the store.
        before_release: Called before others may have it.
        wait_s: How long a session in the store's server that has the lock may take to end.
        sessions: All that this process began for the lock and did not see to end; kept by the caller, for the next one.

    Attributes:
        in_store: It is a record in the store, so that only the store can say whether its server is there. This one is
            lost with its session in the server.

    Raises:
        AlreadySupervised: Another process has it.
        StoreError: It cannot be taken.
    """

    in_store = False

    def __init__(
        self,
        folder: Path,
        database: Database,
        before_release: Callable[[], None] = lambda: None,
        wait_s: float = SESSION_ENDS_S,
        sessions: list[Session] | None = None,
    ) -> None:
        self._before_release = before_release
        self._pid = os.getpid()
        self._database = database
        self._session: SessionLock | None = None
        self._sessions: list[Session] = [] if sessions is None else sessions
        self._guard = threading.Lock()
        self._path = os.path.join(folder, FILE)
        self._file = _locked(self._path, database.location.name)
        try:
            if database.dialect == "postgresql":
                self._session = SessionLock.take(database, SESSION_LOCK, wait_s, self._sessions)
                if self._session is None:
                    raise AlreadySupervised(
                        f"a process on another machine is the supervisor of the store {database.location.name}"
                    )
        except BaseException:
            self.release()
            raise

    @property
    def held(self) -> bool:
        """Whether this process has it, and no other can have it: a lock in a server, or a file that was replaced."""
        return self._has_file and (self._session is None or self._session.is_alive())

    @property
    def _has_file(self) -> bool:
        return self._file.held and not self._file.is_replaced()

    @property
    def may_return(self) -> bool:
        """Whether `regain` can be asked for: what is missing is the session in the server, and nothing else."""
        return self._session is not None and self._has_file

    def regain(self) -> None:
        """Take the lock of a session in the server again, after the one that had it has ended. Any thread.

        Nobody knows what happened meanwhile: another supervisor may have come and gone.

        Raises:
            AlreadySupervised: Another one has it now.
            StoreError: The server cannot be reached yet.
        """
        former = self._session
        assert former is not None
        taken = SessionLock.take(self._database, SESSION_LOCK, SESSION_ENDS_S, self._sessions, lambda: self._file.held)
        if taken is None and not self._file.held:
            raise self.loss()
        if taken is None:
            raise AlreadySupervised(
                f"a process on another machine became the supervisor of the store {self._database.location.name} while"
                " this one could not reach its server"
            )
        with self._guard:
            if self._file.held:
                self._session, taken = taken, former
        # Where it was released meanwhile, the new one.
        taken.close()

    def loss(self) -> StoreError:
        """Why it is held no longer, in words."""
        if self.may_return:
            return StoreAway(
                f"the server of the store {self._database.location.name} has ended the session that has the"
                " supervisor's lock"
            )
        if not self._file.held:
            return StoreError(f"the right to supervise the store {self._database.location.name} was given back")
        return StoreError(
            f"the right to supervise the store was lost: the folder {os.path.dirname(self._path)} was replaced"
        )

    def check_place(self) -> None:
        """See that others can see it.

        Raises:
            StoreGone: Its folder was moved or removed: nothing may be claimed until that is back.
        """
        if not self._file.in_place():
            raise StoreGone(
                f"the folder {os.path.dirname(self._path)} of the store was moved or removed: put it back (it has"
                " results of jobs, and says who the supervisor is), or start the supervisor again to go on without it"
            )

    def release(self) -> None:
        """Let others have it; idempotent. In a forked child nothing happens."""
        if self._pid != os.getpid():
            return
        if self._file.held:
            # Once: another one may have been taken since.
            self._before_release()
        with self._guard:
            self._file.release()
        if self._session is not None:
            self._session.close()

    def __enter__(self) -> SupervisorLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def supervisor_of(folder: Path) -> int | None:
    """The process that is the supervisor of the store with this folder; None if there is none on this machine.

    0 if there is one and its number cannot be read.
    """
    return holder(os.path.join(folder, FILE))


def _locked(path: str, name: str) -> FileLock:
    if sys.platform == "win32":
        raise NotSupported("supervisors of jobs need a POSIX system")
    try:
        return FileLock(path)
    except Held as held:
        if held.here:
            raise AlreadySupervised("this process is the supervisor of the store already", pid=held.pid) from None
        who = f"process {held.pid}" if held.pid else "another process"
        raise AlreadySupervised(f"{who} is the supervisor of the store {name}: one is enough", pid=held.pid) from None
    except FileNotFoundError:
        raise StoreError(f"the folder of the store {name} was removed a moment ago") from None
    except OSError as error:
        raise StoreError(
            f"the supervisor's lock of the store {name} cannot be opened: {path}: {error.strerror}"
        ) from None
