"""A run's outcomes in input order, read from its log and its failures, for a sink to publish."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from heapq import merge

from allcores.errors import JournalError
from allcores.runs.index import RunIndex
from allcores.runs.outcome_log import Damaged, Log, Record, Row
from allcores.runs.rows import FailureRow
from allcores.sinks.base import Block, Lost


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
    for position, count, slot in places:
        yield from _moved(run_index, log, position, count, slot)


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


def _moved(run_index: RunIndex, log: Log, position: int, count: int, slot: int) -> Iterator[Block | Lost]:
    """Outcomes of `count` slots from `slot` on, for the items from `position` on."""
    end = slot + count
    while slot < end:
        row = run_index.record_of(slot)
        if row is None:
            failure = next(run_index.failures(after=slot - 1), None)
            if failure is None or failure.slot != slot:
                raise DamagedRecords([])
            yield Lost(position, json.loads(failure.record) | {"index": position})
            slot, position = slot + 1, position + 1
            continue
        record = _read(log, row)
        first = slot - row.start
        last = min(row.count, end - row.start)
        lines = record.lines.split(b"\n")[first:last]
        details = None if record.details is None else record.details[first:last]
        yield Block(position, last - first, b"\n".join(lines) + b"\n", details)
        slot, position = slot + last - first, position + last - first


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
