"""Where a run whose outcomes depend on the items before them goes on: behind the last state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from allcores.runs.index import RunIndex
from allcores.runs.ranges import RangeSet
from allcores.runs.states import go_back, is_enough, place_to_go_on


def go_back_to_state(run_index: RunIndex, settled: RangeSet, *, again: bool, accepted: bool) -> int:
    """Forget what lies behind the last state that there is for what is to be done, unless all is done; its item.

    Args:
        run_index: Of the run.
        settled: What has an outcome.
        again: What failed is to be tried again.
        accepted: The input may be another one.
    """
    total = run_index.run_row().total
    place, _ = settled.hole_from(0)
    if again:
        failure = next(run_index.failures(), None)
        place = place if failure is None else min(place, failure.slot)
    if total is not None and place >= total and not accepted:
        return total
    place = place_to_go_on(run_index, place)
    go_back(run_index, place)
    return place


def is_all_there(run_index: RunIndex, settled: RangeSet, remaining: Iterable[Any]) -> bool:
    """Whether there are outcomes for the whole input, which is the one of before.

    Raises:
        RunChanged: It has grown.
    """
    total = run_index.run_row().total
    if total is None or settled.hole_from(0)[0] < total:
        return False
    # One that needed no more than it read does not look for more.
    return is_enough(run_index) or next(iter(remaining), None) is None
