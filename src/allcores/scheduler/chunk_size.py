"""How many items travel together: measured seconds and bytes in, a chunk size out."""

from __future__ import annotations

#: Work per chunk at first, and between two reports, ns. Smaller: the parent's cost per report (0.15 to 1 ms of a
#: core, whatever is in it) shows. Larger: the first results come later.
TARGET_NS = 20_000_000
#: It grows with the run, to the time so far divided by this. Smaller: results come in larger bursts.
PARTS = 5
#: ... and to this at most, ns. With 20 ms the parent took 5 to 7 % of two cores, with 100 ms 2 %. Larger: results
#: are seen to come in bursts, and what is stolen or cancelled has more to give up.
MOST_NS = 100_000_000
#: ... or to this for each worker, ns, if that is more: it bounds how many reports a second the parent has to read.
EACH_WORKER_NS = 2_000_000
#: At the end of an input of known length chunks shrink, but not below this much work, ns,
TAIL_NS = 1_000_000
#: nor below this part of the work per chunk. Smaller: the end is out of balance. Larger: it has many reports.
TAIL_PARTS = 20
#: Items per chunk at most: bounds memory and the time between two looks at the input.
MOST_ITEMS = 8_192
#: Pickled bytes per chunk at most, unless a single item is larger.
MOST_BYTES = 1 << 20
#: One measurement lets chunks grow by this factor, so that 1 µs items reach full size in three steps.
GROWTH = 64
#: How fast old measurements fade; 0.7 forgets half within two frames.
MEMORY = 0.7


class Chunker:
    """Sizes the chunks of one map.

    Source: guided self-scheduling (Polychronopoulos and Kuck, 1987) for the tail; docs/design/scheduler.md,
    "Chunks size themselves", for the rest.

    Args:
        fixed: The caller's chunk size; None for chunks that size themselves.
    """

    #: work per chunk at first, at most, and at the end of an input, ns
    first_ns, most_ns, tail_ns = TARGET_NS, MOST_NS, TAIL_NS
    #: ... and at most for each worker, if that is more, ns
    each_worker_ns = EACH_WORKER_NS

    __slots__ = ("_bytes", "_ceiling", "_items", "_ns", "_worked_ns", "fixed", "target_ns")

    def __init__(self, fixed: int | None = None) -> None:
        self.fixed = fixed
        #: decayed sums over recent frames: their quotients are means that follow a changing load
        self._items = 0.0
        self._ns = 0.0
        self._bytes = 0.0
        self._ceiling = 1
        #: all work that was reported
        self._worked_ns = 0
        #: work per chunk and report, as of the last `size`
        self.target_ns = TARGET_NS

    @property
    def batch(self) -> int:
        """Items that the function gets in one call; 0 if it gets them one by one."""
        return 0

    @property
    def worked_ns(self) -> int:
        """All work that was reported, ns."""
        return self._worked_ns

    @property
    def mean_ns(self) -> float | None:
        """Recent mean of an item's run time in ns; None before the first measurement."""
        return self._ns / self._items if self._items else None

    @property
    def mean_bytes(self) -> float:
        """Recent mean of an item's size in bytes, input or outcome, whichever is larger."""
        return self._bytes / self._items if self._items else 0.0

    def observe(self, count: int, total_ns: int, size_bytes: int, batch: int = 1) -> None:
        """Take in one measurement: `count` items, in batches of `batch`, took `total_ns` and `size_bytes` to carry."""
        if count <= 0:
            return
        self._items = self._items * MEMORY + count
        self._ns = self._ns * MEMORY + total_ns
        self._worked_ns += total_ns
        self._bytes = self._bytes * MEMORY + size_bytes
        self._ceiling = min(MOST_ITEMS, max(self._ceiling, count * GROWTH))

    def size(self, *, workers: int, remaining: int | None = None, credit: int = MOST_ITEMS, brief: bool = False) -> int:
        """Items for the next chunk, at least 1.

        Args:
            workers: How many there are.
            remaining: Items left in the input, None if unknown.
            credit: Items that may still be pulled.
            brief: Others wait for the same workers, or reports are to come soon: chunks are as short as at first.
        """
        self.target_ns = target = self.first_ns
        if not brief:
            # Work of all workers over their number: the time so far, without a clock.
            so_far = self._worked_ns // workers
            self.target_ns = target = min(
                max(target, so_far // PARTS), max(self.most_ns, workers * self.each_worker_ns)
            )
        if self.fixed is not None:
            return max(1, min(self.fixed, credit))
        mean_ns = self.mean_ns
        if mean_ns is None:
            return 1
        mean_ns = max(mean_ns, 1.0)
        size = min(self._ceiling, int(target / mean_ns) or 1)
        size = min(size, max(1, credit))
        if self._bytes:
            size = min(size, int(MOST_BYTES / max(self.mean_bytes, 1.0)) or 1)
        if remaining is not None:
            floor = int(max(self.tail_ns, target / TAIL_PARTS) / mean_ns) or 1
            size = min(size, max(floor, -(-remaining // (2 * workers))))
        return max(1, size)
