"""The store of jobs, in SQLite and in PostgreSQL: in, claimed, finished, counted, listed, deleted."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import random
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from allcores.jobs import actions, delivery_queries, filters, history, migrations, schema
from allcores.jobs.database import Database
from allcores.jobs.errors import (
    AlreadySupervised,
    BadJob,
    KeyConflict,
    SchemaTooNew,
    StoreError,
    UndoExpired,
)
from allcores.jobs.group_commit import GroupCommit
from allcores.jobs.location import locate
from allcores.jobs.model import (
    Changed,
    Claim,
    Finished,
    JobError,
    JobFilter,
    Progress,
    State,
    Submission,
)
from allcores.jobs.retention import Retention
from allcores.jobs.store import JobStore


def test_a_job_goes_in_and_comes_to_its_end(store: JobStore) -> None:
    job = store.submit("double", {"n": 21}, tags="night", by="anna").job
    assert store.get(job.id) == job
    assert job.tags == ("night",)
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


def test_no_job_is_passed_over_by_pages_that_became_empty(store: JobStore) -> None:
    """Those on one side were deleted meanwhile: the way back leads to all that are left."""
    store.submit_many([Submission("f", {"i": i}) for i in range(6)])
    first = store.page(limit=3)
    second = store.page(after=first.older, limit=3)
    store.delete([job.id for job in first.jobs], "me")
    newer = store.page(before=second.newer, limit=3)
    assert newer.jobs == ()
    assert store.page(after=newer.older, limit=3).jobs == second.jobs
    last = store.page(limit=2)
    store.delete([store.page(after=last.older).jobs[0].id], "me")
    behind = store.page(after=last.older, limit=2)
    assert behind.jobs == ()
    assert store.page(before=behind.newer, limit=2).jobs == last.jobs


def test_what_waits_and_what_has_succeeded_can_be_left_out(store: JobStore) -> None:
    """Of a deletion and of a retry; also of all jobs as they were seen, and of what runs in any case."""
    ids = [store.submit("f", {"i": i}).job.id for i in range(4)]
    with store.become_supervisor():
        first, second, _ = store.claim(3, ["f"])
        store.finish(first, Finished(State.SUCCEEDED, result=1))
        store.finish(second, Finished(State.FAILED, error=JobError("ValueError", "no")))
    shot = store.snapshot(JobFilter())
    retried = store.retry(shot, "me", succeeded=False)
    assert (retried.ids, retried.skipped) == ((second.job.id,), 3)
    store.cancel([second.job.id], "me")
    deleted = store.delete(ids, "me", queued=False)
    assert (sorted(deleted.ids), deleted.skipped) == (sorted(ids[:2]), 2)
    assert {job.id: job.state for job in store.page().jobs} == {ids[2]: State.RUNNING, ids[3]: State.QUEUED}


def test_what_was_deleted_comes_back(store: JobStore) -> None:
    store.submit_many([Submission("f", {"i": i}, tags=("t",)) for i in range(5)])
    deleted = store.delete(store.snapshot(JobFilter(tag="t")), "anna")
    assert (deleted.count, store.counts().total) == (5, 0)
    assert store.undelete(deleted.audit, "anna").count == 5
    assert len(store.page(JobFilter(tag="t")).jobs) == store.counts().total == 5
    # A second click: they are back already, and not gone for good.
    assert store.undelete(deleted.audit, "anna").count == 0
    assert [row.action for row in store.audit()] == ["undelete", "delete"]


def test_two_who_bring_back_the_same_jobs_at_the_same_time(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second click on Undo, as the first one has just had them: they are there, and not gone for good."""
    job = store.submit("f", {}).job
    deleted = store.delete([job.id], "ann").audit
    run, second = GroupCommit.run, [deleted]
    found: list[Changed] = []

    def then_another(commits: GroupCommit, handler: Any, payload: Any, **options: Any) -> Any:
        answer = run(commits, handler, payload, **options)
        if handler is actions.bring_back and second:
            found.append(store.undelete(second.pop(), "bob"))
        return answer

    monkeypatch.setattr(GroupCommit, "run", then_another)
    first = store.undelete(deleted, "ann")
    assert found == [Changed(0, audit=first.audit)] and first.count == 1
    assert [(row.action, row.by, row.count) for row in store.audit()] == [("undelete", "ann", 1), ("delete", "ann", 1)]


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


def sums(store: JobStore) -> dict[str, int]:
    """Jobs by state as `count(*)` has them."""
    with store.reading() as connection:
        rows = connection.execute(text("SELECT state, count(*) FROM allcores_jobs GROUP BY state")).all()
    return {str(state): int(number) for state, number in rows}


def counted(store: JobStore) -> dict[str, int]:
    return {state.value: number for state, number in store.counts().by_state.items() if number}


