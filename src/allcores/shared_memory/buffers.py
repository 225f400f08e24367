"""Messages whose large parts lie in blocks: what travels through the pipe says where they are.

A buffered pickle is either a plain pickle (which begins with 0x80), or MARK and a pickled table: the pickle stream
itself and the out-of-band buffers of protocol 5, each given as bytes or as a place in a block. An array
is then copied once, by its sender; its receiver gets a view.

    sender: pickle ──buffers──► block ──place──► pipe      receiver: view of the block ──► array
"""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections import deque

from allcores.failpoints import failpoint
from allcores.shared_memory import repeats
from allcores.shared_memory.allocator import Allocator, Block, Lease
from allcores.shared_memory.arena import Arena
from allcores.system import deferral
from allcores.transport import pickling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    #: block, position, length, access
    Place = tuple[int, int, int, int, int]
    #: finds what is shared already: its place, and what keeps it
    Find = Callable[[memoryview], tuple[Place, object] | None]

MARK = b"\x01"
#: Bytes from which on a buffer travels through a block, measured. All large buffers of a chunk of items share a
#: block; each result has one of its own, to go back when that result does.
LARGE_ITEM = 4 * 1024
LARGE_RESULT = 16 * 1024
#: The same for a pickle stream.
LARGE_STREAM = 64 * 1024
#: Buffers begin at multiples of this inside of a block: what vector instructions like.
LINE = 64

#: the receiver's view of a place: its own to write to; for all to read; for all to read and write; a private copy
OWN, READ, WRITE, PRIVATE = range(4)


class _AtWork(threading.local):
    """Per thread: what is being packed or opened, for objects that are not copied but named."""

    batch: _Batch | None = None
    decoder: Decoder | None = None
    #: what this thread sends does not change meanwhile
    constant_items: repeats.ConstantItems | None = None


at_work = _AtWork()


@contextlib.contextmanager
def unchanging(items: Sequence[object]) -> Iterator[None]:
    """While this lasts, nobody changes these items, which this thread sends: each large array is looked at once."""
    before, at_work.constant_items = at_work.constant_items, repeats.ConstantItems(items)
    try:
        yield
    finally:
        at_work.constant_items = before


class BufferedPickle:
    """A message for one receiver.

    Args:
        data: What travels.
        size: Bytes of it all.
        leases: What must live meanwhile.
    """

    __slots__ = ("data", "leases", "size")

    def __init__(self, data: bytes, size: int, leases: dict[int, object]) -> None:
        self.data = data
        self.size = size
        self.leases = leases

    def __len__(self) -> int:
        return self.size


