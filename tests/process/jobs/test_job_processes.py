"""Tasks that get the running job: a process of their own, runs that go on at the item, progress, log, files, stacks."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process.jobs.conftest import PATIENCE_S, Running, lines, until
from tests.process.warm import Interpreter

from allcores.errors import UsageError
from allcores.jobs import Job, State, health, stacks
from allcores.jobs.errors import BadJob
from allcores.jobs.job_files import JobFiles, failed_items
from allcores.jobs.model import Submission
from allcores.jobs.pool_side import is_alive

ITEMS = 1_000
#: items that may run twice after a death, however many there are: outcomes are committed every 0.1 s (COMMIT_S)
TWICE = 100


def is_gone(pid: str) -> bool:
    # Orphans may stay as zombies where the first process collects none.
    return not is_alive(int(pid))


def output_of(running: Running, job: Job, name: str = "out.jsonl") -> list[Any]:
    path = running.store.folder / "results" / job.id / name
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_job_maps_logs_and_gives_files(running: Running) -> None:
    job = running.run("with_job", {"n": 10})
    assert (job.state, job.result) == ("succeeded", sum(n * n for n in range(10)))
    assert [(each.name, each.media_type) for each in job.result_files] == [("squares.txt", "text/plain")]
    assert (running.store.folder / "results" / job.id / "squares.txt").read_text().splitlines()[3] == "9"
    assert job.progress is not None
    assert (job.progress.done, job.progress.total, job.progress.note) == (10, 10, "written")
    files = JobFiles(running.store.folder, job.id)
    assert files.read_log().endswith(" begins with 10\n") and len(files.timelines()) == 1


def test_a_process_that_has_ended_leaves_no_file_for_its_stack(running: Running) -> None:
    """That of a job, and those of the workers of its map."""
    folder = running.store.folder / stacks.FOLDER
    running.run("with_job", {"n": 10})
    assert folder.is_dir()
    until(lambda: not list(folder.iterdir()), "their removal")


@pytest.mark.parametrize("victim", ["job", "supervisor"])
def test_a_run_goes_on_at_the_item(queue: Any, supervise: Any, tmp_path: Path, victim: str) -> None:
    """Killed when 60 % of the items are done: few of them run twice."""
    path = tmp_path / "items"
    supervisor = supervise()
    job = queue.submit("run_items", {"path": str(path), "count": ITEMS, "slow": True})
    until(lambda: path.exists() and path.stat().st_size > 0)
    until(lambda: path.read_bytes().count(b"\n") >= ITEMS * 6 // 10, "60 % of the items")
    first = int(lines(f"{path}.pids")[0])
    if victim == "job":
        os.kill(first, signal.SIGKILL)
    else:
        supervisor.kill()
        until(lambda: is_gone(str(first)), "the end of the job's process")
        supervise()
    found = queue.wait(job.id, PATIENCE_S)
    assert (found.state, found.result["ok"], found.crashes) == ("succeeded", ITEMS, 1)
    assert len(lines(f"{path}.pids")) == 2
    executed = lines(path)
    assert len(set(executed)) == ITEMS and len(executed) <= ITEMS + TWICE
    with open(queue.store.folder / "results" / job.id / "out.jsonl") as file:
        assert [json.loads(line) for line in file] == list(range(ITEMS))


def test_each_run_of_a_job_goes_on_in_the_next_attempt(running: Running, tmp_path: Path) -> None:
    """Also the second one: that the first goes on does not forget it."""
    job = running.run("two_runs", {"path": str(tmp_path / "items"), "count": 20})
    assert (job.state, job.attempts) == (State.SUCCEEDED, 2)
    assert [(each.name, each.size > 0) for each in job.result_files] == [("a.jsonl", True), ("b.jsonl", True)]
    assert [len(lines(tmp_path / f"items.{each}")) for each in "ab"] == [20, 20]


@pytest.mark.parametrize("again", [False, True])
def test_what_a_failed_attempt_has_left_is_no_result(running: Running, again: bool) -> None:
    """Unless the next one asks for it, and goes on with it."""
    job = running.run("half_a_file", {"again": again})
    left = [("half.txt", 4)] if again else []
    assert [(each.name, each.size) for each in job.result_files] == [*left, ("whole.txt", 5)]
    folder = running.store.folder / "results" / job.id
    assert sorted(each.name for each in folder.iterdir()) == [name for name, _ in (*left, ("whole.txt", 5))]


def test_failed_items_alone_run_again(running: Running, tmp_path: Path, warm_jobs: Interpreter) -> None:
    path = tmp_path / "items"
    webhook = "http://127.0.0.1:9/"  # nobody listens there
    job = running.run("run_failing", {"path": str(path), "count": 50}, webhook=webhook)
    assert (job.state, job.result["ok"], job.result["failed"]) == ("succeeded", 45, 5)
    assert job.progress is not None and (job.progress.done, job.progress.failed) == (45, 5)
    failures = failed_items(running.store.folder, job.id)
    assert [each["index"] for each in failures] == [3, 13, 23, 33, 43]
    assert "item 13" in json.dumps(failures[1])
    path.unlink()
    Path(f"{path}.mended").touch()
    again = running.queue.retry_failed_items(job.id)
    assert (again.webhook, again.tags) == (job.webhook, ("failed-items",))
    found = running.queue.wait(again.id, PATIENCE_S)
    assert (found.state, found.parent, found.result["ok"]) == ("succeeded", job.id, 50)
    assert sorted(map(int, lines(path))) == [3, 13, 23, 33, 43]
    assert output_of(running, found) == list(range(50))
    # Once more, from the shell: none is left.
    done = warm_jobs.run("jobs", "--store", running.store.name, "retry", "--failed-items", job.id, folder=tmp_path)
    third = running.queue.wait(done.out.strip(), PATIENCE_S)
    assert (third.state, third.parent, len(lines(path))) == ("succeeded", job.id, 5)
    assert output_of(running, third) == list(range(50))


def test_items_that_are_not_known_to_have_failed_do_not_run_again(running: Running, tmp_path: Path) -> None:
    path = tmp_path / "items"
    queue = running.queue
    held = queue.submit("hold_with_job", {"path": str(tmp_path / "t")}, run_at=time.time() + 1000)
    with pytest.raises(BadJob, match=f"job {held.id} is queued: its failed items can run again once it has ended"):
        queue.retry_failed_items(held.id)
    queue.cancel(held.id)
    with pytest.raises(BadJob, match=f"no failed items of job {held.id} are known: run it again as a whole"):
        queue.retry_failed_items(held.id)
    # The parent's runs are gone when it begins.
    arguments = {"path": str(path), "count": 5}
    (made,) = queue.submit_all([Submission("run_failing", arguments, parent=held.id, tags=("failed-items",))])
    found = queue.wait(made.job.id, PATIENCE_S)
    assert found.state is State.FAILED and found.error is not None
    assert (found.error.type, path.exists()) == ("allcores.errors.RunNotFound", False)
    assert found.error.message.startswith(f"the runs of job {held.id} are not on this machine")


def test_cancelled_is_said_once_all_of_it_is_gone(running: Running, tmp_path: Path) -> None:
    """The process, its pool's workers and what it started by itself."""
    job = running.queue.submit("hold_with_job", {"path": str(tmp_path / "t")})
    pids = until(lambda: (found := lines(tmp_path / "t.pids")) and len(found) >= 4 and found)
    running.queue.cancel(job.id)
    assert running.queue.wait(job.id, PATIENCE_S).state == "cancelled"
    assert [pid for pid in pids if not is_gone(pid)] == []


