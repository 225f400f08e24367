"""Which job begins next: by priority, also where short jobs are claimed by the dozen before they have a core."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.process.jobs.conftest import PATIENCE_S, TASKS, Running, lines, until

from allcores.jobs import Job, JobFilter, State
from allcores.jobs.model import Claim
from allcores.jobs.pool_side import PoolSide
from allcores.limits import Limits


def learn_that_jobs_are_short(running: Running) -> None:
    """From now on some dozens of jobs are claimed ahead."""
    queue = running.queue
    for each in queue.submit_all([queue.submission("add", {"a": n}) for n in range(300)]):
        queue.wait(each.job.id, PATIENCE_S)


def at_work(running: Running, path: Path, count: int = 2) -> list[str]:
    """Jobs that hold their cores until the file is there."""
    jobs = [running.queue.submit("hold", {"path": str(path)}).id for _ in range(count)]
    until(lambda: len(lines(f"{path}.pids")) == count)
    return jobs


def test_short_jobs_do_not_pass_one_with_a_process_of_its_own(running: Running, tmp_path: Path) -> None:
    """It comes first by its priority, and needs a core that short jobs would take again and again."""
    learn_that_jobs_are_short(running)
    at_work(running, tmp_path / "t")
    queue = running.queue
    *short, alone = queue.submit_all(
        [*(queue.submission("add", {"a": n}) for n in range(50)), queue.submission("pid_with_job", priority=1)]
    )
    (tmp_path / "t").touch()
    began = queue.wait(alone.job.id, PATIENCE_S).started
    for each in short:
        job = queue.wait(each.job.id, PATIENCE_S)
        assert began is not None and job.started is not None and job.started >= began


def test_what_was_claimed_ahead_and_waits_behind_long_jobs_is_given_back(running: Running, tmp_path: Path) -> None:
    """Jobs were short so far, and these are not: one that is urgent comes before those that have not begun."""
    learn_that_jobs_are_short(running)
    path = tmp_path / "t"
    queue = running.queue
    held = queue.submit_all([queue.submission("hold", {"path": str(path)}) for _ in range(30)])
    until(lambda: len(lines(f"{path}.pids")) == 2)
    until(lambda: running.store.counts().by_state[State.RUNNING] == 2, "the others are in the queue again")
    first = {each.id for each in running.store.page(JobFilter(states=(State.RUNNING,))).jobs}
    urgent = queue.submit("add", {"a": 1}, priority=1)
    path.touch()
    began = queue.wait(urgent.id, PATIENCE_S).started
    for each in held:
        job = queue.wait(each.job.id, PATIENCE_S)
        assert (job.result, job.attempts, job.crashes) == ("held", 1, 0)
        assert began is not None and job.started is not None
        assert job.id in first or job.started >= began
    assert len(lines(f"{path}.pids")) == 30, "each began once"


def test_what_begins_in_the_moment_in_which_it_is_given_back_has_crashed(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have done something, and it may have ended its process itself: that it runs again is told, and bounded."""
    ended = PoolSide.end
    given_back: list[str] = []

    def overtaken(side: PoolSide, where: dict[str, tuple[int, float]]) -> list[str]:
        found = [job for job in side.calls if job in where and job not in given_back]
        given_back.extend(found)
        return found

    def end(side: PoolSide, job: str, why: str) -> bool:
        if why == "ahead":
            full = dict.fromkeys(("a", "b"), (0, 1.0))
            seen = [side.where(), full]
            monkeypatch.setattr(side, "where", lambda: seen.pop() if seen else PoolSide.where(side))
        return ended(side, job, why)

    monkeypatch.setattr(PoolSide, "overtaken", overtaken)
    monkeypatch.setattr(PoolSide, "end", end)
    (job_id,) = at_work(running, tmp_path / "t", 1)
    until(lambda: len(lines(tmp_path / "t.pids")) == 2, "its second attempt")
    (tmp_path / "t").touch()
    job = running.queue.wait(job_id, PATIENCE_S)
    assert given_back == [job_id] and (job.result, job.attempts, job.crashes) == ("held", 1, 1)
    (first,) = running.store.attempts(job_id)
    assert first.error is not None and (first.crashed, first.error.cause) == (True, "given back")


def test_what_begins_and_ends_in_the_moment_in_which_it_is_given_back_is_told_as_well(tmp_path: Path) -> None:
    """Nothing of it is seen any more, but that a worker was done with what it ran."""
    side = PoolSide(1, (TASKS,), str(tmp_path), Limits(), lambda: None)
    try:
        noted: dict[str, Any] = {"path": str(tmp_path / "t"), "n": 1}
        tasks: list[tuple[str, dict[str, Any]]] = [("hold", {"path": str(tmp_path / "go")}), ("noted", noted)]
        for number, (task, arguments) in enumerate([*tasks, tasks[1]]):
            job = Job(f"{number}" * 32, number, task, arguments, State.RUNNING)
            side.begin([(Claim(job, 1, "token"), None)])
        held, quick, waiting = side.calls.values()
        until(lambda: side.where().get(held.claim.job.id))
        assert side.end(waiting.claim.job.id, "ahead") and [call.ran for call in side.gone()] == [False]
        future = quick.future

        def cancel() -> bool:
            """As if what it returned was still on its way."""
            (tmp_path / "go").touch()
            future.result(PATIENCE_S)
            return True

        quick.future = SimpleNamespace(cancel=cancel)  # type: ignore[assignment]
        assert side.end(quick.claim.job.id, "ahead")
        assert [(call, call.ran) for call in side.gone()] == [(quick, True)]
        assert lines(tmp_path / "t") == ["1"]
    finally:
        side.close()


def test_one_job_runs_beside_a_map_on_all_cores_and_no_more(tmp_path: Path) -> None:
    """The pool has a worker for each core: were short jobs claimed ahead, all of these would run."""
    with Running(tmp_path, workers=4) as running:
        learn_that_jobs_are_short(running)
        mapping = running.queue.submit("hold_with_job", {"path": str(tmp_path / "m")})
        until(lambda: len(lines(tmp_path / "m.pids")) == 4, "its process, what it started, and two items")
        queue = running.queue
        jobs = queue.submit_all([queue.submission("hold", {"path": str(tmp_path / "t")}) for _ in range(10)])
        until(lambda: lines(tmp_path / "t.pids"))
        assert running.store.counts().by_state[State.RUNNING] == 2
        (tmp_path / "t").touch()
        (tmp_path / "m").touch()
        for each in [*(each.job.id for each in jobs), mapping.id]:
            assert queue.wait(each, PATIENCE_S).state == "succeeded"


def test_threads_of_a_task_map_at_the_same_time(running: Running) -> None:
    job = running.run("maps_in_threads", {"n": 10})
    assert (job.state, job.result) == ("succeeded", [285, 285])
    assert running.run("with_job", {"n": 10}).result == 285, "the cores were given back"
