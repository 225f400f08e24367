"""What becomes of operations that are committed together when that fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from allcores.jobs.errors import StoreBusy
from allcores.jobs.group_commit import Transaction
from allcores.jobs.store import JobStore


def test_a_store_that_goes_away_is_not_asked_for_each_of_them(tmp_path: Path) -> None:
    """Each would wait as long for it as the one before."""
    asked: list[int] = []

    def handle(transaction: Transaction, payloads: Sequence[int]) -> list[Any]:
        asked.append(len(payloads))
        if len(payloads) > 1:
            raise ValueError("one of them is at fault")
        if payloads[0] > 0:
            raise StoreBusy("locked")
        return ["done"]

    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        first, *others = store._commits.run_all([(handle, number) for number in range(20)])
        assert first() == "done" and asked == [20, 1, 1]
        for each in others:
            with pytest.raises(StoreBusy):
                each()


def test_one_at_fault_fails_alone(tmp_path: Path) -> None:
    def handle(transaction: Transaction, payloads: Sequence[int]) -> list[Any]:
        if 1 in payloads:
            raise ValueError("at fault")
        return [f"done {number}" for number in payloads]

    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        zero, one, two = store._commits.run_all([(handle, number) for number in range(3)])
        assert (zero(), two()) == ("done 0", "done 2")
        with pytest.raises(ValueError, match="at fault"):
            one()


def test_nothing_that_was_interrupted_is_taken_for_done(tmp_path: Path) -> None:
    """Operations of other threads are among what a Ctrl-C ends: they get an error, and no answer that is None."""
    heard: list[Any] = []

    def handle(transaction: Transaction, payloads: Sequence[int]) -> list[Any]:
        if len(payloads) > 1:
            raise ValueError("one of them is at fault")
        raise KeyboardInterrupt

    with JobStore.open(tmp_path / "jobs.sqlite") as store:

        class Noted(deque[Any]):
            def extend(self, operations: Any) -> None:
                heard.extend(operations)
                super().extend(operations)

        store._commits._waiting = Noted()
        with pytest.raises(KeyboardInterrupt):
            store._commits.run_all([(handle, number) for number in range(3)])
        assert [type(each.error) for each in heard] == [ValueError] * 3 and all(each.done for each in heard)
