"""One node as its pool has it: what is to be sent, and what was sent and is not answered yet."""

from __future__ import annotations

import pickle
from collections import deque
from typing import TYPE_CHECKING, Any

from allcores.adapters.cluster.messages import LEASE_S, NodeChunk, Opening, Reply, Request, Revocation
from allcores.outcome import Kind
from allcores.transport import pickling
from allcores.transport.pickling import FUNCTION_UNREAD, ITEM_UNREAD
from allcores.transport.remote_errors import step_notes
from allcores.transport.surroundings import by_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from allcores.outcome import Failure
    from allcores.scheduler.map_state import Chunk
    from allcores.scheduler.messages import Results
    from allcores.transport.surroundings import Surroundings

#: Requests without a reply at a time: one that is kept until there is something to tell, and one with new work.
MOST_OPEN = 2
_UNREAD = {FUNCTION_UNREAD, ITEM_UNREAD}


class Link:
    """The state of one node. For the backend's own thread, but for the outbox, which any thread fills.

    Args:
        worker: Its number in the pool.
        node: Its name in the cluster.
        key: Of its pool.
    """

    def __init__(self, worker: int, node: str, key: str, opening: Opening) -> None:
        self.worker = worker
        self.node = node
        self.key = key
        self._opening: Opening | None = opening
        #: filled with the host's lock held: chunks; what of those is not to start; functions
        self.chunks: deque[Chunk] = deque()
        self.revoked: deque[Revocation] = deque()
        self.forget: deque[int] = deque()
        self.dropped: deque[int] = deque()
        #: what it has that has not ended
        self.held: dict[int, Chunk] = {}
        #: numbers of those that it knows; who uses one keeps it
        self._functions: set[int] = set()
        self._blobs: set[int] = {number for number, _ in opening.blobs}
        self._serial = 0
        #: when each open request was sent, ns, by serial
        self.open: dict[int, int] = {}
        #: replies that came before earlier ones
        self._early: dict[int, Reply] = {}
        self._read = 0
        self.is_ready = False
        #: an item that it was given has an outcome
        self.has_worked = False
        #: when it was first asked for anything, ns
        self.asked_ns: int | None = None
        #: why its pool has not begun yet, if the cluster knows
        self.delay: str | None = None
        self.is_gone = False
        #: it is to be ended
        self.ends = False
        #: when it was heard of last, and asked last, ns
        self.heard_ns = 0
        self._sent_ns: int | None = None
        #: the last request before which it was asked nothing for longer than it keeps its pool
        self._late: int | None = None

    @property
    def serial(self) -> int:
        """Of the last request."""
        return self._serial

    def request(self, now: int, contents: Callable[[int], bytes], *, keep: bool = False) -> bytes | None:
        """What is to be sent now; None if there is nothing, or too much is open already.

        Args:
            now: The time, ns.
            contents: Of what is shared, by number.
            keep: Send something in any case: it is to know that it is wanted, or to end.
        """
        fresh = bool(self.chunks or self.revoked) or self._opening is not None or keep
        # While it holds something, one request waits there; two, and new work travels on the spot.
        if self.is_gone or not (fresh or self.held or not self.is_ready):
            return None
        # The first one makes the pool there: one that overtook it would find none, as after a new start.
        if len(self.open) >= (MOST_OPEN if fresh and self._read else 1) and not self.ends:
            return None
        functions: list[tuple[int, bytes]] = []
        blobs: list[tuple[int, bytes]] = []
        chunks: list[NodeChunk] = []
        forget = list(self._taken(self.forget))
        for number in forget:
            self._functions.discard(number)
        drop = [number for number in self._taken(self.dropped) if number in self._blobs]
        self._blobs.difference_update(drop)
        # One that another thread has just put there is packed at the next turn.
        while self.chunks and self.chunks[0].payload is not None:
            self._add(self.chunks.popleft(), chunks, functions, blobs, contents)
        revoked: list[Revocation] = []
        for each in self._taken(self.revoked):
            if each.sequence in self.held:
                revoked.append(each)
            elif any(chunk.sequence == each.sequence for chunk in list(self.chunks)):
                # Of one that is not packed yet: it goes with that.
                self.revoked.append(each)
        self._serial += 1
        opening, self._opening = self._opening, None
        self.open[self._serial] = now
        if self.asked_ns is None:
            self.asked_ns = now
        if self._sent_ns is not None and now - self._sent_ns > LEASE_S * 1e9:
            self._late = self._serial
        self._sent_ns = now
        request = Request(
            self.key, self._serial, opening, functions, forget, blobs, drop, chunks, revoked, True, self.ends
        )
        return pickle.dumps(request)

    @staticmethod
    def _taken(queue: deque[Any]) -> list[Any]:
        taken: list[Any] = []
        while queue:
            taken.append(queue.popleft())
        return taken

    def _add(
        self,
        chunk: Chunk,
        chunks: list[NodeChunk],
        functions: list[tuple[int, bytes]],
        blobs: list[tuple[int, bytes]],
        contents: Callable[[int], bytes],
    ) -> None:
        function = chunk.function
        payload = chunk.payload
        assert payload is not None
        leases = dict(function.leases)
        if not isinstance(payload, bytes):
            leases |= payload.leases
            payload = payload.data
        for number in leases:
            if number not in self._blobs:
                self._blobs.add(number)
                blobs.append((number, contents(number)))
        if function.number not in self._functions:
            self._functions.add(function.number)
            functions.append((function.number, function.payload))
        timeout_s = None if chunk.timeout_ns is None else chunk.timeout_ns / 1e9
        self.held[chunk.sequence] = chunk
        chunks.append(
            NodeChunk(
                chunk.sequence,
                function.number,
                payload,
                len(chunk.items),
                chunk.skip,
                chunk.shared is not None,
                chunk.first,
                chunk.map_state.number,
                chunk.future is not None,
                timeout_s,
                chunk.batch,
                packed_around(chunk.surroundings),
                chunk.map_state.detailed,
                is_doubtful(chunk),
            )
        )

    def worked(self, chunk: Chunk, results: Results) -> None:
        """Items of a chunk have outcomes; one that the function has had, however that ended, shows that it was read."""
        self.has_worked = self.has_worked or results.count > 0
        if results.count > sum(map(_is_of_no_call, results.failures or ())):
            chunk.function.doubtful = False

    def was_neglected(self) -> bool:
        """Whether it was asked nothing for so long that it ended its pool, and has not answered since."""
        return self._late is not None

    def doubt(self) -> None:
        """It is lost: to read what it held may be what has ended it."""
        for chunk in self.held.values():
            chunk.function.doubtful = True

    def replied(self, serial: int, reply: Reply, now: int) -> list[Reply]:
        """A reply is here; returns those that can be read now, in order."""
        self.open.pop(serial, None)
        self.heard_ns = now
        if self._late is not None and serial >= self._late:
            self._late = None
        if reply.serial > self._read:  # or it came twice
            self._early[reply.serial] = reply
        found: list[Reply] = []
        while (following := self._early.pop(self._read + 1, None)) is not None:
            self._read += 1
            found.append(following)
        return found


def _is_of_no_call(failure: Failure) -> bool:
    """Whether the function was not called, or perhaps not: it or the item was not read, or it was cancelled."""
    unread = failure.unpickling or not _UNREAD.isdisjoint(step_notes(failure.error))
    return unread or failure.kind is Kind.CANCELLED


def is_doubtful(chunk: Chunk) -> bool:
    """Whether it may be what a node was lost with."""
    return chunk.requeues > 0 or chunk.function.doubtful


def packed_around(around: Surroundings | None) -> bytes:
    """What workers are to find around a chunk, for a node that has other modules, perhaps."""
    if around is None:
        return pickling.dumps((None, None, None))
    return pickling.dumps((around.decimal, by_names(around.filters), around.context))
