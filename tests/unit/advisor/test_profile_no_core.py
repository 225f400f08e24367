"""What a program was without a core is of the places where it was so, and not of its own time."""

from __future__ import annotations

import array
from typing import Any

import pytest

from allcores.advisor.profiling import records
from allcores.advisor.profiling.sampler import FIELDS, FIRST_SLOT, SLOTS

S = 1_000_000_000


def own_walls(no_core: int, *slots: tuple[int, int, int]) -> list[float]:
    """Of places in the main thread, each with its seconds of a processor, in all, and seen to be without a core."""
    cells = array.array("q", bytes(8 * SLOTS * FIELDS))
    cells[0], cells[8] = 100, no_core * S
    lines = [f"p {(1, 0, (3, 11), ['x.py'], 0.005)!r}", "c 1 ('x.py', 1, 'f', True)"]
    for number, (cpu, wall, seen) in enumerate(slots, FIRST_SLOT):
        values: list[Any] = [100, cpu * S, wall * S, 0, 0, 0, 0, 0, 0, seen * S]
        cells[number * FIELDS : (number + 1) * FIELDS] = array.array("q", values)
        lines.append(f"s {number} {(True, 1, number)!r}")
    record = records._record(cells, lines)
    assert record is not None
    return [round(stack.own_wall, 6) for stack in record.stacks]


def test_who_was_seen_without_a_core_computes_and_who_waits_does_wait() -> None:
    assert own_walls(8, (2, 10, 8), (0, 10, 0)) == [2.0, 10.0]


def test_a_place_has_no_more_of_it_than_it_can_have_had() -> None:
    """It is told a look later: the rest is shared by who computed."""
    assert own_walls(9, (2, 10, 9), (4, 8, 0)) == [2.0, 7.0]


@pytest.mark.parametrize("seen", [0, 4])
def test_what_no_place_was_seen_with_is_shared_by_who_computed(seen: int) -> None:
    assert own_walls(8, (2, 10, seen), (0, 10, 0)) == [2.0, 10.0]
