"""A supervisor at work: what becomes of jobs that return, raise, hang and die."""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic, time
from types import SimpleNamespace

import pytest
from tests.process.jobs.conftest import PATIENCE_S, Running, lines, until
from tests.process.waiting import Bell, Gate

from allcores.jobs import JobFailed, Queue, State, queries, store_side, supervisor
from allcores.jobs.errors import StoreError
from allcores.jobs.pool_side import is_alive


def test_jobs_return(running: Running) -> None:
    job = running.run("add", {"a": 2**70, "b": 2})
    assert (job.state, job.result, job.attempts, job.crashes) == ("succeeded", 2**70 + 2, 1, 0)
    value = {"z": [1, None, "☃\u202e"], "a": {"b": 1.5}}
    assert json.dumps(running.run("echo", {"value": value}).result) == json.dumps(value)
    with running.queue as queue:
        assert queue.result(queue.submit("add", {"a": 1}).id, PATIENCE_S) == 2


def test_many_jobs_end_once_each(running: Running) -> None:
    queue = running.queue
    assert queue.submission("add", {"a": 1}, tags="blue").tags == ("blue",)
    submitted = queue.submit_all([queue.submission("add", {"a": n}) for n in range(500)])
    results = [queue.wait(each.job.id, PATIENCE_S).result for each in submitted]
    assert results == [n + 1 for n in range(500)]
    assert running.store.counts().by_state[State.SUCCEEDED] == 500


@pytest.mark.parametrize("through", ["its own store", "the store of another"])
def test_what_was_submitted_is_claimed_without_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, through: str
) -> None:
    """The supervisor commits it, so it knows; nor is a look needed where a core is free again."""
    monkeypatch.setattr(store_side, "LOOK_S", 10 * PATIENCE_S)
    with Running(tmp_path) as running, Queue(tmp_path / "jobs.sqlite", tasks=running.queue.registry) as other:
        running.run("add", {"a": 1})
        looks: list[queries.Look] = []

        def look() -> queries.Look:
            looks.append(queries.look(running.store))
            return looks[-1]

        monkeypatch.setattr(running.store, "look", look)
        queue = running.queue if through == "its own store" else other
        submitted = queue.submit_all([queue.submission("add", {"a": n}) for n in range(20)])
        assert [queue.wait(each.job.id, PATIENCE_S).result for each in submitted] == [n + 1 for n in range(20)]
        assert not looks


def test_an_exception_is_tried_again_and_told(running: Running, tmp_path: Path) -> None:
    job = running.run("flaky", {"path": str(tmp_path / "f"), "times": 2})
    assert (job.state, job.result, job.attempts, job.crashes) == ("succeeded", "at last", 3, 0)
    job = running.run("flaky", {"path": str(tmp_path / "g"), "times": 5})
    assert (job.state, job.attempts, job.crashes) == ("failed", 3, 0)
    assert job.error is not None and (job.error.type, job.error.message) == ("ValueError", "not yet")
    assert 'raise ValueError("not yet")' in job.error.traceback and "plain_call" not in job.error.traceback
    with pytest.raises(JobFailed, match="ValueError: not yet"):
        running.queue.result(job.id)


def test_a_job_whose_task_was_not_known_is_tried_as_often_as_the_task_says(running: Running, tmp_path: Path) -> None:
    """As `allcores jobs submit` without --tasks makes them; what was given holds."""
    arguments = {"path": str(tmp_path / "f"), "times": 2}
    own = running.queue.wait(running.store.submit("flaky", arguments).job.id, PATIENCE_S)
    assert (own.state, own.attempts, own.retries) == ("succeeded", 3, None)
    none = running.store.submit("flaky", {**arguments, "path": str(tmp_path / "g")}, retries=0).job
    assert running.queue.wait(none.id, PATIENCE_S).attempts == 1


@pytest.mark.parametrize("task", ["flaky", "tidy_with_job"])
def test_arguments_that_do_not_fit_are_not_tried_again(running: Running, task: str) -> None:
    """As `allcores jobs submit` without --tasks may give them: nobody waits for attempts that end the same way."""
    job = running.queue.wait(running.store.submit(task, {"paht": "x"}, retries=3).job.id, PATIENCE_S)
    assert (job.state, job.attempts) == ("failed", 1)
    assert job.error is not None and job.error.type == "allcores.jobs.errors.ArgumentErrors"
    assert "paht" in job.error.message and "another attempt would end the same way" in job.note


