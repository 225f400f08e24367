"""What the leader of several supervisors sees to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from allcores.jobs.duty import Duty
from allcores.jobs.lead_duty import LeadDuty
from allcores.jobs.shared_store import SharedStore


class _Store:
    """Stands for the store: nobody else is there."""

    holder = name = "me"

    def __init__(self, renewed: list[bool]) -> None:
        self._renewed: Iterator[bool] = iter(renewed)

    def renew(self) -> bool:
        return next(self._renewed)

    def leases(self) -> dict[str, Any]:
        return {}

    def lead(self) -> bool:
        return True

    def recover_lost(self, silent: object) -> list[Any]:
        return []


class _Noted(Duty):
    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.done: list[str] = []

    def look(self, wall: float, *, stopping: bool) -> bool:
        self.done.append("look")
        if self._error is not None:
            raise self._error
        return True

    def put_down(self) -> None:
        self.done.append("put down")


def test_a_duty_that_fails_keeps_no_other_one_and_all_are_put_down_with_the_lead() -> None:
    duties = [_Noted(RuntimeError("a mistake")), _Noted()]
    clock = iter(range(0, 100, 10))
    store = cast(SharedStore, _Store([True, False, True]))
    lead = LeadDuty(store, duties, lambda leading: None, clock=lambda: float(next(clock)))
    for wall in (1.0, 2.0, 3.0):
        lead.look(wall, stopping=False)
    assert [each.done for each in duties] == [["look", "put down", "look"]] * 2


def test_who_cannot_begin_to_lead_tries_again() -> None:
    """What announces jobs could not be made: they would wait for ever for one that says it leads."""
    tries: list[bool] = []

    def leads(leading: bool) -> None:
        tries.append(leading)
        if len(tries) == 1:
            raise RuntimeError("can't start new thread")

    clock = iter(range(0, 100, 10))
    duty = _Noted()
    lead = LeadDuty(cast(SharedStore, _Store([True] * 3)), [duty], leads, clock=lambda: float(next(clock)))
    with pytest.raises(RuntimeError):
        lead.look(1.0, stopping=False)
    assert duty.done == []
    for wall in (2.0, 3.0):
        lead.look(wall, stopping=False)
    assert (tries, duty.done) == ([True, True], ["look", "look"])
