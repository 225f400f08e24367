"""Which bytes of the arena belong to whom: numbers only, no memory is touched here.

One owner hands out blocks of its own range of the file: a process for the items it sends, a worker for
the results it returns. Blocks that come back are kept and used again, since a fresh page costs several
times as much as one that was touched before.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque

#: A block larger than this part of the budget may exceed it.
LARGE_SHARE = 4
#: Blocks begin at multiples of this: whole pages on every machine we know.
ALIGNMENT = 65_536
#: A block that comes back may serve requests down to this share of its size.
SMALLEST_SHARE = 2


#: A range of the file: bytes from its beginning, and bytes.
Block = namedtuple("Block", ("offset", "capacity"))
#: A block in new hands. warm: all that was asked for has memory already.
Taken = namedtuple("Taken", ("block", "warm"))


class Lease:
    """A block that is in use; it goes back when nobody holds this object any more."""

    __slots__ = ("_returned", "block", "size")

    def __init__(self, block: Block, size: int, returned: deque[int]) -> None:
        self.block = block
        self.size = size
        self._returned = returned

    def __del__(self) -> None:
        # May run anywhere, in the middle of anything: no lock is taken here.
        self._returned.append(self.block.offset)


def capacity_for(need: int) -> int:
    """The size class for `need` bytes: at most an eighth larger, so that few classes serve all sizes."""
    step = max(ALIGNMENT, 1 << max(0, (need - 1).bit_length() - 3))
    return -(-need // step) * step


class Allocator:
    """Hands out blocks of the range [start, start + span), and keeps at most `budget` bytes of memory.

    Memory counts from the first time a block is used until it is in `to_drop`: the owner gives those ranges
    back to the system. A block that is large compared with the budget may exceed it, unless what is in use does
    so already by more than one such block: the next large item can be made while the last one is looked at.
    """

    def __init__(self, start: int, span: int, budget: int) -> None:
        self._end = start + span
        self._next = start
        self.budget = budget
        #: free blocks by capacity; the one that came back last is the warmest
        self._free: dict[int, list[int]] = {}
        #: those of them that have memory, in the order in which they came back
        self._warm: dict[int, int] = {}
        self._leased: dict[int, int] = {}
        #: bytes of memory behind each block, leased or free
        self._touched: dict[int, int] = {}
        #: bytes of memory behind all blocks, and those behind leased ones
        self.kept = 0
        self.in_use = 0
        #: ranges whose memory the owner is to give back
        self.to_drop: list[Block] = []

    @property
    def leased(self) -> int:
        """Blocks that are in use."""
        return len(self._leased)

    def take(self, need: int) -> Taken | None:
        """A block of at least `need` bytes; None if the budget or the range has no room for it."""
        if not self.budget:
            return None
        block = self._reuse(need) or self._cut(need)
        if block is None:
            return None
        touched = self._touched.get(block.offset, 0)
        growth = max(0, need - touched)
        while self.kept + growth > self.budget and self._warm:
            self._drop(next(iter(self._warm)))
        large = need > self.budget // LARGE_SHARE and self.in_use <= max(self.budget, need)
        if self.kept + growth > self.budget and self._leased and not large:
            self._put(block)
            return None
        self._touched[block.offset] = touched + growth
        self._leased[block.offset] = block.capacity
        self.kept += growth
        self.in_use += touched + growth
        return Taken(block, not growth)

    def give(self, offset: int) -> None:
        """A block comes back. One that is not out is ignored: whoever had it may have died and reported twice."""
        capacity = self._leased.pop(offset, None)
        if capacity is None:
            return
        self.in_use -= self._touched[offset]
        self._put(Block(offset, capacity))
        while self.kept > self.budget and self._warm:
            self._drop(next(iter(self._warm)))

    def trim(self) -> None:
        """Keep no memory for blocks that nobody has."""
        for offset in list(self._warm):
            self._drop(offset)

    def _reuse(self, need: int) -> Block | None:
        least = capacity_for(need)
        fitting = [capacity for capacity in self._free if least <= capacity <= least * SMALLEST_SHARE]
        if not fitting:
            return None
        capacity = min(fitting)
        offset = self._free[capacity].pop()
        if not self._free[capacity]:
            del self._free[capacity]
        self._warm.pop(offset, None)
        return Block(offset, capacity)

    def _cut(self, need: int) -> Block | None:
        capacity = capacity_for(need)
        if self._next + capacity > self._end:
            return None
        offset = self._next
        self._next += capacity
        return Block(offset, capacity)

    def _put(self, block: Block) -> None:
        self._free.setdefault(block.capacity, []).append(block.offset)
        if self._touched.get(block.offset):
            self._warm[block.offset] = block.capacity

    def _drop(self, offset: int) -> None:
        """Give up the memory of a free block; its range stays, to be used again."""
        self.to_drop.append(Block(offset, self._warm.pop(offset)))
        self.kept -= self._touched.pop(offset)