@pytest.mark.parametrize("what", ["few", "none", "seconds", "text", "files", "size"])
def test_what_a_worker_sends_and_is_no_answer_ends_that_job_alone(running: Running, what: str) -> None:
    """The worker of another version, or one that a task has damaged."""
    job = running.run("answers_oddly", {"what": what})
    assert (job.state, job.crashes) == ("quarantined", 3)
    assert job.error is not None and job.error.cause == "no message"
    assert [running.run("add", {"a": n}).result for n in range(5)] == [1, 2, 3, 4, 5]


def test_a_job_that_ends_the_template_of_its_worker_runs_as_often_as_it_is_counted(
    running: Running, tmp_path: Path
) -> None:
    job = running.run("ends_template", {"path": str(tmp_path / "t")})
    assert (job.state, job.crashes, job.attempts) == ("quarantined", 3, 0)
    assert job.error is not None and job.error.cause == "template ended"
    assert len(lines(tmp_path / "t")) == 3
    assert running.run("add", {"a": 1}).result == 2


def test_what_is_no_json_fails_with_a_way_out(running: Running) -> None:
    job = running.run("not_json")
    assert job.state == "failed" and job.error is not None
    assert "cannot be kept as JSON" in job.error.message and "job.result_path" in job.error.message


def test_a_result_with_two_keys_that_are_one_fails_and_names_them(running: Running) -> None:
    for task in ("same_keys", "same_keys_with_job"):
        job = running.run(task)
        assert (job.state, job.result) == ("failed", None) and job.error is not None
        assert "value['by_id'] has the keys 1 and '1', which are both '1' in JSON" in job.error.message


def test_progress_that_is_no_number_fails_the_job(running: Running) -> None:
    odd = [{"done": "nan"}, {"total": -1}, {"total": 10**30}, {"failed": [1]}]
    job = running.run("odd_progress", {"refused": odd[:-1], "last": odd[-1]})
    assert job.state == "failed" and job.error is not None
    assert job.error.message.startswith("job.progress(failed=[1]): give a whole number from 0 on")
    job = running.run("odd_progress", {"refused": [], "last": {"done": 3.0, "total": 2**62}})
    assert job.progress is not None and (job.progress.done, job.progress.total) == (3, 2**62)


def test_a_large_result_is_a_file(running: Running) -> None:
    job = running.run("large", {"size": 300_000})
    assert (job.state, job.result) == ("succeeded", None)
    assert [each.name for each in job.result_files] == ["result.json"]
    path = running.store.folder / "results" / job.id / "result.json"
    assert json.loads(path.read_text()) == "x" * 300_000 and path.stat().st_size == job.result_files[0].size
    assert running.queue.result(job.id, PATIENCE_S) == "x" * 300_000
    path.unlink()
    with pytest.raises(StoreError, match=r"is large, and its file cannot be read here: .*result\.json: No such file"):
        running.queue.result(job.id, PATIENCE_S)


def test_a_number_of_too_many_digits_is_refused_whatever_its_task_tells_python(running: Running) -> None:
    """And the supervisor goes on."""
    for task in ("many_digits", "many_digits_with_job"):
        job = running.run(task)
        assert job.state == "failed" and job.error is not None
        assert "a whole number of more digits than Python writes" in job.error.message
    assert running.run("add", {"a": 1}).result == 2


def test_what_kills_its_process_is_quarantined(running: Running, tmp_path: Path) -> None:
    """And the jobs of others are not stopped by it."""
    causes = {"SIGKILL": "SIGKILL", "exit": "exit code 7", "overflow": "SIGSEGV", "group": "SIGKILL"}
    for how, cause in causes.items():
        poison = running.queue.submit("die", {"how": how, "path": str(tmp_path / how)})
        others = [running.queue.submit("add", {"a": n}) for n in range(20)]
        for n, each in enumerate(others):
            assert running.queue.wait(each.id, PATIENCE_S).result == n + 1
        job = running.queue.wait(poison.id, PATIENCE_S)
        assert (job.state, job.attempts, job.crashes) == ("quarantined", 0, 3), how
        assert len(lines(tmp_path / how)) == 3
        assert job.error is not None and job.error.cause == cause and (job.error.peak_memory or 0) > 1e6
        assert "3 times" in job.note and cause in job.note
        assert "while running task 'die'" in job.error.message and str(tmp_path) not in job.error.message
        assert [each.crashed for each in running.store.attempts(job.id)] == [True] * 3


def test_a_process_that_is_killed_once(running: Running, tmp_path: Path) -> None:
    job = running.run("die_once", {"path": str(tmp_path / "tried")})
    assert (job.state, job.result, job.attempts, job.crashes) == ("succeeded", "survived", 1, 1)


@pytest.mark.parametrize("task", ["stubborn", "stuck_in_c"])
def test_a_deadline_ends_whatever_runs(running: Running, tmp_path: Path, task: str) -> None:
    job = running.run(task, {"path": str(tmp_path / "t")}, timeout=0.2)
    assert (job.state, job.error and job.error.cause) == ("timed_out", "deadline")
    (pid,) = lines(tmp_path / "t.pids")
    until(lambda: not is_alive(int(pid)), "the end of the process")


