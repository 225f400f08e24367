"""A supervisor whose store has trouble under it: full disks, folders that vanish, other supervisors."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import resource
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.process.jobs.conftest import (
    PATIENCE_S,
    TASKS,
    Running,
    SupervisorProcess,
    lines,
    until,
)
from tests.process.warm import Interpreter

from allcores.cli.serve import SupervisorKeeper
from allcores.jobs import JobStore, Queue, State, Supervisor
from allcores.jobs.duty import Duty
from allcores.jobs.errors import StoreAway, StoreBusy, StoreError, StoreFull, StoreGone
from allcores.jobs.model import Job


def limit_files(pid: int, size: int) -> None:
    """No file that this process writes to may be larger, as if the disk were full."""
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size < 0 else size, hard))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process are set")
def test_what_ends_while_the_disk_is_full_is_written_when_there_is_room(
    queue: Queue, supervise: Callable[..., SupervisorProcess], tmp_path: Path
) -> None:
    supervisor = supervise()
    held = queue.submit("hold", {"path": str(tmp_path / "t")})
    until(lambda: lines(tmp_path / "t.pids"), "the job")
    limit_files(supervisor.program.pid, 4_096)
    with pytest.raises(StoreFull, match="no room"):
        queue.submit("add", {"a": 1})
    (tmp_path / "t").touch()
    assert queue.get(held.id) is not None and queue.store.counts().by_state[State.RUNNING] == 1, "reading works"
    limit_files(supervisor.program.pid, -1)
    assert queue.result(held.id, PATIENCE_S) == "held"
    assert queue.result(queue.submit("add", {"a": 1}).id, PATIENCE_S) == 2


def test_a_supervisor_that_begins_on_a_full_disk_waits_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full, real = threading.Event(), JobStore.recover
    full.set()
    tries: list[int] = []

    def recover(store: JobStore, **options: Any) -> list[Job]:
        tries.append(1)
        if full.is_set():
            raise StoreFull("there is no room for the store")
        return real(store, **options)

    monkeypatch.setattr(JobStore, "recover", recover)
    with caplog.at_level(logging.WARNING), Running(tmp_path) as running:
        job = running.queue.submit("add", {"a": 1})
        until(lambda: len(tries) > 1, "another try")
        full.clear()
        assert running.queue.result(job.id, PATIENCE_S) == 2
    assert [each.message for each in caplog.records] == ["there is no room for the store"], "told once"


def test_a_supervisor_that_waits_for_room_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def recover(store: JobStore, **options: Any) -> list[Job]:
        tries.append(1)
        raise StoreFull("there is no room for the store")

    monkeypatch.setattr(JobStore, "recover", recover)
    with Running(tmp_path):
        until(lambda: tries, "a try")


def test_a_store_that_is_moved_away_leaves_room_for_its_return(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """File and folder, while a job with files of its own works: nothing is made in their place."""
    place = tmp_path / "place"
    place.mkdir(mode=0o700)
    with caplog.at_level(logging.WARNING, "allcores.jobs"), Running(place) as running:
        path = str(tmp_path / "t")
        plain = running.queue.submit("hold", {"path": path})
        with_files = running.queue.submit("writes_files", {"path": path})
        until(lambda: len(lines(f"{path}.pids")) == 2, "the jobs")
        os.rename(place, tmp_path / "away")
        with pytest.raises(StoreGone, match="removed"):
            running.queue.submit("add", {"a": 1})
        until(lambda: [each for each in caplog.records if "was removed" in each.message], "the trouble")
        (tmp_path / "t").touch()
        until(lambda: lines(f"{path}.tried"), "files that are written to the store")
        assert not place.exists()
        os.rename(tmp_path / "away", place)
        assert running.queue.result(plain.id, PATIENCE_S) == "held"
        assert running.queue.wait(with_files.id, PATIENCE_S).state in (State.SUCCEEDED, State.FAILED)
        assert running.queue.result(running.queue.submit("add", {"a": 1}).id, PATIENCE_S) == 2
    told = [each.message for each in caplog.records if "was removed" in each.message]
    assert len(told) <= 2, "not with each look"


def test_nothing_is_claimed_while_others_cannot_see_who_is_the_supervisor(tmp_path: Path) -> None:
    """Its folder is away: another process could become one."""
    with Running(tmp_path) as running:
        assert running.run("add", {"a": 1}).result == 2
        folder = running.store.folder
        os.rename(folder, tmp_path / "away")
        with pytest.raises(StoreGone, match="was moved or removed: put it back"):
            running.store.claim(1, ["add"])
        job = running.queue.submit("add", {"a": 2})
        os.rename(tmp_path / "away", folder)
        assert running.queue.result(job.id, PATIENCE_S) == 3


def test_a_supervisor_ends_when_its_lock_was_replaced(tmp_path: Path, warm_jobs: Interpreter) -> None:
    """Two never claim jobs of one store, whatever was done to its folder."""
    store = JobStore.open(tmp_path / "jobs.sqlite")
    ended: list[BaseException] = []

    def run() -> None:
        try:
            Supervisor(store, TASKS, workers=1).run()
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    with Queue(store, tasks=TASKS) as queue:
        assert queue.result(queue.submit("add", {"a": 0}).id, PATIENCE_S) == 1
    shutil.rmtree(store.folder)
    with Queue(tmp_path / "jobs.sqlite", tasks=TASKS) as queue:
        made = warm_jobs.begin(None, "work", TASKS, "--store", str(tmp_path / "jobs.sqlite"), folder=tmp_path)
        try:
            assert queue.result(queue.submit("add", {"a": 1}).id, PATIENCE_S) == 2
            thread.join(PATIENCE_S)
            assert [type(each) for each in ended] == [StoreError] and "was replaced" in str(ended[0])
        finally:
            made.send_signal(signal.SIGTERM)
            made.wait()
    store.close()


def test_of_several_that_begin_in_one_moment_one_is_the_supervisor(
    queue: Queue, tmp_path: Path, warm_jobs: Interpreter
) -> None:
    """The others say who it is, and end; each job runs once."""
    path = str(tmp_path / "ran")
    jobs = [queue.submit("noted", {"path": path, "n": n}) for n in range(20)]
    words = "work", TASKS, "--workers", "1", "--store", str(tmp_path / "jobs.sqlite")
    with contextlib.ExitStack() as stack:
        logs = [stack.enter_context((tmp_path / f"log-{n}").open("w+")) for n in range(4)]
        made = [warm_jobs.begin(None, *words, folder=tmp_path, stderr=each.fileno()) for each in logs]
        try:
            until(lambda: sum(each.poll() is not None for each in made) == 3, "the end of the others")
            (one,) = (each for each in made if each.poll() is None)
            for each, log in zip(made, logs, strict=True):
                if each is not one:
                    assert each.wait() == 6
                    # The one may have the lock, and not yet have written down its number.
                    said = Path(log.name).read_text()
                    assert re.search(rf"(another process|process {one.pid}) is the supervisor of the store", said), said
            for job in jobs:
                assert queue.wait(job.id, PATIENCE_S).state == State.SUCCEEDED
        finally:
            for each in made:
                each.send_signal(signal.SIGTERM)
                each.wait()
    assert sorted(map(int, lines(path))) == list(range(20))


@pytest.mark.parametrize("task", ["result_without_room", "result_without_room_with_job"])
def test_a_result_that_cannot_be_kept_is_no_mistake_of_the_task(running: Running, task: str) -> None:
    """It says so, and what is to be done; a retry is all that it takes."""
    job = running.run(task, {"folder": str(running.store.folder)})
    assert (job.state, job.error and job.error.type) == ("failed", "allcores.jobs.errors.ResultNotKept")
    assert job.error is not None and "the task returned, and its result cannot be kept" in job.error.message
    assert "retry the job" in job.error.message
    os.unlink(running.store.folder / "results" / job.id)
    running.queue.retry(job.id)
    assert running.queue.wait(job.id, PATIENCE_S).state == State.SUCCEEDED


def test_a_supervisor_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """The console lives on, and says why."""
    told: list[str] = []
    keeper = SupervisorKeeper([str(tmp_path / "no-python")], told.append, 1.0)
    keeper.start()
    until(lambda: len(told) > 1, "another try")
    keeper.close()
    assert told[0].startswith("the supervisor cannot be started (No such file or directory): the next try is in")


def test_a_keeper_that_a_signal_ends_before_it_has_begun(tmp_path: Path) -> None:
    SupervisorKeeper([str(tmp_path / "no-python")], lambda _: None, 1.0).close()


@pytest.mark.parametrize("task", ["hold", "hold_with_job"])
def test_the_process_of_a_job_is_told_once_the_store_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    """Or the death of the supervisor would not count, and a job that brings it about would never be quarantined."""
    full, real = threading.Event(), JobStore.report_workers
    full.set()
    refused: list[int] = []

    def report(store: JobStore, workers: Any) -> list[bool]:
        if full.is_set():
            refused.append(1)
            raise StoreFull("there is no room for the store")
        return real(store, workers)

    monkeypatch.setattr(JobStore, "report_workers", report)
    with Running(tmp_path) as running:
        job = running.queue.submit(task, {"path": str(tmp_path / "t")})
        until(lambda: refused, "a report")
        full.clear()
        until(
            lambda: (found := running.queue.get(job.id)) and found.worker is not None and found.worker.pid,
            "its process",
        )
        (tmp_path / "t").touch()
        assert running.queue.wait(job.id, PATIENCE_S).state == State.SUCCEEDED


@pytest.mark.parametrize("error", [StoreAway("no connection"), StoreBusy("locked")])
@pytest.mark.parametrize("method", ["look", "report_workers"])
def test_who_has_waited_for_the_store_in_vain_does_not_wait_for_it_for_each_duty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, error: StoreError
) -> None:
    """Each wait may take ten seconds, by which deadlines, cancels and jobs that ask for cores would be late."""
    done: list[str] = []
    real, away = getattr(JobStore, method), threading.Event()

    def asked(store: JobStore, *args: Any) -> Any:
        if away.is_set():
            done.append("asked")
            raise error
        return real(store, *args)

    class Noted(Duty):
        def look(self, wall: float, *, stopping: bool) -> bool:
            done.append("seen to")
            return True

    monkeypatch.setattr(JobStore, method, asked)
    running = Running(tmp_path)
    running.supervisor.duties = [Noted()]
    with running:
        until(lambda: done, "a look at the duty")
        away.set()
        job = running.queue.submit("hold", {"path": str(tmp_path / "t")})
        until(lambda: done.count("asked") >= 3, "a few tries")
        away.clear()
        (tmp_path / "t").touch()
        assert running.queue.result(job.id, PATIENCE_S) == "held"
    tries = [number for number, each in enumerate(done) if each == "asked"]
    assert "seen to" not in done[tries[0] : tries[-1]]
