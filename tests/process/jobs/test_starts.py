"""Processes that hang while they load the tasks: ended in time, told of, and tried again."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.process.jobs.conftest import PATIENCE_S, until

from allcores import Limits
from allcores.jobs import JobStore, Queue, Registry, Supervisor, health
from allcores.jobs.job_processes import JobProcess
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

@task
def measured(job, text: str) -> int:
    return len(text)
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


def test_a_pool_whose_workers_do_not_start_is_tried_again(
    tmp_path: Path, places: tuple[Path, Registry], caplog: pytest.LogCaptureFixture
) -> None:
    """No attempt of a job is charged for that; report and log say what is wrong."""
    flag, registry = places
    with JobStore.open(tmp_path / "jobs.sqlite") as store, Queue(store, tasks=registry) as queue:
        supervisor = Supervisor(store, registry, workers=1, limits=Limits(setup_s=5.0))
        thread = run_in_thread(supervisor)
        job = queue.submit("plain")
        told = until(lambda: (now := health.read(store.folder)) and now.state == "crash-looping" and now)
        assert "workers cannot be started" in told.trouble
        assert told.trouble in caplog.messages
        flag.unlink()
        found = queue.wait(job.id, PATIENCE_S)
        assert (found.state, found.result, found.attempts, found.crashes) == ("succeeded", 1, 1, 0)
        until(lambda: (now := health.read(store.folder)) is not None and now.state == "working")
        supervisor.stop(now=True)
        thread.join(PATIENCE_S)


def test_large_arguments_of_a_process_that_starts_slowly(
    tmp_path: Path, places: tuple[Path, Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are more than a socket takes that nobody reads yet. The supervisor does not wait until they are read."""
    flag, registry = places
    flag.unlink()
    gate, interpreter = tmp_path / "gate", tmp_path / "python"
    os.mkfifo(gate)
    interpreter.write_text(f'#!/bin/sh\n: < "{gate}"\nexec "{sys.executable}" "$@"\n')
    interpreter.chmod(0o700)
    begin = JobProcess.start

    def begun(*arguments: Any) -> JobProcess:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(interpreter))
            process = begin(*arguments)
        # Only now does it go on.
        os.close(os.open(gate, os.O_WRONLY))
        return process

    monkeypatch.setattr(JobProcess, "start", begun)
    with JobStore.open(tmp_path / "jobs.sqlite") as store, Queue(store, tasks=registry) as queue:
        supervisor = Supervisor(store, registry, workers=1, boot_s=20.0)
        thread = run_in_thread(supervisor)
        job = queue.wait(queue.submit("measured", {"text": "x" * 1_000_000}).id, PATIENCE_S)
        assert (job.state, job.result, job.crashes) == ("succeeded", 1_000_000, 0)
        supervisor.stop(now=True)
        thread.join(PATIENCE_S)
