"""Counters that another program has changed or removed are mended by the supervisor, or jobs would wait for ever."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from allcores.jobs import recounting
from allcores.jobs.errors import StoreDamaged
from allcores.jobs.model import Counts, Finished, State
from allcores.jobs.store import JobStore


def changed(store: JobStore, statement: str) -> None:
    """What another tool does."""
    with store._database.writing() as connection:
        assert connection.execute(text(statement)).rowcount > 0


def filled(store: JobStore) -> Counts:
    """Jobs of two tasks in several states."""
    for number in range(3):
        store.submit("a", {"n": number})
        store.submit("b", {"n": number}, run_at=4e9 if number else None)
    with store.become_supervisor():
        (claim,) = store.claim(1, ["a"])
        store.finish(claim, Finished(State.SUCCEEDED, result=5))
    return store.counts()


BY_ALL = [
    "DELETE FROM allcores_counters",
    "DELETE FROM allcores_counters WHERE task = 'b'",
    "DELETE FROM allcores_counters WHERE due = 1",
    "DELETE FROM allcores_counters WHERE state = 'succeeded'",
    "UPDATE allcores_counters SET n = 0 WHERE state = 'queued'",
    "UPDATE allcores_counters SET n = -1 WHERE state = 'queued'",
]
BY_SQLITE = ["UPDATE allcores_counters SET n = 'x'", "UPDATE allcores_counters SET n = 1.5, bytes = X'FF'"]


@pytest.mark.parametrize("damage", [*BY_ALL, *BY_SQLITE])
def test_jobs_are_counted_anew_and_claimed(store: JobStore, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    if store.dialect == "postgresql" and damage in BY_SQLITE:
        pytest.skip("PostgreSQL keeps the types of columns")
    before = filled(store)
    with store.become_supervisor():
        store.maintain()
        assert caplog.messages == []
        changed(store, damage)
        store.maintain()
        (told,) = caplog.messages
        assert told.endswith("all jobs were counted anew")
        assert store.counts() == before
        assert store.look().waiting == {"a", "b"}
        assert len(store.claim(9, ["a", "b"])) == 3
    with store.reading() as connection:
        assert recounting.damage(connection) == "", "triggers go on from there"


def test_ends_that_are_no_counts_are_left_out_and_removed(store: JobStore) -> None:
    filled(store)
    changed(store, "UPDATE allcores_ends SET n = -3")
    assert store.stats().finished == {}
    with store.become_supervisor():
        store.maintain()
    with store.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM allcores_ends")).scalar() == 0


def test_a_store_without_its_numbers_says_so(store: JobStore) -> None:
    """What would be written without them could have the number of another job."""
    job = store.submit("a", {}).job
    changed(store, "DELETE FROM allcores_changes")
    with pytest.raises(StoreDamaged, match=r"that numbers its changes and jobs .* is damaged or gone"):
        store.submit("a", {})
    assert store.get(job.id) == job and store.counts().total == 1