@pytest.mark.parametrize("task", ["stubborn", "stuck_in_c"])
def test_cancelled_is_said_once_the_process_is_gone(running: Running, tmp_path: Path, task: str) -> None:
    job = running.queue.submit(task, {"path": str(tmp_path / "t")})
    (pid,) = until(lambda: lines(tmp_path / "t.pids"))
    assert running.queue.cancel(job.id, "somebody")
    assert running.queue.wait(job.id, PATIENCE_S).state == "cancelled"
    assert not is_alive(int(pid))
    assert running.run("add", {"a": 1}).result == 2


@pytest.mark.parametrize("task", ["tidy", "tidy_with_job"])
def test_what_a_task_raises_as_it_is_ended_is_no_failure(running: Running, tmp_path: Path, task: str) -> None:
    """It is not tried again for it, either."""
    job = running.run(task, {"path": str(tmp_path / "t")}, timeout=0.7)
    assert (job.state, job.attempts, job.error and job.error.cause) == ("timed_out", 1, "deadline")
    cancelled = running.queue.submit(task, {"path": str(tmp_path / "c")})
    until(lambda: lines(tmp_path / "c.pids"))
    running.queue.cancel(cancelled.id)
    assert running.queue.wait(cancelled.id, PATIENCE_S).state == "cancelled"
    assert len(lines(tmp_path / "c.pids")) == 1


def test_a_jobs_peak_memory_is_its_own_and_not_of_what_started_it(running: Running) -> None:
    held = bytearray(500_000_000)
    held[::4096] = b"x" * len(held[::4096])  # resident
    job = running.run("die_with_job")
    assert held
    assert (job.state, job.crashes) == ("quarantined", 3) and job.error is not None
    assert 1_000_000 < (job.error.peak_memory or 0) < 400_000_000


@pytest.mark.parametrize("task", ["unspeakable", "unspeakable_with_job"])
def test_an_exception_whose_text_ends_the_process(running: Running, task: str) -> None:
    job = running.run(task)
    assert (job.state, job.crashes, job.error and job.error.message) == (
        "failed",
        0,
        "<its text cannot be had: SystemExit>",
    )


def test_cancel_at_any_moment_ends_one_job_only(running: Running) -> None:
    """Each job is cancelled or has succeeded, and those beside it have succeeded."""
    queue = running.queue
    cancelled = []
    for n in range(60):
        victim = queue.submit("add", {"a": n})
        bystander = queue.submit("add", {"a": 1_000 + n})
        queue.cancel(victim.id)
        cancelled.append((victim.id, bystander.id, n))
    for victim_id, bystander_id, n in cancelled:
        job = queue.wait(victim_id, PATIENCE_S)
        assert (job.state, job.result) in {("cancelled", None), ("succeeded", n + 1)}
        assert queue.wait(bystander_id, PATIENCE_S).result == 1_001 + n


def test_memory_of_one_job_is_bounded(tmp_path: Path) -> None:
    from allcores import Limits

    with Running(tmp_path, limits=Limits(memory_per_worker=150_000_000)) as running:
        hog = running.queue.submit("hog")
        assert running.run("add", {"a": 1}).result == 2
        job = running.queue.wait(hog.id, PATIENCE_S)
        assert (job.state, job.error and job.error.cause) == ("quarantined", "memory limit")
        assert job.error is not None and "while running task 'hog'" in job.error.message


def test_what_a_supervisor_did_not_see_counts_for_no_deadline(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stopped for ten minutes, and its jobs with it (`docker pause`): the clock went on."""
    ahead = [0.0]
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: monotonic() + ahead[0], time=time))
    stops: list[float] = []
    wake_ups = running.supervisor._wake_ups
    waits = wake_ups.wait
    looks: list[None] = []

    def stopped(seconds: float) -> bool:
        if stops:
            ahead[0] += stops.pop()
        told = waits(seconds)
        looks.append(None)
        return told

    monkeypatch.setattr(wake_ups, "wait", stopped)
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
        job = running.queue.submit("wait_with_job", {"bell": bell.path, "gate": gate.path})
        bell.hear()
        until(lambda: all(each.ready for each in running.supervisor._processes.processes.values()))
        stops.append(600.0)
        until(lambda: not stops)
        looks.clear()
        until(lambda: len(looks) > 2)
        gate.open()
        found = running.queue.wait(job.id, PATIENCE_S)
    assert (found.state, found.result, found.attempts) == (State.SUCCEEDED, "done", 1)
