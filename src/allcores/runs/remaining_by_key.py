"""What is left of an input whose items are known by a key: found again wherever they are now.

Each key has a slot, the item's place in the journal, and a digest of the item. An item that is new, or has changed,
gets a new slot and runs; one that is as it was keeps its outcome, wherever in the input it stands. The input is
read from its start each time.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import Any

from allcores.errors import UsageError
from allcores.outcome import Outcome
from allcores.runs.index import RunIndex
from allcores.runs.ranges import RangeSet
from allcores.runs.rows_outcome import moved
from allcores.sources.base import Cursor, Report, open_cursor
from allcores.sources.chain import Chain, begins_anew
from allcores.sources.digest import item_digest
from allcores.sources.files import Files
from allcores.transport.refilled_items import as_pulled

#: rows of keys that are committed without waiting for an outcome
MANY_ROWS = 50_000
#: keys that are looked up at once, and the seconds for which a slow input is waited for so many
BLOCK = 500
BLOCK_S = 0.002


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A row of the table of keys.

    Attributes:
        session: The one that last met the key.
    """

    key: bytes
    slot: int
    digest: bytes
    session: int


def is_keyed(source: Iterable[Any], key: str | int | None) -> bool:
    """True if a source's items are known by a key: one was given, or they are files."""
    parts = source.parts if isinstance(source, Chain) else (source,)
    return key is not None or all(isinstance(part, Files) for part in parts)