def test_counters_are_what_count_says(store: JobStore) -> None:
    """Whatever is done, in a fixed random order."""
    chance = random.Random(7)
    held: list[Claim] = []
    deleted: list[int] = []
    with store.become_supervisor():
        for _ in range(120):
            ids = [job.id for job in store.page(limit=5).jobs]
            match chance.randrange(9):
                case 0 | 1:
                    store.submit_many(
                        [Submission(chance.choice("abc"), {"x": "y" * 9}, run_at=chance.choice((None, 4e9)))] * 3
                    )
                case 2 | 3:
                    held += store.claim(3, ["a", "b", "c"])
                case 4 | 5 if held:
                    state = chance.choice([State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.QUEUED])
                    store.finish(held.pop(), Finished(state, result="r"))
                case 6:
                    store.retry(ids, "x")
                case 7:
                    deleted.append(store.delete(ids[:2], "x").audit)
                case 8 if deleted:
                    with contextlib.suppress(UndoExpired):
                        store.undelete(deleted.pop(), "x")
                case _:
                    store.cancel(ids[2:], "x")
            assert counted(store) == sums(store)
    with store.reading() as connection:
        taken = connection.execute(text("SELECT sum(bytes) FROM allcores_jobs")).scalar() or 0
        tagged = connection.execute(text("SELECT count(*) FROM allcores_tags")).scalar()
    assert (store.counts().bytes, tagged) == (taken, 0)


def test_the_highest_priority_comes_first_then_the_oldest_and_delayed_ones_wait(store: JobStore) -> None:
    for name, priority, run_at in [
        ("low", -1, None),
        ("a", 0, None),
        ("b", 0, None),
        ("high", 5, None),
        ("late", 9, 4e9),
    ]:
        store.submit("f", {"name": name}, priority=priority, run_at=run_at)
    store.submit("unknown", {}, priority=10)
    with store.become_supervisor():
        names = [claim.job.arguments["name"] for _ in range(5) for claim in store.claim(1, ["f"])]
    assert names == ["high", "a", "b", "low"]
    assert store.counts().delayed == 1


def test_what_was_delayed_is_claimed_once_its_time_has_come(store: JobStore) -> None:
    job = store.submit("f", {}, run_at=time.time() + 0.05).job
    with store.become_supervisor():
        claims: list[Claim] = []
        while not claims:
            claims = store.claim(1, ["f"])
    assert claims[0].job.id == job.id and time.time() >= job.run_at


def test_a_job_that_has_ended_says_still_before_when_it_was_not_to_begin(store: JobStore) -> None:
    """And not when it began: on its page a job that had waited in the queue was told to have been put off."""
    jobs = [store.submit("f", {}, run_at=run_at).job for run_at in (None, time.time() - 1_000)]
    with store.become_supervisor():
        store.finish_many([(claim, Finished(State.SUCCEEDED)) for claim in store.claim(2, ["f"])])
    for job in jobs:
        kept = store.get(job.id)
        assert kept is not None and (kept.state, kept.run_at) == (State.SUCCEEDED, job.run_at)


