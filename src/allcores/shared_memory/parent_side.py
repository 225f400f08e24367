"""The parent's side of what travels through blocks: what it sent, what it was sent, what it shares.

Who holds what, so that every block goes back:
- sent to a worker: `ParentMemory` by the worker's number, until the worker says RELEASED or is gone;
- sent by a worker: views in this process; when the last one dies the worker is told, or, if it is gone, the
  memory goes back to the system. Of what it had besides, nothing stays.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from allcores.failpoints import failpoint
from allcores.limits import Limits
from allcores.shared_memory import forked_copies
from allcores.shared_memory.allocator import Block
from allcores.shared_memory.arena import RANGE, SPAN, Arena
from allcores.shared_memory.buffers import LARGE_ITEM, PRIVATE, BufferedPickle, Decoder, Encoder
from allcores.shared_memory.objects import SharedObjects
from allcores.shared_memory.repeats import RepeatCache
from allcores.system import caller, cores, posix
from allcores.transport import frames

#: Blocks take this share of the memory, and no more bytes than this, unless told otherwise.
MEMORY_SHARE = 8
MOST_BYTES = 4 << 30


def block_bytes(limits: Limits) -> int:
    """Bytes of memory for blocks: what was asked for, or what suits this machine."""
    if limits.block_bytes is not None:
        return limits.block_bytes
    memory = cores.machine_memory()
    found = memory.limit or memory.total
    return MOST_BYTES if found is None else min(MOST_BYTES, found // MEMORY_SHARE)


class MemoryUsage(NamedTuple):
    """Shared memory of a pool: see `Statistics`."""

    blocks: int
    block_bytes: int
    shared_bytes: int


class ReceivedBlocks:
    """What one worker sent that is still viewed here."""

    def __init__(self, arena: Arena, worker: int) -> None:
        self._arena = arena
        self._start = Arena.start(worker)
        #: blocks of which a view was made, and offsets of those whose view died; appended to on any thread
        self._opened: deque[Block] = deque()
        self._dead: deque[int] = deque()
        self.decoder = Decoder(arena, self._dead.append, self._opened.append)
        #: offset -> (capacity, views)
        self._views: dict[int, tuple[int, int]] = {}
        #: the worker is gone, and only what is viewed has memory
        self._orphaned = False

    def returned(self) -> list[int]:
        """Blocks that nobody here needs any more, since the last call; with the driver's lock held."""
        if not self._dead and not self._opened:
            return []
        # Each of these was opened before: what dies from here on is looked at next time.
        count = len(self._dead)
        while self._opened:
            offset, capacity = self._opened.popleft()
            self._views[offset] = (capacity, self._views.get(offset, (0, 0))[1] + 1)
        found = [self._dead.popleft() for _ in range(count)]
        for offset in found:
            failpoint("block.released")
            capacity, views = self._views.pop(offset)
            if views > 1:
                self._views[offset] = (capacity, views - 1)
            elif self._orphaned:
                self._arena.give_up(offset, capacity)
        return found

    @property
    def viewed(self) -> int:
        """Blocks that something here still refers to, about."""
        return len(self._views) + len(self._opened) - len(self._dead)

    def orphan(self) -> bool:
        """The worker is gone: memory for what is viewed here, and no more. False once that is nothing."""
        self.returned()
        if not self._orphaned:
            self._orphaned = True
            start = self._start
            for offset in sorted(self._views):
                self._arena.give_up(start, offset - start)
                start = offset + self._views[offset][0]
            self._arena.give_up(start, self._start + SPAN - start)
        return bool(self._views)


def alone() -> ParentMemory | None:
    """For backends whose workers are this very process: nothing travels, but what is shared has to lie somewhere."""
    descriptor = posix.sparse_file("shared", RANGE)
    return None if descriptor is None else ParentMemory(descriptor, 0, 1, 0)


