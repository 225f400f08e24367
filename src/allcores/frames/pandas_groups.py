"""Groups of a pandas frame.

pandas itself says which groups there are, in which order, and how results are joined: it applies a function that
returns what the workers found, to a frame of one column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pandas

from allcores.frames.group_call import Group
from allcores.frames.groups import column_names

#: before, a slice of a frame could be written through, and shared memory cannot be written to
COPIES_ON_WRITE = int(pandas.__version__.partition(".")[0]) >= 3


#: what makes a series of numbers, if all groups have results of one of these
ONE_NUMBER_EACH = ({float}, {int}, {bool}, {numpy.float64}, {numpy.int64})


class PandasGroups:
    """See `allcores.frames.groups.Grouped`."""

    has_threads = False

    def __init__(self, frame: Any, names: list[Any], is_list: bool, options: dict[str, Any]) -> None:
        options = {"sort": True, "dropna": True, "observed": True, "group_keys": True, **options}
        keys = [frame[name] for name in names]
        self._keys = keys if is_list else keys[0]
        self._options = options
        self._without_keys = frame.drop(columns=names)
        self._rows = pandas.DataFrame({"row": numpy.arange(len(frame))}, index=frame.index)
        self.groups: list[Group] = []
        self._names = tuple(names)
        self._order = numpy.arange(0)
        rows = self._rows.groupby(self._keys, **options)
        if len(frame):
            numbers = rows.ngroup().to_numpy()
            # Rows whose key is missing have no group: -1, or NaN where all others have one.
            numbers = numpy.where(numpy.isnan(numbers), -1, numbers).astype(numpy.int64)
            order = numpy.argsort(numbers, kind="stable")
            self._order = order[numpy.searchsorted(numbers[order], 0) :]
        start = 0
        # Also groups without rows: of categories that do not occur, all of them where the frame has no rows.
        for key, size in rows.size().items():
            self.groups.append(Group(start, start + size, key, self._names))
            start += size

    @property
    def cut(self) -> Callable[[Any, Group], Any]:
        """Of a worker."""
        return cut

    def shareable(self) -> Any:
        """The rows in order; a frame pickles with the buffers of its columns."""
        return self._without_keys.take(self._order)

    def check(self, number: int, result: Any) -> None:
        """See `Grouped`: pandas joins anything."""

    def joined(self, results: list[Any], failed: set[int]) -> Any:
        """As pandas joins what a function returned."""
        # Where no group has a result, pandas looks at the columns that there were.
        rows = self._without_keys if all(result is None for result in results) else self._rows
        keys = self._keys
        if failed:
            kept = [number for number in range(len(results)) if number not in failed]
            results = [results[number] for number in kept]
            found = [self._order[self.groups[number].start : self.groups[number].stop] for number in kept]
            here = numpy.sort(numpy.concatenate(found)) if found else numpy.arange(0)
            rows = rows.take(here)
            keys = [key.take(here) for key in keys] if isinstance(keys, list) else keys.take(here)
        if self._options["observed"] and set(map(type, results)) in ONE_NUMBER_EACH:
            # As pandas would join them, without a call of a function for each of what may be thousands of groups.
            return pandas.Series(results, index=rows.groupby(keys, **self._options).size().index)
        called = 0

        def result_of(_rows: Any) -> Any:
            nonlocal called
            called += 1
            # pandas 2 begins again where joining raised a TypeError.
            return results[(called - 1) % len(results)]

        return rows.groupby(keys, **self._options).apply(result_of)


def cut(frame: Any, group: Group) -> Any:
    """The frame of a group: a view of the shared rows, which pandas copies before it writes to it."""
    part = frame.iloc[group.start : group.stop]
    if not COPIES_ON_WRITE:
        part = part.copy()
    # As pandas does it: there may be a column of that name.
    object.__setattr__(part, "name", group.key)
    return part


def grouped(frame: Any, by: Any, options: dict[str, Any]) -> PandasGroups:
    """The groups of a frame.

    Raises:
        UsageError: For a name that is not one column's.
    """
    names, is_list = column_names(list(frame.columns), by)
    groups = PandasGroups(frame, names, is_list, options)
    return groups
