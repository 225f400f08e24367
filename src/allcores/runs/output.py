"""A run's outcomes in input order, read from its log and its failures, for a sink to publish."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from heapq import merge

from allcores.errors import JournalError
from allcores.runs.index import RunIndex
from allcores.runs.outcome_log import Damaged, Log, Record, Row
from allcores.runs.rows import FailureRow
from allcores.sinks.base import Block, Lost

#: records that are held, where items have moved: those of neighbours may be in a few of them, by turns
HELD_RECORDS = 8


class DamagedRecords(Exception):
    """Records of the log are not what was written.

    Args:
        rows: Which.
    """

    def __init__(self, rows: list[Row]) -> None:
        super().__init__(f"{len(rows)} records are damaged")
        self.rows = rows


def entries(run_index: RunIndex, log: Log) -> Iterator[Block | Lost]:
    """All outcomes in input order. Memory is that of a record.

    Raises:
        DamagedRecords: If a record is not whole.
    """
    places = run_index.places()
    if places is None:
        yield from by_slot(run_index, log)
        return
    held = _HeldRecords(run_index, log)
    for position, count, slot in places:
        yield from _moved(run_index, held, position, count, slot)


def whole(given: Iterable[Block | Lost], total: int | None, run: str) -> Iterator[Block | Lost]:
    """The same entries, each item once and in order up to `total`.

    Raises:
        JournalError: Before what is not so.
    """
    item = 0
    for entry in given:
        start = entry.start if isinstance(entry, Block) else entry.index
        if start != item:
            break
        item += entry.count if isinstance(entry, Block) else 1
        yield entry
    else:
        if item == total:
            return
    raise JournalError(
        f"the journal of run {run} does not add up: at item {item} of {total} something is missing, or there twice."
        f" Nothing was published. Resume the run, or export what there is (allcores runs export {run} -o FILE)",
        run=run,
    )


def by_slot(run_index: RunIndex, log: Log) -> Iterator[Block | Lost]:
    """The same by their slots, also of items that are not in the input any more."""
    records: Iterator[tuple[int, Row | FailureRow]] = ((row.start, row) for row in run_index.records())
    failures: Iterator[tuple[int, Row | FailureRow]] = ((row.slot, row) for row in run_index.failures())
    for slot, row in merge(records, failures, key=lambda each: each[0]):
        if isinstance(row, Row):
            record = _read(log, row)
            yield Block(record.start, record.count, record.lines, record.details)
        else:
            yield Lost(slot, json.loads(row.record))


def _moved(run_index: RunIndex, held: _HeldRecords, position: int, count: int, slot: int) -> Iterator[Block | Lost]:
    """Outcomes of `count` slots from `slot` on, for the items from `position` on."""
    end = slot + count
    while slot < end:
        found = held.of(slot)
        if found is None:
            failure = run_index.failure_of(slot)
            if failure is None:
                raise DamagedRecords([])
            yield Lost(position, json.loads(failure.record) | {"index": position})
            slot, position = slot + 1, position + 1
            continue
        record, lines = found
        first = slot - record.start
        last = min(record.count, end - record.start)
        details = None if record.details is None else record.details[first:last]
        yield Block(position, last - first, b"\n".join(lines[first:last]) + b"\n", details)
        slot, position = slot + last - first, position + last - first


class _HeldRecords:
    """Records with their lines; of those that were read, the last ones are held."""

    def __init__(self, run_index: RunIndex, log: Log) -> None:
        self._run_index = run_index
        self._log = log
        self._held: deque[tuple[Record, list[bytes]]] = deque(maxlen=HELD_RECORDS)

    def of(self, slot: int) -> tuple[Record, list[bytes]] | None:
        """The record that holds a slot; None if there is none.

        Raises:
            DamagedRecords: It is not whole.
        """
        for each in self._held:
            if each[0].start <= slot < each[0].start + each[0].count:
                return each
        row = self._run_index.record_of(slot)
        if row is None:
            return None
        record = _read(self._log, row)
        found = (record, record.lines.split(b"\n"))
        self._held.append(found)
        return found


def _read(log: Log, row: Row) -> Record:
    try:
        return log.read(row)
    except (Damaged, OSError):
        raise DamagedRecords([row]) from None


def damaged_rows(run_index: RunIndex, log: Log, *, behind: int = 0) -> list[Row]:
    """Records whose bytes are not what was written; of those that end behind `behind` bytes of the log."""
    found = []
    for row in run_index.records():
        if row.offset + row.size > behind:
            try:
                log.read(row)
            except (Damaged, OSError):
                found.append(row)
    return found
