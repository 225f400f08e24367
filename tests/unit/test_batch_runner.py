"""worker/batch_runner.py: what it stores on the board before each call, and what it seals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from allcores.errors import BatchError
from allcores.transport.positions import NO_LIMIT, mark, of_together_word
from allcores.transport.status_board import CLAIMED, CURRENT, LIMIT, SLOT_WORDS, STARTED
from allcores.worker import batch_runner
from allcores.worker.batch_runner import run_batches

MILLI = 1_000_000
SEQUENCE = 3


class Bench:
    """A slot, a clock that only calls move, and what was called and sealed."""

    def __init__(self) -> None:
        self.now = 1_000 * MILLI
        self.slot = [0] * SLOT_WORDS
        self.slot[LIMIT] = NO_LIMIT
        #: of each call: position, items, as the board has them; up to where it is claimed; when it began
        self.calls: list[tuple[int, int, int, int]] = []
        #: of each seal: start, count, values, positions of failures, durations
        self.sealed: list[tuple[int, int, list[Any], list[int], list[int] | None]] = []

    def run(
        self,
        items: int,
        batch: int,
        function: Callable[[list[int]], list[int]] = list,
        *,
        durations: list[int] | None = None,
    ) -> None:
        def call(some: list[int]) -> list[int]:
            position, count = of_together_word(self.slot[CURRENT])
            assert [*range(position, position + count)] == some
            self.calls.append((position, count, self.slot[CLAIMED] - mark(SEQUENCE, 0), self.slot[STARTED]))
            self.now += MILLI // 4
            return function(some)

        def seal(
            sequence: int,
            start: int,
            count: int,
            values: list[Any],
            failures: list[tuple[int, Any]],
            durations: list[int] | None,
            total_ns: int,
            *,
            ended: bool = False,
        ) -> None:
            assert sequence == SEQUENCE
            positions = [position for position, _ in failures]
            self.sealed.append((start, count, [*values], positions, None if durations is None else [*durations]))
            self.ended = ended

        run_batches(self.slot, [], SEQUENCE, [*range(items)], batch, call, durations, items, seal, MILLI)
        assert self.ended


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    monkeypatch.setattr(batch_runner, "monotonic_ns", lambda: bench.now)
    return bench


def test_the_board_says_which_items_are_in_a_call_and_since_when(bench: Bench) -> None:
    begun = bench.now
    bench.run(10, 4)
    assert [call[:3] for call in bench.calls] == [(0, 4, 4), (4, 4, 8), (8, 2, 10)]
    assert [call[3] - begun for call in bench.calls] == [0, MILLI // 4, MILLI // 2]
    assert bench.sealed == [(0, 10, [*range(10)], [], None)]


def refuse_five(some: list[int]) -> list[int]:
    if 5 in some:
        raise ValueError("five")
    return some


def test_a_batch_that_raises_is_halved_and_its_claim_stays(bench: Bench) -> None:
    """A claim that went back would have the parent steal what runs."""
    bench.run(16, 8, refuse_five)
    assert [call[:3] for call in bench.calls] == [
        (0, 8, 8),
        (0, 4, 8),
        (4, 4, 8),
        (4, 2, 8),
        (4, 1, 8),
        (5, 1, 8),
        (6, 2, 8),
        (8, 8, 16),
    ]
    values = [value for _, _, values, _, _ in bench.sealed for value in values]
    assert values == [n for n in range(16) if n != 5]
    assert [position for *_, failed, _ in bench.sealed for position in failed] == [5]


def test_what_is_finished_is_sealed_also_between_halves(bench: Bench) -> None:
    bench.run(16, 8, refuse_five)
    assert [sealed[:2] for sealed in bench.sealed] == [(0, 5), (5, 11)]


def test_no_call_begins_beyond_the_limit(bench: Bench) -> None:
    """It is stolen from there on: a batch that would pass it is shorter."""
    bench.slot[LIMIT] = mark(SEQUENCE, 6)
    bench.run(16, 4)
    assert [call[:2] for call in bench.calls] == [(0, 4), (4, 2)]
    assert bench.sealed == [(0, 6, [*range(6)], [], None)]


def test_a_limit_that_is_set_meanwhile_ends_the_halving(bench: Bench) -> None:
    """What was cancelled is not taken apart to the end."""

    def cancelled(some: list[int]) -> list[int]:
        if len(some) == 2:
            bench.slot[LIMIT] = mark(SEQUENCE, 0)
        raise ValueError("no")

    bench.run(8, 8, cancelled)
    assert [call[:2] for call in bench.calls] == [(0, 8), (0, 4), (0, 2)]
    assert bench.sealed == [(0, 0, [], [], None)]


def test_seconds_are_shared_by_the_items_of_a_call(bench: Bench) -> None:
    bench.run(6, 4, durations=[])
    assert bench.sealed == [(0, 6, [*range(6)], [], [MILLI // 16] * 4 + [MILLI // 8] * 2)]


def test_a_wrong_number_of_results_is_not_looked_into(bench: Bench) -> None:
    def short(some: list[int]) -> list[int]:
        raise BatchError("short", expected=len(some), returned=0)

    bench.run(8, 4, short)
    assert [call[:2] for call in bench.calls] == [(0, 4), (4, 4)]
    assert bench.sealed == [(0, 8, [], [*range(8)], None)]


def test_the_last_batch_of_a_chunk_that_was_cut_short_is_sealed_with_its_end(bench: Bench) -> None:
    def cut(some: list[int]) -> list[int]:
        bench.now += 2 * MILLI
        if 4 in some:
            bench.slot[LIMIT] = mark(SEQUENCE, 6)
        return some

    bench.run(10, 2, cut)
    assert [(start, count) for start, count, *_ in bench.sealed] == [(0, 2), (2, 2), (4, 2)]