class Encoder:
    """Turns objects into buffered pickles, with blocks of its own range of the arena. Thread-safe.

    Args:
        budget: Bytes of memory for blocks, 0 for none.
        large: Bytes from which on a buffer goes into a block.
        to_parent: All of it is for the process that this one works for.
    """

    def __init__(
        self, arena: Arena, start: int, span: int, budget: int, large: int, *, to_parent: bool = False
    ) -> None:
        self.arena = arena
        self._to_parent = to_parent
        self._large = large
        self._allocator = Allocator(start, span, budget)
        #: offsets of blocks that came back; appended to by any thread, at any time
        self._returned: deque[int] = deque()
        self._lock = deferral.Lock()
        #: what goes to many receivers; None where there is one only
        self.repeat_cache: repeats.RepeatCache | None = None
        #: None if nothing is shared
        self.find: Find | None = None
        #: blocks could not be had for lack of memory
        self.failed: OSError | None = None

    def dumps(self, obj: object, access: int = OWN) -> bytes | BufferedPickle:
        """A plain pickle for what is small, else a buffered pickle. Raises whatever pickling raises.

        Args:
            access: OWN for one receiver, PRIVATE for several, who must not see what the others write.
        """
        batch = _Batch(self.find, self._large, to_parent=self._to_parent)
        stream = batch.dump(obj)
        if not batch.parts and not batch.leases and len(stream) < LARGE_STREAM:
            return stream
        buffered_pickle = self._fill(stream, batch, access)
        if buffered_pickle is None:
            # No block to be had: all goes through the pipe, but what is shared stays so.
            batch = _Batch(self.find, None, to_parent=self._to_parent)
            stream = batch.dump(obj)
            buffered_pickle = self._wrap(stream, batch.parts, batch)
        return buffered_pickle if buffered_pickle.leases else stream

    def stream_of(self, packed: BufferedPickle) -> bytes | None:
        """A copy of the pickle in a message of ours, which still holds its blocks; None if it has buffers beside it."""
        body, places = pickle.loads(memoryview(packed.data)[1:])
        if places:
            return None
        if isinstance(body, bytes):
            return body
        offset, capacity, position, length, _ = body
        return bytes(self.arena.copy_of(Block(offset, capacity))[position : position + length])

    def encode(self, stream: bytes) -> bytes | BufferedPickle:
        """The same for a pickle that was made already."""
        buffered_pickle = self._fill(stream, _Batch(None, None), OWN) if len(stream) >= LARGE_STREAM else None
        return buffered_pickle if buffered_pickle is not None else stream

    def _fill(self, stream: bytes, batch: _Batch, access: int) -> BufferedPickle | None:
        """Copy into a block what is not in one already; None if there is no block to be had."""
        parts = [self._repeat_cache(part, batch) if isinstance(part, memoryview) else part for part in batch.parts]
        need = sum(_aligned(part.nbytes) for part in parts if isinstance(part, memoryview))
        large = len(stream) >= LARGE_STREAM
        if large:
            need += len(stream)
        if not need:
            return self._wrap(stream, parts, batch)
        taken = self.take(need)
        if taken is None:
            return None
        lease, warm = taken
        block, position = lease.block, 0
        batch.leases[block.offset] = lease
        failpoint("block.taken")
        placed: list[Place | memoryview] = []
        body: bytes | Place = stream
        try:
            for part in parts:
                if isinstance(part, memoryview):
                    self.arena.write(block, position, part, warm=warm)
                    placed.append((*block, position, part.nbytes, access))
                    position += _aligned(part.nbytes)
                else:
                    placed.append(part)
            if large:
                self.arena.write(block, position, memoryview(stream), warm=warm)
                body = (*block, position, len(stream), access)
        except OSError as error:
            if deferral.raised_by_handler(error):
                raise
            self.failed = error
            return None
        failpoint("block.filled")
        return self._wrap(body, placed, batch)

    def _repeat_cache(self, part: memoryview, batch: _Batch) -> Place | memoryview:
        """The place of a copy that was sent before, if this is the same again."""
        if part.nbytes < repeats.LEAST or self.repeat_cache is None:
            return part
        with self._lock:
            lease = self.repeat_cache.place(part, self._copy, at_work.constant_items)
        if lease is None:
            return part
        batch.leases[lease.block.offset] = lease
        return (*lease.block, 0, part.nbytes, PRIVATE)

    def _copy(self, part: memoryview) -> tuple[Lease, memoryview] | None:
        taken = self.take(part.nbytes)
        if taken is None:
            return None
        lease, warm = taken
        try:
            self.arena.write(lease.block, 0, part, warm=warm)
            return lease, self.arena.copy_of(lease.block)
        except OSError as error:
            if deferral.raised_by_handler(error):
                raise
            self.failed = error
            return None

    @staticmethod
    def _wrap(body: bytes | Place, places: list[Place | memoryview], batch: _Batch) -> BufferedPickle:
        size = batch.size + (len(body) if isinstance(body, bytes) else body[3])
        # What the stream names is told as well: a receiver that does not open it, or not to its end, gives it back.
        return BufferedPickle(MARK + pickle.dumps((body, [*places, *batch.named]), 5), size, batch.leases)

    def take(self, need: int) -> tuple[Lease, bool] | None:
        """A block of `need` bytes, and whether it is warm; None if there is none to be had."""
        with self._lock:
            self._collect()
            taken = self._allocator.take(need)
            if taken is None and self.repeat_cache is not None and self.repeat_cache.forget():
                self._collect()
                taken = self._allocator.take(need)
            self.arena.drop(self._allocator)
            # In here: a signal's handler that raises at the end of the section must not cost the block.
            found = None if taken is None else (Lease(taken.block, need, self._returned), taken.warm)
        return found

    def _collect(self) -> None:
        returned = self._returned
        while returned:
            self._allocator.give(returned.popleft())
            failpoint("block.back")

    def trim(self) -> None:
        """Keep no memory that is not in use."""
        with self._lock:
            self._collect()
            self._allocator.trim()
            self.arena.drop(self._allocator)

    def settle(self) -> None:
        """Keep no more than the budget allows of what has come back."""
        if self._allocator.kept > self._allocator.budget:
            with self._lock:
                self._collect()
                self.arena.drop(self._allocator)

    def figures(self) -> tuple[int, int, int]:
        """Blocks in use, bytes behind them, and bytes behind all blocks that are kept.

        Copies of what was noticed do not count: they are kept in case it comes again.
        """
        with self._lock:
            self._collect()
            self.arena.drop(self._allocator)
            repeat_cache = len(self.repeat_cache) if self.repeat_cache is not None else 0
            return self._allocator.leased - repeat_cache, self._allocator.in_use, self._allocator.kept


