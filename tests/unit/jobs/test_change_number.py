"""A crash of PostgreSQL may set the change number back: nobody waits for the old one, or takes it for the new one."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, text
from tests.process.waiting import PATIENCE_S

from allcores.jobs import untold
from allcores.jobs.model import Submission
from allcores.jobs.reading import change_in
from allcores.jobs.store import JobStore
from allcores.jobs.store_side import StoreSide
from allcores.jobs.webhooks import WebhookDuty


def set_to(store: JobStore, number: int) -> None:
    with store.reading() as connection:
        connection.execute(text("UPDATE allcores_changes SET number = :number"), {"number": number})
        connection.commit()


def submitted(store: JobStore, count: int = 5) -> int:
    """The change number after so many changes."""
    for _ in range(count):
        change = store.submit("f", {}).job.changed
    assert store.last_change == change
    return change


def test_what_was_set_back_is_not_taken_for_a_change_again_and_again(store: JobStore) -> None:
    """A wait that ends at once without a change is a loop at full speed for who waits."""
    change = submitted(store)
    set_to(store, change - 2)
    now = store.change_number()
    assert now == store.last_change == change - 2
    assert store.wait_for_change(now, 0.0) == now
    assert store.wait_for_change(now - 1, 0.0) == now


def test_who_waits_is_told_that_it_was_set_back(store: JobStore) -> None:
    change = submitted(store)
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(store.wait_for_change, change, PATIENCE_S) for _ in range(3)]
        set_to(store, change - 2)
        assert [each.result(PATIENCE_S) for each in waiting] == [change - 2] * 3
    # Also one that comes late: another one has heard of it.
    assert store.wait_for_change(change, PATIENCE_S) == change - 2


def test_changes_after_it_was_set_back_are_told(store: JobStore) -> None:
    change = submitted(store)
    set_to(store, change - 2)
    now = store.change_number()
    assert store.submit("f", {}).job.changed == now + 1
    assert store.wait_for_change(now, PATIENCE_S) == now + 1


def test_a_number_that_another_process_has_heard_of_was_not_set_back(opened: Callable[[], JobStore]) -> None:
    store, other = opened(), opened()
    change = submitted(store)
    assert other.last_change < change
    assert other.wait_for_change(change, 0.01) == change


def test_what_is_read_late_sets_nothing_back(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread's commit comes between the read and what is made of it."""
    change = submitted(store)
    once = [lambda: store.submit("f", {})]

    def late(connection: Connection) -> int:
        number = change_in(connection)
        if once:
            once.pop()()
        return number

    monkeypatch.setattr("allcores.jobs.store_reading.change_in", late)
    assert store.change_number() == change
    assert store.last_change == change + 1


@pytest.fixture
def lose_session(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The store's server may have crashed."""
    lost = [0]
    monkeypatch.setattr(JobStore, "sessions_lost", property(lambda _: lost[0]))

    def lose() -> None:
        lost[0] += 1

    return lose


def test_jobs_that_are_to_end_are_looked_for_after_a_crash(store: JobStore, lose_session: Callable[[], None]) -> None:
    """Though the number is the one that it was before."""
    id = store.submit("f", {}).job.id
    side = StoreSide(store)
    found: list[str] = []
    with store.become_supervisor():
        store.claim(1, ["f"])
        side.look(time.monotonic(), found.append)
        change = store.change_number()
        lose_session()
        store.cancel([id], "me")
        set_to(store, change)
        for _ in range(2):
            side.wake()
            side.look(time.monotonic(), found.append)
    assert found == [id]


def test_ends_are_looked_for_after_a_crash(
    store: JobStore, lose_session: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the number is the one that it was before."""
    duty = WebhookDuty(store)
    one = Submission("f", {}, webhook="http://127.0.0.1/", run_at=time.time() + 1_000)
    id = store.submit_many([one])[0].job.id
    duty.look(time.time(), stopping=True)
    change = store.change_number()
    looks: list[int] = []
    real = untold.are_there

    def counted(store: JobStore) -> bool:
        looks.append(1)
        return real(store)

    monkeypatch.setattr(untold, "are_there", counted)
    lose_session()
    store.cancel([id], "me")
    set_to(store, change)
    duty.look(time.time(), stopping=True)
    assert [each["job"] for each in store.records("webhook").values()] == [id]
    duty.look(time.time(), stopping=True)
    looks.clear()
    duty.look(time.time(), stopping=True)
    assert looks == []
    duty.close()
