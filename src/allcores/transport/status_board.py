"""The status board: one slot per worker in shared memory, written by that worker alone.

A slot says which item runs and since when; it costs a worker one store per item and no message. CURRENT is the item's
position, and above POSITION_BITS how many more are in the same call: none, unless a function gets batches.
CLAIMED is the mark up to which the worker may start items without looking at the board again; the one
word that the parent writes is the LIMIT: claim nothing from this mark on. Behind the slots
lies an outbox per worker, where sealed results wait for the pipe: what is in it survives the worker.

Before the slots lies the head, written by the parent alone: what the board is, so that another process
can read it (`allcores top`), and how far the pool is.

Words are 8 bytes, aligned, in native order; CPython copies them as one store, so they do not tear.
"""

from __future__ import annotations

import mmap
import sys

from allcores.transport.positions import NO_LIMIT, of_together_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SEQUENCE, CURRENT, STARTED, CLAIMED, LIMIT, PHASE, USED, DONE, BUSY, PID, WORKER, FIRST = range(12)
#: words per slot; 64 bytes keep two workers' slots out of one cache line
SLOT_WORDS = 16
SLOT_BYTES = SLOT_WORDS * 8
OUTBOX_BYTES = 65_536
#: the chunk in this slot is a call of `submit`: its items have no index
NO_INDEX = (1 << 64) - 1

#: a page, so that slots stay aligned
HEAD_BYTES = 4096
#: "allcores" as a word: its first byte comes first in memory
MAGIC = int.from_bytes(b"allcores", sys.byteorder)
#: to be raised with every change of what a word means
VERSION = 2
#: words of the head: what it is; whose; how far. MAP_DONE and MAP_TOTAL are of the maps that are open,
#: MAP_TOTAL 0 if that is not known. Counts are items. BY_VALUE: functions of the pool travel by value.
(
    HEAD_MAGIC,
    HEAD_VERSION,
    HEAD_SLOTS,
    HEAD_PARENT,
    HEAD_WORKERS,
    HEAD_STARTED,
    HEAD_DONE,
    HEAD_FAILED,
    HEAD_RETRIES,
    HEAD_MAP_DONE,
    HEAD_MAP_TOTAL,
    HEAD_MEMORY_LIMIT,
    HEAD_NAME_BYTES,
    HEAD_BY_VALUE,
) = range(14)
HEAD_WORDS = 16
#: behind the words: the pool's name in UTF-8
NAME_BYTES = 256


def size(slots: int) -> int:
    """Bytes of a board."""
    return HEAD_BYTES + slots * (SLOT_BYTES + OUTBOX_BYTES)


def worker_name(pool: str, worker: int) -> str:
    """What a process of a pool is called.

    Args:
        pool: Its pool's name.
        worker: The worker's number; 0: it is the template that runs the preload function.
    """
    return f"{pool}-worker-{worker}" if worker else f"{pool}-preload"


def slot_words(number: int) -> int:
    """Where a slot begins, in words."""
    return (HEAD_BYTES + number * SLOT_BYTES) // 8


class Board:
    """A mapped board. Closing it needs every view of it released."""

    def __init__(self, descriptor: int, slots: int) -> None:
        #: of the file, beyond whose beginning the blocks lie; the owner of the board closes it
        self.descriptor = descriptor
        self.slots = slots
        self._map = mmap.mmap(descriptor, size(slots))
        self._bytes = memoryview(self._map)
        self._words = self._bytes.cast("Q")

    def introduce(self, parent: int, workers: int, started_ns: int, memory_limit: int, name: str) -> None:
        """Write the head.

        Args:
            memory_limit: Bytes that a worker may use, 0 if that is not limited.
        """
        text = name.encode("utf-8", "replace")[:NAME_BYTES]
        self._bytes[HEAD_WORDS * 8 : HEAD_WORDS * 8 + len(text)] = text
        words = self._words
        words[HEAD_VERSION], words[HEAD_SLOTS], words[HEAD_PARENT] = VERSION, self.slots, parent
        words[HEAD_WORKERS], words[HEAD_STARTED], words[HEAD_MEMORY_LIMIT] = workers, started_ns, memory_limit
        words[HEAD_NAME_BYTES] = len(text)
        # Last: a head without it is not finished.
        words[HEAD_MAGIC] = MAGIC

    @property
    def parent(self) -> int:
        """Pid of the process that has the pool."""
        return self._words[HEAD_PARENT]

    def name_of(self, number: int | None) -> str:
        """What the process in a slot is called; None: the template."""
        words = HEAD_WORDS * 8
        pool = bytes(self._bytes[words : words + self._words[HEAD_NAME_BYTES]]).decode("utf-8", "replace")
        return worker_name(pool, 0 if number is None else self._words[slot_words(number) + WORKER])

    def note(self, done: int, failed: int, retries: int) -> None:
        """How far the pool is, in items."""
        words = self._words
        words[HEAD_DONE], words[HEAD_FAILED], words[HEAD_RETRIES] = done, failed, retries

    def note_maps(self, done: int, total: int) -> None:
        """How far the maps are that are open now, in items.

        Args:
            total: 0 if it is unknown.
        """
        self._words[HEAD_MAP_DONE], self._words[HEAD_MAP_TOTAL] = done, total

    @property
    def by_value(self) -> bool:
        """Functions of the pool travel by value: to load them, each worker needs cloudpickle."""
        return self._words[HEAD_BY_VALUE] != 0

    @by_value.setter
    def by_value(self, value: bool) -> None:
        self._words[HEAD_BY_VALUE] = value

    def identify(self, number: int, worker: int) -> None:
        """Write whose slot it is."""
        self._words[slot_words(number) + WORKER] = worker

    def slot(self, number: int) -> Any:
        """The words of a slot, as the worker uses them: a ctypes array stores in half a memoryview's time."""
        import ctypes

        return (ctypes.c_uint64 * SLOT_WORDS).from_buffer(self._map, slot_words(number) * 8)

    def outbox(self, number: int) -> memoryview:
        """The bytes of a slot's outbox."""
        start = HEAD_BYTES + self.slots * SLOT_BYTES + number * OUTBOX_BYTES
        return self._bytes[start : start + OUTBOX_BYTES]

    def clear(self, number: int) -> None:
        """Make a slot fit for a new worker."""
        base = slot_words(number)
        for index in range(base, base + SLOT_WORDS):
            self._words[index] = 0
        self._words[base + LIMIT] = NO_LIMIT

    def progress(self, number: int) -> tuple[int, int, int, int, int, int]:
        """Where the worker is: sequence, position, start time, phase, claimed, items in the call that runs.

        Read order matters: `worker.chunk_runner` stores in the opposite one. It stores the start time first,
        so when the time that is read last is old, what was read before belongs to that time.
        """
        base = slot_words(number)
        words = self._words
        claimed = words[base + CLAIMED]
        phase = words[base + PHASE]
        sequence = words[base + SEQUENCE]
        position, together = of_together_word(words[base + CURRENT])
        return sequence, position, words[base + STARTED], phase, claimed, together

    def set_limit(self, number: int, limit: int) -> None:
        """Tell the worker to start nothing at or after `limit`."""
        self._words[slot_words(number) + LIMIT] = limit

    def used(self, number: int) -> int:
        """Bytes in the outbox."""
        return min(self._words[slot_words(number) + USED], OUTBOX_BYTES)

    def word(self, number: int, index: int) -> int:
        """One word of a slot."""
        return self._words[slot_words(number) + index]

    def close(self) -> None:
        """Unmap."""
        self._words.release()
        self._bytes.release()
        self._map.close()
