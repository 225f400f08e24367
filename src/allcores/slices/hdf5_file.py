"""Data sets in HDF5 files. The home of h5py."""

from __future__ import annotations

import difflib
import math
import os
from dataclasses import dataclass
from typing import Any

import h5py

from allcores.errors import UsageError
from allcores.slices.source import SlicedFile, Slices, Stamp, rows_per_slice
from allcores.system import deferral

#: names that a message lists at most
MOST_NAMES = 5
#: what the library says of a file that another process has locked
_LOCKED = "lock file"


@dataclass(frozen=True, slots=True)
class Hdf5File(SlicedFile):
    """A data set, sliced along its first axis.

    Attributes:
        dataset: Its full name in the file, which may be that of a link.
    """

    stamp: Stamp
    dataset: str

    def open(self) -> Any:
        return h5py.File(self.stamp.path, "r")

    def read(self, handle: Any, start: int, stop: int) -> Any:
        """An array of the function's own."""
        return handle[self.dataset][start:stop]

    def label(self, start: int, stop: int) -> str:
        return f"{self.stamp.name}:{self.dataset}[{start}:{stop}]"

    def explain(self, error: Exception) -> str:
        if _LOCKED in str(error):
            return "another program has the file open for writing; try again when it has closed it"
        return SlicedFile.explain(self, error)


def hdf5(path: str | os.PathLike[str], dataset: str | None, rows: int | None) -> Slices:
    """See `allcores.slices.hdf5`."""
    stamp = Stamp.of(path)
    try:
        with h5py.File(stamp.path, "r") as file:
            return _slices(stamp, file, dataset, rows)
    except UsageError:
        raise
    except Exception as error:  # of a damaged file h5py raises what fits: OSError, KeyError, RuntimeError, TypeError
        if deferral.raised_by_handler(error):
            raise
        raise UsageError(f"cannot open {stamp.name} as HDF5: {_reason(error)}") from None


def _slices(stamp: Stamp, file: Any, dataset: str | None, rows: int | None) -> Slices:
    if dataset is None:
        names = _names(file)
        if len(names) != 1:
            raise UsageError(f"name a data set of {stamp.name}: {_listed(names, '')}")
        dataset = names[0]
    found = file.get(dataset)
    if not isinstance(found, h5py.Dataset):
        what = "is a group in" if found is not None else "is no data set of"
        raise UsageError(f"{dataset} {what} {stamp.name}: {_listed(_names(file), dataset)}")
    if not found.shape:
        raise UsageError(f"{stamp.name}:{dataset} holds a single value or nothing, so it has no axis to slice along")
    row_bytes = math.prod(found.shape[1:]) * found.dtype.itemsize
    # A chunk of the file is decompressed as a whole: two workers that share one would both do it.
    multiple = found.chunks[0] if found.chunks else 1
    step = rows_per_slice(rows, row_bytes, multiple=multiple)
    # The way that was asked for: where that is a link into another file, the data set's own name is one of that file.
    name = f"/{dataset.strip('/')}"
    return Slices(Hdf5File(stamp, name), found.shape[0] if row_bytes else 0, step)


def _reason(error: Exception) -> str:
    if _LOCKED in str(error):
        return "another program has it open for writing; try again when it has closed it"
    return f"{' '.join(str(error).split()) or type(error).__name__}; it is damaged, or no such file"


def _names(file: Any) -> list[str]:
    """Full names of all data sets."""
    names: list[str] = []
    file.visititems(lambda name, thing: names.append(f"/{name}") if isinstance(thing, h5py.Dataset) else None)
    return names


def _listed(names: list[str], wanted: str) -> str:
    if not names:
        return "it has none"
    close = difflib.get_close_matches(wanted, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    more = " ..." if len(names) > MOST_NAMES else ""
    return f"it has {', '.join(names[:MOST_NAMES])}{more}"
