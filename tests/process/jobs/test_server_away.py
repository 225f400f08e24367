"""A supervisor whose store is in PostgreSQL, and whose server restarts, crashes or is away for a while."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.process.jobs import postgresql
from tests.process.jobs.conftest import PATIENCE_S, TASKS, Running, lines, until

from allcores.jobs import (
    AlreadySupervised,
    JobStore,
    Queue,
    State,
    Supervisor,
    answers,
    health,
    holding,
    supervisor_lock,
)
from allcores.jobs.errors import StoreAway
from allcores.jobs.shared_store import SharedStore
from allcores.jobs.supervisor_lock import SupervisorLock


@pytest.fixture(scope="module")
def a_server() -> Iterator[postgresql.Server]:
    if (reason := postgresql.why_not()) is not None:
        pytest.skip(reason)
    with postgresql.server() as made:
        yield made


@pytest.fixture
def server(a_server: postgresql.Server) -> Iterator[postgresql.Server]:
    """It runs before and after the test."""
    yield a_server
    a_server.start_again()


@pytest.fixture
def url(server: postgresql.Server) -> str:
    return server.new_database()


class Ending:
    """A supervisor in a thread that is to end by itself."""

    def __init__(self, url: str) -> None:
        self.store = JobStore.open(url)
        self.supervisor = Supervisor(self.store, TASKS, workers=1)
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.supervisor.run()
        except BaseException as error:
            self._errors.append(error)

    def error(self) -> BaseException:
        """Why it has ended."""
        self._thread.join(PATIENCE_S)
        self.store.close()
        (found,) = self._errors
        return found


def away(running: Running) -> None:
    """Wait until it is seen that the server is away."""
    folder = running.store.folder
    until(lambda: (told := health.read(folder)) is not None and told.state == "store trouble", "the trouble")


@pytest.mark.parametrize("how", ["fast", "immediate"])
@pytest.mark.parametrize("task", ["hold", "hold_with_job"])
def test_a_server_that_restarts_costs_a_job_nothing(
    server: postgresql.Server, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, task: str, how: str
) -> None:
    """It runs on, ends while the server is away, and is written once that is back: told once, and once that it is."""
    expected = 1 if task == "hold" else 4
    with caplog.at_level(logging.INFO, "allcores.jobs"), Running(tmp_path, url) as running:
        job = running.queue.submit(task, {"path": str(tmp_path / "t")})
        until(lambda: len(lines(tmp_path / "t.pids")) == expected, "the job")
        server.stop(how)
        away(running)
        (tmp_path / "t").touch()
        server.start()
        found = running.queue.wait(job.id, PATIENCE_S)
        assert (found.state, found.attempts, found.crashes) == (State.SUCCEEDED, 1, 0)
        assert len(lines(tmp_path / "t.pids")) == expected
        assert running.queue.result(running.queue.submit("add", {"a": 1}).id, PATIENCE_S) == 2
    told = [each.message for each in caplog.records if "store" in each.message]
    assert len(told) == 2, told
    assert "cannot be reached" in told[0] and "what runs goes on" in told[0]
    assert "can be used again" in told[1]


@pytest.mark.parametrize("task", ["hold", "hold_with_job"])
def test_a_server_that_is_frozen_is_away(
    server: postgresql.Server,
    url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
) -> None:
    """Its kernel says that all is well, so another connection tells. What runs goes on, and ends once it is back."""
    monkeypatch.setattr(answers, "LATE_S", 0.2)
    monkeypatch.setattr(answers, "CONNECT_S", 2)
    with caplog.at_level(logging.INFO, "allcores.jobs"), Running(tmp_path, url) as running:
        job = running.queue.submit(task, {"path": str(tmp_path / "t")})
        until(lambda: lines(tmp_path / "t.pids"), "the job")
        server.send(signal.SIGSTOP)
        try:
            away(running)
            (tmp_path / "t").touch()
        finally:
            server.send(signal.SIGCONT)
        found = running.queue.wait(job.id, PATIENCE_S)
        assert (found.state, found.attempts, found.crashes) == (State.SUCCEEDED, 1, 0)


def test_a_supervisor_whose_server_is_frozen_can_be_ended(
    server: postgresql.Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "LATE_S", 0.2)
    monkeypatch.setattr(answers, "CONNECT_S", 2)
    store = JobStore.open(url)
    supervisor = Supervisor(store, TASKS, workers=1)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        until(lambda: health.read(store.folder), "the supervisor")
        server.send(signal.SIGSTOP)
        supervisor.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    finally:
        server.send(signal.SIGCONT)
        thread.join(PATIENCE_S)
        store.close()


def test_a_statement_that_takes_long_is_waited_for(
    server: postgresql.Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server takes another connection meanwhile: it is at work."""
    monkeypatch.setattr(answers, "LATE_S", 0.05)
    store = JobStore.open(url)
    with store.reading() as connection:
        assert connection.exec_driver_sql("SELECT 7 FROM pg_sleep(0.7)").scalar() == 7
    store.close()


