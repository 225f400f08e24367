"""Processes that hang while they load the tasks: ended in time, told of, and tried again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.process.jobs.conftest import PATIENCE_S, until

from allcores import Limits
from allcores.jobs import JobStore, Queue, Registry, Supervisor, health
from allcores.jobs.supervisor import run_in_thread

_TASKS = """
import os, time
from allcores.jobs import task

if os.path.exists({flag!r}):
    time.sleep(1_000)

@task
def plain() -> int:
    return 1

@task
def mapping(job):
    return 2
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Registry]:
    """Tasks whose import hangs as long as a file is there; here they are loaded already."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    flag = tmp_path / "hang"
    file = tmp_path / "tasks_that_hang.py"
    file.write_text(_TASKS.format(flag=str(flag)))
    registry = Registry.load(file)
    del sys.modules["tasks_that_hang"]
    flag.touch()
    return flag, registry


def test_a_job_whose_process_does_not_start(tmp_path: Path, places: tuple[Path, Registry]) -> None:
    flag, registry = places
    with JobStore.open(tmp_path / "jobs.sqlite") as store, Queue(store, tasks=registry) as queue:
        flag.unlink()
        supervisor = Supervisor(store, registry, workers=1, boot_s=4.0)
        thread = run_in_thread(supervisor)
        assert queue.result(queue.submit("plain").id, PATIENCE_S) == 1
        flag.touch()
        # Its seconds begin once the tasks are loaded: what it takes to import them is no part of them.
        job = queue.wait(queue.submit("mapping", timeout=0.5).id, PATIENCE_S)
        assert (job.state, job.error and job.error.cause) == ("quarantined", "did not start")
        flag.unlink()
        queue.retry(job.id)
        assert queue.result(job.id, PATIENCE_S) == 2
        supervisor.stop(now=True)
        thread.join(PATIENCE_S)


def test_a_pool_whose_workers_do_not_start_is_tried_again(tmp_path: Path, places: tuple[Path, Registry]) -> None:
    """No attempt of a job is charged for that, and the report says what is wrong."""
    flag, registry = places
    with JobStore.open(tmp_path / "jobs.sqlite") as store, Queue(store, tasks=registry) as queue:
        supervisor = Supervisor(store, registry, workers=1, limits=Limits(setup_s=5.0))
        thread = run_in_thread(supervisor)
        job = queue.submit("plain")
        told = until(lambda: (now := health.read(store.folder)) and now.state == "crash-looping" and now)
        assert "workers cannot be started" in told.trouble
        flag.unlink()
        found = queue.wait(job.id, PATIENCE_S)
        assert (found.state, found.result, found.attempts, found.crashes) == ("succeeded", 1, 1, 0)
        until(lambda: (now := health.read(store.folder)) is not None and now.state == "working")
        supervisor.stop(now=True)
        thread.join(PATIENCE_S)
