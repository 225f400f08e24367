"""What a job started, and what left its group and session: it ends with an attempt that is ended by force."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.process.jobs.conftest import PATIENCE_S, Running, SupervisorProcess, lines, until

from allcores.jobs import Queue, State, descendants
from allcores.jobs.pool_side import is_alive

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells what started what")

#: of a task in a pool's worker, and of one with a process of its own, which finds even more
WAYS = {
    "elsewhere": ("session", "daemon", "session-unmarked", "fork"),
    "elsewhere_with_job": ("session", "daemon", "daemon-unmarked", "fork"),
}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A supervisor that has a worker for each way: to start one takes as long as all jobs of a test."""
    with Running(tmp_path, workers=4) as found:
        yield found


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Running]:
    """A supervisor with one worker."""
    with Running(tmp_path, workers=1) as found:
        yield found


def started(path: Path) -> int:
    """The process that was started, once the task has come to that."""
    until(lambda: lines(f"{path}.ready"), "the task")
    (pid,) = lines(f"{path}.pids")
    assert is_alive(int(pid)) or not lines(f"{path}.pids")
    return int(pid)


def has_ended(pid: int) -> bool:
    return not is_alive(pid)


@pytest.mark.parametrize("task", WAYS)
def test_cancelled_is_said_once_it_is_gone(running: Running, tmp_path: Path, task: str) -> None:
    """While jobs beside it go on."""
    jobs = {how: running.queue.submit(task, {"path": str(tmp_path / how), "how": how}) for how in WAYS[task]}
    pids = {how: started(tmp_path / how) for how in jobs}
    for how, job in jobs.items():
        assert is_alive(pids[how]), how
        running.queue.cancel(job.id)
        assert running.queue.wait(job.id, PATIENCE_S).state == "cancelled", how
        assert not is_alive(pids[how]), how


@pytest.mark.parametrize("task", WAYS)
def test_it_ends_with_the_time_of_its_job(running: Running, tmp_path: Path, task: str) -> None:
    jobs = {
        how: running.queue.submit(task, {"path": str(tmp_path / how), "how": how}, timeout=6.0) for how in WAYS[task]
    }
    pids = {how: started(tmp_path / how) for how in jobs}
    for how, job in jobs.items():
        assert running.queue.wait(job.id, PATIENCE_S).state == "timed_out", how
        until(partial(has_ended, pids[how]), f"the end of what the job started: {how}")


@pytest.mark.parametrize("task", WAYS)
def test_it_ends_when_its_jobs_process_dies(running: Running, tmp_path: Path, task: str) -> None:
    """Before the next attempt begins."""
    for how in ("session", "daemon"):
        job = running.run(task, {"path": str(tmp_path / how), "how": how, "end": "dies"})
        assert (job.state, job.crashes) == (State.SUCCEEDED, 1), how
        (pid,) = lines(tmp_path / f"{how}.pids")
        assert not is_alive(int(pid)), how


@pytest.mark.parametrize("task", ["elsewhere", "elsewhere_with_job"])
def test_a_daemon_of_a_job_that_returned_is_left_alone(alone: Running, tmp_path: Path, task: str) -> None:
    """Also when another job in the same worker is ended."""
    done = alone.run(task, {"path": str(tmp_path / "daemon"), "how": "session", "end": "returns"})
    assert done.state == State.SUCCEEDED
    (daemon,) = map(int, lines(tmp_path / "daemon.pids"))
    try:
        job = alone.queue.submit("elsewhere", {"path": str(tmp_path / "t"), "how": "session"})
        pid = started(tmp_path / "t")
        alone.queue.cancel(job.id)
        assert alone.queue.wait(job.id, PATIENCE_S).state == "cancelled"
        assert not is_alive(pid) and is_alive(daemon)
    finally:
        os.kill(daemon, signal.SIGKILL)


@pytest.mark.parametrize("task", ["elsewhere", "elsewhere_with_job"])
def test_the_next_supervisor_ends_what_the_last_one_left(
    queue: Queue, supervise: Callable[..., SupervisorProcess], tmp_path: Path, task: str
) -> None:
    first = supervise()
    job = queue.submit(task, {"path": str(tmp_path / "t"), "how": "daemon"})
    pid = started(tmp_path / "t")
    first.kill()
    queue.cancel(job.id)
    second = supervise()
    assert queue.wait(job.id, PATIENCE_S).state == "cancelled"
    until(lambda: not is_alive(pid), "the end of what the job started")
    second.terminate()
    second.close()


def test_only_what_is_known_to_be_ours_is_killed(tmp_path: Path) -> None:
    """A number that was given to another process, and a mark of another attempt or job, are none of ours."""
    import subprocess

    environment: dict[str, Any] = {**os.environ, descendants.MARK: descendants.mark_of("a" * 32, 2)}
    with subprocess.Popen(["sleep", "1000"], env=environment) as popen:
        try:
            (found,) = until(lambda: descendants.marked("a" * 32, 2))
            assert found == descendants.alive(popen.pid) and descendants.marked("a" * 32) == {found}
            assert descendants.marked("a" * 32, 1) == descendants.marked("a" * 31) == descendants.of_jobs([]) == set()
            assert found in descendants.below(os.getpid()) and found in descendants.below(os.getpid(), 300.0)
            assert found in descendants.below(os.getpid(), 300.0, descendants.mark_of("a" * 32, 2))
            assert found not in descendants.below(os.getpid(), 300.0, descendants.mark_of("a" * 32, 1))
            assert descendants.kill([(popen.pid, found[1] + 1)]) == set()
            assert popen.poll() is None
        finally:
            popen.kill()
    assert descendants.kill([found]) == set()
