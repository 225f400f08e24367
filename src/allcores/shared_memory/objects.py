"""What is shared for as long as it is referred to: arrays, bytes, counters and flags with one copy per machine.

They are never copied into a message: it names their place. A receiver that refers to them keeps the block.
"""

from __future__ import annotations

import contextlib
import ctypes
import pickle
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from allcores.errors import NotSupported
from allcores.failpoints import failpoint
from allcores.shared_memory import buffers as buffered_pickles
from allcores.shared_memory.arena import Arena
from allcores.shared_memory.buffers import LINE, READ, WRITE, Encoder
from allcores.shared_memory.repeats import address_of
from allcores.system import deferral, forks, posix
from allcores.transport import pickling

if TYPE_CHECKING:
    from allcores.shared_memory.buffers import Place

#: Buffers smaller than this stay in the pickle of a shared object: each worker has its own copy of them.
LEAST = 1024


class SharedObjects:
    """The shared blocks of one pool, in the process that made it. Thread-safe."""

    def __init__(self, arena: Arena, start: int, span: int) -> None:
        self._arena = arena
        self._encoder = Encoder(arena, start, span, span, LEAST)
        #: first address, address after the last, block, access: sorted, they do not overlap
        self._known: list[tuple[int, int, tuple[int, int], int]] = []
        #: blocks to which nothing refers any more, and which may be known still; appended to by any thread, at any time
        self._gone: deque[tuple[int, int]] = deque()
        self._lock = deferral.Lock()

    def find(self, raw: memoryview) -> tuple[Place, object] | None:
        """The place of bytes that lie in a shared block."""
        if not self._known:
            return None
        address = address_of(raw)
        with self._lock:
            self._forget_gone()
            index = bisect_right(self._known, (address, 1 << 64)) - 1
            if index < 0:
                return None
            start, end, block, access = self._known[index]
        if address + raw.nbytes > end or address < start:
            return None
        return (*block, address - start, raw.nbytes, access), raw

    def room(self, size: int, access: int) -> memoryview:
        """A new block's bytes, all zero; it lives for as long as something refers to them.

        Raises OSError if there is no memory for it.
        """
        taken = self._encoder.take(max(size, 1))
        if taken is None:
            raise OSError("there is no room for more shared memory in this pool")
        lease, warm = taken
        block = lease.block
        zeros = memoryview(bytes(min(size, 1 << 20)))
        # Also for fresh memory: so a lack of it is an error now, and not a SIGBUS later.
        for at in range(0, size, 1 << 20):
            self._arena.write(block, at, zeros[: min(len(zeros), size - at)], warm=warm)
        view = self._arena.view(block, lambda: self._forget(block))
        # The block goes back when the last reference to its bytes does.
        base: Any = view.obj
        base.lease = lease
        start = ctypes.addressof(base)
        with self._lock:
            # First: this block's former bytes may be among those that are gone.
            self._forget_gone()
            insort(self._known, (start, start + block.capacity, block, access))
        failpoint("share.made")
        return view[:size]

    def _forget(self, block: tuple[int, int]) -> None:
        # May run anywhere, in the middle of anything: no lock is taken here, and nothing changed that others change.
        self._gone.append(block)
        failpoint("share.gone")

    def _forget_gone(self) -> None:
        """What is gone is not known any more: its addresses may be another's by now. With the lock held."""
        gone = set()
        while self._gone:
            gone.add(self._gone.popleft())
        if gone:
            self._known = [known for known in self._known if known[2] not in gone]

    def share(self, obj: Any) -> Any:
        """A copy of `obj` whose buffers are shared and read-only. Raises whatever pickling raises, and OSError."""
        if isinstance(obj, (bytes, bytearray, memoryview)):
            source = memoryview(obj)
            # Those of a view may lie apart, or be none.
            source = source.cast("B") if source.c_contiguous and source.nbytes else memoryview(source.tobytes())
            room = self.room(len(source), READ)
            room[:] = source
            return SharedBytes(room)
        buffers: list[memoryview] = []

        def collect(buffer: pickle.PickleBuffer) -> bool:
            with contextlib.suppress(BufferError):
                raw = buffer.raw()
                if raw.nbytes >= LEAST:
                    buffers.append(raw)
                    return False
            return True

        stream = pickling.dumps(obj, collect, buffers.clear)
        sizes = [-(-buffer.nbytes // LINE) * LINE for buffer in buffers]
        views: list[memoryview] = []
        if buffers:
            room, at = self.room(sum(sizes), READ), 0
            for buffer, size in zip(buffers, sizes, strict=True):
                part = room[at : at + buffer.nbytes]
                part[:] = buffer
                views.append(part.toreadonly())
                at += size
        return pickle.loads(stream, buffers=views)

    def trim(self) -> None:
        """Keep no memory that nothing refers to."""
        self._encoder.trim()

    def figures(self) -> tuple[int, int]:
        """Blocks and bytes that are shared now."""
        blocks, used, _ = self._encoder.figures()
        return blocks, used


class SharedBytes:
    """Bytes with one copy per machine. `view` is a read-only memoryview of them; `bytes()` makes a copy."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        self.view = memoryview(view).toreadonly()

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, where: Any) -> Any:
        found = self.view[where]
        return found if isinstance(found, int) else bytes(found)

    def __bytes__(self) -> bytes:
        return bytes(self.view)

    def __buffer__(self, flags: int) -> memoryview:
        # Python 3.12 and newer: it can be given to whatever takes bytes.
        return self.view

    def __eq__(self, other: object) -> bool:
        return self.view == (other.view if isinstance(other, SharedBytes) else other)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedBytes, (pickle.PickleBuffer(self.view),)

    def __repr__(self) -> str:
        return f"<SharedBytes of {len(self):,} bytes>"


#: Held while a word is changed: the file's own locks exclude other processes, not other threads of this one. One for
#: all words: each call that is given a word has an object of its own for it, and a process that has only one of the
#: file's locks at a time never waits in a circle with another.
_changing = deferral.Lock()


@forks.in_child
def _after_fork() -> None:
    global _changing
    _changing = deferral.Lock()


class _Word:
    """Eight bytes that all processes of a pool see. A lock that dies with its holder guards every change."""

    def __init__(self, view: memoryview, descriptor: int, place: Place) -> None:
        self._view = view
        self._value = ctypes.c_int64.from_buffer(view)
        self._descriptor = descriptor
        self._place = place

    @contextlib.contextmanager
    def _locked(self) -> Iterator[ctypes.c_int64]:
        with _changing, posix.locked_bytes(self._descriptor, self._place[0], 8):
            yield self._value

    def __reduce__(self) -> tuple[Any, ...]:
        batch = buffered_pickles.at_work.batch
        place = batch.place_of(self._view) if batch is not None else None
        if place is None:
            raise NotSupported(
                f"A {type(self).__name__} belongs to its pool: it can be given to that pool's functions, not pickled, "
                "returned, or given to another pool."
            )
        return _attach, (type(self), place)


def _attach(kind: type[_Word], place: Place) -> _Word:
    decoder = buffered_pickles.at_work.decoder
    assert decoder is not None
    return kind(decoder.view(place), decoder.arena.descriptor_of(place[0]), place)


class Counter(_Word):
    """A whole number that all workers see and change; exact, whoever changes it at the same time.

    From `Pool.counter`. Give it to functions like any argument, also inside of items, closures and `setup_args`.
    64 bits, signed.
    """

    def add(self, number: int = 1) -> int:
        """Add to it; returns what it is then."""
        __tracebackhide__ = True
        with self._locked() as word:
            word.value += number
            return int(word.value)

    def set(self, number: int) -> None:
        """Make it `number`."""
        __tracebackhide__ = True
        with self._locked() as word:
            word.value = number

    @property
    def value(self) -> int:
        """What it is now."""
        return int(self._value.value)

    def __repr__(self) -> str:
        return f"<Counter {self.value}>"


class Flag(_Word):
    """Yes or no, seen by all workers: to tell running tasks something. From `Pool.flag`."""

    def set(self) -> bool:
        """Raise it; True if it was down before, which holds for one caller alone."""
        with self._locked() as word:
            before, word.value = word.value, 1
            return not before

    def clear(self) -> None:
        """Lower it."""
        with self._locked() as word:
            word.value = 0

    def is_set(self) -> bool:
        """Whether it is raised. Costs next to nothing."""
        return bool(self._value.value)

    def __repr__(self) -> str:
        return f"<Flag {'set' if self.is_set() else 'clear'}>"


def word(kind: type[_Word], shared_objects: SharedObjects, arena: Arena) -> Any:
    """A new Counter or Flag, 0 or clear."""
    view = shared_objects.room(8, WRITE)
    found = shared_objects.find(view)
    assert found is not None
    return kind(view, arena.descriptor, found[0])
