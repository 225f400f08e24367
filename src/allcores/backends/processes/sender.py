"""Sends chunks to workers: with the driver's lock held, on whichever thread the decision was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allcores.backends.processes.exits import SAMPLE_S
from allcores.backends.processes.worker_table import WorkerTable
from allcores.errors import NotPicklable
from allcores.failpoints import failpoint
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.scheduler.map_state import Chunk
from allcores.scheduler.messages import Failure, Results
from allcores.system.clock import monotonic_ns
from allcores.transport import frames
from allcores.transport.status_board import NO_INDEX

if TYPE_CHECKING:
    from allcores.pool.driver import Driver


class Sender:
    """The pool's outgoing side. cores: that the pool may use."""

    def __init__(self, worker_table: WorkerTable, limits: Limits, cores: int) -> None:
        self._worker_table = worker_table
        self._limits = limits
        self._cores = cores

    def send(self, driver: Driver, worker: int, chunk: Chunk) -> None:
        """Write a chunk to a worker's pipe."""
        worker_table = self._worker_table
        connection = worker_table.connections.get(worker)
        if connection is None:
            # It died in the same round in which it was given this: its death has put the chunk back.
            return
        parent_memory = worker_table.parent_memory
        function = chunk.function
        payload = chunk.payload
        if payload is None:
            try:
                payload = worker_table.pack(chunk.items)
            except BaseException as error:
                if not isinstance(error, Exception):
                    # This may be the pool's own thread, which it must not end.
                    error = NotPicklable(f"An item could not be pickled again: {type(error).__name__}: {error}")
                failures = [Failure(n, Kind.FAILED, error) for n in range(len(chunk.items))]
                driver.scheduler.results(
                    Results(worker, chunk.sequence, 0, len(failures), 0, values=[], failures=failures, ended=True),
                    monotonic_ns(),
                )
                return
        if not chunk.size_bytes:
            chunk.size_bytes = len(payload)
        # The bytes have done their duty: a chunk that comes back is pickled again.
        chunk.payload = None
        while driver.dropped:
            number = driver.dropped.popleft()
            for other in worker_table.connections.values():
                if number in other.known:
                    other.known.discard(number)
                    worker_table.write(other, frames.frame(frames.FORGET, number))
        flags = frames.DETAILED if chunk.map_state.detailed else 0
        if chunk.map_state.timeout_ns is not None:
            flags |= frames.TIMED
        if chunk.future is not None and len(driver.scheduler.idle) > driver.workers - self._cores:
            flags |= frames.PROMPT
        first = chunk.first if chunk.future is None else NO_INDEX
        report_us = chunk.map_state.chunker.target_ns // 1000
        head = frames.CHUNK_HEAD.pack(function.number, flags, len(chunk.items), report_us, first)
        if not isinstance(payload, bytes):
            assert parent_memory is not None
            parent_memory.lend(worker, payload.leases)
            payload = payload.data
        data = frames.frame(frames.CHUNK, chunk.sequence, head, payload)
        if parent_memory is not None and (returned := parent_memory.returned(worker)):
            data = frames.offsets(frames.RETURNED, returned) + data
        if function.number not in connection.known:
            connection.known.add(function.number)
            if function.leases:
                assert parent_memory is not None
                parent_memory.lend(worker, function.leases)
            data = frames.frame(frames.FUNCTION, function.number, function.payload) + data
        failpoint("frame.before")
        worker_table.write(connection, connection.introduction() + data)
        failpoint("frame.after")
        until = driver.sleeps_until
        if self._limits.memory_per_worker is not None and until and until > monotonic_ns() + int(SAMPLE_S * 1e9):
            # The loop looks at the workers' memory while work is out: it fell asleep when none was.
            driver.sleeps_until = None
            driver.backend.wake()
