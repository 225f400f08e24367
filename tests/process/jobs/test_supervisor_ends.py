"""Supervisors that are killed, stopped, drained, doubled, and whose commits are not known to have worked."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.process.jobs.conftest import PATIENCE_S, TASKS, Running, lines, until
from tests.process.warm import Interpreter

from allcores import failpoints
from allcores.adapters.job_messages import JobWorker
from allcores.errors import UsageError
from allcores.jobs import AlreadySupervised, JobStore, Queue, Supervisor, health
from allcores.jobs.claims import Choose
from allcores.jobs.ends import End
from allcores.jobs.errors import StoreError
from allcores.jobs.model import Claim
from allcores.jobs.pool_side import PoolSide, is_alive
from allcores.jobs.store import Exchanged


def test_kill_9_loses_no_job_and_leaves_no_process(queue: Queue, supervise: Any, tmp_path: Path) -> None:
    supervisor = supervise()
    held = queue.submit("hold", {"path": str(tmp_path / "t")})
    others = [queue.submit("add", {"a": n}) for n in range(30)]
    (pid,) = until(lambda: lines(tmp_path / "t.pids"))
    supervisor.kill()
    until(lambda: not is_alive(int(pid)), "the end of the worker")
    supervise()
    (tmp_path / "t").touch()
    assert queue.wait(held.id, PATIENCE_S).result == "held"
    for n, each in enumerate(others):
        assert queue.wait(each.id, PATIENCE_S).result == n + 1
    assert len(lines(tmp_path / "t.pids")) == 2


@pytest.mark.parametrize("task", ["ends_supervisor", "ends_supervisor_with_job"])
def test_a_job_that_ends_its_supervisor_at_once_is_set_aside(
    queue: Queue, supervise: Any, tmp_path: Path, task: str
) -> None:
    """Once before it counts; and the jobs that were claimed with it are not taken for it."""
    arguments = {"folder": str(queue.store.folder), "path": str(tmp_path / "t")}
    before = [queue.submit("add", {"a": n}) for n in range(3)]
    at_fault = queue.submit(task, arguments)
    behind = [queue.submit("add", {"a": n}) for n in range(3, 20)]
    for _ in range(4):
        supervise(point="untold").close()
    supervise()
    for n, each in enumerate(before + behind):
        done = queue.wait(each.id, PATIENCE_S)
        assert (done.result, done.crashes) == (n + 1, 0)
    found = queue.wait(at_fault.id, PATIENCE_S)
    assert (found.state, found.crashes) == ("quarantined", 3)
    assert len(lines(tmp_path / "t")) == 4


def test_a_supervisor_is_alone(queue: Queue, supervise: Any, tmp_path: Path) -> None:
    supervisor = supervise()
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        with pytest.raises(AlreadySupervised) as caught:
            Supervisor(store, TASKS).run()
    assert caught.value.pid == supervisor.program.pid


def test_an_interrupt_amid_its_end_leaves_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C: a program that goes on after it may have another supervisor."""
    closed = PoolSide.close

    def interrupted(side: PoolSide) -> None:
        closed(side)
        raise KeyboardInterrupt

    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        supervisor = Supervisor(store, TASKS, workers=1)
        supervisor.stop()
        monkeypatch.setattr(PoolSide, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            supervisor.run()
        told = health.read(store.folder)
        assert told is not None and told.state == "ended"
        store.become_supervisor().release()


def test_jobs_of_a_task_that_is_not_known_wait_and_that_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Running(tmp_path) as running:
        for _ in range(3):
            running.store.submit("ad", {"a": 1})
            assert running.run("add", {"a": 1}).result == 2
    told = [record.getMessage() for record in caplog.records if "not known here" in record.getMessage()]
    assert told == ["jobs wait for a task that is not known here: 'ad': did you mean 'add'?"]


@pytest.mark.parametrize("grace", [float("nan"), -1.0, "10", True, None])
def test_a_grace_that_makes_no_sense_is_refused(tmp_path: Path, grace: Any) -> None:
    """Before anything is begun: a supervisor with NaN would end the jobs that run never, or at once."""
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        with pytest.raises(UsageError, match=f"grace={grace!r}"):
            Supervisor(store, TASKS, grace=grace)
        with pytest.raises(UsageError, match=f"boot_s={grace!r}"):
            Supervisor(store, TASKS, boot_s=grace)
    with pytest.raises(UsageError, match=f"grace={grace!r}"):
        JobWorker(tmp_path / "jobs.sqlite", TASKS, lambda: pytest.fail("no messages"), grace=grace)


def test_a_stopped_supervisor_goes_on(queue: Queue, supervise: Any, tmp_path: Path) -> None:
    """Nobody takes its jobs, and none of them runs twice."""
    supervisor = supervise()
    job = queue.submit("hold", {"path": str(tmp_path / "t")})
    until(lambda: lines(tmp_path / "t.pids"))
    supervisor.stop()
    (tmp_path / "t").touch()
    waiting = queue.submit("add", {"a": 1})
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        with pytest.raises(AlreadySupervised):
            Supervisor(store, TASKS).run()
    until(lambda: (told := health.read(queue.store.folder)) is not None and not told.is_current, "a report that is old")
    supervisor.program.send_signal(signal.SIGCONT)
    assert queue.wait(job.id, PATIENCE_S).result == "held"
    assert queue.wait(waiting.id, PATIENCE_S).result == 2
    assert len(lines(tmp_path / "t.pids")) == 1


@pytest.mark.parametrize("task", ["hold", "hold_with_job"])
def test_sigterm_lets_jobs_end(queue: Queue, supervise: Any, tmp_path: Path, task: str) -> None:
    supervisor = supervise(grace=PATIENCE_S)
    job = queue.submit(task, {"path": str(tmp_path / "t")})
    until(lambda: len(lines(tmp_path / "t.pids")) >= (1 if task == "hold" else 4))
    supervisor.terminate()
    until(lambda: (told := health.read(queue.store.folder)) is not None and told.state == "draining")
    late = queue.submit("add", {"a": 1})
    (tmp_path / "t").touch()
    assert supervisor.close() == 0
    found = queue.get(job.id)
    assert found is not None and found.state == "succeeded"
    left = queue.get(late.id)
    assert left is not None and left.state == "queued"


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("task", ["stubborn", "hold_with_job"])
def test_what_does_not_end_in_time_is_queued_again(
    queue: Queue, supervise: Any, tmp_path: Path, task: str, twice: bool
) -> None:
    """And no attempt is charged for it."""
    supervisor = supervise(grace=PATIENCE_S if twice else 0.2)
    job = queue.submit(task, {"path": str(tmp_path / "t")})
    pids = until(lambda: len(found := lines(tmp_path / "t.pids")) >= (1 if task == "stubborn" else 4) and found)
    supervisor.terminate()
    if twice:
        until(lambda: (told := health.read(queue.store.folder)) is not None and told.state == "draining")
        supervisor.terminate()
    assert supervisor.close() == 0
    assert [pid for pid in pids if is_alive(int(pid))] == []
    found = queue.get(job.id)
    assert found is not None and (found.state, found.attempts, found.crashes) == ("queued", 0, 0)


def test_a_run_that_is_drained_goes_on_later(queue: Queue, supervise: Any, tmp_path: Path) -> None:
    path = tmp_path / "items"
    supervisor = supervise(grace=PATIENCE_S)
    job = queue.submit("run_items", {"path": str(path), "count": 600, "slow": True})
    until(lambda: len(lines(path)) >= 100)
    supervisor.terminate()
    assert supervisor.close() == 0
    found = queue.get(job.id)
    assert found is not None and (found.state, found.attempts, found.crashes) == ("queued", 0, 0)
    supervise()
    assert queue.wait(job.id, PATIENCE_S).result["ok"] == 600
    assert len(lines(path)) == 600


def test_a_commit_that_is_not_known_to_have_worked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An end is written again, which changes nothing; a claim that nobody has is given back, and costs no attempt."""
    kept = JobStore.exchange
    told: list[tuple[str, list[bool]]] = []

    def unsure(store: JobStore, finished: list[End], releases: list[Claim], choose: Choose | None) -> Exchanged:
        done = kept(store, finished, releases, choose)
        kinds = ["end" for _ in finished[:1]] + ["claim" for _ in done.claims[:1]]
        told.extend((kind, done.held) for kind in kinds)
        if kinds and [kind for kind, _ in told].count(kinds[0]) == 1:
            raise StoreError("the connection broke in that moment")
        return done

    monkeypatch.setattr(JobStore, "exchange", unsure)
    # The next attempt is claimed by another exchange than the one that has the end of the first, however slow that is.
    monkeypatch.setattr("allcores.jobs.decisions.AFTER_CRASH_S", 3.0)
    with Running(tmp_path) as running:
        job = running.run("die_once", {"path": str(tmp_path / "t")})
        # The end of the first attempt is written twice, and that of the second.
        until(lambda: [held for kind, held in told if kind == "end"][2:] == [[True]])
        # Claimed in vain, then once for each of its two attempts, of which the first one died.
        assert [kind for kind, _ in told].count("claim") == 3
        assert (job.state, job.attempts, job.crashes) == ("succeeded", 1, 1)
        assert len(lines(tmp_path / "t")) == 2
        assert [each.crashed for each in running.store.attempts(job.id)] == [True]


def test_a_claim_that_was_committed_by_an_unsure_try(tmp_path: Path) -> None:
    """A commit of several that raises is tried again one by one, though it may have worked."""
    path = str(tmp_path / "t")
    tripped: list[str] = []

    def trip(at: str) -> None:
        if at != "jobs.commit.after" or tripped:
            return
        with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as db:
            states = dict(db.execute("SELECT state, count(*) FROM allcores_jobs GROUP BY state"))
        if states.get("succeeded") and states.get("running"):
            tripped.append(at)
            raise StoreError("the connection broke in that moment")

    with Running(tmp_path, workers=1) as running:
        running.queue.submit("hold", {"path": path})
        until(lambda: lines(f"{path}.pids"))
        second = running.queue.submit("echo", {"value": 1})
        failpoints.install(trip)
        try:
            Path(path).touch()
            job = running.queue.wait(second.id, PATIENCE_S)
        finally:
            failpoints.install(None)
        assert tripped and (job.state, job.result, job.attempts, job.crashes) == ("succeeded", 1, 1, 0)


def test_a_lost_claim_writes_nothing(tmp_path: Path) -> None:
    """Another attempt has the job when this one ends: its end is thrown away, and counted."""
    with Running(tmp_path) as running:
        job = running.queue.submit("hold", {"path": str(tmp_path / "t")})
        until(lambda: lines(tmp_path / "t.pids"))
        from sqlalchemy import create_engine, text

        engine = create_engine(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
        with engine.begin() as connection:
            connection.execute(text("UPDATE allcores_jobs SET token = 'of another', attempt = attempt + 1"))
        engine.dispose()
        (tmp_path / "t").touch()
        until(lambda: (told := health.read(running.store.folder)) is not None and told.lost_claims == 1)
        found = running.store.get(job.id)
        assert found is not None and found.state == "running" and found.result is None


#: `python -m allcores`, where what was to be done on SIGHUP is not that of whoever runs the tests
PROGRAM = """
import signal, sys

signal.signal(signal.SIGHUP, signal.{})
from allcores.cli.main import main

sys.exit(main())
"""


@pytest.mark.parametrize("ignored", [False, True], ids=["", "nohup"])
def test_a_terminal_that_is_closed_costs_jobs_no_crash(
    queue: Any, tmp_path: Path, warm_jobs: Interpreter, ignored: bool
) -> None:
    """Three would put them into quarantine: it ends as by SIGTERM; under `nohup` it goes on."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format("SIG_IGN" if ignored else "SIG_DFL"))
    job = queue.submit("hold", {"path": str(tmp_path / "t")})
    words = "work", TASKS, "--workers", "1", "--grace", "0", "--store", str(tmp_path / "jobs.sqlite")
    with (tmp_path / "log").open("wb") as log:
        made = warm_jobs.begin(program, *words, folder=tmp_path, stderr=log.fileno())
    try:
        until(lambda: lines(tmp_path / "t.pids"))
        made.send_signal(signal.SIGHUP)
        if ignored:
            made.send_signal(signal.SIGTERM)
        assert made.wait() == (143 if ignored else 129), (tmp_path / "log").read_text()
    finally:
        made.kill()
    found = queue.get(job.id)
    assert found is not None and (found.state, found.attempts, found.crashes) == ("queued", 0, 0)
