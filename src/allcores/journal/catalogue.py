"""A run's catalogue: an SQLite file that says what is settled, where it lies, and what failed.

Rules, kept here and nowhere else. Whatever reads and then writes does so in one `BEGIN IMMEDIATE`. A connection
belongs to the process that opened it; a forked child forgets it without closing it. Only the connection of the
run's holder writes, and only it checkpoints (SQLite before 3.51.3 may lose a transaction when two connections
checkpoint at once: https://sqlite.org/wal.html#walresetbug).
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from allcores import own_files
from allcores.errors import JournalError
from allcores.journal.faults import fault
from allcores.journal.log import Row
from allcores.journal.ranges import RangeSet

FILE = "catalogue.sqlite"
#: number of the layout; a run of another one is refused
FORMAT = 1
#: commits between two checkpoints. More lets the write-ahead log grow, fewer write pages again and again.
CHECKPOINT_COMMITS = 200
#: seconds for which another connection's lock is waited for
BUSY_S = 10.0
#: rows that are fetched at a time, so that no long reading keeps the write-ahead log from being reset
PAGE = 4_000


class NotBegun(JournalError):
    """There is no run in a catalogue: its program was ended before it had written one down."""


Durability = Literal["commit", "end", "never"]

#: connections of this process that a forked child must neither use nor close
_open: set[sqlite3.Connection] = set()


def _after_fork() -> None:
    # Closing one in the child would let go of nothing that is the child's; and the garbage collector
    # must not do so either.
    _inherited.extend(_open)
    _open.clear()


_inherited: list[sqlite3.Connection] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True, slots=True)
class Facts:
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
    log_size: int
    total: int | None
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


@dataclass(frozen=True, slots=True)
class Anchor:
    """The input is known up to here. place: where a cursor can go on, None if it cannot be told.

    digest: of the input between item `base` and item `items`; an anchor whose digest starts a new one has
    items == base of those behind it.
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


