"""`DataFrame.apply` and `groupby(...).apply` on all cores: the result is pandas' own.

    from allcores.adapters import pandas as allcores_pandas
    allcores_pandas.apply(frame, function, axis=1)

Workers call the function, on rows as pandas itself makes them. In the end pandas applies a function that returns what
they found, so that it alone decides what index, columns and types the result has.

    frame ──► shared memory ◄── worker: pandas applies the function to rows 512 to 767
                                                │
    result ◄── pandas applies `found.pop` ◄─────┘
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pandas

from allcores.adapters import frame_rows
from allcores.adapters.frame_parts import Part, PartCall, Parts
from allcores.errors import UsageError
from allcores.frames import groups
from allcores.frames.groups import OnError
from allcores.system.tracebacks import hiding
from allcores.transport.remote_errors import as_raised

if TYPE_CHECKING:
    from allcores.limits import Retry
    from allcores.pool.pool import Pool

__all__ = ["apply"]

_AXES = {0: 0, "index": 0, 1: 1, "columns": 1}


@hiding
def apply(
    frame: Any,
    function: Any,
    axis: int | str = 0,
    *,
    raw: bool = False,
    result_type: str | None = None,
    args: tuple[Any, ...] = (),
    pool: Pool | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    retries: int | Retry = 0,
    on_error: OnError = "raise",
    progress: bool | str = False,
    **keywords: Any,
) -> Any:
    """What `frame.apply(function, ...)` returns, with the function called in workers.

    Names and lists of functions ("sum"), which pandas computes itself, are left to it, as are NumPy's own (`abs`),
    frames without rows, and series of categories or of sparse values. The function gets a row, a column, a value or a
    group as pandas makes it; where it writes into it, nobody else sees that. When a worker ends, the rows around the
    one at fault are tried again, one by one: the function should have no effect but its result. Safe from any thread.

    Args:
        frame: A `DataFrame`, a `Series`, or what `groupby` returned.
        function: As pandas documents it for `apply`.
        axis: Of a `DataFrame`: 0 or "index" for columns, 1 or "columns" for rows.
        raw: Of a `DataFrame`: the function gets arrays.
        result_type: Of a `DataFrame`, with `axis=1`: "expand", "reduce" or "broadcast".
        args: Further arguments by place.
        pool: The pool that does it; None for the one behind `allcores.map`.
        workers: Without `pool`, so many.
        timeout: Seconds for a row, value, column or group, per attempt. Each then travels by itself, which costs some
            tenths of a millisecond.
        retries: Further attempts at one that fails, or a `Retry` with the details, of which `wait_s` counts from the
            second further attempt where there is no `timeout`.
        on_error: "raise" raises the first failure in order. "skip" leaves out rows, values or columns that failed: the
            others keep their labels, so that `frame["new"] = result` and `result.reindex(frame.index)` have missing
            values there. A function, called in the program as `on_error(row, error)`, returns what stands in its place.
        progress: True shows a progress bar, and a text stands before it.
        **keywords: Keyword arguments for the function.

    Returns:
        What pandas returns.

    Raises:
        UsageError: For anything else than those, and options that do not go together.
        WorkerLost: A row, which the message names, ended its process; as `timeout` ends one with `TaskTimeout`.
        Exception: What the function raised, with a note that names the row, column or group.
    """
    if not isinstance(frame, pandas.DataFrame | pandas.Series) and not _is_grouped(frame):
        raise UsageError(
            f"apply takes a DataFrame, a Series or a groupby of pandas, and this is a {type(frame).__module__}."
            f"{type(frame).__qualname__}."
        )
    if not isinstance(frame, pandas.DataFrame) and (raw or result_type is not None or axis not in (0, "index")):
        raise UsageError("axis=1, raw= and result_type= are for a DataFrame.")
    groups.check_on_error(on_error)
    if _is_grouped(frame) and on_error == "skip":
        raise UsageError(
            'on_error="skip" cannot leave out groups of a groupby, whose results pandas joins: frames.apply_groups can,'
            " and on_error=lambda group, error: None has a missing value there."
        )
    if not callable(function) or (_is_of_arrays(function) and not _is_grouped(frame)):
        return _of_pandas(frame, function, axis, raw, result_type, args, keywords)
    options = {"timeout": timeout, "retries": retries, "progress": progress}
    with groups.pool_for(pool, workers) as place:
        if _is_grouped(frame):
            return _of_groups(place, frame, function, args, keywords, on_error, options)
        number = _AXES.get(axis)
        kind = isinstance(getattr(frame, "dtype", None), pandas.CategoricalDtype | pandas.SparseDtype)
        # Of categories, and of sparse values, pandas calls the function for each, and not for each row.
        if number is None or not len(frame) or not frame.size or kind:
            return _of_pandas(frame, function, axis, raw, result_type, args, keywords)
        found, kept = _results(place, frame, function, number, raw, args, keywords, on_error, options)
    if not kept:
        return pandas.Series(
            [], index=(frame.columns if number == 0 and frame.ndim > 1 else frame.index)[:0], dtype=object
        )
    give = _replay(found)
    if isinstance(frame, pandas.Series):
        return _kept(frame, kept, 1).apply(lambda _: give())
    if number == 1 and not raw and result_type != "broadcast":
        # pandas looks at no column here, and to make rows of all of them would take long. The class, the flags and
        # `attrs` of the frame are those of the result.
        frame = frame.iloc[:, :1].isna()
    return _kept(frame, kept, number).apply(lambda _: give(), axis=number, raw=raw, result_type=result_type)


def _kept(frame: Any, kept: list[int], axis: int) -> Any:
    """Without the rows or columns that were left out."""
    if len(kept) == frame.shape[0 if axis == 1 else 1]:
        return frame
    return frame.iloc[kept] if axis == 1 else frame.iloc[:, kept]


def _is_grouped(frame: Any) -> bool:
    return isinstance(frame, pandas.api.typing.DataFrameGroupBy | pandas.api.typing.SeriesGroupBy)


def _is_of_arrays(function: Any) -> bool:
    """Whether it is one of NumPy's functions of whole arrays (`numpy.sqrt`), of which pandas makes one call."""
    return type(function).__name__ == "ufunc" and type(function).__module__ == "numpy"


