"""Sends chunks to workers: with the host's lock held, on whichever thread the decision was made."""

from __future__ import annotations

from allcores.backends.base import Host
from allcores.backends.processes.worker_table import WorkerTable
from allcores.backends.pulled_items import opens_once, part_of, stream_of, unsendable
from allcores.failpoints import failpoint
from allcores.scheduler.map_state import Chunk
from allcores.scheduler.messages import Results
from allcores.shared_memory.buffers import BufferedPickle
from allcores.transport import frames
from allcores.transport.status_board import NO_INDEX


class Sender:
    """The pool's outgoing side.

    Args:
        cores: That the pool may use.
    """

    def __init__(self, worker_table: WorkerTable, host: Host, cores: int) -> None:
        self._worker_table = worker_table
        self._host = host
        #: as many idle workers as there are beyond the cores, at least: more of them than this have a core to spare
        self._most_idle = host.workers - cores

    def send(self, worker: int, chunk: Chunk) -> Results | None:
        """Write a chunk to a worker's pipe; returns its results if they are known already: it would not pickle."""
        worker_table = self._worker_table
        connection = worker_table.connections.get(worker)
        if connection is None:
            # It died in the same round in which it was given this: its death has put the chunk back.
            return None
        parent_memory = worker_table.parent_memory
        function = chunk.function
        if chunk.again and chunk.payload is not None:
            self._have_own(chunk, chunk.payload)
        payload = chunk.payload
        if payload is None:
            try:
                payload = chunk.payload = worker_table.pack(chunk.items)
            except BaseException as error:
                return unsendable(worker, chunk, error)
        if not chunk.size_bytes:
            chunk.size_bytes = len(payload)
        flags = frames.DETAILED if chunk.map_state.detailed else 0
        if chunk.timeout_ns is not None:
            flags |= frames.TIMED
        if chunk.future is not None and self._host.idle_workers > self._most_idle:
            flags |= frames.PROMPT
        if chunk.shared is not None:
            flags |= frames.SHARED
        first = chunk.first if chunk.future is None else NO_INDEX
        report_us = chunk.map_state.chunker.target_ns // 1000
        head = frames.CHUNK_HEAD.pack(
            function.number, flags, len(chunk.items), report_us, chunk.batch, chunk.skip, first
        )
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
        worker_table.write(connection, connection.introduction() + connection.change(chunk.surroundings) + data)
        failpoint("frame.after")
        return None

    def _have_own(self, chunk: Chunk, payload: bytes | BufferedPickle) -> None:
        """A few of many items travel without the others, if they can be had as they were."""
        parent_memory = self._worker_table.parent_memory
        read = stream_of if parent_memory is None else parent_memory.stream_of
        if opens_once(payload, read):
            chunk.have_own(None)
        elif chunk.shared is not None and (own := part_of(chunk.shared, chunk.skip, len(chunk.items), read)):
            try:
                chunk.have_own(self._worker_table.pack(own))
            except Exception:  # then with the others
                return

    def forget(self, number: int) -> None:
        """No chunk will refer to this function any more: workers that have it drop it."""
        for connection in self._worker_table.connections.values():
            if number in connection.known:
                connection.known.discard(number)
                self._worker_table.write(connection, frames.frame(frames.FORGET, number))
