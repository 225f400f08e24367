"""Parquet files as source and sink; the one home of pyarrow (the extra `parquet`)."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from allcores.errors import NotSupported, UsageError
from allcores.streams.destination import check_file
from allcores.streams.outputs import Entries, nothing, published, rows_of, values_fit
from allcores.streams.rows import RowFunction, RowRules
from allcores.streams.text import STDIN, BadInput, check_names, names_read_once, reason_of

#: rows that are turned into columns at once
ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Parquet:
    """Each row of a Parquet file is an item: a dict. Read in batches of `ROWS`."""

    path: str
    #: None for all
    columns: tuple[str, ...] | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self._opened() as file:
            batches = iter(file.iter_batches(batch_size=ROWS, columns=self.columns))
            row = 0
            while True:
                try:
                    batch = next(batches, None)
                except Exception as error:
                    raise self._unreadable(f"behind row {row}: {reason_of(error)}") from None
                if batch is None:
                    return
                try:
                    items = batch.to_pylist()
                except Exception as error:
                    raise self._without_value(batch, row, error) from None
                yield from items
                row += len(items)

    def total(self) -> int | None:
        """The number of rows."""
        try:
            with self._opened() as file:
                return int(file.metadata.num_rows)
        except BadInput:
            return None  # the iteration itself will tell

    def check(self) -> None:
        """Raise BadInput if it is plain already that the rows cannot be items."""
        with self._opened():
            pass

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        module = _pyarrow(self.path)
        if self.path == STDIN or names_read_once(self.path):
            raise self._unreadable("it is no regular file; write it to one, and name that")
        try:
            file = module.parquet.ParquetFile(self.path)
        except Exception as error:
            raise self._unreadable(reason_of(error)) from None
        with file:
            try:
                names = list(file.schema_arrow.names)
            except Exception as error:
                raise self._unreadable(reason_of(error)) from None
            _check_columns(self.path, names, self.columns)
            yield file

    def _without_value(self, batch: Any, row: int, error: Exception) -> BadInput:
        """Which value it is that Python has nothing for."""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            for offset, value in enumerate(column):
                try:
                    value.as_py()
                except Exception as found:
                    return self._unreadable(
                        f"row {row + offset}, column {name!r} ({column.type}): {reason_of(found)}; leave the column out"
                        " (--columns), or read tables (--format row-groups)"
                    )
        return self._unreadable(f"rows {row} to {row + len(batch) - 1}: {reason_of(error)}")

    def _unreadable(self, reason: str) -> BadInput:
        return BadInput(f"cannot read {self.path} as Parquet: {reason}", path=self.path)


def _check_columns(path: str, names: list[str], wanted: tuple[str, ...] | None) -> None:
    for name in wanted or ():
        if name not in names:
            raise BadInput(f"{path} has no column {name!r}; it has {', '.join(map(repr, names))}", path=path)
    read = names if wanted is None else [name for name in names if name in wanted]
    check_names(read, path, path=path, advice="choose others (--columns), or read tables (--format row-groups)")


class ParquetFile:
    """A Parquet file with a row for each item that returned a dict; the types of columns follow the values."""

    looks_twice = True
    wants_details = False
    takes_failures = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        _pyarrow(self.path)

    def describe(self) -> dict[str, Any]:
        """See `WholeSink`."""
        return {"kind": "ParquetFile", "path": os.path.abspath(self.path)}

    def check(self) -> None:
        """See `WholeSink`."""
        check_file(self.path)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., str]:
        """See `WholeSink`."""
        return RowFunction(function, self.path, RowRules("Parquet", integers_64=True))

    def publish(self, entries: Entries, *, mark: str, sync: bool, moment: Callable[[str], None] = nothing) -> None:
        """See `WholeSink`. Raises: UsageError if a column has values of types that do not go together."""
        arrow = _pyarrow(self.path)
        with values_fit(self.path):
            self._write(arrow, entries, lambda: published(self.path, mark=mark, sync=sync, moment=moment))

    def _write(self, arrow: Any, entries: Entries, opened: Callable[[], AbstractContextManager[IO[bytes]]]) -> None:
        try:
            schema = arrow.schema([])
            for rows in _batches(rows_of(entries, self.path)):
                part = arrow.Table.from_pylist(rows, schema=_names(arrow, rows)).schema
                schema = arrow.unify_schemas([schema, part], promote_options="permissive")
            # Objects without any name cannot be in a Parquet file: such a column is JSON text.
            as_text = [field.name for field in schema if _has_nameless(arrow, field.type)]
            for name in as_text:
                schema = schema.set(schema.get_field_index(name), arrow.field(name, arrow.string()))
            with (
                opened() as file,
                arrow.parquet.ParquetWriter(file, schema) as writer,
            ):
                for rows in _batches(rows_of(entries, self.path)):
                    for row in rows if as_text else ():
                        row.update((name, _as_json(row[name])) for name in as_text if name in row)
                    writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
        except arrow.ArrowException as error:
            raise UsageError(f"{self.path}: the values do not make one column each: {error}") from None


def _names(arrow: Any, rows: list[dict[str, Any]]) -> Any:
    """The schema of some rows; pyarrow by itself looks at the names of the first row only."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    return arrow.schema([(name, arrow.array([row.get(name) for row in rows]).type) for name in names])


def _has_nameless(arrow: Any, kind: Any) -> bool:
    """True if a type is, or has within it, an object without names."""
    if arrow.types.is_struct(kind) and not kind.num_fields:
        return True
    return any(_has_nameless(arrow, kind.field(number).type) for number in range(kind.num_fields))


def _as_json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(rows, ROWS)):
        yield batch


def _pyarrow(path: str) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise NotSupported(
            f"{path} is a Parquet file, which needs a library: pip install 'allcores[parquet]'"
        ) from None
    return pyarrow