def _of_pandas(
    frame: Any, function: Any, axis: Any, raw: bool, result_type: Any, args: tuple[Any, ...], keywords: dict[str, Any]
) -> Any:
    if isinstance(frame, pandas.DataFrame):
        return frame.apply(function, axis=axis, raw=raw, result_type=result_type, args=args, **keywords)
    if isinstance(frame, pandas.Series):
        return frame.apply(function, args=args, **keywords)
    return frame.apply(function, *args, **keywords)


def _replay(found: list[Any]) -> Callable[[], Any]:
    """Gives what was found, one after the other."""
    results: Iterator[Any] = iter(found)
    return lambda: next(results)


def _results(
    place: Pool,
    frame: Any,
    function: Callable[..., Any],
    axis: int,
    raw: bool,
    args: tuple[Any, ...],
    keywords: dict[str, Any],
    on_error: OnError,
    options: dict[str, Any],
) -> tuple[list[Any], list[int]]:
    """What the function returned for rows, columns or values, in order, and the numbers of those that are left."""
    rows = isinstance(frame, pandas.Series) or axis == 1
    if raw and not rows:
        # pandas gives arrays of the type that all columns have in common, and a worker sees some of them only.
        frame = pandas.DataFrame(frame.to_numpy(), index=frame.index, columns=frame.columns)
    work = PartWork(function, axis, raw, args, keywords)
    length = len(frame) if rows else frame.shape[1]
    items = Parts.shared_out(length, place.workers, "rows") if rows else Parts(length, 1, "columns")
    call = PartCall(groups.shared(place, frame), work, function)
    found: list[Any] = [None] * length
    left_out: set[int] = set()
    for at, value, failure in frame_rows.results(
        place, call, items, on_error=on_error, ordered=on_error == "raise", **options
    ):
        if failure is None or failure.error is None:
            found[at] = value
        elif callable(on_error):
            row = frame.iloc[at] if rows else frame.iloc[:, at]
            found[at] = on_error(row.to_numpy() if raw else row, as_raised(failure.error))
        elif on_error == "skip":
            left_out.add(at)
        else:
            groups.fail(failure)
    kept = [number for number in range(length) if number not in left_out]
    return [found[number] for number in kept] if left_out else found, kept


class PartWork:
    """Has pandas call a function in a worker. Arguments: see `apply`."""

    def __init__(
        self, function: Callable[..., Any], axis: int, raw: bool, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        self._function = function
        self._axis = axis
        self._raw = raw
        self._args = args
        self._keywords = keywords

    def __call__(self, frame: Any, part: Part) -> list[Any]:
        """What the function returns for each row, column or value of a part."""
        found: list[Any] = []

        def call(each: Any) -> int:
            value = frame_rows.value_of(part, len(found), lambda: self._function(each, *self._args, **self._keywords))
            # pandas has one row for all, whose values it replaces.
            found.append(value.copy() if isinstance(value, pandas.Series) else value)
            return 0

        if isinstance(frame, pandas.Series):
            frame.iloc[part.start : part.stop].apply(call)
        elif self._axis == 1:
            frame.iloc[part.start : part.stop].apply(call, axis=1, raw=self._raw)
        else:
            frame.iloc[:, part.start : part.stop].apply(call, axis=0, raw=self._raw)
        return found


class _Group:
    """A group as pandas made it, with its name."""

    def __init__(self, frame: Any, name: Any) -> None:
        self.frame = frame
        self.name = name

    def __repr__(self) -> str:
        return f"group {self.name!r}"


class _GroupCall:
    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self._function = function
        self._args = args
        self._keywords = keywords
        self.__name__ = getattr(function, "__name__", type(function).__name__)

    def __call__(self, *arguments: Any) -> Any:
        *_, group = arguments
        # As pandas does it: there may be a column of that name.
        object.__setattr__(group.frame, "name", group.name)
        return self._function(group.frame, *self._args, **self._keywords)


def _of_groups(
    place: Pool,
    grouped: Any,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    keywords: dict[str, Any],
    on_error: OnError,
    options: dict[str, Any],
) -> Any:
    made: list[_Group] = []

    def note(frame: Any) -> None:
        made.append(_Group(frame, frame.name))

    # pandas says which groups there are, and what a function gets of them.
    grouped.apply(note)
    if not made:
        return grouped.apply(function, *args, **keywords)
    found: list[Any] = []
    with place.outcomes(_GroupCall(function, args, keywords), made, **options) as outcomes:
        for outcome in outcomes:
            if callable(on_error) and not outcome.ok:
                found.append(on_error(made[outcome.index].frame, as_raised(outcome.error)))
            elif outcome.ok:
                found.append(outcome.value)
            else:
                groups.fail(outcome)
    give = _replay(found)
    with warnings.catch_warnings():
        # What there is to say of the groups was said above.
        warnings.simplefilter("ignore")
        return grouped.apply(lambda _: give())
