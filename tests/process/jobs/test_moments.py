"""Deaths around a commit, processes that are stopped and go on, and jobs that are cancelled at any moment."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.process.jobs.conftest import PATIENCE_S, PROGRAM, TASKS, Running, lines, until
from tests.process.warm import Interpreter

from allcores import BrokenPool, Limits
from allcores.jobs import Job, Queue, State, health
from allcores.jobs.model import Claim
from allcores.jobs.pool_side import PoolSide, PoolTrouble, is_alive


def killed_at(point: str, queue: Queue, tmp_path: Path, interpreter: Interpreter) -> str:
    """A job that leaves a file, whose supervisor dies there; its id."""
    job = queue.submit("large_and_noted", {"path": str(tmp_path / "ran"), "size": 300_000})
    words = queue.store.name, TASKS, "1", "5", point
    assert interpreter.begin(PROGRAM, *words, folder=tmp_path).wait() == -signal.SIGKILL
    return job.id


def test_killed_between_the_file_and_the_commit(
    queue: Queue, supervise: Any, tmp_path: Path, warm_jobs: Interpreter
) -> None:
    """The job runs again; it has one end and one file, which is whole."""
    job_id = killed_at("jobs.commit.before", queue, tmp_path, warm_jobs)
    left = queue.store.folder / "results" / job_id / "result.json"
    assert left.exists() and (found := queue.get(job_id)) is not None and found.state == State.RUNNING
    # As of one that is killed amid a report. No process has such a number.
    report = queue.store.folder / f"supervisor.json.{1 << 30}.new"
    report.touch()
    supervise()
    job = queue.wait(job_id, PATIENCE_S)
    assert (job.state, len(lines(tmp_path / "ran"))) == (State.SUCCEEDED, 2)
    assert [(each.name, each.size) for each in job.result_files] == [("result.json", left.stat().st_size)]
    assert [each.name for each in left.parent.iterdir()] == ["result.json"] and not report.exists()
    assert queue.store.stats().finished == {State.SUCCEEDED: 1}


def test_killed_between_the_commit_and_everything_else(
    queue: Queue, supervise: Any, tmp_path: Path, warm_jobs: Interpreter
) -> None:
    """The job has succeeded, whoever asks, and never runs again."""
    job_id = killed_at("jobs.commit.after", queue, tmp_path, warm_jobs)
    assert (found := queue.get(job_id)) is not None and found.state == State.SUCCEEDED
    supervise()
    assert queue.wait(queue.submit("add", {"a": 1}).id, PATIENCE_S).result == 2
    job = queue.wait(job_id, PATIENCE_S)
    assert (job.state, job.attempts, job.crashes, len(lines(tmp_path / "ran"))) == (State.SUCCEEDED, 1, 0, 1)
    assert queue.store.stats().finished == {State.SUCCEEDED: 2}


@pytest.mark.parametrize("task", ["hold", "hold_with_job"])
def test_a_stopped_process_is_ended_by_its_deadline(running: Running, tmp_path: Path, task: str) -> None:
    """It does not come back to life: it is gone when the job has its end."""
    job = running.queue.submit(task, {"path": str(tmp_path / "t")}, timeout=10.0)
    pid = int(until(lambda: lines(tmp_path / "t.pids"))[0])
    os.kill(pid, signal.SIGSTOP)
    assert running.queue.wait(job.id, PATIENCE_S).state == State.TIMED_OUT
    until(lambda: not is_alive(pid), "the end of the stopped process")


def test_a_stopped_process_that_has_lost_its_job_writes_nothing(running: Running, tmp_path: Path) -> None:
    """It goes on, and comes to an end; another attempt has the job by then."""
    job = running.queue.submit("hold", {"path": str(tmp_path / "t")})
    pid = int(until(lambda: lines(tmp_path / "t.pids"))[0])
    os.kill(pid, signal.SIGSTOP)
    with running.store.reading() as connection:
        connection.exec_driver_sql("UPDATE allcores_jobs SET token = 'of another', attempt = attempt + 1")
        connection.commit()
    (tmp_path / "t").touch()
    os.kill(pid, signal.SIGCONT)
    until(lambda: (told := health.read(running.store.folder)) is not None and told.lost_claims == 1)
    found = running.queue.get(job.id)
    assert found is not None and (found.state, found.result) == (State.RUNNING, None)


def test_a_job_that_comes_to_its_end_as_it_is_cancelled(tmp_path: Path) -> None:
    """Its worker is not ended for it, and lives on: the job is cancelled all the same."""
    side = PoolSide(1, (TASKS,), str(tmp_path), Limits(grace_s=PATIENCE_S), lambda: None)
    try:
        job = Job("a" * 32, 1, "hold", {"path": str(tmp_path / "go")}, State.RUNNING)
        side.begin([(Claim(job, 1, "token"), None)])
        (pid,) = until(lambda: lines(tmp_path / "go.pids"))
        until(lambda: side.where().get(job.id))
        assert side.end(job.id, "cancel")
        assert side.gone() == []
        (tmp_path / "go").touch()
        (call,) = until(side.gone, "the end of the attempt")
        assert (call.claim.job.id, call.ending_for, side.calls) == (job.id, "cancel", {})
        assert is_alive(int(pid))
    finally:
        side.close()


def test_calls_of_a_pool_that_broke_are_given_back_whenever_they_hear_of_it(tmp_path: Path) -> None:
    """The first one that has failed closes the pool, and the others are cancelled by that: the supervisor goes on."""
    side = PoolSide(1, (TASKS,), str(tmp_path), Limits(), lambda: None)
    try:
        jobs = [
            Job(name * 32, number, "hold", {"path": str(tmp_path / "go")}, State.RUNNING)
            for number, name in enumerate("ab")
        ]
        side.begin([(Claim(job, 1, "token"), None) for job in jobs])
        until(lambda: lines(tmp_path / "go.pids"))
        side.broke(BrokenPool("workers cannot start"))
        found = list(side.ended())
        assert {call.claim.job.id for call, _ in found} == {job.id for job in jobs} and side.calls == {}
        assert all(isinstance(outcome, PoolTrouble) for _, outcome in found)
    finally:
        side.close()


@pytest.mark.slow
def test_a_thousand_are_cancelled_at_any_moment(running: Running) -> None:
    """Queued, being claimed, running, ending, done: each is cancelled or has succeeded, and never the one beside it."""
    queue, store = running.queue, running.store
    victims: list[str] = []
    beside: list[str] = []
    for first in range(0, 1_000, 20):
        given = [(a, b) for a in range(first, first + 20) for b in ((1,) if a % 4 else (1, 1_000_000))]
        made = queue.submit_all([queue.submission("add", {"a": a, "b": b}) for a, b in given])
        ids = [each.job.id for each, (_, b) in zip(made, given, strict=True) if b == 1]
        victims += ids
        beside += [each.job.id for each, (_, b) in zip(made, given, strict=True) if b != 1]
        # The last of them are at work, or done, when the first have been cancelled.
        for each in ids if first % 40 else reversed(ids):
            queue.cancel(each)
    ends = [queue.wait(each, PATIENCE_S) for each in victims]
    assert all(
        (job.state, job.result) in {(State.CANCELLED, None), (State.SUCCEEDED, number + 1)}
        for job, number in zip(ends, range(1_000), strict=True)
    )
    assert [queue.wait(each, PATIENCE_S).result for each in beside] == [n + 1_000_000 for n in range(0, 1_000, 4)]
    cancelled = sum(job.state is State.CANCELLED for job in ends)
    assert 0 < cancelled < 1_000
    expected = {State.SUCCEEDED: 1_250 - cancelled, State.CANCELLED: cancelled}
    assert store.stats().finished == expected
    assert {state: number for state, number in store.counts().by_state.items() if number} == expected