class ParentMemory:
    """See the module.

    Args:
        descriptor: Of the file with the blocks.
        memory: Bytes of memory for blocks, in all.
        workers: How many share it with the parent.
        board_bytes: Of the file's beginning, which holds the status board.
    """

    def __init__(self, descriptor: int, memory: int, workers: int, board_bytes: int) -> None:
        self.arena = Arena(descriptor)
        forked_copies.watch(self.arena)
        self.encoder = Encoder(self.arena, Arena.start(0), SPAN, memory // 2, LARGE_ITEM)
        #: bytes of blocks that one worker may keep
        self.share = memory // 2 // workers
        self.shared_objects = SharedObjects(self.arena, RANGE - SPAN, SPAN)
        self.encoder.find = self.shared_objects.find
        self.encoder.repeat_cache = RepeatCache()
        #: worker -> what it was sent by way of blocks and has not given back, by the blocks' offsets
        self._lent: dict[int, dict[int, list[object]]] = {}
        #: worker -> what it sent by way of blocks
        self._received: dict[int, ReceivedBlocks] = {}
        self._orphans: list[ReceivedBlocks] = []
        self._deliveries: list[ReceivedBlocks] = []
        self._board_bytes = board_bytes
        #: descriptor of another pool's file, see `see`
        self.elsewhere: int | None = None
        self._told = False

    def see(self, other: ParentMemory) -> None:
        """What another pool shares is shared with these workers, too: they are handed its file."""
        self.elsewhere = other.arena.descriptor
        self.encoder.find = other.shared_objects.find

    def pack(self, obj: object) -> bytes | BufferedPickle:
        """See `Encoder.dumps`. Whoever it is sent to has a copy of its own: it may be sent again, and to several."""
        packed = self.encoder.dumps(obj, PRIVATE)
        if self.encoder.failed is not None and not self._told:
            self._told = True
            caller.warn(
                f"No shared memory could be had for a large item ({self.encoder.failed}); such items are copied "
                "through pipes instead. See `allcores doctor` for what limits memory here."
            )
        return packed

    def stream_of(self, packed: bytes | BufferedPickle) -> bytes | None:
        """The pickle in what `pack` has given; None where it is not all there is."""
        return packed if isinstance(packed, bytes) else self.encoder.stream_of(packed)

    def admit(self, worker: int) -> bytes:
        """Keep account of a new worker; returns the frame that tells it its range."""
        received_blocks = self._received[worker] = ReceivedBlocks(self.arena, worker)
        self._deliveries.append(received_blocks)
        self._lent[worker] = {}
        return frames.frame(frames.BLOCKS, 0, frames.RANGE.pack(Arena.start(worker), self.share))

    def lend(self, worker: int, leases: Mapping[int, object]) -> None:
        """What a worker is sent refers to these blocks: they live until it gives them back."""
        lent = self._lent[worker]
        for offset, what in leases.items():
            lent.setdefault(offset, []).append(what)

    def release(self, worker: int, body: bytes) -> None:
        """The worker needs these blocks no more."""
        lent = self._lent.get(worker, {})
        for (offset,) in struct.iter_unpack("<Q", body):
            held = lent.get(offset)
            if held:
                held.pop()
                if not held:
                    del lent[offset]
        self.encoder.settle()

    def decoder(self, worker: int) -> Decoder:
        """Opens what a worker sends."""
        return self._received[worker].decoder

    def returned(self, worker: int) -> list[int]:
        """Blocks of a worker that nobody here needs any more, since the last call."""
        return self._received[worker].returned()

    def reap(self, worker: int) -> None:
        """A worker is gone: what it held goes back, what it sent stays for as long as it is viewed."""
        self._lent.pop(worker, None)
        received_blocks = self._received.pop(worker, None)
        if received_blocks is not None:
            self._orphans.append(received_blocks)
            self.sweep()

    def usage(self) -> MemoryUsage:
        """What is taken now."""
        sent, _, _ = self.encoder.figures()
        _, shared = self.shared_objects.figures()
        taken = self.arena.taken() - self._board_bytes
        viewed = sum(received_blocks.viewed for received_blocks in [*self._deliveries])
        return MemoryUsage(sent + viewed, max(0, taken - shared), shared)

    def sweep(self) -> None:
        """No memory for what workers that are gone have sent, as soon as it is not viewed any more."""
        forked_copies.look(now=False)
        if self._orphans:
            for received_blocks in [each for each in self._orphans if not each.orphan()]:
                self._orphans.remove(received_blocks)
                self._deliveries.remove(received_blocks)

    def close(self) -> None:
        """No worker is left: what is still viewed keeps its memory, and nothing else does."""
        forked_copies.look()
        self._orphans = list(self._deliveries)
        self.sweep()
        self.arena.give_up(Arena.start(0), SPAN)
        self.shared_objects.trim()
        self.arena.close()

    def close_alone(self) -> None:
        """The same for one that was made by `alone`."""
        self.close()
        os.close(self.arena.descriptor)
