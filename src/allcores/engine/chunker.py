"""How many items travel together: measured seconds and bytes in, a chunk size out."""

from __future__ import annotations

#: Seconds of work per chunk, in ns. Smaller: the parent's cost per chunk (some 0.15 ms) shows.
#: Larger: cancelling, taking back and the end of the input feel it.
TARGET_NS = 20_000_000
#: At the end of an input of known length chunks shrink, but not below this much work.
TAIL_NS = 1_000_000
#: Items per chunk at most: bounds memory and the time between two looks at the input.
MOST_ITEMS = 8_192
#: Pickled bytes per chunk at most, unless a single item is larger.
MOST_BYTES = 1 << 20
#: One measurement lets chunks grow by this factor, so that 1 µs items reach full size in three steps.
GROWTH = 64
#: How fast old measurements fade; 0.7 forgets half within two frames.
MEMORY = 0.7


class Chunker:
    """Sizes the chunks of one flow.

    fixed: the caller's chunk size; None for chunks that size themselves.
    Source: guided self-scheduling (Polychronopoulos and Kuck, 1987) for the tail; docs/design.md,
    "Chunks", for the rest.
    """

    __slots__ = ("_bytes", "_ceiling", "_items", "_ns", "fixed")

    def __init__(self, fixed: int | None = None) -> None:
        self.fixed = fixed
        #: decayed sums over recent frames: their quotients are means that follow a changing load
        self._items = 0.0
        self._ns = 0.0
        self._bytes = 0.0
        self._ceiling = 1

    @property
    def mean_ns(self) -> float | None:
        """Recent mean of an item's run time in ns; None before the first measurement."""
        return self._ns / self._items if self._items else None

    @property
    def mean_bytes(self) -> float:
        """Recent mean of an item's size in bytes, input or outcome, whichever is larger."""
        return self._bytes / self._items if self._items else 0.0

    def observe(self, count: int, total_ns: int, size_bytes: int) -> None:
        """Take in one measurement: `count` items took `total_ns` and `size_bytes` to carry."""
        if count <= 0:
            return
        self._items = self._items * MEMORY + count
        self._ns = self._ns * MEMORY + total_ns
        self._bytes = self._bytes * MEMORY + size_bytes
        self._ceiling = min(MOST_ITEMS, max(self._ceiling, count * GROWTH))

    def size(self, *, workers: int, remaining: int | None = None, credit: int = MOST_ITEMS) -> int:
        """Items for the next chunk, at least 1.

        remaining: items left in the input, None if unknown. credit: items that may still be pulled.
        """
        if self.fixed is not None:
            return max(1, min(self.fixed, credit))
        mean_ns = self.mean_ns
        if mean_ns is None:
            return 1
        mean_ns = max(mean_ns, 1.0)
        size = min(self._ceiling, int(TARGET_NS / mean_ns) or 1)
        size = min(size, max(1, credit))
        if self._bytes:
            size = min(size, int(MOST_BYTES / max(self.mean_bytes, 1.0)) or 1)
        if remaining is not None:
            floor = int(TAIL_NS / mean_ns) or 1
            size = min(size, max(floor, -(-remaining // (2 * workers))))
        return max(1, size)
