"""The store of jobs: in, claimed, finished, counted, listed, by one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from allcores.jobs.model import Claim, Finished, JobError, JobFilter, KeyConflict, State, Submission
from allcores.jobs.retention import Retention
from allcores.jobs.store import JobStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore.open(tmp_path / "jobs.sqlite", synchronous="NORMAL") as store:
        yield store


def test_a_job_goes_in_and_comes_to_its_end(store: JobStore) -> None:
    job = store.submit("double", {"n": 21}, tags=["night"], by="anna").job
    assert store.get(job.id) == job
    with store.become_supervisor():
        (claim,) = store.claim(10, ["double", "other"])
        assert (claim.job.id, claim.job.arguments, claim.job.state) == (job.id, {"n": 21}, State.RUNNING)
        assert store.claim(10, ["double"]) == []
        assert store.finish(claim, Finished(State.SUCCEEDED, result=42))
    ended = store.get(job.id)
    assert ended is not None
    assert (ended.state, ended.result, ended.attempts, ended.crashes) == (State.SUCCEEDED, 42, 1, 0)
    assert store.counts().by_state[State.SUCCEEDED] == store.counts().total == 1


def test_a_stale_end_writes_nothing(store: JobStore) -> None:
    store.submit("f", {})
    with store.become_supervisor():
        (first,) = store.claim(1, ["f"])
        assert store.finish(first, Finished(State.QUEUED, error=JobError("ValueError", "no")))
        (second,) = store.claim(1, ["f"])
        assert not store.finish(first, Finished(State.SUCCEEDED, result="stale"))
        assert not store.finish(Claim(second.job, second.attempt, first.token), Finished(State.FAILED))
        assert store.finish(second, Finished(State.SUCCEEDED, result="right"))
        assert store.finish(second, Finished(State.SUCCEEDED, result="again")), "the same end is as true as it was"
    job = store.get(first.job.id)
    assert job is not None and (job.result, job.attempts) == ("right", 2)
    assert [(each.attempt, each.error and each.error.message) for each in store.attempts(job.id)] == [(1, "no")]


def test_a_key_is_one_job(store: JobStore) -> None:
    first = store.submit("f", {"a": 1, "b": 2}, key="k")
    again = store.submit("f", {"b": 2, "a": 1}, key="k")
    assert (first.replayed, again.replayed, again.job.id) == (False, True, first.job.id)
    with pytest.raises(KeyConflict, match="used for job"):
        store.submit("f", {"a": 1, "b": 3}, key="k")
    assert store.counts().total == 1


def test_pages_are_turned_both_ways(store: JobStore) -> None:
    store.submit_many([Submission("f", {"i": i}) for i in range(10)])
    page = store.page(limit=4)
    assert ([job.arguments["i"] for job in page.jobs], page.newer) == ([9, 8, 7, 6], None)
    page = store.page(after=page.older, limit=4)
    assert [job.arguments["i"] for job in page.jobs] == [5, 4, 3, 2]
    last = store.page(after=page.older, limit=4)
    assert ([job.arguments["i"] for job in last.jobs], last.older) == ([1, 0], None)
    assert store.page(before=last.newer, limit=4).jobs == page.jobs
    newest = store.page(before=page.newer, limit=4)
    assert ([job.arguments["i"] for job in newest.jobs], newest.newer) == ([9, 8, 7, 6], None)


def test_what_was_deleted_comes_back(store: JobStore) -> None:
    store.submit_many([Submission("f", {"i": i}, tags=("t",)) for i in range(5)])
    deleted = store.delete(store.snapshot(JobFilter(tag="t")), "anna")
    assert (deleted.count, store.counts().total) == (5, 0)
    assert store.undelete(deleted.audit, "anna").count == 5
    assert len(store.page(JobFilter(tag="t")).jobs) == store.counts().total == 5
    assert [row.action for row in store.audit()] == ["undelete", "delete"]


def test_what_is_old_goes_and_its_files_go_with_it(store: JobStore) -> None:
    store.submit_many([Submission("f", {"i": i}) for i in range(6)])
    with store.become_supervisor():
        claims = store.claim(5, ["f"])
        for claim in claims:
            folder = store.folder / "results" / claim.job.id
            folder.mkdir(mode=0o700)
            (folder / "out.txt").write_text("x")
        store.finish_many([(claim, Finished(State.SUCCEEDED)) for claim in claims])
        swept = store.maintain(Retention(rows=2))
        assert (swept.jobs, swept.folders, swept.complete) == (3, 3, True)
        assert store.maintain(Retention(rows=2)).jobs == 0
    kept = {job.id for job in store.page().jobs}
    assert {folder.name for folder in (store.folder / "results").iterdir()} == {c.job.id for c in claims[3:]} < kept
    assert store.counts().total == 3
