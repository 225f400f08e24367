"""Sinks that are tables: CSV files, and a table in an SQLite database."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import sqlite3
import urllib.parse
from collections.abc import Callable
from typing import IO, Any

from allcores.errors import UsageError
from allcores.failpoints import failpoint
from allcores.sinks.base import Entries
from allcores.sinks.destination import check_file
from allcores.sinks.json_text import NotJson
from allcores.sinks.publishing import published
from allcores.sinks.rows import (
    NO_FIELD,
    SQLITE_COLUMNS_MAX,
    RowFunction,
    RowRules,
    check_sql_names,
    field_names,
    rows_of,
    sql_name,
    values_fit,
)
from allcores.sources.compression import without_compression

#: a comment in the statement that makes a table, which SQLite keeps: it says that the table may be replaced
_MARK = "/* made by allcores, which may replace it */"
#: of the writer of CSV, which quotes what has one of these characters in it; a newline takes its place in the file
_LINE_END = "\r\n"


class CsvFile:
    """A file of comma-separated values: a row for each item that returned a dict, and a header of all names.

    A value that is a list or dict is written as JSON, None as an empty field, a truth value as true or false.

    Args:
        separator: None goes by the suffix: a tabulator for .tsv, else a comma.
    """

    looks_twice = True
    wants_details = False
    takes_failures = False

    def __init__(self, path: str | os.PathLike[str], *, separator: str | None = None) -> None:
        self.path = os.fspath(path)
        tabbed = without_compression(self.path).lower().endswith(".tsv")
        self.separator = separator or ("\t" if tabbed else ",")
        if len(self.separator) != 1 or self.separator in '\r\n"':
            raise UsageError(f"separator={separator!r} must be one character, and no quote or line end")

    def describe(self) -> dict[str, Any]:
        """See `WholeSink`."""
        return {"kind": "CsvFile", "path": os.path.abspath(self.path), "separator": self.separator}

    def check(self) -> None:
        """See `WholeSink`."""
        check_file(self.path)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., str]:
        """See `WholeSink`."""
        return RowFunction(function, self.path, RowRules("CSV"))

    def publish(self, entries: Entries, *, mark: str, sync: bool) -> None:
        """See `WholeSink`."""
        names = field_names(entries, self.path)
        with values_fit(self.path), published(self.path, mark=mark, sync=sync) as file:
            if not names:
                return  # an empty file: a line without a name would be no header
            # The writer quotes what has a character of its line end in it, so a lone carriage return is quoted, too.
            writer = csv.writer(_Text(file), delimiter=self.separator, lineterminator=_LINE_END)
            writer.writerow(names)
            for row in rows_of(entries, self.path):
                writer.writerow([_cell(row.get(name)) for name in names])


class _Text:
    """A stream of bytes that takes rows as text; they end with a newline alone."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.removesuffix(_LINE_END).encode() + b"\n")


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value


