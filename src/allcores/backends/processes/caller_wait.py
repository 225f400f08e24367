"""Waiting for a call on the caller's own thread: one thread less to wake per call.

The call's pipe is muted for the loop and read here. Deaths, deadlines and all other pipes stay with the loop.

A signal handler or a finalizer may run on this thread while it waits, and wait for something of the same pool itself.
Then it steps back first: the pipe is the loop's again, and the thread that waited for the call waits for the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING

from allcores.backends.base import Host
from allcores.backends.processes.connection import WorkerConnection
from allcores.backends.processes.consumer_wait import ConsumerWait
from allcores.backends.processes.receiver import Found, Receiver
from allcores.backends.processes.worker_table import WorkerTable
from allcores.errors import PoolBusy
from allcores.scheduler.map_state import Chunk
from allcores.system import deferral, poller
from allcores.system.clock import monotonic_ns
from allcores.transport.spin_wait import SpinWait

if TYPE_CHECKING:
    from select import poll

#: milliseconds that a caller waits on its call's pipe without a look around
ATTEND_MS = 100.0


class CallerWait:
    """Whoever waits for a call.

    Args:
        apply: Applies what was found, with the host's lock held.
        wake: Has the loop look again.
        cores: How many the pool may use.
    """

    def __init__(
        self,
        worker_table: WorkerTable,
        receiver: Receiver,
        consumer: ConsumerWait,
        host: Host,
        apply: Callable[[list[Found], int], None],
        wake: Callable[[], None],
        cores: int,
    ) -> None:
        self._consumer = consumer
        self._worker_table = worker_table
        self._receiver = receiver
        self._host = host
        self._lock = host.lock
        self._apply = apply
        self._wake = wake
        self._cores = cores
        #: which pipe is attended to by which thread
        self._attended: dict[int, WorkerConnection] = {}
        #: threads that read from their pipe at this moment
        self._reading: set[int] = set()
        #: one of those who wait at a time may look out
        self._spin_wait = SpinWait()

    def attend(self, chunk: Chunk, until_ns: int | None, done: Callable[[], bool]) -> None:
        """Wait until `done()`, until `until_ns`, or until there is nothing to attend to.

        In the last case the caller then waits as usual.
        """
        if not poller.CHANGES_REACH_WAIT:
            return
        me = get_ident()
        if me in self._attended:
            self.step_back()
        spin_wait: SpinWait | None = None
        try:
            with self._lock:
                connection = self._worker_table.connections.get(chunk.worker) if chunk.sequence and not done() else None
                reading = self._receiver.reading or self._consumer.reading
                if (
                    connection is None
                    or reading
                    or connection.attended
                    or connection.ended
                    or connection.dead is not None
                ):
                    return
                pollable = connection.pollable
                if pollable is None:
                    return
                connection.attended = True
                self._attended[me] = connection
                self._worker_table.listen(connection)
                if self._cores > 1 and not self._spin_wait.taken:
                    spin_wait = self._spin_wait
                    spin_wait.taken = True
            while (
                chunk.worker == connection.number
                and self._attended.get(me) is connection
                and not (done() or connection.over)
            ):
                if not self._wait(pollable, until_ns, spin_wait):
                    return
                if not self._read(connection, chunk):
                    return
        finally:
            if spin_wait is not None:
                spin_wait.taken = False
            if me in self._attended:
                self.step_back()

    @staticmethod
    def _wait(pollable: poll, until_ns: int | None, spin_wait: SpinWait | None) -> bool:
        """Until the pipe may have something, for a while; False once the time is up."""
        if spin_wait is None or not spin_wait.look(pollable):
            left_ms = ATTEND_MS
            if until_ns is not None:
                left_ms = min(left_ms, (until_ns - monotonic_ns()) / 1e6)
                if left_ms <= 0:
                    return False
            if not pollable.poll(left_ms):
                return True
        if spin_wait is not None:
            spin_wait.answered()
        return True

    def _read(self, connection: WorkerConnection, chunk: Chunk) -> bool:
        """Take what is in the pipe; False if this thread has stepped back, its call being settled or to be retried."""
        me = get_ident()
        outermost = deferral.enter()
        try:
            if self._attended.get(me) is not connection:
                return False
            found: list[Found] = []
            self._reading.add(me)
            try:
                self._receiver.read(connection, found)
                with self._lock:
                    self._apply(found, monotonic_ns())
                    self._host.execute()
                    over = bool(chunk.done) and not connection.over
                    if over:
                        # Settled, or to be tried again: stepping back here saves another turn for it.
                        self._leave(connection, me)
            finally:
                self._reading.discard(me)
            self._host.resolve()
            return not over
        finally:
            try:
                if outermost:
                    deferral.leave()
            finally:
                self._host.notify()

    def is_present(self) -> bool:
        """This thread attends to a call."""
        return get_ident() in self._attended

    def _leave(self, connection: WorkerConnection, me: int) -> None:
        """The pipe is the loop's again; with the host's lock held."""
        del self._attended[me]
        connection.attended = False
        if not self._worker_table.gone:
            self._worker_table.listen(connection)

    def step_back(self) -> None:
        """This thread attends to no call any more. Raises PoolBusy while it reads: what it read must be told first."""
        me = get_ident()
        if me in self._reading:
            raise PoolBusy()
        with self._lock:
            connection = self._attended.get(me)
            if connection is None:
                return
            self._leave(connection, me)
        if connection.over:
            self._wake()
