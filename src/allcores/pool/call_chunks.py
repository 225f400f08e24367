"""A call as a chunk of one item: what `submit`, `begin_calls` and actors have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allcores.pool.input_reader import encode
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.map_state import Chunk, MapState

if TYPE_CHECKING:
    from allcores.backends.base import Backend
    from allcores.limits import Retry


def calls_map(number: int, retry: Retry | None = None, *, requeues_unattributed: bool = True) -> MapState:
    """The state of a map of calls, which end in any order; workers are given them in the order in which they came."""
    chunker = Chunker(1)
    return MapState(number, chunker=chunker, calls=True, retry=retry, requeues_unattributed=requeues_unattributed)


def pack_call(chunk: Chunk, backend: Backend) -> bool:
    """Make the bytes of a call, where it has to travel; False if it cannot: its future has the error then."""
    if backend.needs_bytes:
        payload, bad = encode(chunk.items, 0, backend.pack)
        if payload is None:
            chunk.future.fail(bad[0][1])
            return False
        chunk.payload = payload
        chunk.size_bytes = len(payload)
    return True