class SqliteTable:
    """A table in an SQLite database: a row for each item that returned a dict, a column for each name.

    Args:
        path: The database; other tables in it stay as they are.
        table: Made in one transaction. One that is there already is replaced if allcores made it and its columns are
            still as they were made; any other is refused. Lists and dicts are kept as JSON text, whole numbers of more
            than 64 bits as text. Names that differ in case are one column.
    """

    looks_twice = True
    wants_details = False
    takes_failures = False

    def __init__(self, path: str | os.PathLike[str], table: str = "outcomes") -> None:
        self.path = os.fspath(path)
        if not table or "\0" in table or not table.isprintable() or table.lower().startswith("sqlite_"):
            raise UsageError(f"{table!r} cannot be the name of a table")
        self.table = table

    def describe(self) -> dict[str, Any]:
        """See `WholeSink`."""
        return {"kind": "SqliteTable", "path": os.path.abspath(self.path), "table": self.table}

    def check(self) -> None:
        """See `WholeSink`."""
        check_file(self.path)
        if not os.path.isfile(self.path):
            return
        address = f"file:{urllib.parse.quote(os.path.abspath(self.path))}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(address, uri=True, timeout=0.0)) as db:
                self._check_ours(db)
        except sqlite3.OperationalError:
            return  # it is being written, most likely
        except sqlite3.DatabaseError as error:
            raise UsageError(f"cannot write {self.path}: {error}") from None

    def _check_ours(self, db: sqlite3.Connection) -> None:
        """Raise UsageError if something has the table's name that allcores did not make, or others have changed."""
        query = "SELECT type, name, sql FROM sqlite_master WHERE name = ? COLLATE NOCASE"
        for kind, name, statement in db.execute(query, (self.table,)):
            if kind != "table":
                raise UsageError(f"{self.path} has a {kind} called {self.table!r}: choose another table")
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({_quoted(name)})")]
            if statement != _statement(name, columns):
                raise UsageError(
                    f"{self.path} has a table {name!r} that allcores did not make, and would replace: choose another "
                    f"one ({self.path}:NAME), or drop that one first"
                )

    def wrap(self, function: Callable[..., Any]) -> Callable[..., str]:
        """See `WholeSink`."""
        return RowFunction(function, self.path, RowRules("SQLite", sql_names=True))

    def publish(self, entries: Entries, *, mark: str, sync: bool) -> None:
        """See `WholeSink`.

        Raises:
            OSError: If the database cannot be written.
        """
        where = f"{self.path}:{self.table}"
        # Names that differ in case are one column, called as the first of them.
        columns: dict[str, str] = {}
        for name in field_names(entries, where):
            columns.setdefault(sql_name(name), name)
        names = list(columns.values()) or [NO_FIELD]
        if len(names) > SQLITE_COLUMNS_MAX:
            raise UsageError(
                f"all items together gave {len(names):,} names, and a table of SQLite has at most"
                f" {SQLITE_COLUMNS_MAX:,} columns: {where} cannot be written; a .csv or .jsonl file can"
            )
        failpoint("publish.begin")
        table, marks = _quoted(self.table), ", ".join("?" * len(names))
        try:
            db = sqlite3.connect(self.path, isolation_level=None, timeout=30.0)
            try:
                db.execute(f"PRAGMA synchronous = {'FULL' if sync else 'OFF'}")
                db.execute("BEGIN IMMEDIATE")
                try:
                    # Again: another program may have made it meanwhile.
                    self._check_ours(db)
                    db.execute(f"DROP TABLE IF EXISTS {table}")
                    with values_fit(where):
                        db.execute(_statement(self.table, names))
                        rows = (_stored_row(row, columns, where) for row in rows_of(entries, where))
                        db.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
                    failpoint("publish.rename.before")
                    db.execute("COMMIT")
                    failpoint("publish.rename.after")
                finally:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
            except BaseException:
                _undo(db)
                raise
            finally:
                db.close()
        except (sqlite3.ProgrammingError, sqlite3.DataError) as error:
            raise UsageError(f"{where}: a value cannot be written there: {error}") from error
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            raise OSError(errno.ENOSPC if full else 0, str(error)) from error


def _undo(db: sqlite3.Connection) -> None:
    """Have the database as it was.

    Where a disk is full, or fails, SQLite leaves that to whoever reads next, and the disk full until then, with a file
    beside the database without which that is damaged.
    """
    with contextlib.suppress(sqlite3.Error):
        db.execute("SELECT count(*) FROM sqlite_master").fetchall()


def _statement(table: str, names: list[str]) -> str:
    """What makes a table, and what SQLite says of it as long as nobody has altered it."""
    return f"CREATE TABLE {_quoted(table)} ({_MARK} {', '.join(map(_quoted, names))})"


def _stored_row(row: dict[str, Any], columns: dict[str, str], where: str) -> list[Any]:
    values = {sql_name(name): value for name, value in row.items()}
    if len(values) < len(row):
        # Workers have looked at that, but not where the outcomes of another kind of output are exported.
        try:
            check_sql_names(row)
        except NotJson as error:
            raise UsageError(f"{where} cannot be written: a {error}") from None
    return [_stored(values.get(key)) for key in columns]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _stored(value: Any) -> Any:
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return str(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
