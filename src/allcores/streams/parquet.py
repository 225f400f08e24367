"""Parquet files as source and sink; the one home of pyarrow (the extra `parquet`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from allcores.errors import NotSupported, UsageError
from allcores.streams.destination import check_file
from allcores.streams.jsontext import JsonFunction
from allcores.streams.outputs import Entries, nothing, published, rows_of
from allcores.streams.text import BadInput

#: rows that are turned into columns at once
ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Parquet:
    """Each row of a Parquet file is an item: a dict. Read in batches of `ROWS`."""

    path: str
    #: None for all
    columns: tuple[str, ...] | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        module = _pyarrow(self.path)
        try:
            with module.parquet.ParquetFile(self.path) as file:
                _check_columns(self.path, file.schema_arrow.names, self.columns)
                for batch in file.iter_batches(batch_size=ROWS, columns=self.columns):
                    yield from batch.to_pylist()
        except (OSError, module.ArrowException) as error:
            raise BadInput(f"cannot read {self.path} as Parquet: {error}", path=self.path) from None

    def total(self) -> int | None:
        """The number of rows."""
        module = _pyarrow(self.path)
        try:
            return int(module.parquet.ParquetFile(self.path).metadata.num_rows)
        except (OSError, module.ArrowException):
            return None  # the iteration itself will tell


def _check_columns(path: str, names: list[str], wanted: tuple[str, ...] | None) -> None:
    for name in wanted or ():
        if name not in names:
            raise BadInput(f"{path} has no column {name!r}; it has {', '.join(map(repr, names))}", path=path)


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
        return JsonFunction(function)

    def publish(self, entries: Entries, *, mark: str, sync: bool, moment: Callable[[str], None] = nothing) -> None:
        """See `WholeSink`. Raises: UsageError if a column has values of types that do not go together."""
        arrow = _pyarrow(self.path)
        try:
            schema = arrow.schema([])
            for rows in _batches(rows_of(entries, self.path)):
                part = arrow.Table.from_pylist(rows, schema=_names(arrow, rows)).schema
                schema = arrow.unify_schemas([schema, part], promote_options="permissive")
            with (
                published(self.path, mark=mark, sync=sync, moment=moment) as file,
                arrow.parquet.ParquetWriter(file, schema) as writer,
            ):
                for rows in _batches(rows_of(entries, self.path)):
                    writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
        except arrow.ArrowException as error:
            raise UsageError(f"{self.path}: the values do not make one column each: {error}") from None


def _names(arrow: Any, rows: list[dict[str, Any]]) -> Any:
    """The schema of some rows; pyarrow by itself looks at the names of the first row only."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    return arrow.schema([(name, arrow.array([row.get(name) for row in rows]).type) for name in names])


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
