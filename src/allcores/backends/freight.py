"""The parent's side of what travels through blocks: what it sent, what it was sent, what it shares.

Who holds what, so that every block goes back:
- sent to a worker: the worker's `Link.lent`, until the worker says RELEASED or is gone;
- sent by a worker: views in this process; when the last one dies the worker is told, or, if it is gone
  and nothing else is left of its range, the memory goes back to the system.
"""

from __future__ import annotations

import os
import struct
import warnings
from collections import deque
from typing import TYPE_CHECKING

from allcores import budget
from allcores.backends import Usage
from allcores.limits import Limits
from allcores.supervision import system
from allcores.transport import frames
from allcores.transport.arena import RANGE, SPAN, Arena
from allcores.transport.moments import moment
from allcores.transport.noticing import Noticed
from allcores.transport.parcels import LARGE_ITEM, Packer, Parcel, Unpacker
from allcores.transport.sharing import Shelf

if TYPE_CHECKING:
    from allcores.backends.link import Link


#: Blocks take this share of the memory, and no more bytes than this, unless told otherwise.
MEMORY_SHARE = 8
MOST_BYTES = 4 << 30


def block_bytes(limits: Limits) -> int:
    """Bytes of memory for blocks: what was asked for, or what suits this machine."""
    if limits.block_bytes is not None:
        return limits.block_bytes
    memory = budget.machine_memory()
    found = memory.limit or memory.total
    return MOST_BYTES if found is None else min(MOST_BYTES, found // MEMORY_SHARE)


class Delivery:
    """What one worker sent that is still viewed here."""

    def __init__(self, arena: Arena, worker: int) -> None:
        self._arena = arena
        self._start = Arena.start(worker)
        #: offsets of blocks whose views died; appended to on any thread
        self._dead: deque[int] = deque()
        self.unpacker = Unpacker(arena, self._dead.append)
        self._returned = 0

    def returned(self) -> list[int]:
        """Blocks that nobody here needs any more, since the last call."""
        found: list[int] = []
        while self._dead:
            found.append(self._dead.popleft())
            moment("block.released")
        self._returned += len(found)
        return found

    @property
    def viewed(self) -> int:
        """Blocks that something here still refers to."""
        return self.unpacker.opened - self._returned - len(self._dead)

    def drop(self) -> None:
        """The worker is gone and nothing is viewed: no more memory for its range."""
        self._arena.give_up(self._start, SPAN)


def alone() -> Freight | None:
    """For backends whose workers are this very process: nothing travels, but what is shared has to lie somewhere."""
    descriptor = system.sparse_file("shared", RANGE)
    return None if descriptor is None else Freight(descriptor, 0, 1, 0)


class Freight:
    """See the module. memory: bytes of memory for blocks, in all; workers: how many share it with the parent.
    board_bytes: of the file's beginning, which is not ours.
    """

    def __init__(self, descriptor: int, memory: int, workers: int, board_bytes: int) -> None:
        self.arena = Arena(descriptor)
        self.packer = Packer(self.arena, Arena.start(0), SPAN, memory // 2, LARGE_ITEM)
        #: bytes of blocks that one worker may keep
        self.share = memory // 2 // workers
        self.shelf = Shelf(self.arena, RANGE - SPAN, SPAN)
        self.packer.find = self.shelf.find
        self.packer.noticed = Noticed()
        self._orphans: list[Delivery] = []
        self._deliveries: list[Delivery] = []
        self._board_bytes = board_bytes
        self._told = False

    def pack(self, obj: object) -> bytes | Parcel:
        """See Packer.dumps."""
        packed = self.packer.dumps(obj)
        if self.packer.failed is not None and not self._told:
            self._told = True
            warnings.warn(
                f"No shared memory could be had for a large item ({self.packer.failed}); such items are copied through "
                "pipes instead. See `allcores doctor` for what limits memory here.",
                RuntimeWarning,
                stacklevel=2,
            )
        return packed

    def allow(self, worker: int) -> bytes:
        """The frame that tells a new worker its range."""
        return frames.frame(frames.BLOCKS, 0, frames.RANGE.pack(Arena.start(worker), self.share))

    def lend(self, link: Link, parcel: Parcel) -> bytes:
        """The bytes to send; what they refer to lives until the worker gives it back."""
        for offset, what in parcel.leases.items():
            link.lent.setdefault(offset, []).append(what)
        return parcel.data

    @staticmethod
    def take_back(link: Link, body: bytes) -> None:
        """The worker needs these blocks no more."""
        for (offset,) in struct.iter_unpack("<Q", body):
            held = link.lent.get(offset)
            if held:
                held.pop()
                if not held:
                    del link.lent[offset]

    def bury(self, link: Link) -> None:
        """A worker is gone: what it held goes back, what it sent stays for as long as it is viewed."""
        link.lent.clear()
        if link.delivery is not None:
            self._orphans.append(link.delivery)
            self.sweep()

    def deliver(self, worker: int) -> Delivery:
        """For what a new worker will send."""
        delivery = Delivery(self.arena, worker)
        self._deliveries.append(delivery)
        return delivery

    def usage(self) -> Usage:
        """What is taken now."""
        sent, _, _ = self.packer.figures()
        _, shared = self.shelf.figures()
        taken = os.fstat(self.arena.descriptor).st_blocks * 512 - self._board_bytes
        viewed = sum(delivery.viewed for delivery in [*self._deliveries])
        return Usage(sent + viewed, max(0, taken - shared), shared)

    def sweep(self) -> None:
        """Give up the ranges of workers that are gone and of which nothing is viewed any more."""
        if self._orphans:
            for delivery in self._orphans:
                delivery.returned()
            for delivery in [each for each in self._orphans if not each.viewed]:
                self._orphans.remove(delivery)
                self._deliveries.remove(delivery)
                delivery.drop()

    def close(self) -> None:
        """No worker is left."""
        self.arena.close()

    def close_alone(self) -> None:
        """The same for one that was made by `alone`."""
        self.close()
        os.close(self.arena.descriptor)
