"""A map over a part of an input, read in segments: what a node of a cluster does with a chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from allcores.pool.planning import plan_map
from allcores.pool.pool import Pool, driver_of
from allcores.pool.segment_reader import SegmentReader
from allcores.scheduler.map_state import MapState
from allcores.scheduler.series import Series

if TYPE_CHECKING:
    from allcores.scheduler.batch_size import Batch


def part_reader(
    pool: Pool,
    fn: Callable[..., Any],
    style: str,
    items: Iterable[Any],
    timeout: float | None,
    batch: Batch | None,
    *,
    series: Series[MapState],
    place: int,
    detailed: bool,
) -> SegmentReader:
    """Begin a map over a part of an input, whose segments come as they are settled, in any order.

    Args:
        pool: Runs it.
        fn: The function.
        style: How it is called with an item: see `Function`.
        items: The part.
        timeout: Seconds per item.
        batch: See `Pool.map`.
        series: Of the maps over all parts of this input: they are worked at in the order of their places, and what is
            measured in one sizes the chunks of the next.
        place: The part's.
        detailed: Seconds of each item are wanted.
    """
    driver = driver_of(pool)
    make, function = plan_map(driver, fn, style, items, timeout=timeout, batch=batch, ordered=False, detailed=detailed)

    def make_part(number: int) -> MapState:
        map_state = make(number)
        known = series.chunker
        if known is None or type(known) is not type(map_state.chunker) or known.batch != map_state.chunker.batch:
            series.chunker = map_state.chunker
        else:
            map_state.chunker = known
        map_state.series, map_state.place = series, place
        return map_state

    return SegmentReader(driver, make_part, function, items, None, pool)


__all__ = ["part_reader"]