def test_ends_that_a_clock_wrote_which_was_ahead_are_not_of_the_last_hour(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they would be for as long as it was ahead. A machine's clock may be ahead by some seconds."""
    store.submit_many([Submission("f", {})] * 3)
    real = time.time
    with store.become_supervisor():
        claims = store.claim(3, ["f"])
        for claim, ahead in zip(claims, (86_400.0 * 365, 20.0, 0.0), strict=True):
            with monkeypatch.context() as wrong:
                wrong.setattr(time, "time", lambda ahead=ahead: real() + ahead)
                store.finish(claim, Finished(State.FAILED, error=JobError("ValueError", "no")))
    late = store.stats(3_600.0)
    assert (late.finished[State.FAILED], late.sampled, late.failures) == (2, 2, {("exception", "ValueError"): 2})
    assert len(history.spans(store, 0.0, 10)) == 2


def test_of_a_hundred_thousand_jobs_that_were_cancelled_as_they_waited_not_each_is_looked_at(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For jobs that have run: those that ended with them, or later, are found."""
    monkeypatch.setattr(history, "MOST_LOOKED", 3)
    jobs = [each.job.id for each in store.submit_many([Submission("f", {})] * 12)]

    def run_one() -> None:
        with store.become_supervisor():
            store.finish_many([(claim, Finished(State.SUCCEEDED)) for claim in store.claim(1, ["f"])])

    run_one()
    for id in jobs[6:]:
        store.cancel([id], "ann")
    assert history.spans(store, 0.0, 10) == []
    run_one()
    assert len(history.spans(store, 0.0, 10)) == 1
    run_one()
    assert [len(history.spans(store, 0.0, most)) for most in (10, 1)] == [2, 1]


def test_a_release_charges_nothing(store: JobStore) -> None:
    store.submit_many([Submission("f", {})] * 2)
    with store.become_supervisor():
        claims = store.claim(2, ["f"])
        store.cancel([claims[1].job.id], "anna")
        assert store.cancel_requests() == [claims[1].job.id]
        assert store.release(claims) == 2
        assert store.release(claims) == 0
        assert not store.finish(claims[0], Finished(State.SUCCEEDED))
    queued, cancelled = (store.get(claim.job.id) for claim in claims)
    assert queued is not None and (queued.state, queued.attempts, queued.crashes) == (State.QUEUED, 0, 0)
    assert cancelled is not None and cancelled.state is State.CANCELLED


def test_a_job_that_is_cancelled_while_it_waits_again_has_no_time_that_it_took(store: JobStore) -> None:
    """Not that since an earlier attempt began. Nor has one that was claimed and had not begun."""
    store.submit_many([Submission("f", {})] * 2)
    with store.become_supervisor():
        waits, released = store.claim(2, ["f"])
        store.finish(waits, Finished(State.QUEUED, error=JobError("ValueError", "no"), retry_at=time.time() + 1_000))
        store.cancel([released.job.id], "ann")
        store.release([released])
    store.cancel([waits.job.id], "ann")
    for claim in (waits, released):
        job = store.get(claim.job.id)
        assert job is not None and (job.state, job.started) == (State.CANCELLED, None)
        assert job.finished is not None
    assert [each.attempt for each in store.attempts(waits.job.id)] == [1], "when that began is kept"
    assert history.spans(store, 0.0, 10) == []


def test_what_a_dead_supervisor_held_is_queued_again(opened: Callable[[], JobStore]) -> None:
    """What ran is a crash, and the third one is the last. What may not have begun costs nothing once."""
    store = opened()
    store.submit_many([Submission("f", {"i": i}) for i in range(3)])
    for crashes in range(1, 4):
        lock = store.become_supervisor()
        # Those that a supervisor may have ended over are claimed one by one.
        claims = sorted([*store.claim(3, ["f"]), *store.claim(3, ["f"])], key=lambda claim: claim.job.seq)
        store.report_worker(claims[0], 4711)
        assert [claim.in_doubt for claim in claims] == [False, crashes > 1, crashes > 1]
        if crashes == 3:
            store.report_worker(claims[1], 4712)
            store.cancel([claims[1].job.id], "anna")
        lock.release()
        with store.become_supervisor():
            found = {job.seq: job for job in store.recover()}
            assert not store.finish(claims[0], Finished(State.SUCCEEDED)), "the claim is nobody's any more"
        assert [found[claim.job.seq].crashes for claim in claims] == [crashes, crashes - 1, crashes - 1]
    assert [found[claim.job.seq].state for claim in claims] == [State.QUARANTINED, State.CANCELLED, State.QUEUED]
    error = found[claims[0].job.seq].error
    assert error is not None and error.cause == "supervisor lost"
    # That it may have begun in the last moments is told: it would have run twice, and nothing would say so.
    unknown = store.attempts(claims[2].job.id)
    assert [(each.attempt, each.state, each.crashed) for each in unknown] == [
        (number, State.QUEUED, number > 1) for number in (1, 2, 3)
    ]
    assert unknown[0].note == "its supervisor ended, and it is not known to have begun"


def test_only_one_supervisor(opened: Callable[[], JobStore]) -> None:
    store, other = opened(), opened()
    with pytest.raises(StoreError, match="become_supervisor"):
        store.claim(1, ["f"])
    with store.become_supervisor():
        with pytest.raises(AlreadySupervised) as caught:
            other.become_supervisor()
        assert caught.value.pid == os.getpid() == other.supervisor_pid()
    assert other.supervisor_pid() is None
    other.become_supervisor().release()


def test_jobs_that_somebody_saw_and_no_others(store: JobStore) -> None:
    """A job that fails while all failed ones are retried is left alone."""
    store.submit_many([Submission("f", {"i": i}) for i in range(4)])
    with store.become_supervisor():
        claims = store.claim(4, ["f"])
        store.finish_many([(claim, Finished(State.FAILED)) for claim in claims[:3]])
        seen = store.snapshot(JobFilter(states=(State.FAILED,)))
        store.finish(claims[3], Finished(State.FAILED))
        store.retry([claims[0].job.id], "other")
    changed = store.retry(seen, "anna")
    assert (seen.count, changed.count, changed.skipped) == (3, 2, 1)
    last = store.get(claims[3].job.id)
    assert last is not None and last.state is State.FAILED
    row = store.audit()[0]
    assert (row.by, row.action, row.count, row.detail["filter"]) == ("anna", "retry", 2, {"states": ["failed"]})


def test_what_is_found_by_text_tag_task_and_time(store: JobStore) -> None:
    for i in range(30):
        store.submit(
            "odd" if i % 2 else "even", {"i": i, "text": "Zürich 100%_ 😀"}, tags=["third"] if i % 3 == 0 else []
        )
    # Otherwise a page ends with what was found in a quarter of a second.
    page = functools.partial(store.page, seconds=60.0)
    assert [job.arguments["i"] for job in page(JobFilter(text="zürich 100%_ 😀"), limit=2).jobs] == [29, 28]
    assert page(JobFilter(text="100%x")).searched == 30
    assert [job.arguments["i"] for job in page(JobFilter(tag="third", task="odd")).jobs] == [27, 21, 15, 9, 3]
    assert [job.arguments["i"] for job in page(JobFilter(task="even", text='"i":4,')).jobs] == [4]
    tenth = page(JobFilter(text='"i":10,')).jobs[0]
    assert len(page(JobFilter(since=tenth.created)).jobs) == 20
    assert len(page(JobFilter(until=tenth.created)).jobs) == 10
    assert page(JobFilter(since=4e9)).jobs == page(JobFilter(until=1.0)).jobs == ()


def test_no_text_is_found_in_what_is_hidden(store: JobStore) -> None:
    """Who may ask what begins with "h", and then with "hu", has read it: lists and counts know nothing of it."""
    hidden = re.compile("password", re.IGNORECASE)
    for i in range(30):
        store.submit("f", {"i": i, "in": [{"dbPassword": "hunter2", "\\Password": "hunter2", "word": "Zürich\n"}]})
    with store.become_supervisor():
        for claim in store.claim(30, ["f"]):
            store.finish(claim, Finished(State.SUCCEEDED, result={"password": f"hunter{claim.job.arguments['i']}"}))
    last = store.submit("f", {"word": "hunter2"}, key="of hunter2").job
    for words, all_of_them in (("unter", 31), ("Zürich", 30), ("zürich\n", 30), ('"i":1', 11), ("(hidden)", 0)):
        assert store.snapshot(JobFilter(text=words)).count == all_of_them, words
    for words, shown in (
        ("unter", 1), ("HUNTER2", 1), ('Password":"hu', 0), ("Zürich", 30), ("zürich\n", 30), ('"i":1', 11),
        ("of hu", 1),
    ):  # fmt: skip
        wanted = JobFilter(text=words, hidden=hidden)
        assert store.snapshot(wanted).count == shown, words
        page = store.page(wanted, limit=7)
        found = [*page.jobs]
        while page.older is not None:
            page = store.page(wanted, after=page.older, limit=7)
            found += page.jobs
        assert len(found) == len({job.id for job in found}) == shown, words
    assert store.cancel(store.snapshot(JobFilter(text="unter", hidden=hidden)), "anna").ids == (last.id,)
    assert store.audit()[0].detail["filter"] == {"text": "unter"}


def test_a_search_ends_when_time_is_up_and_goes_on_from_there(store: JobStore) -> None:
    store.submit_many([Submission("f", {"i": i}) for i in range(600)])
    page = store.page(JobFilter(text='"i":0}'), seconds=0.0)
    assert (page.jobs, page.searched_all) == ((), False) and 0 < page.searched < 600
    seen = page.searched
    while page.older is not None:
        page = store.page(JobFilter(text='"i":0}'), after=page.older, seconds=0.0)
        seen += page.searched
    assert (len(page.jobs), seen) == (1, 600)


VALUES = {
    "big": 2**200 + 1,
    "float": 0.1 + 0.2,
    "order": {"z": 1, "a": 2},
    "text": "a\0b \u202e 😀 </script>",
    "long": "x" * 1_000_000,
    "nested": [[None, True, -0.0]],
}


def test_values_come_back_as_they_were(store: JobStore) -> None:
    result = {**VALUES, "half": "\ud800"}
    job = store.submit("f", VALUES).job
    with store.become_supervisor():
        store.finish(store.claim(1, ["f"])[0], Finished(State.SUCCEEDED, result=result))
    kept = store.get(job.id)
    assert kept is not None and repr((kept.arguments, kept.result)) == repr((VALUES, result))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (float("nan"), "JSON does not have"),
        ({1: 2}, "only strings as keys"),
        ({1, 2}, "of type set"),
        (10**5000, "digits"),
        ("x" * 5_000_000, "put the data into a file"),
        (json.loads("[" * 200 + "]" * 200), "deeper than 100"),
        (["a", "b\ud800"], r"\['bad'\]\[1\] has '\\ud800', half of a surrogate pair"),
        ({"b\udcff": 1}, r"a key of .*\['bad'\] has '\\udcff', half of a surrogate pair"),
    ],
    ids=["nan", "keys", "set", "digits", "large", "deep", "half", "half of a key"],
)
def test_what_cannot_be_kept_is_refused_by_name(store: JobStore, value: object, why: str) -> None:
    with pytest.raises(BadJob, match=why) as caught:
        store.submit_many([Submission("f", {}), Submission("f", {"fine": 1, "bad": value})])
    assert "['bad']" in str(caught.value) or "arguments" in str(caught.value)
    assert store.counts().total == 0


@pytest.mark.parametrize(
    "submission",
    [
        Submission("", {}),
        Submission("f\n", {}),
        Submission("f", {}, priority=2**40),
        Submission("f", {}, run_at=float("inf")),
        Submission("f", {}, run_at=1e300),
        Submission("f", {}, run_at=-1.0),
        Submission("f", {}, run_at=10**5000),
        Submission("f", {}, timeout=0),
        Submission("f", {}, timeout=10**400),
        Submission("f", {}, retries=10**5000),
        Submission("f", {}, retries=-1),
        Submission("f", {}, tags=("",)),
        Submission("f", {}, tags=tuple(map(str, range(21)))),
        Submission("f", {}, key="k" * 501),
    ],
    ids=itertools.count(),
)
def test_bad_submissions_are_refused(store: JobStore, submission: Submission) -> None:
    with pytest.raises(BadJob):
        store.submit_many([submission])


def test_a_tag_that_decides_what_runs_is_given_by_nobody(store: JobStore) -> None:
    with pytest.raises(BadJob, match="the tag 'failed-items' is that of jobs which the retry of failed items makes"):
        store.submit("f", {}, tags=["blue", "failed-items"])


DAMAGE = {
    "arguments": "{not json",
    "tags": "7",
    "files": "[1]",
    "error": "[]",
}


@pytest.mark.parametrize("column", DAMAGE)
def test_a_damaged_row_is_quarantined_and_the_others_run(store: JobStore, column: str) -> None:
    jobs = [store.submit("f", {"i": i}).job for i in range(3)]
    spoil(store, f"UPDATE allcores_jobs SET {column} = :value WHERE seq = :seq", value=DAMAGE[column], seq=jobs[1].seq)
    listed = store.page().jobs
    assert [job.state for job in listed] == [State.QUEUED, State.QUARANTINED, State.QUEUED]
    with store.become_supervisor():
        assert [claim.job.id for claim in store.claim(3, ["f"])] == [jobs[0].id, jobs[2].id]
    kept = store.get(jobs[1].id)
    assert kept is not None and "damaged" in kept.note and kept.error is not None and kept.error.cause == "damaged row"
    assert counted(store) == sums(store) == {"running": 2, "quarantined": 1}


@pytest.mark.parametrize("column", ["priority", "attempts", "crashes", "started"])
def test_a_text_in_place_of_a_number_keeps_no_supervisor_from_its_start(tmp_path: Path, column: str) -> None:
    """SQLite keeps it in a column of numbers; of a job that waits, and of one that its former supervisor ran."""
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        jobs = [store.submit("f", {}).job for _ in range(4)]
        with store.become_supervisor():
            store.report_workers([(claim, 4711) for claim in store.claim(2, ["f"])])
        # When it began is written anew by a claim.
        spoiled = [jobs[1].id, *([jobs[3].id] if column != "started" else [])]
        for id in spoiled:
            spoil(store, f"UPDATE allcores_jobs SET {column} = 'x' WHERE id = :id", id=id)
        assert len(delivery_queries.ready(store, ["f"], 4)) == 2
        with store.become_supervisor():
            store.recover()
            claimed = [claim.job.id for claim in store.claim(4, ["f"])]
        assert sorted([*claimed, *spoiled]) == sorted(job.id for job in jobs)
        assert counted(store) == sums(store) == {"running": len(claimed), "quarantined": len(spoiled)}


def test_a_window_may_reach_back_further_than_a_database_counts(store: JobStore) -> None:
    job = store.submit("f", {}).job
    store.cancel([job.id], "ann")
    for window in (1e12, 1e20, 1e300):
        found = store.stats(window)
        assert (found.window, found.finished, found.sampled) == (window, {State.CANCELLED: 1}, 1)


def test_a_state_that_is_no_word_is_quarantined_when_a_supervisor_starts(store: JobStore) -> None:
    job = store.submit("f", {}).job
    spoil(store, "UPDATE allcores_jobs SET state = 'qeued' WHERE seq = :seq", seq=job.seq)
    assert store.counts().by_state[State.QUARANTINED] == 1
    with store.become_supervisor():
        store.recover()
    assert sums(store) == {"quarantined": 1}


def spoil(store: JobStore, statement: str, **values: object) -> None:
    with store.reading() as connection:
        connection.execute(text(statement), values)
        connection.commit()


def test_fifty_at_once_with_one_key_are_one_job(opened: Callable[[], JobStore]) -> None:
    stores = [opened(), opened()]
    with stores[0].become_supervisor(), ThreadPoolExecutor(50) as threads:
        found = list(threads.map(lambda i: stores[i % 2].submit("f", {"n": 1}, key="order 7"), range(50)))
    assert len({each.job.id for each in found}) == 1
    assert sorted(each.replayed for each in found) == [False] + [True] * 49
    assert stores[0].counts().total == 1


def test_progress_is_the_last_told_and_only_by_who_has_the_claim(store: JobStore) -> None:
    store.submit("f", {})
    with store.become_supervisor():
        (claim,) = store.claim(1, ["f"])
        assert store.report_worker(claim, 4711)
        assert store.report_progress(claim, Progress(done=1, total=10, at=1.0))
        assert store.report_progress(claim, Progress(done=2, total=10, at=2.0, run="r"))
        job = store.get(claim.job.id)
        assert job is not None and job.progress == Progress(done=2, total=10, at=2.0, run="r")
        assert job.worker is not None and job.worker.pid == 4711
        store.finish(
            claim, Finished(State.FAILED, error=JobError("ValueError", "no"), progress=Progress(done=3, at=3.0))
        )
        assert not store.report_progress(claim, Progress(done=4))
    job = store.get(claim.job.id)
    assert job is not None and job.progress is not None and job.progress.done == 3
    assert store.stats(60).failures == {("exception", "ValueError"): 1}


def test_the_change_number_grows_and_is_waited_for(opened: Callable[[], JobStore]) -> None:
    store, other = opened(), opened()
    before = store.change_number()
    assert store.wait_for_change(before, timeout=0.0) == before
    with ThreadPoolExecutor(1) as thread:
        heard = thread.submit(store.wait_for_change, before, 60.0)
        other.submit("f", {})
        assert heard.result(60) > before


def test_records_are_kept_by_kind_and_name(store: JobStore) -> None:
    store.put_record("schedule", "b", {"cron": "* * * * *"})
    store.put_record("schedule", "a", [1])
    store.put_record("schedule", "a", [2])
    assert store.records("schedule") == {"a": [2], "b": {"cron": "* * * * *"}}
    assert (store.delete_record("schedule", "a"), store.delete_record("schedule", "a")) == (True, False)


def test_what_was_deleted_long_ago_is_gone(store: JobStore) -> None:
    job = store.submit("f", {}, key="k").job
    deleted = store.delete([job.id], "anna")
    spoil(store, "UPDATE allcores_deleted SET deleted = 0")
    with store.become_supervisor():
        assert store.maintain().undone == 1
    with pytest.raises(UndoExpired):
        store.undelete(deleted.audit, "anna")
    assert not store.submit("f", {}, key="k").replayed


def test_what_is_read_is_of_one_moment(store: JobStore, opened: Callable[[], JobStore]) -> None:
    """Whatever others write meanwhile; and a transaction that writes sees what was written before it."""
    other = opened()
    count = text("SELECT count(*) FROM allcores_jobs")
    for number in range(2):
        with store.reading() as connection:
            before = connection.execute(count).scalar()
            other.submit("f", {})
            assert connection.execute(count).scalar() == before == 2 * number
        assert store.submit("f", {}).job.seq == 2 * number + 2


def test_an_older_program_refuses_a_newer_store(store: JobStore, where: str) -> None:
    spoil(store, "UPDATE allcores_meta SET value = '99' WHERE name = 'version'")
    with pytest.raises(SchemaTooNew, match="newer allcores") as caught:
        JobStore.open(where)
    assert (caught.value.found, caught.value.known) == (99, schema.VERSION)


def test_a_program_that_has_it_open_writes_nothing_once_a_newer_one_has_changed_it(store: JobStore) -> None:
    """Whatever it was about to write; what it reads it still shows."""
    job = store.submit("f", {}).job
    with store.become_supervisor():
        (claim,) = store.claim(1, ["f"])
        store.report_worker(claim, 1)
        spoil(store, "UPDATE allcores_meta SET value = '99' WHERE name = 'version'")
        for write in (
            lambda: store.submit("f", {}),
            lambda: store.finish(claim, Finished(State.SUCCEEDED)),
            lambda: store.cancel([job.id], "anna"),
            lambda: store.claim(1, ["f"]),
            lambda: store.delete([job.id], "anna"),
        ):
            with pytest.raises(SchemaTooNew, match="start this program again"):
                write()
        assert store.counts().by_state[State.RUNNING] == store.counts().total == 1
        spoil(store, f"UPDATE allcores_meta SET value = '{schema.VERSION}' WHERE name = 'version'")
        assert store.finish(claim, Finished(State.SUCCEEDED))


def test_an_older_store_is_brought_up_to_date_in_one_step(store: JobStore, where: str) -> None:
    job = store.submit("f", {}).job
    database = Database(locate(where))
    try:
        steps = {
            schema.VERSION + 1: lambda connection: connection.execute(
                text("ALTER TABLE allcores_jobs ADD COLUMN extra TEXT")
            ),
            schema.VERSION + 2: failing,
        }
        with pytest.raises(ZeroDivisionError):
            migrations.prepare(database, known=schema.VERSION + 2, steps=steps)
        with database.reading() as connection:
            assert migrations.version_of(connection) == schema.VERSION, "all steps, or none"
        migrations.prepare(database, known=schema.VERSION + 1, steps=steps)
        with database.reading() as connection:
            assert migrations.version_of(connection) == schema.VERSION + 1
    finally:
        database.close()
    assert store.get(job.id) == job, "a program that is at work and older still reads what it knows"
    with pytest.raises(SchemaTooNew):
        JobStore.open(where)


#: what makes the tables of version 2 of those of today
_OF_VERSION_2 = {
    "postgresql": ["DROP TRIGGER allcores_job_told ON allcores_jobs", "DROP FUNCTION allcores_tell"],
    "sqlite": ["DROP TRIGGER allcores_job_told"],
}
#: what makes those of version 1 of these, where they are empty or hold what that could hold
_OF_VERSION_1 = {
    "postgresql": [f"ALTER TABLE allcores_{name} ALTER COLUMN retries SET NOT NULL" for name in ("jobs", "deleted")],
    "sqlite": [
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, 'retries INTEGER', 'retries INTEGER NOT NULL')",
        "PRAGMA schema_version = 1000",
        "PRAGMA writable_schema = OFF",
    ],
}


def test_a_store_of_version_1_takes_jobs_whose_retries_the_task_says(opened: Callable[[], JobStore]) -> None:
    """It refused them; what it had stays as it was, and connections that were open see the new tables."""
    store = opened()
    job = store.submit("f", {}, retries=0).job
    for statement in (*_OF_VERSION_2[store.dialect], "DROP TABLE allcores_untold", *_OF_VERSION_1[store.dialect]):
        spoil(store, statement)
    with pytest.raises(StoreError):
        store.submit("f", {})
    spoil(store, "UPDATE allcores_meta SET value = '1' WHERE name = 'version'")
    new = opened()
    made = [each.submit("f", {}).job for each in (new, store)]
    for each in (new, store):
        assert [each.get(one.id) for one in (job, *made)] == [job, *made]
    assert [one.retries for one in (job, *made)] == [0, None, None]
    assert new.undelete(new.delete([made[0].id], "ann").audit, "ann").count == 1
    back = new.get(made[0].id)
    assert back is not None and back.retries is None
    assert new.counts().total == 3


def test_a_store_of_version_2_tells_of_the_ends_that_nobody_has_looked_at(opened: Callable[[], JobStore]) -> None:
    """It looked for them by their times, from the last one on that it had seen; others are not told again."""
    store = opened()
    for statement in (*_OF_VERSION_2[store.dialect], "DROP TABLE allcores_untold"):
        spoil(store, statement)
    one = Submission("f", {}, webhook="http://127.0.0.1/", run_at=time.time() + 1_000)
    ids = [each.job.id for each in store.submit_many([one] * 3)]
    store.cancel(ids[:2], "me")
    spoil(store, f"UPDATE allcores_jobs SET finished = finished - 60 WHERE id = '{ids[0]}'")
    store.put_record("webhooks", "since", time.time() - 30)
    spoil(store, "UPDATE allcores_meta SET value = '2' WHERE name = 'version'")
    new = opened()
    assert [each["job"] for each in new.take_ends(5.0).values()] == ids[1:2]
    new.cancel(ids[2:], "me")
    assert [each["job"] for each in new.take_ends(5.0).values()] == ids[2:]
    assert (new.take_ends(5.0), new.records("webhooks")) == ({}, {})
    assert {each["job"] for each in new.records("webhook").values()} == set(ids[1:])


def test_what_is_done_to_many_ends_in_time_and_goes_on_when_it_is_asked_for_again(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web server ends a request that takes longer than half a minute, and says nothing of what was done."""
    monkeypatch.setattr(actions, "PORTION", 2)
    ids = [each.job.id for each in store.submit_many([Submission("f", {"i": i}) for i in range(5)])]

    def told(act: Callable[..., Any], which: Any) -> list[tuple[int, int, bool]]:
        found: list[tuple[int, int, bool]] = []
        while not found or found[-1][2]:
            done = act(which(), "ann", seconds=0.0)
            found.append((done.count, done.skipped, done.time_was_up))
        return found

    def every() -> Any:
        return store.snapshot(JobFilter())

    assert told(store.cancel, every) == [(2, 0, True), (2, 0, True), (1, 4, False)]
    assert counted(store) == {"cancelled": 5}
    assert told(store.retry, lambda: ids[:1]) == [(1, 0, False)]
    assert told(store.cancel, lambda: store.snapshot(JobFilter(states=(State.CANCELLED,)))) == [(0, 4, False)]
    deleted = store.delete(ids, "ann")
    assert told(store.undelete, lambda: deleted.audit) == [(2, 0, True), (2, 0, True), (1, 0, True), (0, 0, False)]
    assert counted(store) == {"cancelled": 4, "queued": 1}
    assert told(store.delete, every) == [(2, 0, True), (2, 0, True), (1, 0, False)]


def one_column_more(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE allcores_jobs ADD COLUMN extra TEXT"))


def failing(connection: Connection) -> None:
    raise ZeroDivisionError


def test_others_write_while_a_text_is_looked_for_that_is_acted_on(
    store: JobStore, opened: Callable[[], JobStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In large arguments that takes seconds."""
    other = opened()
    wanted = [store.submit("f", {"text": "needle"}).job.id for _ in range(2)]
    shot = store.snapshot(JobFilter(text="needle"))
    kept = filters.Walk.matching

    def matching(walk: filters.Walk, *given: Any) -> list[int]:
        other.submit("g", {})
        return kept(walk, *given)

    monkeypatch.setattr(filters.Walk, "matching", matching)
    assert store.cancel(shot, "ann").ids == tuple(wanted)
    assert counted(store) == {"cancelled": 2, "queued": 1}


def test_many_submissions_are_handed_over_in_parts(
    opened: Callable[[], JobStore], parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others hand over theirs in between; of one that has another's key all others are submitted, also behind it."""
    supervisor, client = opened(), opened()
    monkeypatch.setattr("allcores.jobs.store.HANDED_OVER", 2)
    with supervisor.become_supervisor():
        made = client.submit_many([Submission("f", {"i": i}, key=f"k{i}") for i in range(5)])
        assert [each.job.arguments["i"] for each in made] == list(range(5)) and parts == [2, 2, 1]
        again = [Submission("f", {"i": i}, key=f"k{i}") for i in (0, 7, 8)]
        with pytest.raises(KeyConflict, match="the key 'k1' was used"):
            client.submit_many([again[0], Submission("f", {"i": 9}, key="k1"), *again[1:]])
        assert client.submit_many([]) == []
    assert counted(supervisor) == {"queued": 7}
    assert client.submit_many(again)[2].replayed, "without a supervisor, too"


def test_large_jobs_are_changed_a_few_at_a_time(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their rows are written anew, with all that they hold."""
    assert list(actions.portions([("a", 1), ("b", actions.PORTION_BYTES), ("c", 1)])) == [["a"], ["b"], ["c"]]
    assert [len(each) for each in actions.portions((n, 1) for n in range(1001))] == [500, 500, 1]
    assert list(actions.portions([])) == []
    monkeypatch.setattr(actions, "PORTION_BYTES", 1)
    ids = [store.submit("f", {"i": i}).job.id for i in range(5)]
    before = store.last_change
    assert store.cancel([*ids, "f" * 32], "ann").ids == tuple(ids)
    assert store.last_change == before + 1 + 5
    gone = store.delete(store.snapshot(JobFilter()), "ann")
    assert (gone.count, store.last_change) == (5, before + 2 * (1 + 5))
    assert store.undelete(gone.audit, "ann").ids == tuple(ids)
    assert counted(store) == {"cancelled": 5}


@pytest.mark.parametrize("count", [0, 1, 2, 4], ids=["none", "fewer than a portion", "one portion", "two"])
@pytest.mark.parametrize("changed", [False, True], ids=["as seen", "changed since"])
def test_an_action_on_a_snapshot_however_many_there_are(
    count: int, changed: bool, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a portion has none that is as it was seen."""
    monkeypatch.setattr(actions, "PORTION", 2)
    ids = [store.submit("f", {"i": i}, tags=("t",)).job.id for i in range(count)]
    for wanted in (JobFilter(tag="t"), JobFilter(text='"i"'), JobFilter()):
        shot = store.snapshot(wanted)
        assert shot.count == count
        if changed:
            store.cancel(ids, "me")
            store.retry(ids, "me")
        cancelled = store.cancel(shot, "me")
        assert (cancelled.count, cancelled.skipped) == ((0, count) if changed else (count, 0))
        store.cancel(ids, "me")
        store.retry(ids, "me")
    gone = store.delete(store.snapshot(JobFilter()), "me")
    assert (gone.count, store.counts().total) == (count, 0)
    assert (store.undelete(gone.audit, "me").count, store.counts().total) == (count, count)
