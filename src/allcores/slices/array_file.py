"""Arrays in files: `.npy`, and raw bytes of a known type and shape. The home of NumPy.

Each slice is mapped by itself, and unmapped when the function lets go of it. One mapping of the whole file would be
simpler, but a worker's resident memory would then grow with every slice it has seen, up to any memory limit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from allcores.errors import UsageError
from allcores.slices.source import SlicedFile, Slices, Stamp, rows_per_slice, whole
from allcores.system import deferral


@dataclass(frozen=True, slots=True)
class ArrayFile(SlicedFile):
    """An array in a file, sliced along its first axis.

    Attributes:
        shape: At least one axis.
        offset: Bytes before the array.
        fortran: The first axis varies fastest.
    """

    stamp: Stamp
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    fortran: bool

    def open(self) -> IO[bytes]:
        return open(self.stamp.path, "rb")

    def read(self, handle: IO[bytes], start: int, stop: int) -> np.ndarray[Any, Any]:
        """A view of the mapped file; it cannot be written to."""
        if self.fortran:
            # Each row is spread over the whole file.
            mapped = np.memmap(handle, self.dtype, "r", self.offset, self.shape, "F")[start:stop]
        else:
            offset = self.offset + start * self.row_bytes
            mapped = np.memmap(handle, self.dtype, "r", offset, (stop - start, *self.shape[1:]))
        # A plain array: what is made of a memmap by arithmetic is one by name only.
        return mapped.view(np.ndarray)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, that is of array[0]."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


def npy(path: str | os.PathLike[str], rows: int | None) -> Slices:
    """See `allcores.slices.npy`."""
    stamp = Stamp.of(path)
    try:
        with open(stamp.path, "rb") as file:
            version = npy_format.read_magic(file)
            if version == (1, 0):
                shape, fortran, dtype = npy_format.read_array_header_1_0(file)
            elif version == (2, 0):
                shape, fortran, dtype = npy_format.read_array_header_2_0(file)
            else:
                raise UsageError(
                    f"{stamp.name} has version {version} of the .npy format: save it with names in Latin-1"
                )
            offset = file.tell()
    except UsageError:
        raise
    except OSError as error:
        if deferral.raised_by_handler(error):
            raise
        raise UsageError(f"cannot read {stamp.name}: {error.strerror or error}") from None
    except Exception as error:  # ValueError for most of it, but the header is parsed as Python
        if deferral.raised_by_handler(error):
            raise
        raise UsageError(f"{stamp.name} is no .npy file: {' '.join(str(error).split())}") from None
    return _slices(ArrayFile(stamp, dtype, shape, offset, fortran and len(shape) > 1), rows)


def memmap(
    path: str | os.PathLike[str], dtype: Any, shape: int | Sequence[int] | None, offset: int, rows: int | None
) -> Slices:
    """See `allcores.slices.memmap`."""
    stamp = Stamp.of(path)
    try:
        kind = np.dtype(dtype)
    except Exception as error:  # TypeError for most of it
        if deferral.raised_by_handler(error):
            raise
        raise UsageError(f"dtype={dtype!r} is no type of NumPy: {error}") from None
    offset = whole(offset, "offset", 0)
    if shape is None:
        left = stamp.size - offset
        if kind.itemsize == 0 or left < 0 or left % kind.itemsize:
            raise UsageError(
                f"{stamp.name} has {left:,} bytes after offset={offset}, not a multiple of {kind.itemsize}"
            )
        lengths: tuple[int, ...] = (left // kind.itemsize,)
    else:
        given = shape if isinstance(shape, Sequence) else (shape,)
        lengths = tuple(whole(length, "each length in shape", 0) for length in given)
    return _slices(ArrayFile(stamp, kind, lengths, offset, False), rows)


def _slices(file: ArrayFile, rows: int | None) -> Slices:
    name = file.stamp.name
    if file.dtype.hasobject:
        raise UsageError(
            f"{name} holds Python objects, which cannot be read in slices: save numbers or fixed-size text"
        )
    if not file.shape:
        raise UsageError(f"{name} holds a single value, which has no axis to slice along")
    if min(file.shape) < 0:
        raise UsageError(f"{name} is no .npy file: its shape is {file.shape}")
    needed = file.offset + file.shape[0] * file.row_bytes
    if needed > file.stamp.size:
        raise UsageError(
            f"{name} is too short: shape {file.shape} of {file.dtype} needs {needed:,} bytes and it has"
            f" {file.stamp.size:,}; it was truncated, or is something else"
        )
    # Where rows have no bytes there is nothing to map, and nothing to read.
    total = file.shape[0] if file.row_bytes else 0
    return Slices(file, total, rows_per_slice(rows, file.row_bytes))
