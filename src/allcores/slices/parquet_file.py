"""Row groups of Parquet files. The home of pyarrow."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pyarrow import parquet as arrow_parquet

from allcores.errors import UsageError
from allcores.slices.source import SlicedFile, Slices, Stamp
from allcores.system import deferral


@dataclass(frozen=True, slots=True)
class ParquetFile(SlicedFile):
    """A file whose row groups are its slices.

    Attributes:
        columns: Those that are read; None for all.
    """

    stamp: Stamp
    columns: tuple[str, ...] | None

    def open(self) -> Any:
        return arrow_parquet.ParquetFile(self.stamp.path)

    def read(self, handle: Any, start: int, stop: int) -> Any:
        """A table. On this thread alone: the cores have workers of their own."""
        columns = None if self.columns is None else list(self.columns)
        return handle.read_row_groups(list(range(start, stop)), columns=columns, use_threads=False)

    def label(self, start: int, stop: int) -> str:
        return f"{self.stamp.name}[row group {start}]"


def parquet(path: str | os.PathLike[str], columns: Iterable[str] | None) -> Slices:
    """See `allcores.slices.parquet`."""
    stamp = Stamp.of(path)
    if isinstance(columns, str):
        raise UsageError(f"columns={columns!r} must be a list of names: [{columns!r}]")
    chosen = None if columns is None else tuple(columns)
    try:
        with arrow_parquet.ParquetFile(stamp.path) as file:
            groups, names = file.metadata.num_row_groups, list(file.schema_arrow.names)
    except Exception as error:  # of a damaged file, whatever the library raises
        if deferral.raised_by_handler(error):
            raise
        raise UsageError(f"cannot open {stamp.name} as Parquet: {' '.join(str(error).split())}") from None
    for name in chosen or ():
        # A part of a nested column is named with dots.
        if name not in names and name.partition(".")[0] not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(names)}"
            raise UsageError(f"{stamp.name} has no column {name!r}: {hint}")
    return Slices(ParquetFile(stamp, chosen), groups, 1)
