"""Data frames of pandas and polars: a function applied to each group of rows, on all cores.

    from allcores import frames
    frames.apply_groups(frame, "city", function)

The frame's rows are put in the order of their groups, once, and shared, once. What travels to a worker for a group is
where its rows begin and end, so thousands of small groups go in chunks that size themselves.

    frame ──► rows in order of groups ──► shared memory ◄── worker: function(rows 5 to 9)
                                                                        │
    result ◄── joined as the library itself joins them ◄── results ◄────┘
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from allcores.errors import UsageError
from allcores.system.tracebacks import hiding

if TYPE_CHECKING:
    from allcores.limits import Retry
    from allcores.pool.pool import Pool

__all__ = ["apply_groups"]


@hiding
def apply_groups(
    frame: Any,
    by: Hashable | Sequence[Hashable],
    function: Callable[..., Any],
    *,
    pool: Pool | None = None,
    workers: int | None = None,
    sort: bool | None = None,
    dropna: bool | None = None,
    observed: bool | None = None,
    group_keys: bool | None = None,
    timeout: float | None = None,
    retries: int | Retry = 0,
    chunk: int | None = None,
    on_error: Literal["raise", "skip"] | Callable[[Any, BaseException], Any] = "raise",
    progress: bool | str = False,
    **constants: Any,
) -> Any:
    """What `function` makes of each group of a frame's rows, joined as the frame's own library joins it.

    With pandas the result is that of `frame.groupby(by).apply(function)`: the function gets a group's rows without the
    columns in `by`, with index and dtypes as they were, the group's key as `group.name`, and may return a frame, a
    series, a number, or any other value. With polars it is that of `frame.group_by(by,
    maintain_order=True).map_groups(function)`, where the group has all columns; the function may also return a dict (a
    row of the result) or one value (column "value", or "value_right" where the key has one of that name), which then
    stand beside the group's key.

    The largest groups begin first. Where the function writes into its group, nobody else sees it. Safe from any thread.

    Args:
        frame: A `pandas.DataFrame` or `polars.DataFrame`, with columns of any type that can be pickled. It is copied
            twice on the way to the workers; these share the second copy, but for columns of Python objects.
        by: A column's name, or several in a list.
        function: Called with a group's frame, and with `constants`.
        pool: The pool that does it; None for the one behind `allcores.map`.
        workers: Without `pool`, so many.
        sort: Groups in the order of their keys, else in that of their first rows. None: True for pandas, False for
            polars, as there.
        dropna: Leave out rows with a missing key. None: True for pandas, False for polars, as there.
        observed: pandas only: of categories, only those that occur. None: True.
        group_keys: pandas only: keys in the index of a result of frames. None: True.
        timeout: Seconds that a group may take; as for `Pool.map`.
        retries: Further attempts at a group; as for `Pool.map`.
        chunk: Groups that travel together; None for chunks that size themselves.
        on_error: "raise" raises the error of a group, with its key in a note or in the message; "skip" leaves out
            groups that failed; a function, called in the program as `on_error(group, error)`, returns a group's result.
        progress: True shows a progress bar, and a text stands before it.
        **constants: Keyword arguments for the function. They travel once.

    Returns:
        A frame, or with pandas a series where the library makes one.

    Raises:
        UsageError: For another kind of frame, a name that is not one column's, or options that make no sense.
        NotSupported: For columns that cannot travel, and polars in workers with start_method="fork".
        Exception: Whatever the function raised for a group.
    """
    from allcores.frames import groups

    if on_error == "skip" and observed is False:
        raise UsageError(
            'on_error="skip" and observed=False cannot both be given: a group that failed would be one without rows.'
        )
    kinds = {kind.__module__.partition(".")[0] for kind in type(frame).__mro__ if kind.__name__ == "DataFrame"}
    options = {"sort": sort, "dropna": dropna, "observed": observed, "group_keys": group_keys}
    given = {name: value for name, value in options.items() if value is not None}
    library: Any
    if "pandas" in kinds:
        from allcores.frames import pandas_groups as library
    elif "polars" in kinds:
        from allcores.frames import polars_groups as library
    else:
        raise UsageError(
            f"apply_groups takes a DataFrame of pandas or polars, and this is a {type(frame).__module__}."
            f"{type(frame).__qualname__}"
            + ("; collect() makes a DataFrame of it." if hasattr(frame, "collect") else ".")
        )
    return groups.apply(
        apply_groups,
        library.grouped(frame, by, given),
        function,
        constants,
        pool=pool,
        workers=workers,
        on_error=on_error,
        options={"timeout": timeout, "retries": retries, "chunk": chunk, "progress": progress},
    )
