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
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from allcores.errors import JournalError
from allcores.failpoints import failpoint
from allcores.runs.checksums import is_sealed, right_shape, schema, sealed, shape
from allcores.runs.outcome_log import Row
from allcores.runs.rows import (
    CHECKPOINT,
    FAILURE,
    KEY,
    RECORD,
    RUN,
    RUN_COLUMNS,
    TABLES,
    FailureRow,
    InputCheckpoint,
    RunRow,
    move_failure,
    put_keys,
    set_columns,
)
from allcores.system import own_files, sqlite_files

FILE = "catalogue.sqlite"
#: number of the layout; a run of another one is refused, unless it is of the one before, which only has no states
FORMAT = 3
WITHOUT_STATES = 2
#: commits between two checkpoints. More lets the write-ahead log grow, fewer write pages again and again.
CHECKPOINT_COMMITS = 200
#: seconds for which another connection's lock is waited for
BUSY_S = 10.0
#: rows that are fetched at a time, so that no long reading keeps the write-ahead log from being reset
PAGE = 4_000


class NotBegun(JournalError):
    """There is no run in a catalogue: its program was ended before it had written one down."""


#: what SQLite raises; UnicodeError where the very text of an error is damaged
_ERRORS = (sqlite3.Error, UnicodeError)


class RunIndex:
    """One connection. Methods may be called from any thread of its process, one at a time."""

    def __init__(self, folder: str, *, writable: bool = False, create: bool = False, sync: bool = True) -> None:
        self.path = os.path.join(folder, FILE)
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._commits = 0
        self._writable = writable
        if create:
            try:  # before SQLite does: it would let others read it, and take what is there
                os.close(own_files.create(self.path))
            except OSError as error:
                raise JournalError(f"cannot make {self.path}: {error.strerror}") from error
        try:
            self._db = sqlite_files.connect(self.path, writable=writable, busy_s=BUSY_S)
        except _ERRORS as error:
            raise JournalError(f"cannot open {self.path}: {error}") from error
        try:
            # Text that is not UTF-8 is a damaged row, which its seal tells, and no reason to read none at all.
            self._db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            self._db.execute("PRAGMA wal_autocheckpoint = 0")
            if writable:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            if create:
                self._db.executescript(schema())
        except _ERRORS as error:
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
                    failpoint("commit.before")
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except (*_ERRORS, OSError) as error:
                raise self._trouble(error) from error
            failpoint("commit.after")
            self._commits += 1
            if self._commits % CHECKPOINT_COMMITS == 0:
                self.checkpoint()

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database, as far as no reader needs it."""
        with self._lock:
            failpoint("checkpoint.before")
            try:
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except _ERRORS as error:
                raise self._trouble(error) from error
            failpoint("checkpoint.after")

    def begin(self, name: str, identity: dict[str, Any], request: dict[str, Any], fsync: str) -> None:
        """Write down a new run."""
        now = time.time()
        with self.transaction() as db:
            db.execute(
                "INSERT INTO run (one, format, id, state, created, updated, identity, request, fsync)"
                " VALUES (1, ?, ?, 'running', ?, ?, ?, ?, ?)",
                (FORMAT, name, now, now, json.dumps(identity), json.dumps(request), fsync),
            )
            set_columns(db)
        # In the database itself: should the write-ahead log be damaged, the run is known all the same.
        self.checkpoint()

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

        The figures are counted anew then: outcomes of items that are not in the input any more do not count, and if
        these failed, that is forgotten. Records of the others tell where the item is now.
        """
        ranges = sorted((slot, count, position) for position, count, slot in places or [(0, total, 0)])
        starts = [slot for slot, _, _ in ranges]
        with self.transaction() as db:
            db.execute("DELETE FROM places")
            db.executemany("INSERT INTO places VALUES (?, ?, ?, ?)", map(sealed, places or ()))
            counts = dict.fromkeys(("failed", "timed_out", "worker_lost"), 0)
            for slot, kind in db.execute("SELECT slot, kind FROM failures").fetchall():
                start, count, position = ranges[max(0, bisect_right(starts, slot) - 1)]
                if not start <= slot < start + count:
                    db.execute("DELETE FROM failures WHERE slot = ?", (slot,))
                    continue
                counts[kind] += 1
                if places is not None:
                    move_failure(db, slot, position + slot - start)
            number_of_places = None if places is None else len(places)
            set_columns(db, total=total, places=number_of_places, ok=total - sum(counts.values()), **counts)

    def put_keys(self, rows: Sequence[tuple[bytes, int, bytes, int]]) -> None:
        """Write down which slot a key has, and for which item."""
        with self.transaction() as db:
            put_keys(db, rows)

    # --- reading ---

    def run_row(self) -> RunRow:
        """The run's row.

        Raises:
            JournalError: If there is none, or one of another format.
        """
        self._check_format()
        row = self.rows(f"SELECT {RUN}, seal FROM run")[0]
        if not is_sealed(row):
            raise self.damaged("what makes it the same work")
        values = dict(zip(RUN_COLUMNS, row, strict=False))
        values["identity"] = json.loads(values["identity"])
        values["request"] = json.loads(values["request"])
        return RunRow(**{name: values[name] for name in RunRow.__slots__})

    def _check_format(self) -> int:
        try:
            rows = self.rows("SELECT format FROM run")
        except JournalError as error:
            # What undoes a transaction lies beside the file only until it has a write-ahead log, which is before there
            # are tables: who only reads cannot undo it. Where SQLite has refused that log, there may be some.
            undone = getattr(error.__cause__, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_ROLLBACK
            if not (undone and not self._names_tables()) and "no such table: run" not in str(error.__cause__):
                raise
            rows = []
        if not rows:
            raise NotBegun(f"{self.path} has no run in it: it was ended before it began")
        found = rows[0][0]
        if found not in (FORMAT, WITHOUT_STATES):
            raise JournalError(f"{self.path} was written by another version of allcores: begin a new run")
        return int(found)

    def _names_tables(self) -> bool:
        """Whether its first pages, read as they are, name the table of the run."""
        try:
            with open(self.path, "rb") as file:
                return b"TABLE run" in file.read(1 << 16)
        except OSError:
            return True

    def damaged(self, what: str) -> JournalError:
        """What to raise if something is not as it was written."""
        name = os.path.basename(os.path.dirname(self.path))
        return JournalError(
            f"the journal of run {name} is damaged: {self.path} is not as it was written ({what}). What is left of its"
            f" outcomes can be exported (allcores runs export {name} -o FILE), or begin a new run",
            run=name,
        )

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        self._check()
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except _ERRORS as error:
                raise self._trouble(error) from error

    def paged(self, query: str, key: int = -1) -> Iterator[tuple[Any, ...]]:
        """Rows of a query whose first column rises; fetched in pages.

        Args:
            query: With `WHERE first_column > ?` and `ORDER BY first_column`; a LIMIT is added.
            key: Where to start.
        """
        while True:
            rows = self.rows(f"{query} LIMIT {PAGE}", (key,))
            for row in rows:
                if not is_sealed(row) or row[0] <= key:
                    raise self.damaged("a row")
                key = row[0]
                yield row[:-1]
            if len(rows) < PAGE:
                return

    def hold(self) -> None:
        """See the catalogue as it is now until it is closed, whatever the run's holder writes."""
        self.rows("BEGIN")

    def records(self, after: int = -1) -> Iterator[Row]:
        """Where the outcomes lie, by slot."""
        for row in self.paged(f"SELECT {RECORD}, seal FROM records WHERE start > ? ORDER BY start", after):
            yield Row(*row)

    def record_of(self, slot: int) -> Row | None:
        """The record that holds a slot."""
        query = f"SELECT {RECORD}, seal FROM records WHERE start <= ? ORDER BY start DESC LIMIT 1"
        rows = self.rows(query, (slot,))
        if not rows:
            return None
        if not is_sealed(rows[0]):
            raise self.damaged("a row")
        row = Row(*rows[0][:-1])
        return row if slot < row.start + row.count else None

    def failure_of(self, slot: int) -> FailureRow | None:
        """The failure of a slot."""
        rows = self.rows(f"SELECT {FAILURE}, seal FROM failures WHERE slot = ?", (slot,))
        if not rows:
            return None
        if not is_sealed(rows[0]):
            raise self.damaged("a row")
        return FailureRow(*rows[0][:4])

    def failures(self, *, before_round: int | None = None, after: int = -1) -> Iterator[FailureRow]:
        """Failures by slot; those that were not tried again since `before_round` began."""
        extra = "" if before_round is None else f"AND round < {before_round} "
        query = f"SELECT {FAILURE}, seal FROM failures WHERE slot > ? {extra}ORDER BY slot"
        for slot, kind, cause, record, _ in self.paged(query, after):
            yield FailureRow(slot, kind, cause, record)

    def anchors(self) -> Iterator[InputCheckpoint]:
        """What is known of the input, from its start on."""
        for items, place, digest, base in self.paged(
            f"SELECT {CHECKPOINT}, seal FROM anchors WHERE items > ? ORDER BY items"
        ):
            yield InputCheckpoint(items, None if place is None else json.loads(place), digest, base)

    def checkpoint_before(self, items: int) -> InputCheckpoint | None:
        """The last anchor at or before an item from which the input's digest can be gone on with."""
        query = (
            f"SELECT {CHECKPOINT}, seal FROM anchors WHERE items <= ? AND place IS NOT NULL AND"
            " (items IN (SELECT DISTINCT base FROM anchors) OR items = (SELECT max(items) FROM anchors))"
            " ORDER BY items DESC LIMIT 1"
        )
        rows = self.rows(query, (items,))
        if rows and not is_sealed(rows[0]):
            raise self.damaged("a row")
        return InputCheckpoint(rows[0][0], json.loads(rows[0][1]), rows[0][2], rows[0][3]) if rows else None

    def places(self) -> Iterator[tuple[int, int, int]] | None:
        """Where the items of the input are in the journal, as (position, count, slot); None if each is at its index."""
        expected = self.run_row().places
        if expected is None:
            return None
        if self.rows("SELECT count(*) FROM places")[0][0] != expected:
            raise self.damaged("rows are missing")
        rows: Iterator[Any] = self.paged(
            "SELECT position, count, slot, seal FROM places WHERE position > ? ORDER BY position"
        )
        return rows

    def keys(self, keys: Sequence[bytes]) -> dict[bytes, tuple[int, bytes, int]]:
        """Of those keys that are known: slot, digest and the last session that met them."""
        marks = ", ".join("?" * len(keys))
        rows = self.rows(f"SELECT {KEY}, seal FROM keys WHERE key IN ({marks})", keys)
        if not all(map(is_sealed, rows)):
            raise self.damaged("a row")
        return {key: (slot, digest, session) for key, slot, digest, session, _ in rows}

    def last_slot_of_keys(self) -> int:
        """The highest slot that a key has; -1 if there is none."""
        rows = self.rows(f"SELECT {KEY}, seal FROM keys ORDER BY slot DESC LIMIT 1")
        if rows and not is_sealed(rows[0]):
            raise self.damaged("a row")
        return int(rows[0][1]) if rows else -1

    def bad_records(self, limit: int) -> tuple[int, list[str]]:
        """How many bad records of the input were left out, and what the first ones are."""
        rows = self.rows("SELECT path, line, message, seal FROM bad_records ORDER BY path, line LIMIT ?", (limit,))
        return int(self.rows("SELECT count(*) FROM bad_records")[0][0]), [row[2] for row in rows if is_sealed(row)]

    def settled(self) -> Iterator[tuple[int, int]]:
        """What is settled, as (start, stop)."""
        for row in self.records():
            yield row.start, row.start + row.count
        for failure in self.failures():
            yield failure.slot, failure.slot + 1

    def unsettle(self, rows: Sequence[Row]) -> None:
        """Forget records: what was in them runs again."""
        with self.transaction() as db:
            db.executemany("DELETE FROM records WHERE start = ?", [(row.start,) for row in rows])
            db.execute("UPDATE run SET ok = ok - ?", (sum(row.count for row in rows),))
            set_columns(db)

    def causes(self) -> list[tuple[str, str, int, int]]:
        """Failures grouped: (kind, cause, how many, the first one's slot), most first."""
        return [
            (str(kind), str(cause), int(count), int(first))
            for kind, cause, count, first in self.rows(
                "SELECT kind, cause, count(*), min(slot) FROM failures GROUP BY kind, cause ORDER BY 3 DESC, 4"
            )
        ]

    def mend(self) -> None:
        """Look at all rows; those that are not as they were written go, so that their items run again.

        Raises:
            JournalError: If there is more damage than that.
        """
        if self._check_format() == WITHOUT_STATES:
            (statement,) = (sql for _, name, _, sql in right_shape() if name == "states")
            with self.transaction() as db:
                db.execute(statement)
                set_columns(db, format=FORMAT)
        try:
            if self.rows("PRAGMA quick_check(1)") != [("ok",)] or shape(self._db) != right_shape():
                raise self.damaged("its structure")
        except _ERRORS as error:
            raise self._trouble(error) from error
        self.run_row()
        gone = {table: list(self._bad_rows(table, columns)) for table, columns in TABLES.items()}
        if not any(gone.values()):
            return
        with self.transaction() as db:
            for table, keys in gone.items():
                first = TABLES[table].partition(",")[0]
                db.executemany(f"DELETE FROM {table} WHERE {first} IS ?", keys)
            if gone["anchors"]:  # those behind it go on with its digest
                db.execute("DELETE FROM anchors WHERE items > ?", (min(key[0] for key in gone["anchors"]),))
            counts = dict(db.execute("SELECT kind, count(*) FROM failures GROUP BY kind").fetchall())
            ok = db.execute("SELECT coalesce(sum(count), 0) FROM records").fetchone()[0]
            set_columns(db, ok=ok, **{kind: counts.get(kind, 0) for kind in ("failed", "timed_out", "worker_lost")})

    def _bad_rows(self, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
        """The keys of rows that are not as they were written, or of records that overlap."""
        end = -1
        with self._lock:
            try:
                for row in self._db.execute(f"SELECT {columns}, seal FROM {table} ORDER BY 1"):
                    if not is_sealed(row):
                        yield row[:1]
                    elif table == "records":
                        if row[0] < end:
                            yield row[:1]
                        end = max(end, row[0] + row[1])
            except _ERRORS as error:
                raise self._trouble(error) from error

    def close(self) -> None:
        """Close; the holder's connection leaves no write-ahead log behind. Idempotent."""
        if self._pid != os.getpid():
            return  # nor is the lock asked for: in a forked child it may be held by a thread that is not there
        with self._lock:
            try:
                if self._writable:
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except _ERRORS:
                pass  # a full disk, a reader: the log stays, and is read at the next opening
            sqlite_files.close(self._db)

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise JournalError("this run was opened by another process: a forked child cannot use it")

    def _trouble(self, error: Exception) -> JournalError:
        text = getattr(error, "strerror", None) or str(error)
        if isinstance(error, sqlite3.Error) and "full" in text:
            text = "No space left on device"
        if isinstance(error, UnicodeError):
            return self.damaged("text that is none")
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self.damaged(text)
        return JournalError(f"cannot use {self.path}: {text}")