class Catalogue:
    """One connection. Methods may be called from any thread of its process, one at a time."""

    def __init__(self, folder: str, *, writable: bool = False, create: bool = False, sync: bool = True) -> None:
        self.path = os.path.join(folder, FILE)
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._commits = 0
        self._writable = writable
        mode = "rw" if writable else "ro"
        uri = "file:" + os.path.abspath(self.path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        if create:
            try:  # before SQLite does: it would let others read it, and take what is there
                os.close(own_files.create(self.path))
            except OSError as error:
                raise JournalError(f"cannot make {self.path}: {error.strerror}") from error
        try:
            self._db = sqlite3.connect(
                f"{uri}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_S, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise JournalError(f"cannot open {self.path}: {error}") from error
        _open.add(self._db)
        try:
            self._db.execute("PRAGMA wal_autocheckpoint = 0")
            if writable:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            if create:
                script = resources.files("allcores.journal").joinpath("schema.sql").read_text("utf-8")
                self._db.executescript(script)
        except sqlite3.Error as error:
            self.close()
            raise self._trouble(error) from error

    # --- writing ---

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction that has the write lock from its start; what is raised inside takes it all back."""
        self._check()
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    fault("commit.before")
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OSError) as error:
                raise self._trouble(error) from error
            fault("commit.after")
            self._commits += 1
            if self._commits % CHECKPOINT_COMMITS == 0:
                self.checkpoint()

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database, as far as no reader needs it."""
        with self._lock:
            fault("checkpoint.before")
            try:
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.Error as error:
                raise self._trouble(error) from error
            fault("checkpoint.after")

    def begin(self, name: str, identity: dict[str, Any], request: dict[str, Any], fsync: str) -> None:
        """Write down a new run."""
        now = time.time()
        with self.transaction() as db:
            db.execute(
                "INSERT INTO run (one, format, id, state, created, updated, identity, request, fsync)"
                " VALUES (1, ?, ?, 'running', ?, ?, ?, ?, ?)",
                (FORMAT, name, now, now, json.dumps(identity), json.dumps(request), fsync),
            )

    def update(self, **columns: Any) -> None:
        """Set columns of the run's row."""
        with self.transaction() as db:
            set_columns(db, **columns)

    def forget_input(self) -> None:
        """Forget what is known of the input: it is another one now, and that was accepted."""
        with self.transaction() as db:
            db.execute("DELETE FROM anchors")
            set_columns(db, total=None)

    def put_places(self, places: Sequence[tuple[int, int, int]] | None, *, total: int) -> None:
        """Write down which slots the input as it was read now has, as (position, count, slot); None: each its index.

        The figures are counted anew then: outcomes of items that are not in the input any more do not count.
        """
        with self.transaction() as db:
            db.execute("DELETE FROM places")
            set_columns(db, total=total)
            if places is None:
                return
            db.executemany("INSERT INTO places VALUES (?, ?, ?)", places)
            counts: dict[str, int] = {}
            for _, count, slot in places:
                for kind, number in db.execute(
                    "SELECT kind, count(*) FROM failures WHERE slot >= ? AND slot < ? GROUP BY kind",
                    (slot, slot + count),
                ):
                    counts[kind] = counts.get(kind, 0) + number
            failed = {name: counts.get(name, 0) for name in ("failed", "timed_out", "worker_lost")}
            set_columns(db, ok=total - sum(failed.values()), **failed)

    def put_keys(self, rows: Sequence[tuple[bytes, int, bytes, int]]) -> None:
        """Write down which slot a key has, and for which item."""
        with self.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?)", rows)

    # --- reading ---

    def facts(self) -> Facts:
        """The run's row. Raises: JournalError if there is none, or one of another format."""
        names = (*(name for name in Facts.__slots__), "format")
        try:
            rows = self.rows(f"SELECT {', '.join(names)} FROM run")
        except JournalError as error:
            if "no such table: run" in str(error.__cause__):
                rows = []
            else:
                raise
        if not rows:
            raise NotBegun(f"{self.path} has no run in it: it was ended before it began")
        values = dict(zip(names, rows[0], strict=True))
        if values.pop("format") != FORMAT:
            raise JournalError(f"{self.path} was written by another version of allcores: start the run anew")
        values["identity"] = json.loads(values["identity"])
        values["request"] = json.loads(values["request"])
        return Facts(**values)

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        self._check()
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._trouble(error) from error

    def paged(self, query: str, key: int = -1) -> Iterator[tuple[Any, ...]]:
        """Rows of a query whose first column rises; fetched in pages.

        query: with `WHERE first_column > ?` and `ORDER BY first_column`; a LIMIT is added. key: where to start.
        """
        while True:
            rows = self.rows(f"{query} LIMIT {PAGE}", (key,))
            yield from rows
            if len(rows) < PAGE:
                return
            key = rows[-1][0]

    def records(self) -> Iterator[Row]:
        """Where the outcomes lie, by slot."""
        for row in self.paged("SELECT start, count, offset, size, crc FROM records WHERE start > ? ORDER BY start"):
            yield Row(*row)

    def record_of(self, slot: int) -> Row | None:
        """The record that holds a slot."""
        query = "SELECT start, count, offset, size, crc FROM records WHERE start <= ? ORDER BY start DESC LIMIT 1"
        rows = self.rows(query, (slot,))
        row = Row(*rows[0]) if rows else None
        return row if row is not None and slot < row.start + row.count else None

    def failures(self, *, before_round: int | None = None, after: int = -1) -> Iterator[FailureRow]:
        """Failures by slot; those that were not tried again since `before_round` began."""
        extra = "" if before_round is None else f"AND round < {before_round} "
        query = f"SELECT slot, kind, cause, record FROM failures WHERE slot > ? {extra}ORDER BY slot"
        for row in self.paged(query, after):
            yield FailureRow(*row)

    def anchors(self) -> Iterator[Anchor]:
        """What is known of the input, from its start on."""
        for items, place, digest, base in self.paged(
            "SELECT items, place, digest, base FROM anchors WHERE items > ? ORDER BY items"
        ):
            yield Anchor(items, None if place is None else json.loads(place), digest, base)

    def anchor_before(self, items: int) -> Anchor | None:
        """The last anchor at or before an item from which the input's digest can be gone on with."""
        query = (
            "SELECT items, place, digest, base FROM anchors WHERE items <= ? AND place IS NOT NULL AND"
            " (items IN (SELECT DISTINCT base FROM anchors) OR items = (SELECT max(items) FROM anchors))"
            " ORDER BY items DESC LIMIT 1"
        )
        rows = self.rows(query, (items,))
        return Anchor(rows[0][0], json.loads(rows[0][1]), rows[0][2], rows[0][3]) if rows else None

    def places(self) -> Iterator[tuple[int, int, int]] | None:
        """Where the items of the input are in the journal, as (position, count, slot); None if each is at its index."""
        if not self.rows("SELECT 1 FROM places LIMIT 1"):
            return None
        rows: Iterator[Any] = self.paged(
            "SELECT position, count, slot FROM places WHERE position > ? ORDER BY position"
        )
        return rows

    def settled(self) -> list[tuple[int, int]]:
        """What is settled, as (start, stop)."""
        return [(int(start), int(stop)) for start, stop in self.rows("SELECT start, stop FROM settled ORDER BY start")]

    def unsettle(self, rows: Sequence[Row]) -> None:
        """Forget records: what was in them runs again."""
        settled = RangeSet(self.settled())
        for row in rows:
            settled.discard(row.start, row.start + row.count)
        with self.transaction() as db:
            db.executemany("DELETE FROM records WHERE start = ?", [(row.start,) for row in rows])
            db.execute("DELETE FROM settled")
            db.executemany("INSERT INTO settled VALUES (?, ?)", list(settled))
            db.execute("UPDATE run SET ok = ok - ?", (sum(row.count for row in rows),))

    def causes(self) -> list[tuple[str, str, int, int]]:
        """Failures grouped: (kind, cause, how many, the first one's slot), most first."""
        return [
            (str(kind), str(cause), int(count), int(first))
            for kind, cause, count, first in self.rows(
                "SELECT kind, cause, count(*), min(slot) FROM failures GROUP BY kind, cause ORDER BY 3 DESC, 4"
            )
        ]

    def close(self) -> None:
        """Close; the holder's connection leaves no write-ahead log behind. Idempotent."""
        if self._pid != os.getpid():
            return  # nor is the lock asked for: in a forked child it may be held by a thread that is not there
        with self._lock:
            _open.discard(self._db)
            try:
                if self._writable:
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error:
                pass  # a full disk, a reader: the log stays, and is read at the next opening
            self._db.close()

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise JournalError("this run was opened by another process: a forked child cannot use it")

    def _trouble(self, error: sqlite3.Error | OSError) -> JournalError:
        text = getattr(error, "strerror", None) or str(error)
        if isinstance(error, sqlite3.Error) and "full" in text:
            text = "No space left on device"
        return JournalError(f"cannot use {self.path}: {text}")


def set_columns(db: sqlite3.Connection, **columns: Any) -> None:
    """Set columns of the run's row, inside of a transaction."""
    columns = {"updated": time.time(), **columns}
    db.execute(f"UPDATE run SET {', '.join(f'{name} = ?' for name in columns)}", tuple(columns.values()))


def put_rows(db: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Add records."""
    db.executemany(
        "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)",
        [(row.start, row.count, row.offset, row.size, row.crc) for row in rows],
    )


def put_anchors(db: sqlite3.Connection, anchors: Sequence[Anchor]) -> None:
    """Add anchors; of those with one base only the last is of use, so the others go."""
    for anchor in anchors:
        db.execute(
            "DELETE FROM anchors WHERE base = ? AND items < ? AND items > ?", (anchor.base, anchor.items, anchor.base)
        )
        place = None if anchor.place is None else json.dumps(anchor.place)
        db.execute(
            "INSERT OR REPLACE INTO anchors VALUES (?, ?, ?, ?)", (anchor.items, place, anchor.digest, anchor.base)
        )
