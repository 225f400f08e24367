"""Bytes for nodes: pickles in which what `Pool.share` has made is named, and its contents travel once to each node."""

from __future__ import annotations

import contextlib
import ctypes
import pickle
from itertools import count
from typing import TYPE_CHECKING, Any

from allcores.shared_memory.arena import RANGE, SPAN, Arena
from allcores.shared_memory.buffers import BufferedPickle
from allcores.shared_memory.objects import SharedObjects
from allcores.shared_memory.repeats import address_of
from allcores.transport import pickling

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

#: begins what names shared contents; a plain pickle begins with 0x80
MARK = b"\x02"

#: number of the contents, where in them, how many bytes
Place = tuple[int, int, int]


class SharedBlocks(SharedObjects):
    """What one pool shares, by numbers that no two contents have, one after the other or at a time.

    Args:
        arena: Where it lies in this process.
        dropped: Takes the numbers of what nothing here refers to any more; on any thread.
    """

    def __init__(self, arena: Arena, dropped: deque[int]) -> None:
        super().__init__(arena, RANGE - SPAN, SPAN)
        self._numbers = count(1)
        self._dropped = dropped
        self._number_of: dict[tuple[int, int], int] = {}
        #: where in memory, and how many bytes
        self._extents: dict[int, tuple[int, int]] = {}

    def room(self, size: int, access: int) -> memoryview:
        """See `SharedObjects`."""
        view = super().room(size, access)
        found = self.find(view)
        if found is not None:
            number = next(self._numbers)
            self._number_of[found[0][0], found[0][1]] = number
            self._extents[number] = address_of(view), size
        return view

    def _forget(self, block: tuple[int, int]) -> None:
        super()._forget(block)
        number = self._number_of.pop(block, None)
        if number is not None:
            self._extents.pop(number, None)
            self._dropped.append(number)

    def locate(self, raw: memoryview) -> Place | None:
        """Where bytes lie, if they are shared."""
        found = self.find(raw)
        if found is None:
            return None
        place = found[0]
        number = self._number_of.get((place[0], place[1]))
        return None if number is None else (number, place[2], place[3])

    def contents(self, number: int) -> bytes:
        """All bytes of what has this number, which something must refer to."""
        address, size = self._extents[number]
        return ctypes.string_at(address, size)


def pack(obj: object, shared: SharedBlocks | None) -> bytes | BufferedPickle:
    """Bytes of anything, for any node. Raises whatever pickling raises."""
    if shared is None:
        return pickling.dumps(obj)
    places: list[Place] = []
    leases: dict[int, object] = {}

    def collect(buffer: pickle.PickleBuffer) -> bool:
        with contextlib.suppress(BufferError):
            raw = buffer.raw()
            place = shared.locate(raw)
            if place is not None:
                places.append(place)
                leases[place[0]] = raw
                return False
        return True

    stream = pickling.dumps(obj, collect, places.clear)
    if not places:
        return stream
    data = MARK + pickle.dumps((stream, places))
    return BufferedPickle(data, len(data), leases)


def unpack(data: bytes, view: Callable[[int], memoryview]) -> Any:
    """What `pack` was given.

    Args:
        data: What it has made.
        view: Contents by their number.
    """
    stream, buffers = split(data, view)
    return pickle.loads(stream, buffers=buffers)


def split(data: bytes, view: Callable[[int], memoryview]) -> tuple[bytes, list[memoryview]]:
    """The pickle in what `pack` has made, and what is beside it; see `unpack`."""
    if data[:1] != MARK:
        return data, []
    stream, places = pickle.loads(memoryview(data)[1:])
    return stream, [view(number)[start : start + size] for number, start, size in places]
