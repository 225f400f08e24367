"""`map` and `starmap` of the `multiprocessing` drop-in: read on the thread that waits, which no other thread wakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allcores.adapters.pool_errors import as_in_multiprocessing, check_callable, ended
from allcores.adapters.pool_work import Work
from allcores.errors import PoolClosed
from allcores.pool.planning import plan_map
from allcores.pool.pool import driver_of
from allcores.pool.segment_reader import SegmentReader
from allcores.pool.segment_values import open_segment


class _Call:
    """One such map, as long as it goes on."""

    def unbound(self) -> None:
        """It is read all the time."""

    def fail(self, error: BaseException) -> None:
        """The engine ends, and tells whoever reads."""


def mapped(work: Work, fn: Callable[..., Any], style: str, items: list[Any], chunk: int | None) -> list[Any]:
    """The results, in order.

    Args:
        work: Of the pool.
        fn: The function.
        style: "one" or "star".
        items: The input.
        chunk: Items that travel together; None: as many as prove right.

    Raises:
        Exception: What the first item that failed has raised, once all have an outcome.
    """
    values: list[Any] = []
    failure: BaseException | None = None
    driver, call = driver_of(work.pool), _Call()
    work.begun(call)
    try:
        check_callable(fn)
        make, function = plan_map(driver, fn, style, items, chunk=chunk)
        reader = SegmentReader(driver, make, function, items, "raise", work)
        try:
            segment: Any
            for segment in reader.segments():
                if failure is None and segment.failures:
                    failure = segment.failures[0].error
                    values.clear()
                elif failure is None:
                    values.extend(open_segment(segment))
        finally:
            reader.end()
            segment = None
    except PoolClosed as error:
        failure = ended() if work.pool.closed else error
    except Exception as error:
        failure = error
    finally:
        work.map_done(call)
    if failure is None:
        return values
    __tracebackhide__ = True
    try:
        raise as_in_multiprocessing(failure)
    finally:
        # The exception may be kept, and has this frame.
        del failure, values, items
