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
from allcores.system.tracebacks import hiding

__all__ = ["Slice", "Slices", "hdf5", "lines", "memmap", "npy", "parquet"]


@hiding
def npy(path: str | os.PathLike[str], *, rows: int | None = None) -> Slices:
    """Slices of an array that `numpy.save` wrote, along its first axis.

    The function gets a read-only `numpy.ndarray` of shape (rows, ...), mapped from the file: what it does not
    touch is not read. The last slice may have fewer rows.

    Args:
        path: The file.
        rows: Rows per slice; None for as many as make about 8 MB.

    Raises:
        UsageError: If it is missing or no such array.
        ImportError: Without the extra `arrays`.
    """
    return _room("array_file", "numpy", "arrays").npy(path, rows)  # type: ignore[no-any-return]


@hiding
def memmap(
    path: str | os.PathLike[str],
    dtype: Any,
    shape: int | Sequence[int] | None = None,
    *,
    offset: int = 0,
    rows: int | None = None,
) -> Slices:
    """Slices of raw numbers in a file, as `numpy.memmap` sees them; what the function gets is as for `npy`.

    Args:
        path: The file.
        dtype: Of the numbers, like "float32".
        shape: Of the array, in C order; None for one axis as long as the file.
        offset: Bytes before the array.
        rows: Rows per slice; None for as many as make about 8 MB.

    Raises:
        UsageError: If the file is missing or too short.
        ImportError: Without the extra `arrays`.
    """
    return _room("array_file", "numpy", "arrays").memmap(path, dtype, shape, offset, rows)  # type: ignore[no-any-return]


@hiding
def hdf5(path: str | os.PathLike[str], dataset: str | None = None, *, rows: int | None = None) -> Slices:
    """Slices of a data set in an HDF5 file, along its first axis. The function gets a `numpy.ndarray` of its own.

    Args:
        path: The file.
        dataset: Its name, like "/images"; None if the file has one only.
        rows: Per slice, rounded up to whole chunks of the file, since a chunk that two slices share is decompressed
            twice; None for about 8 MB.

    Raises:
        UsageError: If there is no such file or data set.
        ImportError: Without the extra `hdf5`.
    """
    return _room("hdf5_file", "h5py", "hdf5").hdf5(path, dataset, rows)  # type: ignore[no-any-return]


@hiding
def parquet(path: str | os.PathLike[str], *, columns: Iterable[str] | None = None) -> Slices:
    """The row groups of a Parquet file. The function gets each as a `pyarrow.Table`.

    Args:
        path: The file. How many rows a group has was decided when it was written (`row_group_size=`).
        columns: Names of the columns that are read; None for all.

    Raises:
        UsageError: If there is no such file or column.
        ImportError: Without the extra `parquet`.
    """
    return _room("parquet_file", "pyarrow", "parquet").parquet(path, columns)  # type: ignore[no-any-return]


@hiding
def lines(path: str | os.PathLike[str], *, slice_bytes: int | None = None) -> Slices:
    """Slices of whole lines. The function gets `bytes`, which end with a line; no line is cut, none comes twice.

    Args:
        path: A file of lines that end with the byte 10; so not UTF-16.
        slice_bytes: About how many bytes a slice has; None for 8 MB. Where a line is longer than that, the slices
            inside of it are b"".

    Raises:
        UsageError: If there is no such file, or it is compressed or UTF-16.
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
