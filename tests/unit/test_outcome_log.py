"""The log: what is appended is read, what is damaged is found, what was not committed is cut off."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.errors import RemoteTraceback, WorkerLost
from allcores.outcome import Kind, Outcome
from allcores.runs.outcome_log import Damaged, Log, Record, decode_record, encode_record
from allcores.runs.rows_outcome import RowsOutcome
from allcores.runs.writer import failure_row, sorted_out

RECORDS = [
    Record(0, 2, b"1\n2\n"),
    Record(7, 1, '"ä"\n'.encode(), [(3, -1, 0.25)]),
    Record(8, 3, b"[]\n{}\nnull\n", [(1, 0, 1.0), (1, 1, 2.0), (2, 2, 3.0)]),
]


def test_every_single_byte_counts(tmp_path: Path) -> None:
    """A record with any one byte changed is damaged, and so is one that is cut."""
    log = Log(str(tmp_path / "log"), 0)
    rows = log.append(RECORDS)
    assert [log.read(row) for row in rows] == RECORDS
    log.close()
    raw, _ = encode_record(RECORDS[1])
    row = type(rows[1])(7, 1, 0, len(raw), rows[1].crc)
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 1
        if place >= 28 and place < 32:
            continue  # not used yet
        with pytest.raises(Damaged):
            decode_record(bytes(changed), row)
        with pytest.raises(Damaged):
            decode_record(raw[:place], row)


def test_what_was_not_committed_is_cut_off(tmp_path: Path) -> None:
    """At the next opening; and what is missing is told."""
    path = str(tmp_path / "log")
    log = Log(path, 0)
    (row, *_) = log.append(RECORDS)
    log.close()
    log = Log(path, row.size)
    assert Path(path).stat().st_size == row.size and log.read(row) == RECORDS[0]
    again = log.append(RECORDS[1:])
    assert again[0].offset == row.size
    log.close()
    log = Log(path, 10_000, writable=False)
    assert log.missing > 0
    log.close()


@given(st.permutations(range(12)), st.sets(st.integers(0, 11)))
def test_outcomes_become_records_of_neighbours(order: list[int], failed: set[int]) -> None:
    """Whatever the order in which they come: sorted, joined, failures apart."""
    outcomes = [
        Outcome(index, Kind.FAILED, None, ValueError("x"), index)
        if index in failed
        else Outcome(index, Kind.OK, str(index))
        for index in order
    ]
    records, failures = sorted_out(outcomes, details=False)
    found = [
        (record.start + offset, int(line))
        for record in records
        for offset, line in enumerate(record.lines.decode().splitlines())
    ]
    assert found == [(index, index) for index in range(12) if index not in failed]
    assert [row.slot for _, row in failures] == sorted(failed)
    assert all(one.start + one.count < other.start for one, other in pairwise(records))


def test_failures_are_grouped_by_what_they_have_in_common() -> None:
    """Numbers left out; a lost worker by how it ended."""
    one = failure_row(Outcome(1, Kind.FAILED, error=ValueError("item 17 at 0x7f00 is bad")))
    two = failure_row(Outcome(2, Kind.FAILED, error=ValueError("item 4 at 0x1234 is bad")))
    assert one.cause == two.cause == "ValueError: item N at N is bad"
    lost = failure_row(Outcome(3, Kind.WORKER_LOST, error=WorkerLost("gone", signal="SIGSEGV", peak_memory=5)))
    assert lost.cause == "its worker was ended by SIGSEGV" and '"peak_memory": 5' in lost.record


def test_a_failure_is_written_alike_wherever_it_was_raised() -> None:
    """In a worker, whose traceback comes as text, and in the program itself: the same keys in the same order."""

    def record_of(error: BaseException) -> dict[str, Any]:
        outcome = RowsOutcome(1, Kind.FAILED, None, error, extra={"stage": "map"})
        found: dict[str, Any] = json.loads(failure_row(outcome).record)
        return found

    there = ValueError("no")
    there.__cause__ = RemoteTraceback(
        'Traceback (most recent call last):\n  File "work.py", line 1, in work\nValueError: no\n'
    )
    try:
        raise ValueError("no")
    except ValueError as error:
        here = error
    assert list(record_of(here)) == list(record_of(there))
    assert record_of(here)["traceback"].endswith("ValueError: no")
