"""Ends and claims in one commit: what waits for the disk, and claims that nobody has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from allcores.jobs import ends
from allcores.jobs.claims import Choice
from allcores.jobs.database import Database
from allcores.jobs.model import Finished, State, Submission
from allcores.jobs.store import JobStore


def test_what_is_told_to_somebody_waits_for_the_disk_and_a_claim_alone_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[int] = []
    kept = Database.writing

    @contextlib.contextmanager
    def writing(database: Database, *, durable: bool = True) -> Iterator[Connection]:
        with kept(database, durable=durable) as connection:
            levels.append(int(connection.exec_driver_sql("PRAGMA synchronous").scalar() or 0))
            yield connection

    monkeypatch.setattr(Database, "writing", writing)
    normal, full = 1, 2
    with JobStore.open(tmp_path / "jobs.sqlite") as store, store.become_supervisor():
        store.submit_many([Submission("f", {})] * 2)
        assert levels[-1] == full
        (claim,) = store.exchange([], [], lambda _: Choice(1, ["f"])).claims
        assert levels[-1] == normal
        end = Finished(State.SUCCEEDED)
        done = store.exchange([ends.End(claim, end, ends.checked(end))], [], lambda _: Choice(1, ["f"]))
        assert levels[-1] == full and done.held == [True] and len(done.claims) == 1
        assert store.exchange([], done.claims, None).claims == []
        assert levels[-1] == normal and store.counts().by_state[State.QUEUED] == 1


def test_claims_that_nobody_has_are_given_back(store: JobStore) -> None:
    store.submit_many([Submission("f", {})] * 3)
    with store.become_supervisor():
        claims = store.claim(3, ["f"])
        store.cancel([claims[2].job.id], "me")
        assert store.release_strays(claims[:1]) == 2
        assert store.finish_many([(claim, Finished(State.SUCCEEDED)) for claim in claims]) == [True, False, False]
        states = {state: number for state, number in store.counts().by_state.items() if number}
        assert states == {State.SUCCEEDED: 1, State.QUEUED: 1, State.CANCELLED: 1}
        (again,) = store.claim(3, ["f"])
        assert (again.job.attempts, again.job.crashes) == (0, 0)


def test_nothing_is_claimed_ahead_of_what_needs_a_core_at_once(store: JobStore) -> None:
    """Behind the jobs that have a core the first of these is the last look: it would be passed by for ever."""
    store.submit_many([Submission(task, {}) for task in ("short", "short", "alone", "short")])
    store.submit("alone", {}, priority=-1)

    def claimed(cores: int) -> list[str]:
        choice = Choice(10, ["short", "alone"], alone=["alone"], cores=cores)
        return [each.job.task for each in store.exchange([], [], lambda _: choice).claims]

    with store.become_supervisor():
        assert claimed(1) == ["short", "short"]
        assert claimed(0) == []
        assert claimed(1) == ["alone", "short"]
        assert claimed(1) == ["alone"]


def test_what_a_supervisor_may_have_ended_over_begins_alone_and_with_a_core(store: JobStore) -> None:
    """It counts as begun from its claim on. Nothing passes by one that waits for a core, only one behind another."""
    store.submit_many([Submission("f", {"n": n}) for n in range(2)])
    with store.become_supervisor():
        store.claim(2, ["f"])
    store.submit_many([Submission("f", {"n": n}) for n in range(2, 6)])

    def claimed(cores: int, *doubtful: str) -> list[tuple[int, bool]]:
        claims = store.exchange([], [], lambda _: Choice(2, ["f"], (), cores, doubtful)).claims
        return [(each.job.arguments["n"], each.in_doubt) for each in claims]

    with store.become_supervisor():
        store.recover()
        assert claimed(0, "f") == []
        assert claimed(2, "f") == [(0, True)]
        assert claimed(2, "g") == [(2, False)]
        assert claimed(1, "f") == [(1, True), (3, False)]
