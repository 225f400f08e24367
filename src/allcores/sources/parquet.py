"""Parquet files as source; the home of pyarrow (the extra `parquet`) beside `sinks.parquet`, which writes them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from allcores.errors import NotSupported
from allcores.sources.text import STDIN, BadInput, check_names, names_read_once, reason_of
from allcores.system import deferral

#: rows that are turned into columns at once
ROWS = 10_000
#: bytes of rows that are read at once, at most; as objects of Python they take some times as much
BATCH_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Parquet:
    """Each row of a Parquet file is an item: a dict. Read in batches, of `ROWS` at most."""

    #: see `chain.begins_anew`
    begins_anew: ClassVar[bool] = True

    path: str
    #: None for all
    columns: tuple[str, ...] | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self._opened() as file:
            batches = iter(file.iter_batches(batch_size=_rows_at_once(file.metadata), columns=self.columns))
            row = 0
            while True:
                try:
                    batch = next(batches, None)
                except Exception as error:
                    if deferral.raised_by_handler(error):
                        raise
                    raise self._unreadable(f"behind row {row}: {reason_of(error)}") from None
                if batch is None:
                    return
                try:
                    items = batch.to_pylist()
                except Exception as error:
                    if deferral.raised_by_handler(error):
                        raise
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
        module = open_pyarrow(self.path)
        if self.path == STDIN or names_read_once(self.path):
            raise self._unreadable("it is no regular file; write it to one, and name that")
        try:
            file = module.parquet.ParquetFile(self.path)
        except Exception as error:
            if deferral.raised_by_handler(error):
                raise
            raise self._unreadable(reason_of(error)) from None
        with file:
            try:
                names = list(file.schema_arrow.names)
            except Exception as error:
                if deferral.raised_by_handler(error):
                    raise
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
                    if deferral.raised_by_handler(found):
                        raise
                    return self._unreadable(
                        f"row {row + offset}, column {name!r} ({column.type}): {reason_of(found)}; leave the column out"
                        " (--columns), or read tables (--format row-groups)"
                    )
        return self._unreadable(f"rows {row} to {row + len(batch) - 1}: {reason_of(error)}")

    def _unreadable(self, reason: str) -> BadInput:
        return BadInput(f"cannot read {self.path} as Parquet: {reason}", path=self.path)


def _rows_at_once(metadata: Any) -> int:
    """How many rows have `BATCH_BYTES` on average, by what a file says of itself."""
    size = sum(int(metadata.row_group(number).total_byte_size) for number in range(metadata.num_row_groups))
    return max(1, min(ROWS, BATCH_BYTES * int(metadata.num_rows) // max(1, size)))


def _check_columns(path: str, names: list[str], wanted: tuple[str, ...] | None) -> None:
    for name in wanted or ():
        if name not in names:
            raise BadInput(f"{path} has no column {name!r}; it has {', '.join(map(repr, names))}", path=path)
    read = names if wanted is None else [name for name in names if name in wanted]
    check_names(read, path, path=path, advice="choose others (--columns), or read tables (--format row-groups)")


def open_pyarrow(path: str) -> Any:
    """The library. Raises NotSupported with the way to install it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise NotSupported(
            f"{path} is a Parquet file, which needs a library: pip install 'allcores[parquet]'"
        ) from None
    return pyarrow
