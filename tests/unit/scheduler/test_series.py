"""Maps over parts of one input are worked at in order; other maps have their turns beside them."""

from __future__ import annotations

import pytest
from tests.unit.scheduler.harness import Harness
from tests.unit.simulation import MILLI

from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.map_state import MapState
from allcores.scheduler.messages import Send, SetLimit
from allcores.scheduler.series import Series


def part(harness: Harness, series: Series[MapState], place: int) -> MapState:
    """A map of a series is opened."""
    harness.maps += 1
    series.chunker = series.chunker or Chunker()
    map_state = MapState(harness.maps, chunker=series.chunker, ordered=False)
    map_state.series, map_state.place = series, place
    harness.scheduler.open(map_state)
    return map_state


def test_the_first_part_is_served_first_and_another_map_in_turn() -> None:
    """Whichever was opened first, and has chunks first. However many parts there are, they have one turn together."""
    harness = Harness(1, depth=1)
    series: Series[MapState] = Series()
    other, second, first = harness.map_state(), part(harness, series, 10), part(harness, series, 0)
    harness.add(other)
    for map_state in (second, second, first, first, other, other, other):
        harness.add(map_state)
    served: list[MapState] = []
    for sequence in range(1, 9):
        served += [order.chunk.map_state for order in harness.commands() if isinstance(order, Send)]
        harness.results(1, sequence, 0, 1)
    assert served == [other, other, first, other, first, other, second, second]
    assert harness.state.next_map() is None
    harness.add(first)
    assert harness.sent() == [(1, 2, 1, 1)]


def test_a_part_is_pulled_once_those_before_it_are() -> None:
    """Its reader is told then."""
    harness = Harness(1)
    series: Series[MapState] = Series()
    second, first = part(harness, series, 10), part(harness, series, 0)
    demand = harness.scheduler.demand
    assert (demand.room(first), demand.starving(first), demand.wants_input(first)) == (1, True, True)
    assert (demand.room(second), demand.starving(second), demand.wants_input(second)) == (0, False, False)
    harness.add(first)
    assert demand.room(second) == 0
    harness.state.dirty_maps.clear()
    harness.scheduler.input_ended(first, harness.now)
    assert second in harness.state.dirty_maps
    # How large results are nobody knows, and one chunk will tell.
    assert demand.room(second) == 0
    harness.state.dirty_maps.clear()
    harness.results(1, 1, 0, 1)
    assert second in harness.state.dirty_maps
    assert demand.room(second) > 0
    assert demand.wants_input(second)


@pytest.mark.parametrize("end", ["cancel", "forget", "stop"])
def test_a_part_that_is_given_up_holds_no_other_back(end: str) -> None:
    harness = Harness(1)
    series: Series[MapState] = Series()
    first, second = part(harness, series, 0), part(harness, series, 10)
    assert harness.scheduler.demand.room(second) == 0
    harness.state.dirty_maps.clear()
    ends = getattr(harness.scheduler, end)
    ends(first) if end == "forget" else ends(first, harness.now)
    assert second in harness.state.dirty_maps
    assert harness.scheduler.demand.room(second) == 1
    assert series.maps == ([second] if end != "stop" else [first, second])


@pytest.mark.parametrize("together", [True, False])
def test_a_part_takes_no_worker_from_the_one_before_it(together: bool) -> None:
    """Another map does: what is before its first chunk and not started is stolen."""
    harness = Harness(1)
    series: Series[MapState] = Series()
    first = part(harness, series, 0)
    first.chunker.observe(10, 100 * MILLI, 0)
    harness.add(first, 20)
    harness.at(1, 1, 0)
    harness.commands()
    second = part(harness, series if together else Series(), 20)
    harness.add(second)
    assert any(isinstance(order, SetLimit) for order in harness.commands()) is not together


def test_an_idle_worker_wakes_readers_and_no_submitted_calls() -> None:
    """These have no reader that would pull: each result of one would look for others in vain."""
    harness = Harness(1)
    calls, stream = harness.map_state(calls=True), harness.map_state()
    done = harness.map_state()
    harness.add(done)
    harness.state.dirty_maps.clear()
    harness.results(1, 1, 0, 1)
    assert stream in harness.state.dirty_maps
    assert calls not in harness.state.dirty_maps
