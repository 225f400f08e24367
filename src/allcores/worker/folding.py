"""Merges the values of neighbouring items in a worker, so that one value is sent for all of them.

Only items that are reported together are merged, and never across one that failed: it may be tried again, and its value
belongs between its neighbours'. So each report is whole, and is taken once or not at all, like any other.

A merged value is pickled here, whole, so that one that cannot be is no item's failure. Large arrays would be copied for
that, several times. They cannot fail, and are not pickled here: they go where large results go, into shared memory.
"""

from __future__ import annotations

from allcores.shared_memory.buffers import LARGE_RESULT
from allcores.transport.exceptions import pack_error
from allcores.transport.numpy_arrays import is_numpy_array
from allcores.transport.pickling import SCALARS, dumps, explain_with_path
from allcores.transport.reduction import MERGED, Reduction, merged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Merged values are reported at least this often inside of a chunk, ns; finished work that runs again after a crash. A
#: chunk's values are one, mostly. Larger: more to run again. Smaller: the program merges more often, for all workers.
FOLD_NS = 100_000_000
#: Items of a run whose value is not pickled here, at most: each of them has an entry then. More: each costs the program
#: some 300 ns. Fewer: large arrays are copied.
MOST_ENTRIES = 1_000
#: Parts of a value that are looked at.
MOST_PARTS = 32

#: of the frames that stand between a worker and a function here
FRAMES = (globals(), vars(Reduction)["__call__"].__globals__)


class Fold:
    """The values of items that run one after the other.

    Args:
        reduction: The function, and how to merge.
        call: Calls it with an item, in the chunk's style.
        shared: There is shared memory for large values.
    """

    def __init__(self, reduction: Reduction, call: Callable[[Any], tuple[Any, None]], *, shared: bool = False) -> None:
        self._shared = shared
        self._merge = reduction.merge
        self._call = call
        self._runs: list[tuple[tuple[Any, ...], int]] = []
        #: items of the run, their merged value, and what merging raised
        self._count = 0
        self._value: Any = None
        self._broken: tuple[Any, ...] | None = None

    def add(self, item: Any) -> None:
        """Run an item, and merge its value. Raises what the function raises."""
        try:
            value, _ = self._call(item)
        except BaseException:
            self._end_run()
            raise
        if not self._count:
            self._value = value
        elif self._broken is None:
            try:
                self._value = merged(self._merge, self._value, value)
            except BaseException as error:
                # No item's failure: the value may have been changed half.
                self._broken = pack_error(error, skip_frames=1)
        self._count += 1

    def _end_run(self) -> None:
        if not self._count:
            return
        entry = self._broken
        if entry is None:
            entry = _packed(self._value)
        self._runs.append((entry, self._count))
        self._count, self._value, self._broken = 0, None, None

    def take(self, *, aligned: bool) -> list[tuple[Any, ...]]:
        """The entries since the last call, which are to be packed before the function is called again.

        Args:
            aligned: As many as there were items that have not failed.
        """
        # Not so a run that has ended before: what the function has returned since may be the same object.
        if self._shared and self._broken is None and 0 < self._count <= MOST_ENTRIES and is_of_arrays(self._value):
            self._runs.append(((self._value, None), self._count))
            self._count, self._value, aligned = 0, None, True
        self._end_run()
        runs, self._runs = self._runs, []
        if not aligned:
            return [entry for entry, _ in runs]
        entries: list[tuple[Any, ...]] = []
        for entry, count in runs:
            entries.append(entry)
            entries.extend([MERGED] * (count - 1))
        return entries


def is_of_arrays(value: Any) -> bool:
    """Whether a value has large arrays in it and nothing but scalars besides: no code of the program pickles it."""
    kind = type(value)
    parts: list[Any] = [value]
    if kind is tuple or kind is list:
        parts = value
    elif kind is dict and SCALARS.issuperset(map(type, value)):
        parts = list(value.values())
    return (
        len(parts) <= MOST_PARTS
        and all(type(part) in SCALARS or _is_plain_array(part) for part in parts)
        and any(is_numpy_array(part) and part.nbytes >= LARGE_RESULT for part in parts)
    )


def _is_plain_array(value: Any) -> bool:
    return is_numpy_array(value) and not value.dtype.hasobject and value.dtype.metadata is None


def packing(
    call: Callable[[list[Any]], list[tuple[Any, ...]]], *, shared: bool = False
) -> Callable[[list[Any]], list[tuple[Any, ...]]]:
    """A call with a batch whose merged value is pickled at once.

    Later the value would count as that of the batch's first item, and what cannot be pickled, or read, as its failure:
    the values of all others in the batch would be lost, and nobody told. It is no item's failure, as without batches.

    Args:
        call: See `transport.batches.batch_call`, of a `Reduction`.
        shared: There is shared memory for large values.
    """

    def packed(batch: list[Any]) -> list[tuple[Any, ...]]:
        (value, _), *others = call(batch)
        # An array itself: whether that is one which the function fills again is seen to by whoever reports.
        if shared and len(batch) <= MOST_ENTRIES and is_numpy_array(value) and is_of_arrays(value):
            return [(value, None), *others]
        return [_packed(value), *others]

    return packed


def _packed(value: Any) -> tuple[Any, ...]:
    """The entry for a merged value."""
    try:
        return (dumps(value, to_parent=True),)
    except BaseException as error:
        return pack_error(_explained(value, error))


def _explained(value: Any, error: BaseException) -> BaseException:
    try:
        return explain_with_path(value, "the merged value", error)
    except BaseException:
        return error
