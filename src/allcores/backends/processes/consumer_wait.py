"""Waiting for a stream's results on the thread that reads them: one thread to wake per report instead of two.

While it waits, the consumer's thread reads what workers send, all of it, and tells the scheduler; the loop leaves the
pipes alone. Deaths, alarms and signals stay with the loop, which takes the pipes back whenever it needs them. It may do
so at any time but in the middle of a read, since all that is decided under the host's lock.

A signal handler or a finalizer may run on this thread while it waits. If it uses the same pool, it gives the pipes back
first (`step_back`); if it takes long, the loop notices at its next alarm that nobody reads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING

from allcores.backends.base import Host
from allcores.backends.processes.connection import WorkerConnection
from allcores.backends.processes.receiver import Found, Receiver
from allcores.backends.processes.worker_table import WorkerTable
from allcores.errors import PoolBusy
from allcores.scheduler.messages import Results
from allcores.system import deferral, poller
from allcores.system.clock import monotonic_ns

if TYPE_CHECKING:
    from allcores.system.bell import Bell


class _Wait:
    """One wait of one thread. reading: it has read from pipes and not yet told the scheduler."""

    __slots__ = ("reading", "thread", "until_ns", "wanted_back")

    def __init__(self, until_ns: int) -> None:
        self.thread = get_ident()
        self.until_ns = until_ns
        self.reading = False
        #: the loop needs the pipes, and could not take them because of `reading`
        self.wanted_back = False


class ConsumerWait:
    """Who reads the pipes instead of the loop; one thread at a time.

    Args:
        worker_table: The workers, whose `pipes` are read.
        receiver: Reads them.
        host: The pool.
        apply: Applies what was found; called with the host's lock held.
        wake_loop: Has the loop look again.
    """

    def __init__(
        self,
        worker_table: WorkerTable,
        receiver: Receiver,
        host: Host,
        apply: Callable[[list[Found], int], None],
        wake_loop: Callable[[], None],
    ) -> None:
        self._worker_table = worker_table
        self._receiver = receiver
        self._host = host
        self._lock = host.lock
        self._apply = apply
        self._wake_loop = wake_loop
        self._current: _Wait | None = None
        #: whose wait the event ends: it may wait on although the pipes were taken from it, until its bell is rung
        self._waiting: _Wait | None = None
        #: None where there can be no wait; nobody else has them
        self._descriptors, worker_table.descriptors = worker_table.descriptors, None

    @property
    def present(self) -> bool:
        """A consumer has the pipes. With the host's lock held."""
        return self._current is not None

    @property
    def reading(self) -> bool:
        """It is in the middle of a read. With the host's lock held."""
        return self._current is not None and self._current.reading

    def wait(self, bell: Bell, wanted: Callable[[], bool], seconds: float) -> bool:
        """Read what workers send until something is there for this consumer.

        Args:
            bell: The consumer's; rung when others have found something for it.
            wanted: Whether something is there; called with the host's lock held.
            seconds: How long at most.

        Returns:
            False if it cannot be done now: the caller is to wait for its bell.
        """
        descriptors = self._descriptors
        if descriptors is None:
            return False
        wait: _Wait | None = None
        until = monotonic_ns() + int(seconds * 1e9)
        try:
            with self._lock:
                if wanted():
                    return True
                if self._current is not None or self._receiver.reading or self._worker_table.gone:
                    return False
                if self._waiting is not None and monotonic_ns() < self._waiting.until_ns:
                    # One event wakes one thread: a second that waits for it would take the first one's ring. One that
                    # an exception has kept from saying that it left is over when its time is.
                    return False
                wait = self._current = self._waiting = _Wait(until)
                bell.expect(self._wake)
                self._worker_table.hear(loop=False)
            while self._current is wait and (left := until - monotonic_ns()) > 0:
                try:
                    descriptors.poller.wait(left / 1e9)
                    if not self._read(wait, bell, wanted):
                        break
                except ValueError:  # closed meanwhile: the pool is, or this is a forked copy of its process
                    break
        finally:
            # An exception that was caught further down may keep this frame, and what it holds must close with the pool.
            descriptors = None
            # Where an exception keeps this from being done, the next wait of this thread or the loop does it.
            if wait is not None and self._waiting is wait:
                with self._lock:
                    bell.expected = False
                    if self._current is wait:
                        self._leave()
                    if self._waiting is wait:
                        self._waiting = None
        return True

    def _read(self, wait: _Wait, bell: Bell, wanted: Callable[[], bool]) -> bool:
        """Take what is in the pipes; whether to go on waiting."""
        worker_table = self._worker_table
        outermost = deferral.enter()
        try:
            with self._lock:
                if self._current is not wait or self._descriptors is None:
                    return False
                bell.expected = False
                wait.reading = True
                # What was rung for is asked below; a ring that is late ends a wait for nothing.
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._descriptors.event)
            found: list[Found] = []
            ready: list[tuple[WorkerConnection, int]] = []
            try:
                ready = worker_table.pipes.wait(0)
                for connection, mask in ready:
                    if mask & poller.READ and not connection.attended:
                        self._receiver.read(connection, found)
                    if mask & poller.WRITE:
                        with self._lock:
                            worker_table.write_more(connection)
            finally:
                # Also what was found before an exception is told, and in one turn with giving the pipes back.
                with self._lock:
                    wait.reading = False
                    now = monotonic_ns()
                    self._apply(found, now)
                    self._host.tick(now)
                    self._host.execute()
                    if worker_table.parent_memory is not None:
                        worker_table.parent_memory.sweep()
                    # More than finished items concerns the loop: who is ready, a setup that failed, the end of a pipe.
                    strange = any(not isinstance(event, Results) for event in found)
                    strange = strange or any(connection.over for connection, _ in ready)
                    over = strange or wait.wanted_back or wanted()
                    if over:
                        self._leave(wake=strange)
                        self._waiting = None
                    else:
                        bell.expect(self._wake)
            return not over
        finally:
            try:
                if outermost:
                    deferral.leave()
            finally:
                self._host.notify()

    def is_present(self) -> bool:
        """This thread has the pipes."""
        current = self._current
        return current is not None and current.thread == get_ident()

    def step_back(self) -> None:
        """This thread has the pipes no more. Raises PoolBusy while it reads: what it read must be told first."""
        with self._lock:
            current = self._current
            if current is None or current.thread != get_ident():
                return
            if current.reading:
                raise PoolBusy()
            self._leave()

    def claim_pipes(self) -> bool:
        """The loop needs the pipes; with the host's lock held. False if it will be woken as soon as they are its."""
        current = self._current
        if current is None:
            return True
        if current.reading:
            current.wanted_back = True
            return False
        self._current = None
        self._worker_table.hear(loop=True)
        return True

    def is_late(self) -> bool:
        """Something can be read, and who has the pipes does not: it runs a signal's handler, say. Lock held."""
        return self._current is not None and not self._current.reading and bool(self._worker_table.pipes.wait(0))

    def _leave(self, *, wake: bool = False) -> None:
        """The pipes are the loop's again; with the host's lock held."""
        current, self._current = self._current, None
        if not self._worker_table.gone:
            self._worker_table.hear(loop=True)
        if wake or (current is not None and current.wanted_back):
            self._wake_loop()

    def _wake(self) -> None:
        """End the wait; with the host's lock held."""
        if self._descriptors is not None:
            os.eventfd_write(self._descriptors.event, 1)

    def close(self) -> None:
        """Let go of the descriptors, which who waits holds until it has woken; with the host's lock held."""
        if self._waiting is not None:
            self._wake()
        self._current = self._descriptors = None

    def abandon(self) -> None:
        """Close the descriptors in a forked copy of the process, where nobody else waits."""
        descriptors = self._descriptors
        self.close()
        if descriptors is not None and (self._waiting is None or self._waiting.thread != get_ident()):
            # No thread is here that would let go of them.
            descriptors.close()
