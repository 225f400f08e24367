"""Reads what workers send, and what they have sealed and not sent: by the loop, or by who attends to a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allcores.backends.processes.connection import WorkerConnection
from allcores.backends.processes.decoding import joined, results_of
from allcores.backends.processes.worker_table import WorkerTable
from allcores.scheduler.messages import Results
from allcores.scheduler.timeouts import PEEK_NS
from allcores.system.clock import monotonic_ns
from allcores.transport import frames, tracker
from allcores.transport.positions import PHASE_RUNNING
from allcores.transport.status_board import DONE

if TYPE_CHECKING:
    from allcores.pool.driver import Driver

#: what reading found: finished items, or ("ready" | "released" | "setup failed" | "not born" | "died", whom, details)
Found = Results | tuple[str, WorkerConnection, Any]

#: Bytes per read. Above 128 kB malloc would map and unmap memory for every read.
READ_BYTES = 65_536
#: reads from one pipe before its worker's outbox is looked into: more than it holds
MOST_READS = 16
#: seconds between the end of a worker's pipe and its process: after that it is ended
LINGER_S = 0.2


class Receiver:
    """The pool's incoming side. What it finds is appended to a list, which its caller tells the dispatcher."""

    def __init__(self, worker_table: WorkerTable) -> None:
        self._worker_table = worker_table
        #: the loop has read from pipes and not yet told the dispatcher
        self.reading = False
        #: workers whose outboxes are to be looked into
        self.to_peek: list[int] = []

    def read(self, driver: Driver, connection: WorkerConnection, found: list[Found]) -> bool:
        """Take what is in a worker's pipe; False if there is nothing, or the pipe has ended."""
        try:
            data = connection.pipe.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._pipe_ended(driver, connection)
            return False
        for kind, number, body in connection.inbox.feed(data):
            if kind == frames.RESULTS:
                self.take_records(driver, connection, body, found)
            elif kind == frames.RELEASED:
                found.append(("released", connection, body))
            elif kind == frames.LOG and self._worker_table.records is not None:
                self._worker_table.records.take(connection.number, number, body)
            elif kind == frames.TRACK:
                tracker.pass_on(body)
            elif kind == frames.READY:
                found.append(("ready", connection, None))
            elif kind == frames.SETUP_FAILED:
                found.append(("setup failed", connection, ("preload" if number == frames.PRELOAD else "setup", body)))
        return True

    def _pipe_ended(self, driver: Driver, connection: WorkerConnection) -> None:
        if connection.ended:
            return
        with driver.lock:
            self._worker_table.pipes.unregister(connection.pipe.fileno())
            connection.ended = True
            # Mostly its death follows at once. If not, a task closed our pipe: then we end it.
            self._worker_table.signal_later(LINGER_S, connection.number)

    def take_records(self, driver: Driver, connection: WorkerConnection, body: bytes, found: list[Found]) -> None:
        for record in frames.records(body):
            if not connection.expects(record):
                continue
            last = found[-1] if found else None
            if isinstance(last, Results) and last.worker == connection.number and joined(last, record):
                continue
            chunk = None
            if record[3] & frames.MIXED:
                with driver.lock:
                    worker_state = driver.scheduler.worker_states.get(connection.number)
                    chunk = worker_state.find(record[0]) if worker_state is not None else None
            found.append(results_of(connection.number, record, chunk, connection.decoder))

    def peek(self, driver: Driver, found: list[Found]) -> None:
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
                    if not self.read(driver, connection, found):
                        break
                self.take_records(driver, connection, copy, found)
