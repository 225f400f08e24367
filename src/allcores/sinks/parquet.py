"""Parquet files as sink (the extra `parquet`); `sources.parquet` reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, Any

from allcores.errors import UsageError
from allcores.sinks.base import Entries
from allcores.sinks.destination import check_file
from allcores.sinks.publishing import published
from allcores.sinks.rows import NO_FIELD, RowFunction, RowRules, batches_of_rows, values_fit
from allcores.sources.parquet import ROWS, open_pyarrow

#: bytes of text whose rows are written at once, at most; as columns they take some times as much
BATCH_BYTES = 32 * 1024 * 1024


class ParquetFile:
    """A Parquet file with a row for each item that returned a dict; the types of columns follow the values."""

    looks_twice = True
    wants_details = False
    takes_failures = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        open_pyarrow(self.path)

    def describe(self) -> dict[str, Any]:
        """See `WholeSink`."""
        return {"kind": "ParquetFile", "path": os.path.abspath(self.path)}

    def check(self) -> None:
        """See `WholeSink`."""
        check_file(self.path)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., str]:
        """See `WholeSink`."""
        return RowFunction(function, self.path, RowRules("Parquet", integers_64=True, one_type_lists=True))

    def publish(self, entries: Entries, *, mark: str, sync: bool) -> None:
        """See `WholeSink`.

        Raises:
            UsageError: If a column has values of types that do not go together.
        """
        arrow = open_pyarrow(self.path)
        with values_fit(self.path):
            self._write(arrow, entries, lambda: published(self.path, mark=mark, sync=sync))

    def _write(self, arrow: Any, entries: Entries, opened: Callable[[], AbstractContextManager[IO[bytes]]]) -> None:
        try:
            schema = arrow.schema([])
            rows: list[dict[str, Any]] = []
            for rows in batches_of_rows(entries, self.path, rows=ROWS, size=BATCH_BYTES):
                part = arrow.Table.from_pylist(rows, schema=_names(arrow, rows)).schema
                schema = arrow.unify_schemas([schema, part], promote_options="permissive")
            if rows and not schema:
                schema = arrow.schema([(NO_FIELD, arrow.null())])
            # Objects without any name cannot be in a Parquet file: such a column is JSON text.
            as_text = [field.name for field in schema if _has_nameless(arrow, field.type)]
            for name in as_text:
                schema = schema.set(schema.get_field_index(name), arrow.field(name, arrow.string()))
            with (
                opened() as file,
                arrow.parquet.ParquetWriter(file, schema) as writer,
            ):
                for rows in batches_of_rows(entries, self.path, rows=ROWS, size=BATCH_BYTES):
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
    fields = []
    for name in names:
        values = [row.get(name) for row in rows]
        kind = arrow.array(values).type
        if _has_truth_among_floats(arrow, kind, values):
            raise arrow.ArrowInvalid(f"{name!r} has numbers and truth values")
        fields.append((name, kind))
    return arrow.schema(fields)


def _has_truth_among_floats(arrow: Any, kind: Any, values: list[Any]) -> bool:
    """True if values of a type have True or False where it has floats: pyarrow would make 1.0 or 0.0 of them."""
    if arrow.types.is_floating(kind):
        return bool in set(map(type, values))
    there = [value for value in values if value is not None]
    if arrow.types.is_list(kind):
        return _has_truth_among_floats(arrow, kind.value_type, [part for value in there for part in value])
    fields = [kind.field(number) for number in range(kind.num_fields)] if arrow.types.is_struct(kind) else []
    return any(_has_truth_among_floats(arrow, each.type, [value.get(each.name) for value in there]) for each in fields)


def _has_nameless(arrow: Any, kind: Any) -> bool:
    """True if a type is, or has within it, an object without names."""
    if arrow.types.is_struct(kind) and not kind.num_fields:
        return True
    return any(_has_nameless(arrow, kind.field(number).type) for number in range(kind.num_fields))


def _as_json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
