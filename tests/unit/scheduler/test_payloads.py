"""The scheduler: the bytes of a chunk's items go with whatever is cut from it."""

from __future__ import annotations

import pytest
from tests.unit.scheduler.harness import Boom, Harness, take_all
from tests.unit.simulation import MILLI

from allcores.limits import Retry
from allcores.outcome import Failure, Kind
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.messages import Send
from allcores.transport.positions import PHASE_LOADING, PHASE_RUNNING, PHASE_SEALING

PAYLOAD = bytes(1000)


def one_chunk(items: int = 10, workers: int = 1, retry: Retry | None = None) -> tuple[Harness, MapState]:
    harness = Harness(workers)
    map_state = harness.map_state(ordered=False, retry=retry)
    chunk = harness.add(map_state, items)
    chunk.payload, chunk.size_bytes = PAYLOAD, len(PAYLOAD)
    map_state.bytes_out += len(PAYLOAD)
    harness.end_of_input(map_state)
    harness.commands()
    return harness, map_state


def sent(harness: Harness) -> list[tuple[int, int, bool, int, bool]]:
    """Of each chunk that was sent: first, items, has the bytes?, its place in them, are others in them?"""
    chunks: list[Chunk] = [order.chunk for order in harness.commands() if isinstance(order, Send)]
    return [
        (each.first, len(each.items), each.payload is PAYLOAD, each.skip, each.shared is not None) for each in chunks
    ]


def test_what_a_dead_worker_held_is_sent_with_the_same_bytes() -> None:
    harness, _ = one_chunk()
    harness.at(1, 1, 4)
    harness.gone(1)
    harness.ready(2)
    # what was finished and not told, then what was not begun; each with its place
    assert sent(harness) == [(0, 4, True, 0, True), (5, 5, True, 5, True)]


def test_what_is_stolen_is_sent_with_the_same_bytes() -> None:
    harness, map_state = one_chunk(workers=2)
    harness.add(map_state)
    harness.results(1, 1, 0, 2, ended=False)
    harness.at(1, 1, 2, claimed=3)
    harness.results(2, 1, 0, 1)
    harness.commands()
    harness.pass_time(100 * MILLI)
    ((first, items, has_bytes, skip, shares),) = sent(harness)
    assert (has_bytes, skip, shares) == (True, first, True)
    # What stays is no longer all that there is in the bytes, either.
    (kept,) = harness.state.worker_states[1].chunks
    assert (len(kept.items), kept.shared is not None) == (10 - items, True)


def test_a_part_of_a_part_is_found_in_the_same_bytes() -> None:
    harness, _ = one_chunk()
    (chunk,) = harness.state.worker_states[1].chunks
    part = chunk.part(4, 9).part(2, 4)
    assert (part.first, part.items, part.skip, part.shared is not None) == (6, [6, 7], 6, True)


def test_the_bytes_that_wait_for_another_attempt_are_counted() -> None:
    """They keep the bytes of all, once: no more is pulled than there is room for beside them."""
    harness, map_state = one_chunk(retry=Retry(times=1, wait_s=1.0, jitter=0.0))
    harness.results(1, 1, 0, 10, failures=[Failure(place, Kind.FAILED, Boom("first")) for place in (3, 5)])
    settled = map_state.bytes_out
    assert settled == 1000 + 1000
    harness.pass_time(2_000 * MILLI)
    assert map_state.bytes_out == settled - 1000
    assert sorted(sent(harness)) == [(3, 1, True, 3, True), (5, 1, True, 5, True)]


@pytest.mark.parametrize("items", [1, 10])
def test_what_cannot_be_unpickled_together_is_pickled_apart(items: int) -> None:
    harness, _ = one_chunk()
    (chunk,) = harness.state.worker_states[1].chunks
    # as a part: also one item may be lost for the sake of another in the same bytes
    chunk.share()
    chunk.items = chunk.items[:items]
    harness.results(1, 1, 0, 0, unloadable=True)
    first, *_ = sent(harness)
    assert first == (0, 1, False, 0, False)


@pytest.mark.parametrize(("phase", "apart"), [(PHASE_LOADING, True), (PHASE_SEALING, False)])
def test_a_death_while_it_is_unpickled_says_nothing_of_one_item(phase: int, apart: bool) -> None:
    """One by one will tell, each in bytes of its own; if it was the results, the bytes are good."""
    harness, _ = one_chunk()
    harness.at(1, 1, 0, phase=phase)
    harness.gone(1)
    harness.ready(2)
    first, *_ = sent(harness)
    assert first == ((0, 1, False, 0, False) if apart else (0, 1, True, 0, True))


def test_the_only_item_that_is_left_of_a_chunk_is_not_charged_for_it() -> None:
    harness, map_state = one_chunk()
    (chunk,) = harness.state.worker_states[1].chunks
    chunk.share()
    del chunk.items[1:]
    harness.at(1, 1, 0, phase=PHASE_LOADING)
    harness.gone(1)
    harness.ready(2)
    assert take_all(map_state) == []
    assert sent(harness) == [(0, 1, False, 0, False)]
    harness.at(2, 1, 0, phase=PHASE_RUNNING)
    harness.gone(2)
    assert take_all(map_state) == [(0, 1, [Kind.WORKER_LOST])]