class _Batch:
    """What one object's pickle leaves outside of its stream.

    parts: out-of-band buffers in their order, as places if they are shared already. named: places that are in the
    stream. leases: what keeps both. size: bytes of the other buffers.
    """

    __slots__ = ("_least", "_to_parent", "find", "leases", "named", "parts", "size")

    def __init__(self, find: Find | None, least: int | None, *, to_parent: bool = False) -> None:
        self.find = find
        self._least = least
        self._to_parent = to_parent
        self.parts: list[Place | memoryview] = []
        self.named: list[Place] = []
        self.leases: dict[int, object] = {}
        self.size = 0

    def dump(self, obj: object) -> bytes:
        before = at_work.batch
        at_work.batch = self
        try:
            return pickling.dumps(obj, self._collect, self._again, to_parent=self._to_parent)
        finally:
            at_work.batch = before

    def _again(self) -> None:
        self.parts.clear()
        self.named.clear()
        self.leases.clear()
        self.size = 0

    def _collect(self, buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: its owner pickles a copy
            return True
        place = self._shared_place(raw)
        if place is not None:
            self.parts.append(place)
            return False
        if self._least is None or raw.nbytes < self._least:
            return True
        self.parts.append(raw)
        self.size += raw.nbytes
        return False

    def place_of(self, raw: memoryview) -> Place | None:
        """Where it is shared, if it is, for the stream to name; from here on it is kept for the receiver."""
        place = self._shared_place(raw)
        if place is not None:
            self.named.append(place)
        return place

    def _shared_place(self, raw: memoryview) -> Place | None:
        found = self.find(raw) if self.find is not None else None
        if found is None:
            return None
        place, keeper = found
        self.leases[place[0]] = keeper
        return place


def _aligned(size: int) -> int:
    return -(-size // LINE) * LINE


def loads(data: bytes | memoryview, decoder: Decoder | None) -> Any:
    """What was packed. Raises whatever unpickling raises."""
    if decoder is None or data[:1] != MARK:
        return pickle.loads(data)
    return decoder.loads(data)


class Decoder:
    """Opens buffered pickles of others.

    Args:
        died: Called with the offset of a block when nothing refers to its bytes any more.
        opened: Called with the block before, once for each time.
    """

    def __init__(self, arena: Arena, died: Callable[[int], None], opened: Callable[[Block], None]) -> None:
        self.arena = arena
        self._died = died
        self._opened = opened
        #: bytes viewed in them, ever
        self.bytes_opened = 0
        #: views of the buffered pickle that is being opened, by block and access
        self._views: dict[tuple[int, int], memoryview] = {}

    def loads(self, data: bytes | memoryview) -> Any:
        """What lies in the blocks is not copied, but viewed."""
        failpoint("pickle.before")
        body, places = pickle.loads(memoryview(data)[1:])
        before = at_work.decoder
        at_work.decoder = self
        self._views = {}
        try:
            try:
                buffers = [self.view(place) for place in places]
                stream = body if isinstance(body, bytes) else self.view(body)
            except OSError:
                self._skip(body, places)
                raise
            failpoint("pickle.mapped")
            return pickle.loads(stream, buffers=buffers)
        finally:
            failpoint("pickle.after")
            self._views = {}
            at_work.decoder = before

    def skip(self, data: bytes | memoryview) -> None:
        """Nobody will open this buffered pickle: what it refers to is free."""
        if data[:1] == MARK:
            self._skip(*pickle.loads(memoryview(data)[1:]))

    def _skip(self, body: bytes | Place, places: list[Place]) -> None:
        unseen = {place[:2] for place in ([*places] if isinstance(body, bytes) else [*places, body])}
        seen = {offset for offset, _ in self._views}
        for offset, capacity in unseen:
            if offset not in seen:
                self._opened(Block(offset, capacity))
                self._died(offset)

    def stream(self, data: bytes | memoryview) -> bytes | memoryview:
        """The pickle in a buffered pickle that has no buffers, unopened."""
        body, _ = pickle.loads(memoryview(data)[1:])
        self._views = {}
        try:
            return body if isinstance(body, bytes) else self.view(body)
        finally:
            # Or the block would be held until the next buffered pickle of the same sender, which may never come.
            self._views = {}

    def view(self, place: Place) -> memoryview:
        """The bytes at a place, for as long as the buffered pickle is being opened or they are referred to."""
        offset, capacity, position, length, access = place
        whole = self._views.get((offset, access))
        if whole is None:
            died = self._died
            block = Block(offset, capacity)
            self._opened(block)
            whole = self.arena.view(block, lambda: died(offset), private=access == PRIVATE)
            self._views[offset, access] = whole
        self.bytes_opened += length
        part = whole[position : position + length]
        return part.toreadonly() if access == READ else part
