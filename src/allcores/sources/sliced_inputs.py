"""Input files that are read in slices: which they are, and what `allcores run` calls them.

A data set of an HDF5 file is named behind a colon, `big.h5:/images`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from allcores import slices
from allcores.slices import Slice, Slices

SlicedFormat = Literal["npy", "hdf5", "parquet"]

#: which format a suffix means
SUFFIXES: dict[str, SlicedFormat] = {
    ".npy": "npy",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".parquet": "parquet",
    ".pq": "parquet",
}


@dataclass(frozen=True, slots=True)
class SlicedInput:
    """Each slice of a file is an item; the function gets its data."""

    #: see `chain.begins_anew`
    begins_anew: ClassVar[bool] = True

    slices: Slices

    def __iter__(self) -> Iterator[Slice]:
        return iter(self.slices)

    def total(self) -> int:
        """The number of slices."""
        return len(self.slices)


def format_of(name: str) -> SlicedFormat | None:
    """The format that the suffix of an input says, None if it is not one of these."""
    return SUFFIXES.get(os.path.splitext(file_of(name))[1].lower())


def file_of(name: str) -> str:
    """The file that an input names, without the data set behind the colon."""
    return _split(name)[0]


def sliced(name: str, format: SlicedFormat, *, rows: int | None, columns: Sequence[str] | None) -> SlicedInput:
    """The slices of a file.

    Args:
        rows: Per slice, of arrays.
        columns: To read, of Parquet files. Each is left alone where it means nothing.

    Raises:
        UsageError: If there is no such file, or not of that format.
        ImportError: If its library is missing.
    """
    if format == "npy":
        return SlicedInput(slices.npy(name, rows=rows))
    if format == "parquet":
        return SlicedInput(slices.parquet(name, columns=columns))
    path, dataset = _split(name)
    return SlicedInput(slices.hdf5(path, dataset, rows=rows))


def _split(name: str) -> tuple[str, str | None]:
    path, colon, dataset = name.rpartition(":")
    # A file may have a colon in its name; one that is there is meant.
    return (path, dataset) if colon and dataset and os.path.isfile(path) and not os.path.exists(name) else (name, None)
