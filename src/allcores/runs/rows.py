"""Rows of a run's catalogue: what they say, and how they are written, each with its seal."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from allcores.runs.checksums import is_sealed, seal, sealed
from allcores.runs.outcome_log import Row
from allcores.sinks.json_text import to_json

#: columns of the tables, the seals left out
RECORD = "start, count, offset, size, crc"
FAILURE = "slot, kind, cause, record, round"
CHECKPOINT = "items, place, digest, base"
KEY = "key, slot, digest, pass"
STATE = "items, part, before, content"
#: what `RunIndex.mend` looks at; the first column is the key. `places` is written anew before it is read.
TABLES = {"records": RECORD, "failures": FAILURE, "anchors": CHECKPOINT, "keys": KEY, "states": STATE}


@dataclass(frozen=True, slots=True)
class RunRow:
    """The row of table `run`."""

    id: str
    state: str
    created: float
    updated: float
    seconds: float
    sessions: int
    round: int
    identity: dict[str, Any]
    request: dict[str, Any]
    boot: str | None
    fsync: str
    total: int | None
    places: int | None
    ok: int
    failed: int
    timed_out: int
    worker_lost: int
    error: str | None

    @property
    def failures(self) -> int:
        """Items that were tried and did not return."""
        return self.failed + self.timed_out + self.worker_lost

    @property
    def settled(self) -> int:
        """Items with an outcome."""
        return self.ok + self.failures


RUN_COLUMNS = ("format", *RunRow.__slots__)
RUN = ", ".join(RUN_COLUMNS)


@dataclass(frozen=True, slots=True)
class InputCheckpoint:
    """The input is known up to here.

    Attributes:
        place: Where a cursor can go on, None if it cannot be told.
        digest: Of the input between item `base` and item `items`; an anchor whose digest starts a new one has items ==
            base of those behind it.
    """

    items: int
    place: Any
    digest: str
    base: int


@dataclass(frozen=True, slots=True)
class FailureRow:
    """A failure as it is kept; `record` is JSON text."""

    slot: int
    kind: str
    cause: str
    record: str


def set_columns(db: sqlite3.Connection, **columns: Any) -> None:
    """Set columns of the run's row, and its seal, inside of a transaction."""
    columns = {"updated": time.time(), **columns}
    db.execute(f"UPDATE run SET {', '.join(f'{name} = ?' for name in columns)}", tuple(columns.values()))
    row = db.execute(f"SELECT {RUN} FROM run").fetchone()
    if row is not None:
        db.execute("UPDATE run SET seal = ?", (seal(row),))


def put_rows(db: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Add records."""
    db.executemany(
        "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?)",
        [sealed((row.start, row.count, row.offset, row.size, row.crc)) for row in rows],
    )


def put_failures(db: sqlite3.Connection, rows: Iterable[FailureRow], round: int) -> None:
    """Add failures; those that there are of the same items go."""
    db.executemany(
        "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?)",
        [sealed((row.slot, row.kind, row.cause, row.record, round)) for row in rows],
    )


def move_failure(db: sqlite3.Connection, slot: int, position: int) -> None:
    """Have the record of a failure tell where its item is in the input, if that is another place than it says."""
    row = db.execute(f"SELECT {FAILURE}, seal FROM failures WHERE slot = ?", (slot,)).fetchone()
    if not is_sealed(row):
        return  # it is damaged, which is found when it is read
    record = json.loads(row[3])
    if record.get("index") != position:
        moved = FailureRow(slot, row[1], row[2], to_json(record | {"index": position}))
        put_failures(db, [moved], row[4])


def put_keys(db: sqlite3.Connection, rows: Iterable[tuple[bytes, int, bytes, int]]) -> None:
    """Add keys, as (key, slot, digest, session)."""
    db.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?)", map(sealed, rows))


def put_bad_records(db: sqlite3.Connection, rows: Iterable[tuple[str, int, str]]) -> None:
    """Add bad records of the input, as (path, line, message)."""
    db.executemany("INSERT OR IGNORE INTO bad_records VALUES (?, ?, ?, ?)", map(sealed, rows))


def put_anchors(db: sqlite3.Connection, anchors: Sequence[InputCheckpoint]) -> None:
    """Add anchors; of those with one base only the last is of use, so the others go."""
    for checkpoint in anchors:
        db.execute(
            "DELETE FROM anchors WHERE base = ? AND items < ? AND items > ?",
            (checkpoint.base, checkpoint.items, checkpoint.base),
        )
        place = None if checkpoint.place is None else json.dumps(checkpoint.place)
        db.execute(
            "INSERT OR REPLACE INTO anchors VALUES (?, ?, ?, ?, ?)",
            sealed((checkpoint.items, place, checkpoint.digest, checkpoint.base)),
        )