def test_deadlines_and_deaths(running: Running, tmp_path: Path) -> None:
    late = running.queue.submit("hold_with_job", {"path": str(tmp_path / "late")}, timeout=2.0)
    dead = running.run("die_with_job", {"how": "SIGSEGV"})
    assert (dead.state, dead.crashes, dead.error and dead.error.cause) == ("quarantined", 3, "SIGSEGV")
    assert dead.error is not None and "die_with_job" in dead.error.traceback
    found = running.queue.wait(late.id, PATIENCE_S)
    assert (found.state, found.error and found.error.cause) == ("timed_out", "deadline")


def test_short_jobs_do_not_wait_for_a_run(running: Running, tmp_path: Path) -> None:
    held = running.queue.submit("hold_with_job", {"path": str(tmp_path / "t")})
    until(lambda: len(lines(tmp_path / "t.pids")) >= 4)
    assert running.run("add", {"a": 1}).result == 2
    (tmp_path / "t").touch()
    assert running.queue.wait(held.id, PATIENCE_S).result == ["held", "held"]


@pytest.mark.parametrize("task", ["stuck_in_c", "hold"])
def test_the_stack_of_a_running_job(running: Running, tmp_path: Path, task: str) -> None:
    """Also of one that is stuck in C, and it is not disturbed."""
    job = running.queue.submit(task, {"path": str(tmp_path / "t")})
    (pid,) = until(lambda: lines(tmp_path / "t.pids"))

    def shown() -> str | None:
        told = health.read(running.store.folder)
        mine = [each for each in told.workers if each.job == job.id] if told is not None else []
        return stacks.of_process(running.store.folder, mine[0].pid) if mine else None

    first = until(shown, "the job among the workers")
    second = stacks.of_process(running.store.folder, int(pid))
    for text in (first, second):
        assert "tasks_of_tests.py" in text and f"in {task}" in text
    if task == "hold":
        (tmp_path / "t").touch()
        assert running.queue.wait(job.id, PATIENCE_S).result == "held"
    else:
        running.queue.cancel(job.id)
        assert running.queue.wait(job.id, PATIENCE_S).state == "cancelled"
    with pytest.raises(UsageError, match="has ended, or runs no job"):
        stacks.of_process(running.store.folder, os.getppid())


@pytest.fixture
def default_timeout() -> Iterator[None]:
    socket.setdefaulttimeout(0.001)
    yield
    socket.setdefaulttimeout(None)


def test_a_default_timeout_of_sockets_ends_no_job(default_timeout: None, running: Running) -> None:
    """A module of tasks may set one, for what it asks other machines."""
    job = running.run("with_job", {"n": 10})
    assert (job.state, job.result) == ("succeeded", sum(n * n for n in range(10)))
