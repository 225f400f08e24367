"""Submissions of other processes are committed by the supervisor, together with all that comes at the same time.

A Unix socket in the store's folder, which is open to this user alone; each frame is a length (4 bytes) and JSON. The
id of a job is given by who submits it: if an answer does not come, the same submission can be committed by other ways,
and is one job all the same.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from allcores.errors import AllcoresError
from allcores.jobs import errors
from allcores.jobs.commit_frames import FramedSocket, frame_of, is_own_user
from allcores.jobs.errors import KeyConflict, StoreError
from allcores.jobs.group_commit import GroupCommit
from allcores.jobs.model import Submitted
from allcores.jobs.submissions import Prepared, as_submitted, submit
from allcores.system import forks
from allcores.system.socket_paths import identity_of, remove_own, socket_path
from allcores.system.weak_objects import WeakObjects

log = logging.getLogger("allcores.jobs")

NAME = "commits.sock"
#: connections at once: what is more is another program's
MOST_CONNECTIONS = 256
#: seconds that the server waits for a client that does not take its answers
SEND_S = 2.0
#: seconds for which nobody is let in where that failed: no descriptor is left in this process, say, and those who wait
#: would wake the thread at once, again and again
PAUSE_S = 0.2
#: seconds for which a supervisor that did not answer in time is asked nothing more
SILENT_S = 30.0
#: idle connections that a client keeps
KEPT = 32


class Unanswered(Exception):
    """The supervisor is not there, or its answer did not come: the submission may be committed or not."""


class CommitServer:
    """Takes submissions from other processes of this user, in a thread of its own.

    Args:
        folder: Of the store.
        commits: Of this process.
        committed: Called after each commit, before it is answered.

    Raises:
        OSError: The socket cannot be made: others then commit by themselves.
    """

    def __init__(self, folder: str, commits: GroupCommit, committed: Callable[[], None]) -> None:
        self._folder = folder
        self._commits = commits
        self._committed = committed
        self._pid = os.getpid()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._selector = selectors.DefaultSelector()
        self._bell, self._bell_end = socket.socketpair()
        #: when others are let in again, by the monotonic clock; None: they are
        self._accept_at: float | None = None
        try:
            _remove_old(os.path.join(folder, NAME))
            with socket_path(folder, NAME) as path:
                self._listening.bind(path)
            self._identity = identity_of(os.path.join(folder, NAME))
            self._listening.listen(128)
            self._listening.setblocking(False)
        except BaseException:
            self._end()
            raise
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(self._bell_end, selectors.EVENT_READ)
        _servers.add(self)
        self._thread = threading.Thread(target=self._serve, name="allcores-jobs-commits", daemon=True)
        try:
            self._thread.start()
        except BaseException:  # no thread can be had; or of a signal's handler, and it runs already
            _servers.discard(self)
            if self._thread.ident is None:
                self._end()
            else:
                self.close()
            raise

    def close(self) -> None:
        """End it; what was taken is committed and answered before. In a forked child nothing happens."""
        if self._pid != os.getpid():
            return
        with contextlib.suppress(OSError):
            self._bell.send(b"x")
        self._thread.join(timeout=30)
        # Of several supervisors, another one may lead by now, and have its own there.
        remove_own(os.path.join(self._folder, NAME), self._identity)
        if not self._thread.is_alive():
            self._end()

    def after_fork(self) -> None:
        """In a child: close its copies, or clients would wait for a supervisor that is gone."""
        self._end()

    def _end(self) -> None:
        # Nothing is unregistered: a forked child has the same selector.
        for key in list(self._selector.get_map().values()):
            with contextlib.suppress(OSError):
                key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        for each in (self._listening, self._bell, self._bell_end):
            each.close()

    def _serve(self) -> None:
        ending = False
        while not ending:
            requests: list[tuple[FramedSocket, list[dict[str, Any]]]] = []
            for key, _ in self._selector.select(self._pause()):
                if key.fileobj is self._bell_end:
                    # What was taken in this turn is committed, and answered, still.
                    ending = True
                elif key.fileobj is self._listening:
                    self._accept()
                else:
                    self._read(key.data, requests)
            if requests:
                try:
                    self._commit(requests)
                except Exception:  # this thread is for all: they get no answer, and ask the store themselves
                    log.exception("submissions of other processes could not be committed for them")
                    for connection, _ in requests:
                        self._drop(connection)

    def _pause(self) -> float | None:
        """Seconds until others are let in again; None: they are."""
        if self._accept_at is None:
            return None
        left = self._accept_at - time.monotonic()
        if left > 0:
            return left
        try:
            self._selector.register(self._listening, selectors.EVENT_READ)
        except OSError:
            return PAUSE_S
        self._accept_at = None
        return None

    def _accept(self) -> None:
        # All that wait: each round of others' requests is a wait for the disk.
        while True:
            try:
                connected, _ = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:
                self._selector.unregister(self._listening)
                self._accept_at = time.monotonic() + PAUSE_S
                return
            try:
                self._take(connected)
            except OSError:
                connected.close()

    def _take(self, connected: socket.socket) -> None:
        if len(self._selector.get_map()) > MOST_CONNECTIONS or not is_own_user(connected):
            connected.close()
            return
        connected.setblocking(False)
        self._selector.register(connected, selectors.EVENT_READ, FramedSocket(connected))

    def _read(self, connection: FramedSocket, requests: list[tuple[FramedSocket, list[dict[str, Any]]]]) -> None:
        try:
            data = connection.socket.recv(1 << 20)
            connection.buffer += data
            for each in connection.frames():
                rows = json.loads(each)
                if not isinstance(rows, list):
                    raise ValueError("a request is a list")
                requests.append((connection, rows))
        except BlockingIOError:
            return
        except Exception:  # what was sent is no request, in whichever way
            data = b""
        if not data:
            self._drop(connection)

    def _drop(self, connection: FramedSocket) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.socket)
        connection.socket.close()

    def _is_awaited(self, connection: FramedSocket) -> bool:
        """Whether its other end is open: it may send more, and says nothing if it waits."""
        try:
            if connection.socket.recv(1, socket.MSG_PEEK):
                return True
        except BlockingIOError:
            return True
        except OSError:
            pass
        self._drop(connection)
        return False

    def _commit(self, requests: list[tuple[FramedSocket, list[dict[str, Any]]]]) -> None:
        # Who has gone has submitted them by other ways, minutes ago perhaps, if this process was stopped: such a job
        # may have been deleted by now, and would be made once more.
        requests = [request for request in requests if self._is_awaited(request[0])]
        operations = [(submit, Prepared(row)) for _, rows in requests for row in rows]
        answers = iter(self._commits.run_all(operations))
        self._committed()
        for connection, rows in requests:
            frame = frame_of([_told(next(answers)) for _ in rows])
            try:
                connection.socket.settimeout(SEND_S)
                connection.socket.sendall(frame)
                connection.socket.setblocking(False)
            except OSError:
                self._drop(connection)


#: of this process
_servers: WeakObjects[CommitServer] = WeakObjects()


@forks.in_child
def _after_fork() -> None:
    for each in _servers.all():
        each.after_fork()
    _servers.clear()


def _told(answer: Any) -> dict[str, Any]:
    try:
        submitted = answer()
    except KeyConflict as error:
        return {"error": "KeyConflict", "text": str(error), "key": error.key, "id": error.id}
    except AllcoresError as error:
        return {"error": type(error).__name__, "text": str(error)}
    except Exception as error:  # a row that is none
        return {"error": "StoreError", "text": f"it was not committed: {type(error).__name__}: {error}"}
    job = submitted.job
    return {"id": job.id, "seq": job.seq, "changed": job.changed, "replayed": submitted.replayed}


def _remove_old(path: str) -> None:
    """Remove the socket of a supervisor that is gone; anything else of that name stays."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)


