"""A worker's side of what travels through blocks: views of what it was sent, blocks of its own for results."""

from __future__ import annotations

import struct
from collections import deque

from allcores.failpoints import failpoint
from allcores.shared_memory import buffers, forked_copies
from allcores.shared_memory.arena import SPAN, Arena
from allcores.transport import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _nothing(_: object) -> None:
    """The parent knows by itself what it has sent."""


class WorkerMemory:
    """A worker's side of the arena.

    Args:
        descriptor: Of the file with the blocks.
        start: This worker's range.
        budget: Bytes of memory it may keep.
        elsewhere: Of another pool's file, whose shared objects are seen here.
    """

    def __init__(self, descriptor: int, start: int, budget: int, elsewhere: int | None = None) -> None:
        arena = Arena(descriptor)
        if elsewhere is not None:
            arena.see(elsewhere)
        # A task may fork, and end before that process does.
        forked_copies.watch(arena)
        #: blocks of others that nothing here refers to any more
        self._dead: deque[int] = deque()
        self._decoder = buffers.Decoder(arena, self._dead.append, _nothing)
        self._encoder = buffers.Encoder(arena, start, SPAN, budget, buffers.LARGE_RESULT, to_parent=True)
        #: blocks of ours that the parent views
        self._lent: dict[int, object] = {}

    def loads(self, data: bytes | memoryview) -> Any:
        """What the parent packed."""
        return buffers.loads(data, self._decoder)

    def skip(self, data: bytes | memoryview) -> None:
        """What the parent packed is not wanted any more."""
        self._decoder.skip(data)

    def dumps(self, value: object) -> bytes:
        """A result, ready to travel."""
        packed = self._encoder.dumps(value)
        return packed if isinstance(packed, bytes) else self._lend(packed)

    def encode(self, stream: bytes) -> bytes:
        """A large pickle, ready to travel."""
        packed = self._encoder.encode(stream)
        return packed if isinstance(packed, bytes) else self._lend(packed)

    def _lend(self, buffered_pickle: buffers.BufferedPickle) -> bytes:
        for offset, lease in buffered_pickle.leases.items():
            self._lent[offset] = lease
        return buffered_pickle.data

    def returned(self, body: bytes) -> None:
        """The parent needs these blocks no more."""
        for (offset,) in struct.iter_unpack("<Q", body):
            self._lent.pop(offset, None)

    def released(self) -> bytes:
        """A frame for the parent: the blocks of its own that are free again; empty if there are none."""
        forked_copies.look(now=False)
        if not self._dead:
            return b""
        offsets = []
        while self._dead:
            offsets.append(self._dead.popleft())
        failpoint("block.released")
        return frames.offsets(frames.RELEASED, offsets)
