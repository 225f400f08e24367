"""Groups of a polars frame. Its rows are shared as an Arrow table, which polars reads where it lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars

from allcores.errors import NotSupported, UsageError
from allcores.frames.group_call import Group
from allcores.frames.groups import column_names


class PolarsGroups:
    """See `allcores.frames.groups.Grouped`."""

    has_threads = True

    def __init__(self, frame: Any, names: list[str], sort: bool, dropna: bool) -> None:
        self._frame = frame
        # Numbers for names: a column may be called "row".
        columns = [str(number) for number in range(len(names))]
        keys = frame.select(names)
        keys.columns = columns
        table = keys.with_row_index("row").group_by(columns, maintain_order=True).agg(polars.col("row"))
        if dropna:
            table = table.drop_nulls(columns)
        if sort:
            table = table.sort(columns, maintain_order=True)
        self._order = table["row"].explode() if len(table) else polars.Series([], dtype=polars.UInt32)
        self._names = tuple(names)
        self._keys = table.select(columns)
        self._keys.columns = names
        self.groups: list[Group] = []
        #: the group whose result was looked at first, the kind of that, and its type
        self._first: tuple[int, Any, str] | None = None
        start = 0
        for key, size in zip(self._keys.iter_rows(), table["row"].list.len(), strict=True):
            self.groups.append(Group(start, start + size, key if len(names) > 1 else key[0], self._names))
            start += size

    @property
    def cut(self) -> Callable[[Any, Group], Any]:
        """Of a worker."""
        return cut

    def shareable(self) -> Any:
        """The rows in order, as what polars reads without a copy.

        Raises:
            NotSupported: For a column of Python objects.
        """
        return SharedRows.of(self._frame[self._order])

    def joined(self, results: list[Any], failed: set[int]) -> Any:
        """Frames one below the other; values beside their keys."""
        kept = [number for number in range(len(results)) if number not in failed]
        found = [results[number] for number in kept]
        if not found:
            return self._frame.clear()
        found = [each.to_frame() if isinstance(each, polars.Series) else each for each in found]
        kind = _kind(found[0])
        if kind is polars.DataFrame:
            return polars.concat(found)
        keys = self._keys[kept]
        if kind is not dict:
            found = [{self._value_name(): each} for each in found]
        values = polars.from_dicts(found, infer_schema_length=None)
        return polars.concat([keys, values], how="horizontal")

    def check(self, number: int, result: Any) -> None:
        """See `Grouped`."""
        kind = _kind(result)
        first = self._first = self._first or (number, kind, type(result).__name__)
        if kind is not first[1]:
            raise UsageError(
                "apply_groups: the function returned different kinds of results, which make no one frame: "
                f"{first[2]} for {self.groups[first[0]]!r} and {type(result).__name__} for {self.groups[number]!r}."
            )
        both = [name for name in result if name in self._names] if isinstance(result, dict) else []
        if both:
            raise UsageError(
                f"apply_groups: {both[0]!r} is in the group's key and in what the function returned; the key is there "
                "already."
            )

    def _value_name(self) -> str:
        """The column of values: "value", or as polars calls a second one of that name."""
        name = "value"
        while name in self._names:
            name += "_right"
        return name


def _kind(result: Any) -> Any:
    """Of results of one kind a frame is made: frames, dicts, or values."""
    if isinstance(result, (polars.DataFrame, polars.Series)):
        return polars.DataFrame
    return dict if isinstance(result, dict) else object


class SharedRows:
    """Rows as they are shared: an Arrow table, or what polars writes where there is none, which workers read anew.

    Args:
        table: A `pyarrow.Table`, or a pickled frame.
    """

    def __init__(self, table: Any) -> None:
        self._table = table
        self._frame: Any = None

    @classmethod
    def of(cls, frame: Any) -> SharedRows:
        """Those of a frame.

        Raises:
            NotSupported: For a column of Python objects.
        """
        for name, kind in frame.schema.items():
            if kind == polars.Object:
                raise NotSupported(
                    f"apply_groups: column {name!r} holds Python objects (polars.Object), which polars cannot write "
                    "down, so it cannot go to another process; leave it out, or give it a type."
                )
        try:
            rows = cls(frame.to_arrow(compat_level=polars.CompatLevel.newest()))
            if rows.frame().schema == frame.schema:
                return rows
        except (ImportError, ValueError, TypeError, NotImplementedError, polars.exceptions.PolarsError):
            pass  # without pyarrow, and of types that it does not have: integers of 128 bits
        return cls(frame)

    def frame(self) -> Any:
        """They as a frame, made once."""
        if self._frame is None:
            whole = isinstance(self._table, polars.DataFrame)
            self._frame = self._table if whole else polars.from_arrow(self._table, rechunk=False)
        return self._frame

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedRows, (self._table,)


def cut(rows: SharedRows, group: Group) -> Any:
    """The frame of a group: it refers to the shared rows."""
    return rows.frame()[group.start : group.stop]


def grouped(frame: Any, by: Any, options: dict[str, Any]) -> PolarsGroups:
    """The groups of a frame.

    Raises:
        UsageError: For a name that is not a column's, and for options of pandas.
    """
    for name in ("observed", "group_keys"):
        if name in options:
            raise UsageError(f"{name}= is for frames of pandas: polars has neither an index nor groups without rows.")
    names, _ = column_names(list(frame.columns), by)
    return PolarsGroups(frame, names, bool(options.get("sort")), bool(options.get("dropna")))