class CommitClient:
    """Hands submissions to the supervisor, from any thread.

    Args:
        folder: Of the store.
        timeout: Seconds for which an answer is waited for.
    """

    def __init__(self, folder: str, timeout: float) -> None:
        self._folder = folder
        self._timeout = timeout
        self._guard = threading.Lock()
        self._idle: list[socket.socket] = []
        self._pid = os.getpid()
        self._silent_until = 0.0

    def submit(self, rows: Sequence[Prepared]) -> list[Submitted | AllcoresError | str]:
        """Hand over submissions; for each what became of it, or the id of a job that was there.

        A supervisor that said nothing in the time (one that was stopped, say) is not asked again for a while.

        Raises:
            Unanswered: Nothing is known of them.
        """
        if time.monotonic() < self._silent_until:
            raise Unanswered
        connected, is_new = self._connected()
        frame = frame_of([each.row for each in rows])
        try:
            try:
                answers = self._asked(connected, frame)
            except Unanswered:
                if is_new or time.monotonic() < self._silent_until:
                    raise
                # An idle one of a supervisor that is gone; there may be another.
                connected.close()
                connected, _ = self._connected(idle=False)
                answers = self._asked(connected, frame)
            if len(answers) != len(rows):
                raise Unanswered
        except BaseException:
            connected.close()
            raise
        self._keep(connected)
        return [_heard(row, answer) for row, answer in zip(rows, answers, strict=True)]

    def _asked(self, connected: socket.socket, frame: bytes) -> list[dict[str, Any]]:
        try:
            connected.sendall(frame)
            connection = FramedSocket(connected)
            while not (frames := connection.frames()):
                if not (data := connected.recv(1 << 20)):
                    raise Unanswered
                connection.buffer += data
            found = json.loads(frames[0])
        except TimeoutError:
            self._silent_until = time.monotonic() + SILENT_S
            raise Unanswered from None
        except (OSError, ValueError):
            raise Unanswered from None
        if not isinstance(found, list):
            raise Unanswered
        return found

    def _connected(self, *, idle: bool = True) -> tuple[socket.socket, bool]:
        with self._guard:
            if self._pid != os.getpid():  # those are the parent's
                for each in self._idle:
                    each.close()
                self._idle, self._pid = [], os.getpid()
            if idle and self._idle:
                return self._idle.pop(), False
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(self._timeout)
            with socket_path(self._folder, NAME) as path:
                connected.connect(path)
            if not is_own_user(connected):
                raise Unanswered
        except OSError:
            connected.close()
            raise Unanswered from None
        except BaseException:
            connected.close()
            raise
        return connected, True

    def _keep(self, connected: socket.socket) -> None:
        with self._guard:
            if len(self._idle) < KEPT:
                self._idle.append(connected)
                return
        connected.close()

    def close(self) -> None:
        """Close idle connections; idempotent."""
        with self._guard:
            idle, self._idle = self._idle, []
        for each in idle:
            each.close()


def _heard(row: Prepared, answer: dict[str, Any]) -> Submitted | AllcoresError | str:
    kind = answer.get("error")
    if kind is None:
        return str(answer["id"]) if answer["replayed"] else as_submitted(row, answer["seq"], answer["changed"])
    text = str(answer.get("text"))
    if kind == "KeyConflict":
        return KeyConflict(text, key=str(answer.get("key")), id=str(answer.get("id")))
    found = getattr(errors, str(kind), StoreError)
    plain = isinstance(found, type) and issubclass(found, StoreError) and found is not errors.SchemaTooNew
    return found(text) if plain else StoreError(text)


def is_there(folder: str) -> bool:
    """Whether a supervisor has left a socket there: it may be gone all the same."""
    return os.path.exists(os.path.join(folder, NAME))
