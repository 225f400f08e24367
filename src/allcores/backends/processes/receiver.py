"""Reads what workers send, and what they have sealed and not sent: by the loop, or by who attends to a call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from allcores.backends.base import BackendEvent, ChangesLost, SetupFailed, WorkerReady
from allcores.backends.processes.connection import WorkerConnection
from allcores.backends.processes.decoding import joined, results_of, setup_error
from allcores.backends.processes.worker_table import WorkerTable
from allcores.scheduler.map_state import Chunk
from allcores.scheduler.messages import Results
from allcores.scheduler.timeouts import PEEK_NS
from allcores.system.clock import monotonic_ns
from allcores.transport import frames, pickling, tracker
from allcores.transport.positions import PHASE_RUNNING
from allcores.transport.status_board import DONE, PID


class BlocksReleased(NamedTuple):
    """A worker needs these blocks of shared memory no more.

    Attributes:
        offsets: As they came.
    """

    worker: int
    offsets: bytes


class ProcessEnded(NamedTuple):
    """A worker's process has ended, and all that it left was read.

    Attributes:
        reason: What is known better than by its status.
    """

    connection: WorkerConnection
    reason: str | None = None


#: what reading found: for the host, or for the backend itself
Found = BackendEvent | BlocksReleased | ProcessEnded

#: Bytes per read. Above 128 kB malloc would map and unmap memory for every read.
READ_BYTES = 65_536
#: reads from one pipe before its worker's outbox is looked into: more than it holds
MOST_READS = 16
#: seconds between the end of a worker's pipe and its process: after that it is ended
LINGER_S = 0.2


class Receiver:
    """The pool's incoming side. What it finds is appended to a list, which its caller applies in one transaction.

    Args:
        lock: The host's; not held by who calls.
        find: The chunk of a worker with this number, if it holds it; with the lock held.
    """

    def __init__(
        self,
        worker_table: WorkerTable,
        lock: AbstractContextManager[None],
        find: Callable[[int, int], Chunk | None],
    ) -> None:
        self._worker_table = worker_table
        self._lock = lock
        self._find = find
        #: the loop has read from pipes and not applied it yet
        self.reading = False
        #: workers whose outboxes are to be looked into
        self.to_peek: list[int] = []

    def read(self, connection: WorkerConnection, found: list[Found]) -> bool:
        """Take what is in a worker's pipe; False if there is nothing, or the pipe has ended."""
        try:
            data = connection.pipe.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._pipe_ended(connection)
            return False
        for kind, number, body in connection.inbox.feed(data):
            if kind == frames.RESULTS:
                self.take_records(connection, body, found)
            elif kind == frames.RELEASED:
                found.append(BlocksReleased(connection.number, body))
            elif kind == frames.LOG and self._worker_table.records is not None:
                self._worker_table.records.take(connection.number, number, body)
            elif kind == frames.TRACK:
                tracker.pass_on(body)
            elif kind == frames.CHANGED:
                found.append(ChangesLost(*pickling.loads(body)))
            elif kind == frames.READY:
                found.append(WorkerReady(connection.number, self._worker_table.board.word(connection.slot, PID)))
            elif kind == frames.SETUP_FAILED:
                step = "preload" if number == frames.PRELOAD else "setup"
                connection.reason = f"its {step} function raised"
                found.append(SetupFailed(setup_error(body, step)))
        return True

    def _pipe_ended(self, connection: WorkerConnection) -> None:
        if connection.ended:
            return
        with self._lock:
            self._worker_table.pipes.unregister(connection.pipe.fileno())
            connection.ended = True
            # Mostly its death follows at once. If not, a task closed our pipe: then we end it.
            self._worker_table.signal_later(LINGER_S, connection.number)

    def take_records(self, connection: WorkerConnection, body: bytes, found: list[Found]) -> None:
        """Records of finished items, from the pipe or from the outbox."""
        for record in frames.records(body):
            if not connection.expects(record):
                continue
            last = found[-1] if found else None
            if isinstance(last, Results) and last.worker == connection.number and joined(last, record):
                continue
            chunk = None
            if record[3] & frames.MIXED:
                with self._lock:
                    chunk = self._find(connection.number, record[0])
            found.append(results_of(connection.number, record, chunk, connection.decoder))

    def peek(self, found: list[Found]) -> None:
        """Finished items that wait unsent behind one that takes long: read them where they wait.

        A worker touches its outbox between two items only. So a copy is whole if the worker was in
        the middle of the same item before and after it was made.
        """
        worker_table = self._worker_table
        workers, self.to_peek = self.to_peek, []
        for worker in workers:
            connection = worker_table.connections.get(worker)
            if connection is None or connection.attended:
                continue
            before = worker_table.board.progress(connection.slot)
            sealed = worker_table.board.word(connection.slot, DONE)
            if not before[2] or before[3] != PHASE_RUNNING or monotonic_ns() - before[2] < PEEK_NS // 2:
                continue
            copy = bytes(worker_table.board.outbox(connection.slot)[: worker_table.board.used(connection.slot)])
            whole = (
                worker_table.board.progress(connection.slot) == before
                and worker_table.board.word(connection.slot, DONE) == sealed
            )
            if copy and whole:
                # What these items have logged is in the pipe by now, and comes first.
                for _ in range(MOST_READS):
                    if not self.read(connection, found):
                        break
                self.take_records(connection, copy, found)
