"""Files larger than memory as input: each item is a slice, which the worker reads itself.

    from allcores import slices
    allcores.map(function, slices.npy("big.npy"))

The function gets the data of a slice: an array, a table, bytes. What travels to the worker is only where the slice
lies. The program itself reads no more than the file's description of itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from allcores.slices.source import Slice, Slices

__all__ = ["Slice", "Slices", "hdf5", "lines", "memmap", "npy", "parquet"]


def npy(path: str | os.PathLike[str], *, rows: int | None = None) -> Slices:
    """Slices of an array that `numpy.save` wrote, along its first axis.

    The function gets a read-only `numpy.ndarray` of shape (rows, ...), mapped from the file: what it does not
    touch is not read. The last slice may have fewer rows.

    path: the file.
    rows: per slice; None for as many as make about 8 MB.

    Raises: UsageError if it is missing or no such array, ImportError without the extra `arrays`.
    """
    return _room("array_file", "numpy", "arrays").npy(path, rows)  # type: ignore[no-any-return]


def memmap(
    path: str | os.PathLike[str],
    dtype: Any,
    shape: int | Sequence[int] | None = None,
    *,
    offset: int = 0,
    rows: int | None = None,
) -> Slices:
    """Slices of raw numbers in a file, as `numpy.memmap` sees them; what the function gets is as for `npy`.

    path: the file.
    dtype: of the numbers, like "float32".
    shape: of the array, in C order; None for one axis as long as the file.
    offset: bytes before the array.
    rows: per slice; None for as many as make about 8 MB.

    Raises: UsageError if the file is missing or too short, ImportError without the extra `arrays`.
    """
    return _room("array_file", "numpy", "arrays").memmap(path, dtype, shape, offset, rows)  # type: ignore[no-any-return]


def hdf5(path: str | os.PathLike[str], dataset: str | None = None, *, rows: int | None = None) -> Slices:
    """Slices of a data set in an HDF5 file, along its first axis. The function gets a `numpy.ndarray` of its own.

    path: the file.
    dataset: its name, like "/images"; None if the file has one only.
    rows: per slice, rounded up to whole chunks of the file, since a chunk that two slices share is decompressed
        twice; None for about 8 MB.

    Raises: UsageError if there is no such file or data set, ImportError without the extra `hdf5`.
    """
    return _room("hdf5_file", "h5py", "hdf5").hdf5(path, dataset, rows)  # type: ignore[no-any-return]


def parquet(path: str | os.PathLike[str], *, columns: Iterable[str] | None = None) -> Slices:
    """The row groups of a Parquet file. The function gets each as a `pyarrow.Table`.

    path: the file. How many rows a group has was decided when it was written (`row_group_size=`).
    columns: names of those that are read; None for all.

    Raises: UsageError if there is no such file or column, ImportError without the extra `parquet`.
    """
    return _room("parquet_file", "pyarrow", "parquet").parquet(path, columns)  # type: ignore[no-any-return]


def lines(path: str | os.PathLike[str], *, slice_bytes: int | None = None) -> Slices:
    """Slices of whole lines. The function gets `bytes`, which end with a line; no line is cut, none comes twice.

    path: a file of lines that end with the byte 10; so not UTF-16.
    slice_bytes: about how many bytes a slice has; None for 8 MB. Where a line is longer than that, the slices
        inside of it are b"".

    Raises: UsageError if there is no such file.
    """
    return _room("line_file", "", "").lines(path, slice_bytes)  # type: ignore[no-any-return]


def _room(name: str, library: str, extra: str) -> ModuleType:
    """The file that knows the format; imported only now, for it brings its library along."""
    try:
        return import_module(f"allcores.slices.{name}")
    except ImportError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        raise ImportError(
            f"reading such files in slices needs {library}: pip install 'allcores[{extra}]'", name=library
        ) from error
