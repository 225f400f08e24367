"""What is left of the input: the items that a run has no outcome for, with their index.

Before it gives any, it has made sure that the input is the one of the run, as far as that went. It does so in
the cheapest way there is:

    files that are as they were (size, time, number)   go straight to the last place before the first gap
    other files, and what is in memory                 read up to where the run was, comparing digests; then as above
    all else (a generator, a pipe, objects that may    read up to there, comparing; items that are left are held, and
    be around one)                                     that reading goes on: a second one may give others, or nothing.
                                                       Where many are left an object is read twice, if that can be done
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from allcores.errors import RunChanged, UsageError
from allcores.outcome import Outcome
from allcores.runs.index import RunIndex
from allcores.runs.ranges import RangeSet
from allcores.runs.rows import InputCheckpoint, put_anchors
from allcores.sources.base import Cursor, Report, open_cursor
from allcores.sources.chain import begins_anew, is_read_once
from allcores.sources.digest import Digest, item_digest
from allcores.transport.refilled_items import RefilledItems, as_pulled

#: items behind which a new digest begins, so that reading can go on there another day. Smaller makes more rows,
#: larger reads more when a run is resumed.
BASE_ITEMS = 200_000
#: items to pass over, above which it pays to look for a place nearer by
FAR_ITEMS = 10_000
#: items that are left of what is known and held at most, of an object that may be read twice. Larger: memory. Smaller:
#: those around an iterator have to be given as one.
MOST_HELD = 20_000
#: as many items follow each other without a gap, as far as is asked
ENDLESS = 1 << 40

InterruptSafeLock = Callable[[Iterable[Any]], Iterator[Any]]


class RemainingItems:
    """The items that are left, for `Pool.outcomes(ordered=False)`: an iterator that numbers its items.

    Read on one thread, the consumer's. total: items of the input, known once it was read to its end.
    """

    def __init__(
        self,
        source: Iterable[Any],
        settled: RangeSet,
        *,
        wanted: Iterable[int] | None = None,
        guard: InterruptSafeLock = iter,
    ) -> None:
        """See the class.

        Args:
            settled: What has an outcome, as of now.
            wanted: Instead, the indices that are to run, rising.
            guard: Wrapped around each reading, and may end it early.
        """
        self.total: int | None = None
        self._source = source
        #: a copy: what is settled from now on was given by us
        self._settled = RangeSet(settled)
        self._wanted = None if wanted is None else iter(wanted)
        #: called with each bad record that is left out
        self.report: Report | None = None
        #: items that the input had when it was read to its end; more are a change
        self.expected: int | None = None
        self._guard = guard
        self._cursor: Cursor | None = None
        self._items: Iterator[Any] = iter(())
        self._held: deque[tuple[int, Any]] = deque()
        #: of a reading whose items are held while it goes on: whether it fills them anew
        self._refilled: RefilledItems | None = None
        #: the last that is known of the input, and how many items that are
        self._last: InputCheckpoint | None = None
        self._known = 0
        self._base = 0
        self._marked = 0
        #: of an input that can be read once: what was found when it was compared, and is to be known from now on
        self._read: list[InputCheckpoint] = []
        self._anew: list[InputCheckpoint] = []
        self._seek: Callable[[int], InputCheckpoint | None] | None = None
        self._hole: tuple[int, int | None] = (0, 0)
        self._iterator: Iterator[Any] = iter(())

    # --- opening ---

    def compare(self, anchors: Iterable[InputCheckpoint]) -> None:
        """Make sure it is the same input, as far as it was read. Raises: RunChanged.

        Args:
            anchors: What is known of it, from its start on.
        """
        known = list(anchors)
        if not known:
            return
        certain = begins_anew(self._source)
        if not certain and not is_read_once(self._source) and self._left_of(known[-1].items) > MOST_HELD:
            self._source, certain = _BeginningAlike(self._source), True
        cursor = open_cursor(self._source, report=self.report)
        once = cursor.one_shot or not certain
        try:
            self._compare(cursor, known, once=once)
        finally:
            if not once:
                cursor.close()
            elif self._read:
                self._known, self._last = self._read[-1].items, self._read[-1]
                self._use(cursor, self._last)
        self._known, self._last = known[-1].items, known[-1]

    def _left_of(self, items: int) -> int:
        """How many of the first items have no outcome."""
        return items - sum(max(0, min(stop, items) - start) for start, stop in self._settled)

    def reset(self) -> None:
        """It is another input, and that was accepted: know nothing of it. What is settled is passed over.

        But what can be read only once stays open, with its items that were read and are left: they would be lost.
        """
        if self._cursor is None:
            self._last, self._known = None, 0
        else:
            self._anew = self._read

    def open(self, run_index: RunIndex) -> None:
        """Stand before the first item that is left."""
        if self._anew:
            with run_index.transaction() as db:
                put_anchors(db, self._anew)
        for checkpoint in run_index.anchors():
            self._known, self._last = checkpoint.items, checkpoint
        if self._cursor is None:
            self._seek = run_index.checkpoint_before
            self._start(0 if self._wanted is not None else self._settled.hole_from(0)[0])
        self._iterator = self._left()
        self._next_hole(0)

    def _start(self, index: int) -> None:
        """Open a reading that stands at or before `index`."""
        checkpoint = self._seek(index) if self._seek is not None else None
        if self._cursor is not None:
            self._cursor.close()
        if checkpoint is None:
            self._use(open_cursor(self._source, report=self.report), None)
        else:
            cursor = open_cursor(self._source, place=checkpoint.place, items=checkpoint.items, report=self.report)
            self._use(cursor, checkpoint)

    def _use(self, cursor: Cursor, checkpoint: InputCheckpoint | None) -> None:
        self._cursor = cursor
        guarded = self._guard(cursor)
        self._items = iter(guarded) if self._refilled is None else as_pulled(guarded, self._refilled)
        if checkpoint is not None:
            self._base = checkpoint.items
            cursor.digest = Digest(checkpoint.digest)
        else:
            self._base = 0
        self._marked = max(self._known, cursor.items)

    def _compare(self, cursor: Cursor, anchors: list[InputCheckpoint], *, once: bool) -> None:
        """Read up to the last anchor; the digest must be the same at each.

        Args:
            once: There is no second reading: what is left is held.
        """
        base = before = 0
        digest = ""
        for checkpoint in anchors:
            if checkpoint.base != base:
                cursor.digest = Digest(digest)
                base = checkpoint.base
            forward = getattr(cursor, "forward", None)
            there = True
            if once:
                there = self._hold_until(cursor, checkpoint.items)
            elif forward is not None and checkpoint.place is not None:
                there = forward(checkpoint.place, checkpoint.items)
            else:
                there = cursor.skip(checkpoint.items - cursor.items) == checkpoint.items - before
            digest = cursor.digest.value()
            self._read.append(InputCheckpoint(cursor.items, cursor.place(), digest, base))
            if not there or digest != checkpoint.digest:
                what = "ends" if not there else "has changed"
                raise RunChanged(
                    f"the input {what} between item {before} and item {checkpoint.items - 1},"
                    f" of which {anchors[-1].items} were read",
                    differences=(f"the input {what} between item {before} and item {checkpoint.items - 1}",),
                )
            before = checkpoint.items

    def _hold_until(self, cursor: Cursor, items: int) -> bool:
        """Read up to item `items`; keep those that are left, for there is no second reading."""
        # One object may be filled anew for each item: what is held is to stay what it is.
        refilled = self._refilled = self._refilled or RefilledItems()
        reading = iter(cursor)
        wanted = next(self._wanted, None) if self._wanted is not None else None
        while cursor.items < items:
            index = cursor.items
            try:
                item = next(reading)
            except StopIteration:
                return False
            left = index == wanted if self._wanted is not None else index not in self._settled
            if refilled.watching or (left and refilled.found):
                item = refilled.see(item, alone=False, may_stay=False)
            if left:
                self._held.append((index, item))
                if self._wanted is not None:
                    wanted = next(self._wanted, None)
        if self._wanted is not None and wanted is not None:
            self._wanted = _before(wanted, self._wanted)
        return True

    # --- giving ---

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._iterator)

    def upcoming(self) -> tuple[int, int]:
        """The next item's index, and how many follow each other from there on."""
        if self._held:
            return self._held[0][0], 1
        assert self._cursor is not None
        start, stop = self._hole
        index = max(self._cursor.items, start)
        if stop is not None and index >= stop:
            self._next_hole(index)
            start, stop = self._hole
            index = max(index, start)
        return index, ENDLESS if stop is None else max(1, stop - index)

    def _left(self) -> Iterator[Any]:
        while self._held:
            yield self._held.popleft()[1]
        while True:
            cursor = self._cursor
            assert cursor is not None
            if cursor.items == self._known and self._base < self._known:
                self._base_at_known()
            start, stop = self._hole
            if stop is not None and cursor.items >= stop:
                self._next_hole(cursor.items)
                start, stop = self._hole
            if start < 0:
                return
            if cursor.items < start:
                if start - cursor.items > FAR_ITEMS and self._seek is not None:
                    checkpoint = self._seek(start)
                    if checkpoint is not None and checkpoint.items > cursor.items:
                        self._start(start)
                        continue
                aim = min(start, self._known) if cursor.items < self._known else start
                cursor.skip(aim - cursor.items)
                if cursor.items < aim:
                    return self._ended()
                continue
            items = self._items
            if cursor.items < self._known:
                stop = self._known if stop is None else min(stop, self._known)
            if stop is None:
                if self.expected is not None:
                    for _ in items:
                        raise RunChanged(
                            f"the input has grown: when it was read to its end it had {self.expected} items."
                            " Go on with what is new with accept_changes=True (--accept-changes)",
                            differences=("the input has grown",),
                        )
                yield from items
                return self._ended()
            while cursor.items < stop:
                try:
                    item = next(items)
                except StopIteration:
                    return self._ended()
                yield item

    def _base_at_known(self) -> None:
        """Begin a new digest where the last one is known, so that what is known forms one chain."""
        assert self._cursor is not None
        last = self._last
        assert last is not None
        self._base = last.items
        self._cursor.digest = Digest(last.digest)

    def _ended(self) -> None:
        assert self._cursor is not None
        if self._wanted is None:
            self.total = self._cursor.items

    def _next_hole(self, index: int) -> None:
        if self._wanted is None:
            self._hole = self._settled.hole_from(index)
            return
        wanted = next(self._wanted, None)
        self._hole = (-1, -1) if wanted is None else (wanted, wanted + 1)

    # --- marking ---

    def new_checkpoints(self, index: int) -> list[InputCheckpoint] | None:
        """What is to be committed together with the outcome of item `index`: an anchor at or behind it."""
        if index < self._marked:
            return None
        cursor = self._cursor
        # One that is torn tells nothing more. What it gave is settled all the same, though it cannot be compared then.
        if cursor is None or cursor.torn or cursor.items <= self._marked:
            return None
        self._marked = items = cursor.items
        checkpoint = InputCheckpoint(items, cursor.place(), cursor.digest.value(), self._base)
        if items - self._base >= BASE_ITEMS:
            self._base = items
            cursor.digest = Digest(checkpoint.digest)
        return [checkpoint]

    def by_slot(self, outcomes: list[Outcome[str]]) -> list[Outcome[str]]:
        """Outcomes under their places in the journal, which are their indices."""
        return outcomes

    def slot_of(self, index: int) -> int:
        """The place of an item in the journal."""
        return index

    def holds(self, slot: int) -> bool:
        """Whether an item has that place."""
        return True

    def committed(self, keys: object) -> None:
        """Outcomes were committed."""

    def places(self, end: int) -> list[tuple[int, int, int]] | None:
        """Where the items are in the journal, if not at their index.

        Args:
            end: Behind the last slot that is settled.
        """
        assert self.total is not None
        return None if end <= self.total else [(0, self.total, 0)] if self.total else []

    def close(self) -> None:
        """Let go of files."""
        if self._cursor is not None:
            self._cursor.close()


class _BeginningAlike:
    """An object that is read twice, of which nobody knows whether that can be done: then both begin with one item."""

    def __init__(self, source: Iterable[Any]) -> None:
        self._source = source
        self._first: bytes | None = None

    def __iter__(self) -> Iterator[Any]:
        reading = iter(self._source)
        begins = list(islice(reading, 1))
        digest = item_digest(begins)
        if digest != (self._first or digest):
            raise UsageError(
                "the input begins with another item when it is read a second time, and more of it is left than is held:"
                " give its iterator, or a list"
            )
        self._first = digest
        yield from begins
        yield from reading


class RemainingByCount(RemainingItems):
    """A feed that can tell how many items are left; for progress and for the sizes of the last chunks."""

    count = 0

    def __len__(self) -> int:
        return self.count


def _before(first: int, rest: Iterator[int]) -> Iterator[int]:
    yield first
    yield from rest
