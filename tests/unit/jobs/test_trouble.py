"""What is told while a store cannot be used: each thing once a minute, and that it is over once it was used again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from allcores.jobs import JobStore, Registry, task
from allcores.jobs.duties import KeepingDuty, ScheduleDuty
from allcores.jobs.duty import Duty, DutyTrouble, see_to
from allcores.jobs.errors import StoreAway, StoreError, StoreFull, StoreGone
from allcores.jobs.holding import Holding
from allcores.jobs.lead_duty import LeadDuty
from allcores.jobs.retention import Retention, Swept
from allcores.jobs.shared_store import SharedStore
from allcores.jobs.tasks import task_of
from allcores.jobs.trouble import Trouble

TELL_S = 1e6
START = 1_800_000_000.0  # a whole minute


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, without how long it took."""
    return [each.getMessage().partition(", after")[0] for each in caplog.records]


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO, "allcores.jobs")
    # However slow the machine is, nothing is told again.
    monkeypatch.setattr("allcores.jobs.trouble.TELL_S", TELL_S)


@task(schedule="* * * * *", timezone="UTC")
def minutely() -> None: ...


class Store:
    """Stands for a store that can be used, or cannot."""

    name, holder = "jobs", "me"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error: StoreError | None = None
        self.used = 0

    def _use(self) -> None:
        if self.error is not None:
            raise self.error
        self.used += 1

    def records(self, kind: str) -> dict[str, object]:
        return {}

    def fire(self, tasks: Sequence[object]) -> list[list[object]]:
        self._use()
        return [[] for _ in tasks]

    def tend_log(self) -> None:
        self._use()

    def maintain(self, *_: object, **__: object) -> Swept:
        self._use()
        return Swept(complete=True)

    def remove_orphans(self) -> None:
        self._use()

    def renew(self) -> bool:
        self._use()
        return True

    def leases(self) -> dict[str, Any]:
        return {}

    def recover_lost(self, _: object) -> list[Any]:
        return []

    def lead(self) -> bool:
        return True


def all_duties(store: Store, clock: list[float]) -> dict[str, Duty]:
    found = task_of(minutely)
    assert found is not None
    return {
        "schedules": ScheduleDuty(cast(JobStore, store), Registry([found])),
        "keeping": KeepingDuty(cast(JobStore, store), Retention(), lambda: clock[0]),
        "leading": LeadDuty(cast(SharedStore, store), [], lambda _: None, clock=lambda: clock[0]),
    }


@pytest.mark.parametrize("which", ["schedules", "keeping", "leading"])
def test_a_look_at_which_nothing_is_due_is_no_use_of_the_store(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, which: str
) -> None:
    clock = [START - 1]
    store = Store(tmp_path)
    duty = all_duties(store, clock)[which]
    trouble = DutyTrouble(store.name)

    def look(seconds: float) -> None:
        until = clock[0] + seconds
        while clock[0] < until:
            see_to([duty], trouble, stopping=False, wall=clock[0])
            clock[0] += 0.25

    look(1.0)
    store.error = StoreFull("no room")
    look(130.0)
    assert told(caplog) == ["no room"]
    store.error = None
    look(61.0)
    assert told(caplog) == ["no room", "the store jobs can be used again"]


def test_a_part_of_a_duty_that_works_does_not_speak_for_the_one_that_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention cannot write, the log of SQLite may not have to be moved."""
    clock, store = [START], Store(tmp_path)
    duty = KeepingDuty(cast(JobStore, store), Retention(), lambda: clock[0])
    trouble = DutyTrouble(store.name)
    with monkeypatch.context() as full:

        def maintain(*_: object, **__: object) -> Swept:
            raise StoreFull("no room")

        full.setattr(store, "maintain", maintain)
        for _ in range(600):
            see_to([duty], trouble, stopping=False, wall=clock[0])
            clock[0] += 0.25
    assert store.used > 100 and told(caplog) == ["no room"]
    clock[0] += 60.0
    see_to([duty], trouble, stopping=False, wall=clock[0])
    assert told(caplog) == ["no room", "the store jobs can be used again"]


class _Failing(Duty):
    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def look(self, wall: float, *, stopping: bool) -> bool:
        if self.errors:
            self.errors.append(self.errors.pop(0))
            raise self.errors[-1]
        return True


def test_duties_with_different_troubles_are_told_once_each(caplog: pytest.LogCaptureFixture) -> None:
    one, other, fine = _Failing(StoreFull("full"), StoreGone("gone")), _Failing(StoreError("odd")), _Failing()
    trouble = DutyTrouble("jobs")
    for _ in range(10):
        see_to([one, other, fine], trouble, stopping=False)
    assert told(caplog) == ["full", "odd", "gone"]
    one.errors.clear()
    see_to([one, other, fine], trouble, stopping=False)
    assert told(caplog) == ["full", "odd", "gone"], "one of them has trouble still"
    other.errors.clear()
    see_to([one, other, fine], trouble, stopping=False)
    assert told(caplog)[3:] == ["the store jobs can be used again"]


def test_a_mistake_in_a_duty_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    trouble = DutyTrouble("jobs")
    duty = _Failing(RuntimeError("a mistake"))
    for _ in range(10):
        see_to([duty], trouble, stopping=False)
    assert told(caplog) == ["_Failing failed; it is seen to again later"]


def test_troubles_that_come_in_turns_are_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble("jobs")
    for now in range(10):
        trouble.has(StoreFull("full") if now % 2 else StoreGone("gone"), float(now))
    assert told(caplog) == ["gone", "full"]
    trouble.has(StoreGone("gone"), TELL_S)
    assert told(caplog) == ["gone", "full", "gone"]


def test_a_supervisor_that_has_nothing_to_ask_its_store_does_not_say_that_it_can_be_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One of several, without jobs, while the server is away: there is nothing to look at in the store."""

    class Idle:
        sessions_lost = 0
        held, in_store = True, False

        def recover(self, **_: object) -> list[Any]:
            return []

        def retake(self, *_: object, **__: object) -> Any:
            from allcores.jobs.retaking import Retaken

            return Retaken()

    idle: Any = Idle()
    trouble = Trouble("jobs")
    holding = Holding(idle, idle, trouble, 3, lambda: ([], []), lambda _: None, lambda: None)
    assert holding.look(0.0)
    for now in range(1, 30):
        idle.sessions_lost += 1
        assert holding.look(float(now))
        trouble.has(StoreAway("away"), float(now))
    assert told(caplog) == ["away; what runs goes on, and it is tried again"]
