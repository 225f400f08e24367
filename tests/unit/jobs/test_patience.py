"""Who waits for a job waits on while the server of the store restarts, and not for ever."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allcores.cli import jobs_wait
from allcores.cli.exits import CommandError, Exit
from allcores.jobs import Job, JobStore, Queue, Registry, patience, store_reading
from allcores.jobs.errors import StoreAway
from allcores.jobs.model import Finished, State


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[tuple[Queue, str]]:
    """A queue, and a job that has come to its end."""
    with Queue(tmp_path / "jobs.sqlite", tasks=Registry(())) as queue, queue.store.become_supervisor():
        job = queue.store.submit("f", {}).job
        queue.store.finish(queue.store.claim(1, ["f"])[0], Finished(State.SUCCEEDED, result=7))
        yield queue, job.id


def away(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """The server is away for so many reads, once the job was found."""
    asked: list[int] = []
    real = JobStore.get

    def get(store: JobStore, id: str) -> Job | None:
        asked.append(1)
        if 1 < len(asked) < times + 2:
            raise StoreAway("the server cannot be reached")
        return real(store, id)

    monkeypatch.setattr(JobStore, "get", get)
    monkeypatch.setattr(patience, "AGAIN_S", 0.0)
    return asked


def test_it_is_waited_for(ended: tuple[Queue, str], monkeypatch: pytest.MonkeyPatch) -> None:
    queue, id = ended
    asked = away(monkeypatch, 3)
    assert queue.get(id) is not None and queue.result(id) == 7
    assert len(asked) == 5
    asked.clear()
    found = queue.get(id)
    assert jobs_wait.awaited(queue.store, [id], None) == [found] and len(asked) == 5


def test_it_is_not_waited_for_for_ever(ended: tuple[Queue, str], monkeypatch: pytest.MonkeyPatch) -> None:
    queue, id = ended
    monkeypatch.setattr(patience, "PATIENCE_S", 0.0)
    asked = away(monkeypatch, 10**6)
    queue.get(id)
    with pytest.raises(StoreAway):
        queue.wait(id)
    with pytest.raises(StoreAway):
        queue.wait(id, timeout=1_000)
    asked.clear()
    queue.get(id)
    with pytest.raises(StoreAway):
        jobs_wait.awaited(queue.store, [id], None)


def test_a_server_that_is_away_when_time_is_up(ended: tuple[Queue, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the end of the time that was given, and no trouble with the store."""
    queue, id = ended
    asked = away(monkeypatch, 10**6)
    queue.get(id)
    with pytest.raises(TimeoutError, match=r"is not known.*the server cannot be reached"):
        queue.wait(id, timeout=0)
    asked.clear()
    queue.get(id)
    with pytest.raises(CommandError, match="is not known") as raised:
        jobs_wait.awaited(queue.store, [id], 0.0)
    assert raised.value.exit == Exit.NOT_YET


class Away:
    """A store in which nothing changes, and its clock: the server goes away at a time, and comes back at another."""

    def __init__(self, goes: float, comes: float) -> None:
        self.now = 0.0
        self.begun: list[float] = []
        self._goes = goes
        self._comes = comes

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def _ask(self) -> None:
        if self._goes <= self.now < self._comes:
            raise StoreAway("the server cannot be reached")

    def change_number(self) -> int:
        self._ask()
        return 7

    def wait_for_change(self, since: int, timeout: float, *, begun: float) -> int:
        self.begun.append(begun)
        end = self.now + timeout
        if timeout > 0:
            self._ask()
            if self.now < self._goes <= end:
                self.now = self._goes
                self._ask()
            self.now = end
        return since


def waiter(monkeypatch: pytest.MonkeyPatch, store: Any, until: float | None = None) -> patience.Patient:
    monkeypatch.setattr(patience, "time", store)
    return patience.Patient(store, until)


def test_patience_begins_when_the_server_is_found_to_be_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not with the wait, which may have had most of its minute by then."""
    store = Away(goes=55.0, comes=110.0)
    patient = waiter(monkeypatch, store)
    assert patient.wait_for_change(7, 60.0) == 7 and store.now == 60.0
    assert patient.change_number() == 7 and store.now == 110.0


def test_a_wait_takes_no_longer_for_a_server_that_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Away(goes=10.0, comes=12.0)
    assert waiter(monkeypatch, store, 100.0).wait_for_change(7, 60.0) == 7
    assert store.now == 60.0


def test_patience_ends_with_the_time_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Away(goes=10.0, comes=1_000.0)
    with pytest.raises(patience.TimeIsUp):
        waiter(monkeypatch, store, 20.0).wait_for_change(7, 60.0)
    assert store.now == 20.0
    with pytest.raises(StoreAway):
        waiter(monkeypatch, store, 900.0).change_number()
    assert store.now == 80.0


def test_the_end_of_a_short_job_is_noticed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that another process runs: within a millisecond or two at first, later within a tenth of a second."""
    store = Away(goes=math.inf, comes=math.inf)
    store.now = 3.0
    patient = waiter(monkeypatch, store)
    patient.wait_for_change(7, 5.0)
    patient.wait_for_change(7, 5.0)
    assert store.begun == [3.0, 3.0]
    now, looks = 0.0, []
    while now < 10.0:
        now += store_reading.pause_s(now)
        looks.append(now)
    assert len([each for each in looks if each < 0.01]) >= 8
    assert len([each for each in looks if each < 1.0]) <= 60
    assert len([each for each in looks if each >= 1.0]) <= 91
    assert store_reading.pause_s(None) == store_reading.LOOK_S