class RemainingByKey:
    """The items that are left, as `feed.Feed`: an iterator that numbers its items by where they are now."""

    def __init__(
        self,
        source: Iterable[Any],
        key: str | int | None,
        run_index: RunIndex,
        settled: RangeSet,
        guard: Callable[[Iterable[Any]], Iterator[Any]] = iter,
    ) -> None:
        """See the class.

        Args:
            key: A field or an index; None for files, whose path it is.
            settled: Slots that have an outcome.
        """
        self.total: int | None = None
        self.report: Report | None = None
        self._source = source
        self._key = key
        self._run_index = run_index
        self._settled = RangeSet(settled)
        self._guard = guard
        self._cursor: Cursor | None = None
        self._items: Iterator[Any] = iter(())
        self._session = 0
        self._next_slot = 0
        #: items that are to run, with their position
        self._left: deque[tuple[int, Any]] = deque()
        self._exhausted = False
        self._new_rows: list[KeyRow] = []
        #: keys that this session met and that may not be committed yet -> their position
        self._recent: dict[bytes, int] = {}
        #: ranges of positions and the slots that they have; the last one ends before this position
        self._positions: list[int] = []
        self._slots: list[int] = []
        self._end = 0
        #: slots of items that have changed, which have others now; and, once they were asked for, those of all items
        self._replaced: set[int] = set()
        self._kept: set[int] | None = None

    def open(self, session: int) -> None:
        """Stand before the first item.

        Args:
            session: Its number, higher than any before.
        """
        self._session = session
        self._next_slot = max(self._run_index.last_slot_of_keys() + 1, self._settled.end)
        self._cursor = open_cursor(self._source, report=self.report)
        # Items are read ahead, in blocks: one object may be filled anew for each of them.
        self._items = as_pulled(self._guard(self._cursor))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self._left and not self._fill():
            raise StopIteration
        return self._left.popleft()[1]

    def upcoming(self) -> tuple[int, int]:
        """The next item's index, and how many follow each other from there on."""
        if not self._left and not self._fill():
            return 0, 1
        first = self._left[0][0]
        last = self._left[-1][0]
        if last - first == len(self._left) - 1:
            return first, len(self._left)
        count = 1
        for (position, _), (following, _) in zip(self._left, islice(self._left, 1, None), strict=False):
            if following != position + 1:
                break
            count += 1
        return first, count

    def _fill(self) -> bool:
        """Read on until something is left to run; False at the end of the input."""
        while not self._left and not self._exhausted:
            block = self._read_block()
            if block:
                self._sort_out(block)
        return bool(self._left)

    def _read_block(self) -> list[Any]:
        block: list[Any] = []
        until = monotonic() + BLOCK_S
        for item in self._items:
            block.append(item)
            if len(block) >= BLOCK or monotonic() > until:
                return block
        self._exhausted = True
        assert self._cursor is not None
        self.total = self._cursor.items
        return block

    def _sort_out(self, block: Sequence[Any]) -> None:
        assert self._cursor is not None
        position = self._cursor.items - len(block)
        keys = [item_digest(self._key_of(item, position + offset)) for offset, item in enumerate(block)]
        # First, for the writer may commit a key meanwhile: then it is neither in the table as it was read nor here.
        recent = {key for key in keys if key in self._recent}
        known = self._run_index.keys(keys)
        for item, key in zip(block, keys, strict=True):
            digest = self._digest(item)
            row = known.get(key)
            if key in recent or key in self._recent or (row is not None and row[2] == self._session):
                raise self._met_twice(item, position)
            if row is not None and row[1] == digest:
                slot = row[0]
            else:
                slot = self._next_slot
                if row is not None:
                    self._replaced.add(row[0])
                self._next_slot += 1
            self._new_rows.append(KeyRow(key, slot, digest, self._session))
            self._recent[key] = position
            if not self._positions or slot - self._slots[-1] != position - self._positions[-1]:
                self._positions.append(position)
                self._slots.append(slot)
            if slot not in self._settled:
                self._left.append((position, item))
            position += 1
        self._end = position
        if len(self._new_rows) >= MANY_ROWS:
            new_checkpoints = self.new_checkpoints(0) or []
            self._run_index.put_keys([(row.key, row.slot, row.digest, row.session) for row in new_checkpoints])
            self.committed(new_checkpoints)

    def _met_twice(self, item: Any, position: int) -> UsageError:
        if self._key is None:
            return UsageError(
                f"{item} matches two of the patterns, and a journal knows files by their paths, each of which is one"
                " item: leave out a pattern, or do without a journal (--no-journal, journal=False)"
            )
        return UsageError(
            f"item {position} has the key {self._key_of(item, position)!r}, which an earlier item has:"
            " a key has to tell all items apart"
        )

    def _key_of(self, item: Any, position: int) -> Any:
        if self._key is None:
            return item
        try:
            return item[self._key]
        except (KeyError, IndexError, TypeError) as error:
            what = "field" if isinstance(self._key, str) else "place"
            raise UsageError(
                f"item {position} has no {what} {self._key!r} that could be its key ({type(error).__name__}: {error})"
            ) from None

    def _digest(self, item: Any) -> bytes:
        if self._key is not None:
            return item_digest(item)
        try:
            there = os.stat(item)
        except OSError:
            return item_digest(None)
        return item_digest((there.st_size, there.st_mtime_ns))

    # --- for the writer ---

    def new_checkpoints(self, index: int) -> list[KeyRow] | None:
        """Rows of keys, to be committed with the next outcome."""
        if not self._new_rows:
            return None
        new_checkpoints, self._new_rows = self._new_rows, []
        return new_checkpoints

    def by_slot(self, outcomes: list[Outcome[str]]) -> list[Outcome[str]]:
        """Outcomes under their places in the journal."""
        if self._positions == [0] and self._slots == [0]:
            return outcomes
        return [moved(outcome, self.slot_of(outcome.index)) for outcome in outcomes]

    def slot_of(self, position: int) -> int:
        """The place of an item in the journal."""
        place = bisect_right(self._positions, position) - 1
        return self._slots[place] + position - self._positions[place]

    def holds(self, slot: int) -> bool:
        """Whether an item of the input has that place, as far as it was read or can be read once more."""
        if slot in self._replaced:
            return False
        stops = [*self._positions[1:], self._end]
        met = zip(self._positions, stops, self._slots, strict=True)
        if any(first <= slot < first + stop - position for position, stop, first in met):
            return True
        if self._exhausted or not begins_anew(self._source):
            return not self._exhausted
        if self._kept is None:
            self._kept = set(self._slots_of_all())
        return slot in self._kept

    def _slots_of_all(self) -> Iterator[int]:
        """The places of all items that are as they were, by a reading for that alone."""
        cursor = open_cursor(self._source)
        try:
            items = iter(cursor)
            while block := list(islice(items, BLOCK)):
                place = cursor.items - len(block)
                keys = [item_digest(self._key_of(item, place + offset)) for offset, item in enumerate(block)]
                known = self._run_index.keys(keys)
                for item, key in zip(block, keys, strict=True):
                    if key in known and known[key][1] == self._digest(item):
                        yield known[key][0]
        finally:
            cursor.close()

    def committed(self, keys: Sequence[KeyRow]) -> None:
        """These are in the table by now. Called by the writer's thread."""
        for row in keys:
            self._recent.pop(row.key, None)

    def places(self, end: int) -> list[tuple[int, int, int]] | None:
        """Where the items are in the journal; None if each is at its index and nothing else is there."""
        assert self.total is not None
        if not self.total:
            return [] if end else None
        if self._positions == [0] and self._slots == [0] and end <= self.total:
            return None
        stops = [*self._positions[1:], self.total]
        return [
            (position, stop - position, slot)
            for position, stop, slot in zip(self._positions, stops, self._slots, strict=True)
        ]

    def close(self) -> None:
        """Let go of files."""
        if self._cursor is not None:
            self._cursor.close()