def test_a_server_that_restarts_costs_one_of_several_supervisors_nothing(
    server: postgresql.Server, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It asks in another thread until the server is back: told once, and once that it is."""
    asked: list[threading.Thread] = []
    store = SharedStore.open(url)
    supervisor = Supervisor(store, TASKS, workers=1)
    supervisor.duties = []
    real = store.change_number

    def change_number() -> int:
        asked.append(threading.current_thread())
        return real()

    store.change_number = change_number  # type: ignore[method-assign]
    with caplog.at_level(logging.INFO, "allcores.jobs"), Queue(url, tasks=TASKS) as queue:
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        try:
            job = queue.submit("hold", {"path": str(tmp_path / "t")})
            store.deliver(job.id)
            until(lambda: lines(tmp_path / "t.pids"), "the job")
            server.stop()
            until(lambda: asked, "a try")
            (tmp_path / "t").touch()
            server.start()
            found = queue.wait(job.id, PATIENCE_S)
            assert (found.state, found.attempts, found.crashes) == (State.SUCCEEDED, 1, 0)
            until(lambda: "can be used again" in caplog.text, "that it is told")
        finally:
            supervisor.stop(now=True)
            thread.join()
            store.close()
    assert thread not in asked
    assert len([each for each in caplog.records if "store" in each.message]) == 2, caplog.text


def test_a_session_that_is_ended_costs_nothing(server: postgresql.Server, url: str, tmp_path: Path) -> None:
    with Running(tmp_path, url) as running:
        job = running.queue.submit("hold", {"path": str(tmp_path / "t")})
        until(lambda: lines(tmp_path / "t.pids"), "the job")
        server.end_sessions(url)
        (tmp_path / "t").touch()
        found = until(lambda: (now := read(url, job.id)).state == State.SUCCEEDED and now, "its end")
        assert (found.attempts, found.crashes) == (1, 0)


def read(url: str, id: str):  # type: ignore[no-untyped-def]
    with JobStore.open(url) as store:
        found = store.get(id)
    assert found is not None
    return found


def elsewhere(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """From now on stores have their folders as on another machine."""
    monkeypatch.setenv("ALLCORES_HOME", str(folder))


def test_a_job_that_another_supervisor_has_taken_meanwhile_is_ended_here(
    server: postgresql.Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came and went: what it queued again runs again, and nothing of it runs twice at a time."""
    may, real = threading.Event(), SupervisorLock.regain
    asked = threading.Event()

    def regain(lock: SupervisorLock) -> None:
        asked.set()
        may.wait(PATIENCE_S)
        real(lock)

    with Running(tmp_path, url) as running:
        job = running.queue.submit("hold", {"path": str(tmp_path / "t")})
        until(lambda: lines(tmp_path / "t.pids"), "the job")
        until(lambda: (worker := read(url, job.id).worker) and worker.pid, "that the store knows its process")
        monkeypatch.setattr(SupervisorLock, "regain", regain)
        elsewhere(monkeypatch, tmp_path / "elsewhere")
        with JobStore.open(url) as other:
            server.end_sessions(url)
            asked.wait(PATIENCE_S)
            with other.become_supervisor():
                assert [each.id for each in other.recover()] == [job.id]
            may.set()
            until(lambda: len(lines(tmp_path / "t.pids")) == 2, "the next attempt")
            (tmp_path / "t").touch()
            found = until(lambda: (now := read(url, job.id)).state == State.SUCCEEDED and now, "its end")
        assert (found.attempts, found.crashes) == (1, 1)


def test_a_supervisor_whose_store_has_another_one_ends(
    server: postgresql.Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_lock, "SESSION_ENDS_S", 0.1)
    may, real = threading.Event(), SupervisorLock.regain

    def regain(lock: SupervisorLock) -> None:
        may.wait(PATIENCE_S)
        real(lock)

    monkeypatch.setattr(SupervisorLock, "regain", regain)
    ending = Ending(url)
    with Queue(url, tasks=TASKS) as queue:
        job = queue.submit("hold", {"path": str(tmp_path / "t")})
        until(lambda: lines(tmp_path / "t.pids"), "the job")
    elsewhere(monkeypatch, tmp_path / "elsewhere")
    with JobStore.open(url) as other:
        server.end_sessions(url)
        with until(lambda: taken(other), "the lock"):
            may.set()
            error = ending.error()
    assert isinstance(error, AlreadySupervised) and "could not reach its server" in str(error)
    assert read(url, job.id).state == State.RUNNING


def taken(store: JobStore) -> SupervisorLock | None:
    try:
        return store.become_supervisor()
    except AlreadySupervised:
        return None


def test_a_server_that_is_away_for_too_long_ends_the_supervisor(
    server: postgresql.Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "AWAY_S", 0.0)
    ending = Ending(url)
    with Queue(url, tasks=TASKS) as queue:
        assert queue.result(queue.submit("add", {"a": 1}).id, PATIENCE_S) == 2
    server.stop()
    error = ending.error()
    assert isinstance(error, StoreAway) and "was away for" in str(error)


def test_a_supervisor_can_be_ended_while_the_server_is_away(
    server: postgresql.Server,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What could not be written is told."""
    monkeypatch.setattr("allcores.jobs.supervisor.LAST_S", 0.1)
    with caplog.at_level(logging.WARNING, "allcores.jobs"):
        with Running(tmp_path, url) as running:
            running.queue.submit("hold", {"path": str(tmp_path / "t")})
            until(lambda: lines(tmp_path / "t.pids"), "the job")
            server.stop()
            away(running)
    assert [each.message for each in caplog.records if "could not be written" in each.message] != []
