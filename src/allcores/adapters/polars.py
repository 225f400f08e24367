"""A Python function over batches of a polars frame's rows, on all cores.

from allcores.adapters import polars as allcores_polars
allcores_polars.map_batches(frame, function)

What polars' own expressions can say runs on all cores already, and is many times quicker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import polars

from allcores.adapters.frame_parts import PartCall, Parts
from allcores.errors import UsageError
from allcores.frames import groups
from allcores.frames.groups import OnError
from allcores.frames.polars_groups import SharedRows
from allcores.limits import whole
from allcores.system.tracebacks import hiding
from allcores.transport.remote_errors import as_raised

if TYPE_CHECKING:
    from allcores.adapters.frame_parts import Part
    from allcores.limits import Retry
    from allcores.pool.pool import Pool

__all__ = ["map_batches"]

#: Rows of a batch, at most, unless told otherwise.
MOST_ROWS = 16_384


@hiding
def map_batches(
    frame: Any,
    function: Callable[..., Any],
    *,
    rows: int | None = None,
    pool: Pool | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    retries: int | Retry = 0,
    on_error: OnError = "raise",
    progress: bool | str = False,
    **constants: Any,
) -> Any:
    """What a function makes of a frame's rows, batch by batch, one below the other.

    The function must not care where batches begin: it gets some rows after the other. Safe from any thread.

    Args:
        frame: A `polars.DataFrame`.
        function: Called with a frame of some rows; returns a frame, or a series, which is one of one column.
        rows: Of a batch; None: by the number of workers.
        pool: The pool that does it; None for the one behind `allcores.map`. Not one with start_method="fork".
        workers: Without `pool`, so many.
        timeout: Seconds that a batch may take, per attempt.
        retries: Further attempts at a batch; as for `Pool.map`.
        on_error: "raise" raises the error of a batch; "skip" leaves out the rows of batches that failed; a function,
            called in the program as `on_error(batch, error)`, returns the result of one.
        progress: True shows a progress bar, and a text stands before it.
        **constants: Keyword arguments for the function.

    Returns:
        A `polars.DataFrame`. For a frame without rows what the function makes of that; where all batches are left out,
        the frame without its rows.

    Raises:
        UsageError: For another kind of frame, or results that make no frame.
        NotSupported: For columns of Python objects, and a pool with start_method="fork".
        Exception: What the function raised.
    """
    if not isinstance(frame, polars.DataFrame):
        hint = "; collect() makes a DataFrame of it." if isinstance(frame, polars.LazyFrame) else "."
        raise UsageError(f"map_batches takes a polars.DataFrame, and this is a {type(frame).__qualname__}{hint}")
    rows = whole(rows)
    if rows is not None and (not isinstance(rows, int) or rows < 1):
        raise UsageError(f"rows={rows!r} must be a whole number of 1 or more.")
    groups.check_on_error(on_error)
    with groups.pool_for(pool, workers) as place:
        groups.check_threads(place)
        work = BatchWork(function, constants)
        if not len(frame):
            return work.checked(function(frame, **constants))
        length = len(frame)
        batches = Parts(length, rows, "rows") if rows else Parts.shared_out(length, place.workers, "rows", MOST_ROWS)
        call = PartCall(groups.shared(place, SharedRows.of(frame)), work, function)
        found: list[Any] = []
        with place.outcomes(call, batches, timeout=timeout, retries=retries, progress=progress) as outcomes:
            for outcome in outcomes:
                if outcome.ok:
                    found.append(outcome.value)
                elif callable(on_error):
                    part = batches[outcome.index]
                    found.append(work.checked(on_error(frame[part.start : part.stop], as_raised(outcome.error))))
                elif on_error == "raise":
                    groups.fail(outcome)
    return polars.concat(found) if found else frame.clear()


class BatchWork:
    """Calls the function in a worker."""

    def __init__(self, function: Callable[..., Any], constants: dict[str, Any]) -> None:
        self._function = function
        self._constants = constants

    def __call__(self, shared: SharedRows, part: Part) -> Any:
        """What the function makes of a batch."""
        return self.checked(self._function(shared.frame()[part.start : part.stop], **self._constants))

    def checked(self, result: Any) -> Any:
        """It as a frame. Raises UsageError for what is none."""
        if isinstance(result, polars.Series):
            return result.to_frame()
        if not isinstance(result, polars.DataFrame):
            raise UsageError(
                f"map_batches: the function returned a {type(result).__qualname__}, and no frame or series."
            )
        return result
