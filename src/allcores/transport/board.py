"""The status board: one slot per worker in shared memory, written by that worker alone.

A slot says which item runs and since when; it costs a worker one store per item and no message.
CLAIMED is the mark up to which the worker may start items without looking at the board again; the one
word that the parent writes is the LIMIT: claim nothing from this mark on. Behind the slots
lies an outbox per worker, where sealed results wait for the pipe: what is in it survives the worker.

Words are 8 bytes, aligned, in native order; CPython copies them as one store, so they do not tear.
"""

from __future__ import annotations

import mmap

from allcores.transport.marks import NO_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SEQUENCE, CURRENT, STARTED, CLAIMED, LIMIT, PHASE, USED, DONE, BUSY, PID = range(10)
#: words per slot; 64 bytes keep two workers' slots out of one cache line
SLOT_WORDS = 16
SLOT_BYTES = SLOT_WORDS * 8
OUTBOX_BYTES = 65_536


def size(slots: int) -> int:
    """Bytes of a board."""
    return slots * (SLOT_BYTES + OUTBOX_BYTES)


class Board:
    """A mapped board. Closing it needs every view of it released."""

    def __init__(self, descriptor: int, slots: int) -> None:
        #: of the file, beyond whose beginning the blocks lie; the owner of the board closes it
        self.descriptor = descriptor
        self.slots = slots
        self._map = mmap.mmap(descriptor, size(slots))
        self._bytes = memoryview(self._map)
        self._words = self._bytes.cast("Q")

    def slot(self, number: int) -> Any:
        """The words of a slot, as the worker uses them: a ctypes array stores in half a memoryview's time."""
        import ctypes

        return (ctypes.c_uint64 * SLOT_WORDS).from_buffer(self._map, number * SLOT_BYTES)

    def outbox(self, number: int) -> memoryview:
        """The bytes of a slot's outbox."""
        start = self.slots * SLOT_BYTES + number * OUTBOX_BYTES
        return self._bytes[start : start + OUTBOX_BYTES]

    def clear(self, number: int) -> None:
        """Make a slot fit for a new worker."""
        base = number * SLOT_WORDS
        for index in range(base, base + SLOT_WORDS):
            self._words[index] = 0
        self._words[base + LIMIT] = NO_LIMIT

    def glance(self, number: int) -> tuple[int, int, int, int, int]:
        """Where the worker is: sequence, position, start time, phase, claimed.

        Read order matters: `worker.runner` stores in the opposite one. It stores the start time first,
        so when the time that is read last is old, what was read before belongs to that time.
        """
        base = number * SLOT_WORDS
        words = self._words
        claimed = words[base + CLAIMED]
        phase = words[base + PHASE]
        sequence = words[base + SEQUENCE]
        position = words[base + CURRENT]
        return sequence, position, words[base + STARTED], phase, claimed

    def set_limit(self, number: int, limit: int) -> None:
        """Tell the worker to start nothing at or after `limit`."""
        self._words[number * SLOT_WORDS + LIMIT] = limit

    def used(self, number: int) -> int:
        """Bytes in the outbox."""
        return min(self._words[number * SLOT_WORDS + USED], OUTBOX_BYTES)

    def word(self, number: int, index: int) -> int:
        """One word of a slot."""
        return self._words[number * SLOT_WORDS + index]

    def close(self) -> None:
        """Unmap."""
        self._words.release()
        self._bytes.release()
        self._map.close()
