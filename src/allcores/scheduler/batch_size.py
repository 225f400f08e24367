"""How many items a function gets in one call, where it takes batches: a number, or by measured seconds."""

from __future__ import annotations

from typing import Literal

from allcores.scheduler.chunk_size import MOST_ITEMS, Chunker

#: Work of a batch that sizes itself, ns. Smaller: what a call costs by itself (a model's 1 to 5 ms) shows. Larger: more
#: memory and later results, and more has to run again after a failure.
BATCH_NS = 50_000_000
#: The same at most, where larger batches have shown to pay, ns: a call may cost more by itself than `BATCH_NS`.
BATCH_MOST_NS = 1_000_000_000
#: They pay if an item takes no more than this part of what it took in batches of half the size or less. Larger: noise
#: counts as a gain.
BATCH_GAIN = 0.8
#: Reports of a size by which that is judged: from the first number to the second.
BATCH_JUDGED = (2, 8)
#: One measurement lets batches grow by this factor: five steps from 1 to 1,024.
BATCH_GROWTH = 4
#: At the end of an input of known length batches that size themselves shrink to this part of their size. Smaller parts:
#: calls cost more than an even end saves.
BATCH_TAIL = 8
#: The seconds of a batch, beyond the `timeout` of one item: so many times what its others take on average. Larger: what
#: hangs is found later. Smaller: batches of slow items are ended, and run again one by one.
BATCH_PATIENCE = 10
#: A batch whose process ends is divided in so many parts. Each end costs a process and its setup: with 8 there are 4
#: of them until the item at fault is alone among 128, with 2 there are 8. Larger: the others run in smaller batches.
BATCH_PARTS = 8

Batch = int | Literal["auto"]


class BatchChunker(Chunker):
    """Sizes the batches of one map, and its chunks, which hold whole batches.

    Args:
        fixed: The caller's chunk size; None for chunks that size themselves.
        batch: Items of a batch, or "auto".
        bytes_limit: Bytes of the map that may be in flight, of which each worker has its share.
    """

    __slots__ = (
        "_batch",
        "_batch_ns",
        "_before_ns",
        "_bytes_limit",
        "_fixed_batch",
        "_most",
        "_top",
        "_top_items",
        "_top_ns",
        "_top_reports",
    )

    def __init__(self, fixed: int | None, batch: Batch, bytes_limit: int) -> None:
        super().__init__(fixed)
        self._fixed_batch = None if batch == "auto" else batch
        self._batch = self._fixed_batch or 1
        self._bytes_limit = bytes_limit
        #: what batches may grow to, as far as is known
        self._most = 1
        #: work of a batch that is aimed at
        self._batch_ns = BATCH_NS
        #: the largest batches so far: from this size to less than twice as many items, what was reported of them, and
        #: the mean of an item in those before, None if there were none
        self._top = 1
        self._top_items = self._top_ns = self._top_reports = 0
        self._before_ns: float | None = None

    @property
    def batch(self) -> int:
        """Items of a batch of the chunk that was sized last, at most."""
        return self._batch

    def observe(self, count: int, total_ns: int, size_bytes: int, batch: int = 1) -> None:
        """See `Chunker`."""
        super().observe(count, total_ns, size_bytes)
        if self._fixed_batch is not None or not 0 < batch <= count:
            return
        self._most = min(MOST_ITEMS, max(self._most, batch * BATCH_GROWTH))
        if batch >= 2 * self._top:
            if self._top_items:
                self._before_ns = self._top_ns / self._top_items
            self._top = batch
            self._top_items = self._top_ns = self._top_reports = 0
        if batch >= self._top:
            self._top_items += count
            self._top_ns += total_ns
            self._top_reports += 1
            self._judge(batch)

    def _judge(self, batch: int) -> None:
        """Aim at longer batches if those that take as long as they may have shown to pay, or nothing is known of it."""
        first, last = BATCH_JUDGED
        mean_ns = self._top_ns / self._top_items
        long = first <= self._top_reports <= last and 2 * mean_ns * batch >= self._batch_ns
        if long and (self._before_ns is None or mean_ns <= BATCH_GAIN * self._before_ns):
            self._batch_ns = min(BATCH_MOST_NS, self._batch_ns * BATCH_GROWTH)

    def size(self, *, workers: int, remaining: int | None = None, credit: int = MOST_ITEMS, brief: bool = False) -> int:
        """Items for the next chunk, which is to be cut into batches of `batch`. See `Chunker`."""
        size = super().size(workers=workers, remaining=remaining, credit=credit, brief=brief)
        batch = self._fixed_batch
        if batch is None:
            self._batch = batch = self._by_time(workers, remaining, credit)
            if batch == self._most < MOST_ITEMS:
                # They still grow: the next chunk is to learn from this one, and not half of the input with it.
                return batch
        return max(batch, size // batch * batch)

    def _by_time(self, workers: int, remaining: int | None, credit: int) -> int:
        mean_ns = self.mean_ns
        if mean_ns is None:
            return 1
        size = min(self._most, int(self._batch_ns / max(mean_ns, 1.0)) or 1, max(1, credit))
        if self.mean_bytes > 1.0:
            # So that every worker can hold several within the limit.
            size = min(size, int(self._bytes_limit / (4 * workers) / self.mean_bytes) or 1)
        if self.fixed is not None:
            size = min(size, self.fixed)
        if remaining is not None:
            size = min(size, max(size // BATCH_TAIL, -(-remaining // (2 * workers)), 1))
        return max(1, size)


def allowed_ns(timeout_ns: int, together: int, mean_ns: float | None) -> int:
    """How long a call may take in which each of `together` items has `timeout_ns`.

    One item may use up its own time, and the others take what they take: if each had as much, one that hangs would be
    left alone for minutes. Nobody is charged for what is ended early: its items run again alone.

    Args:
        mean_ns: Recent mean of an item, None if it is not known.
    """
    if together == 1:
        return timeout_ns
    most = timeout_ns * together
    return most if mean_ns is None else min(most, timeout_ns + int(BATCH_PATIENCE * mean_ns * (together - 1)))
