"""Shared memory in which blocks lie: the far end of the status board's file, nameless and sparse.

The file's range is far larger than any memory; only what is written takes some. Each process maps the
blocks that it uses, one by one, so that nobody's address space is taken for what others hold (a task may
well limit its own). Having no name, it leaves nothing behind: it is gone with the last process that holds it.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys

from allcores.shared_memory.allocator import Allocator, Block
from allcores.system import deferral, forks, posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any
    from weakref import ref

#: Bytes of the file's range that belong to one process: none is ever used by two.
SPAN = 1 << 38
#: Bytes of the file's range in all: enough for 16 million workers, one after the other.
RANGE = 1 << 62
#: Bytes copied at a time: between two pieces other threads get their turn.
PIECE = 8 << 20
#: Blocks that a process keeps mapped although nothing refers to them.
MOST_MAPPED = 256
#: Files of closed pools that a process keeps open for what it views. More takes descriptors from the program.
MOST_LEFT = 64


class _Mapping:
    """A block in this process's memory, for as long as this object lives.

    Not an `mmap.mmap`: before Python 3.13 each of those holds a descriptor of its own.
    """

    __slots__ = ("_unmap", "address", "block", "is_private", "left", "size")

    def __init__(self, descriptor: int, block: Block, flags: int) -> None:
        self.size = 0
        self.block = block
        self.is_private = flags == mmap.MAP_PRIVATE
        #: the arena is closed, and this is what is left of it
        self.left: _Left | None = None
        self.address, self._unmap = posix.map_memory(descriptor, block.offset, block.capacity, flags)
        self.size = block.capacity

    def __del__(self) -> None:
        if self.size:
            self._unmap(self.address, self.size)
            if self.left is not None:
                self.left.give_up(self.block)

    def base(self) -> Any:
        """An object that exports the memory and keeps it mapped."""
        base = (ctypes.c_ubyte * self.size).from_address(self.address)
        base.mapping = self  # type: ignore[attr-defined]
        return base


class _Left:
    """The file of a closed arena, open for as long as something of it is viewed; the arena knows by whom."""

    #: of this process
    count = 0

    def __init__(self, arena: Arena, descriptor: int) -> None:
        self.descriptor = -1
        self.arena = arena
        self._pid = os.getpid()
        self.descriptor = posix.move_fd_high(os.dup(descriptor))
        _Left.count += 1

    def give_up(
        self, block: Block, ends: Callable[[], bool] = sys.is_finalizing, process: Callable[[], int] = os.getpid
    ) -> None:
        """No memory for a block that nobody views any more; in a fork of the process it is not for that to say."""
        if not ends() and process() == self._pid:
            posix.punch_hole(self.descriptor, *block)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self.descriptor >= 0:
            close(self.descriptor)
            type(self).count -= 1


class Arena:
    """The file as one process sees it. Any thread may use it; two do not write to one block at a time."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._files = {descriptor: os.fstat(descriptor).st_ino}
        #: of another pool's file, whose shared objects are seen here; None: there is none
        self._elsewhere: int | None = None
        self._open = True
        # What is collected as garbage in here may come back to us on the same thread.
        self._lock = deferral.Lock()
        self._maps: dict[Block, _Mapping] = {}
        #: private mappings that nothing refers to any more
        self._private: dict[Block, _Mapping] = {}
        #: weak references to what views hold, by their own id: kept until they ring
        self._watched: dict[int, ref[Any]] = {}
        self._left: ref[_Left] | None = None
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """In a child of a fork: whichever thread had the lock is not here, and the end of a view takes it."""
        self._lock = deferral.Lock()

    @staticmethod
    def start(worker: int) -> int:
        """Where a worker's range begins; the parent's is that of worker 0. The board has the first."""
        return SPAN * (worker + 1)

    def see(self, descriptor: int) -> None:
        """Take the range of shared objects from the file of another pool."""
        self._elsewhere = descriptor
        self._files[descriptor] = os.fstat(descriptor).st_ino

    def descriptor_of(self, offset: int) -> int:
        """Of the file in which what is at this offset lies."""
        elsewhere = self._elsewhere
        return self.descriptor if elsewhere is None or offset < RANGE - SPAN else elsewhere

    @contextlib.contextmanager
    def _held(self, descriptor: int) -> Iterator[int]:
        """A copy of our descriptor, for the block alone.

        A task may close ours, and the end of the pool does, on whichever thread: its number may be another file's at
        any moment, also between two of our steps.

        Raises:
            OSError: It was closed.
        """
        held = os.dup(descriptor)
        try:
            if os.fstat(held).st_ino != self._files[descriptor]:
                raise OSError(f"descriptor {descriptor} of the shared memory was closed by a task")
            yield held
        finally:
            os.close(held)

    def _map(self, block: Block) -> _Mapping:
        """The memory of a block, mapped once. Raises OSError where the system refuses."""
        with self._lock:
            known = self._maps.get(block)
            if known is None:
                while len(self._maps) >= MOST_MAPPED:
                    # Views keep what they need mapped by themselves.
                    del self._maps[next(iter(self._maps))]
                with self._held(self.descriptor_of(block.offset)) as descriptor:
                    known = self._maps[block] = _Mapping(descriptor, block, mmap.MAP_SHARED)
            return known

    def view(self, block: Block, died: Callable[[], None], *, private: bool = False) -> memoryview:
        """A block's bytes, writable; `died` is called, on any thread, when nothing refers to them any more.

        Args:
            private: What is written stays in this process.
        """
        mapping = self._map_privately(block) if private else self._map(block)
        # Whatever is made of a view (arrays, slices of it, tables) holds this object, not the view itself.
        base = mapping.base()
        self.watch(base, (lambda: self._keep(block, mapping, died)) if private else died)
        return memoryview(base).cast("B")

    def copy_of(self, block: Block) -> memoryview:
        """The bytes of a block of this process's own, for whoever has its lease."""
        return memoryview(self._map(block).base()).cast("B")

    def _map_privately(self, block: Block) -> _Mapping:
        """A copy-on-write mapping with which nobody has done anything. Raises OSError where the system refuses."""
        with self._lock:
            kept = self._private.pop(block, None)
        if kept is not None:
            return kept
        with self._held(self.descriptor_of(block.offset)) as descriptor:
            return _Mapping(descriptor, block, mmap.MAP_PRIVATE)

    def _keep(self, block: Block, mapping: _Mapping, died: Callable[[], None]) -> None:
        """Nothing refers to a private mapping any more: the same block may be asked for again.

        The pages of one that was only read are the file's, and are there already: to fault them in takes longer than to
        read them. One that was written to has pages of its own, which are not kept.
        """
        untouched = self._open and posix.is_untouched(mapping.address, mapping.size)
        with self._lock:
            if untouched and self._open:
                while len(self._private) >= MOST_MAPPED:
                    del self._private[next(iter(self._private))]
                self._private[block] = mapping
        died()

    def watch(self, base: Any, died: Callable[[], None]) -> None:
        """Have `died` called when `base` is gone."""
        import weakref

        key = id(base)

        def ring(_: object) -> None:
            self._watched.pop(key, None)
            died()

        self._watched[key] = weakref.ref(base, ring)

    def write(self, block: Block, position: int, data: memoryview, *, warm: bool) -> None:
        """Copy bytes into a block.

        What is warm is written where it is mapped, which is quickest. A fresh block is written as a file is: for
        fresh pages that is quicker, and a system without memory says so, where a mapping would raise SIGBUS.

        Args:
            warm: Its memory was written before.

        Raises:
            OSError: If there is no memory.
        """
        if warm:
            target = memoryview(self._map(block).base()).cast("B")
            for start in range(0, len(data), PIECE):
                part = data[start : start + PIECE]
                target[position + start : position + start + len(part)] = part
            return
        at = block.offset + position
        with self._held(self.descriptor) as descriptor:
            while len(data):
                written = os.pwrite(descriptor, data[: PIECE * 8], at)
                data = data[written:]
                at += written

    def taken(self) -> int:
        """Bytes of memory behind the file; 0 once its descriptor is closed, by the end of the pool or by a task.

        Any thread may ask, also while another one closes the pool.
        """
        try:
            there = os.fstat(self.descriptor)
        except OSError:
            return 0
        return there.st_blocks * 512 if there.st_ino == self._files[self.descriptor] else 0

    def give_up(self, start: int, size: int) -> None:
        """No memory for this range any more, whoever wrote it."""
        if self._open:
            posix.punch_hole(self.descriptor, start, size)

    def drop(self, allocator: Allocator) -> None:
        """Give memory back to the system that an allocator no longer keeps."""
        ranges, allocator.to_drop = allocator.to_drop, []
        for block in ranges:
            with self._lock:
                self._maps.pop(block, None)
            self.give_up(block.offset, block.capacity)

    def views(self) -> list[Any]:
        """What views hold now: as long as it is there, their blocks are not used again."""
        return [base for base in (each() for each in list(self._watched.values())) if base is not None]

    def part(self) -> list[Any]:
        """The views, right before this process is forked: what is written to one of a result stays with who writes it.

        As with all other memory. What is shared stays so.
        """
        views = self.views()
        left = None if self._left is None else self._left()
        if left is None and not self._open:
            return views
        descriptor = self.descriptor if left is None else left.descriptor
        for base in views:
            mapping = base.mapping
            if mapping.is_private or mapping.block.offset >= RANGE - SPAN:
                continue
            with self._lock:
                # Who views this block next, filled anew, maps it anew.
                self._maps.pop(mapping.block, None)
            with contextlib.suppress(OSError):
                posix.map_privately(mapping.address, descriptor, *mapping.block)
                mapping.is_private = True
        return views

    def close(self) -> None:
        """Let go of what is mapped. Views stay good for as long as they live, and have the file kept open."""
        self._open = False
        with self._lock:
            self._maps.clear()
            self._private.clear()
        views = self.views()
        # Without a descriptor more, nothing is given back before the last of them is gone.
        if views and _Left.count < MOST_LEFT:
            import weakref

            with contextlib.suppress(OSError):
                left = _Left(self, self.descriptor)
                self._left = weakref.ref(left)
                for base in views:
                    base.mapping.left = left
