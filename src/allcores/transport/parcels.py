"""Messages whose large parts lie in blocks: what travels through the pipe says where they are.

A parcel is either a plain pickle (which begins with 0x80), or MARK and a pickled table: the pickle stream
itself and the out-of-band buffers of protocol 5, each given as bytes or as a place in a block. An array
is then copied once, by its sender; its receiver gets a view.

    sender: pickle ──buffers──► block ──place──► pipe      receiver: view of the block ──► array
"""

from __future__ import annotations

import pickle
import threading
from collections import deque

from allcores.transport import pickling
from allcores.transport.arena import Arena
from allcores.transport.blocks import Allocator, Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    #: block, position, length, access
    Place = tuple[int, int, int, int, int]

MARK = b"\x01"
#: Bytes from which on a buffer, or a whole pickle, travels through a block. Measured, see docs/design.md.
LARGE = 64 * 1024
#: Buffers begin at multiples of this inside of a block: what vector instructions like.
LINE = 64

#: the receiver's view of a place: its own to write to; for all to read; for all to read and write; a private copy
OWN, READ, WRITE, PRIVATE = range(4)


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


class Parcel:
    """A message for one receiver. data: what travels. size: bytes of it all. leases: what must live meanwhile."""

    __slots__ = ("data", "leases", "size")

    def __len__(self) -> int:
        return self.size

    def __init__(self, data: bytes, size: int, leases: tuple[tuple[int, object], ...]) -> None:
        self.data = data
        self.size = size
        self.leases = leases


class Packer:
    """Turns objects into parcels, with blocks of its own range of the arena. Thread-safe."""

    def __init__(self, arena: Arena, start: int, span: int, budget: int) -> None:
        self.arena = arena
        self._allocator = Allocator(start, span, budget)
        #: offsets of blocks that came back; appended to by anybody, at any time
        self._returned: deque[int] = deque()
        self._lock = threading.Lock()
        #: finds places that are shared already: (address, length) -> a place and what to hold, or None
        self.find: Callable[[memoryview], tuple[Place, object] | None] | None = None
        #: blocks could not be had for lack of memory: said once
        self.failed: OSError | None = None

    def dumps(self, obj: object, access: int = OWN) -> bytes | Parcel:
        """A plain pickle for what is small, else a parcel. Raises whatever pickling raises.

        access: OWN for one receiver, PRIVATE for several, who must not see what the others write.
        """
        buffers: list[memoryview] = []
        stream = _dump(obj, buffers)
        if not buffers and len(stream) < LARGE:
            return stream
        parcel = self._fill(stream, buffers, access)
        return parcel if parcel is not None else pickling.dumps(obj)

    def stow(self, stream: bytes) -> bytes | Parcel:
        """The same for a pickle that was made already."""
        parcel = self._fill(stream, [], OWN) if len(stream) >= LARGE else None
        return parcel if parcel is not None else stream

    def _fill(self, stream: bytes, buffers: list[memoryview], access: int) -> Parcel | None:
        """Copy into a block what is not in one already; None if there is no block to be had."""
        parts: list[Place | memoryview] = []
        leases: list[tuple[int, object]] = []
        need = 0
        for buffer in buffers:
            found = self.find(buffer) if self.find is not None else None
            if found is None:
                parts.append(buffer)
                need = _aligned(need + buffer.nbytes)
            else:
                parts.append(found[0])
                leases.append((found[0][0], found[1]))
        large = len(stream) >= LARGE
        if large:
            need += len(stream)
        places: list[Place] = []
        body: bytes | Place = stream
        if need:
            lease = self.take(need)
            if lease is None:
                return None
            taken, warm = lease
            block, position = taken.block, 0
            leases.append((block.offset, taken))
            try:
                for part in parts:
                    if isinstance(part, memoryview):
                        self.arena.write(block, position, part, warm=warm)
                        places.append((*block, position, part.nbytes, access))
                        position = _aligned(position + part.nbytes)
                    else:
                        places.append(part)
                if large:
                    self.arena.write(block, position, memoryview(stream), warm=warm)
                    body = (*block, position, len(stream), access)
            except OSError as error:
                self.failed = error
                return None
        else:
            places = [part for part in parts if not isinstance(part, memoryview)]
        data = MARK + pickle.dumps((body, places), 5)
        return Parcel(data, len(stream) + sum(buffer.nbytes for buffer in buffers), tuple(leases))

    def take(self, need: int) -> tuple[Lease, bool] | None:
        """A block of `need` bytes, and whether it is warm; None if there is none to be had."""
        with self._lock:
            self._collect()
            taken = self._allocator.take(need)
            self.arena.drop(self._allocator)
        if taken is None:
            return None
        return Lease(taken.block, need, self._returned), taken.warm

    def _collect(self) -> None:
        returned = self._returned
        while returned:
            self._allocator.give(returned.popleft())

    def give(self, offset: int) -> None:
        """A receiver needs a block no more."""
        self._returned.append(offset)

    def trim(self) -> None:
        """Keep no memory that is not in use."""
        with self._lock:
            self._collect()
            self._allocator.trim()
            self.arena.drop(self._allocator)

    def figures(self) -> tuple[int, int, int]:
        """Blocks in use, bytes behind them, and bytes behind all blocks that are kept."""
        with self._lock:
            self._collect()
            return self._allocator.leased, self._allocator.in_use, self._allocator.kept


def _aligned(position: int) -> int:
    return -(-position // LINE) * LINE


def _dump(obj: object, buffers: list[memoryview]) -> bytes:
    def collect(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: its owner pickles a copy
            return True
        if raw.nbytes < LARGE:
            return True
        buffers.append(raw)
        return False

    return pickling.dumps(obj, collect, buffers.clear)


def loads(data: bytes | memoryview, unpacker: Unpacker | None) -> Any:
    """What was packed. Raises whatever unpickling raises."""
    if unpacker is None or data[:1] != MARK:
        return pickle.loads(data)
    return unpacker.loads(data)


class Unpacker:
    """Opens parcels of others. died: called with the offset of a block when nothing refers to its bytes any more."""

    def __init__(self, arena: Arena, died: Callable[[int], None]) -> None:
        self.arena = arena
        self._died = died
        #: blocks opened so far; each dies once
        self.opened = 0
        #: bytes viewed in them, ever
        self.bytes_opened = 0

    def loads(self, data: bytes | memoryview) -> Any:
        """What lies in the blocks is not copied, but viewed."""
        body, places = pickle.loads(memoryview(data)[1:])
        views: dict[tuple[int, int], memoryview] = {}
        buffers = [self._view(place, views) for place in places]
        stream = body if isinstance(body, bytes) else self._view(body, views)
        return pickle.loads(stream, buffers=buffers)

    def stream(self, data: bytes | memoryview) -> bytes | memoryview:
        """The pickle in a parcel that has no buffers, unopened."""
        body, _ = pickle.loads(memoryview(data)[1:])
        return body if isinstance(body, bytes) else self._view(body, {})

    def _view(self, place: Place, views: dict[tuple[int, int], memoryview]) -> memoryview:
        offset, capacity, position, length, access = place
        whole = views.get((offset, access))
        if whole is None:
            whole = views[offset, access] = self._open(Block(offset, capacity), access)
        part = whole[position : position + length]
        self.bytes_opened += length
        return part.toreadonly() if access == READ else part

    def _open(self, block: Block, access: int) -> memoryview:
        died, offset = self._died, block.offset
        self.opened += 1
        return self.arena.view(block, lambda: died(offset), private=access == PRIVATE)
