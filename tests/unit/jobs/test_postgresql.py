"""What only a store in PostgreSQL meets: sessions that end, locks of others, supervisors on several machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from tests.process.jobs.postgresql import Server

from allcores.jobs import Registry, commit_socket, supervisor_lock, task
from allcores.jobs.database import WRITE_LOCK, Database
from allcores.jobs.duties import ScheduleDuty
from allcores.jobs.errors import AlreadySupervised, NoStore, StoreAway, StoreBusy, StoreError, StoreGone
from allcores.jobs.store import JobStore
from allcores.jobs.tasks import task_of


@pytest.fixture
def url(postgresql_server: Server) -> str:
    return postgresql_server.new_database()


def test_sessions_that_the_server_ended_are_opened_again(postgresql_server: Server, url: str) -> None:
    with JobStore.open(url) as store:
        job = store.submit("f", {}).job
        postgresql_server.end_sessions(url)
        assert store.get(job.id) == job
        postgresql_server.end_sessions(url)
        assert store.submit("f", {}).job.seq == 2


def test_a_database_without_a_store_is_left_as_it_is(url: str) -> None:
    """By who only reads; the name of a database may be mistyped, too."""
    with pytest.raises(NoStore, match=r"no store of jobs at postgresql"):
        JobStore.open(url, create=False)
    with pytest.raises(NoStore):
        JobStore.open(url, create=False)
    with JobStore.open(url) as store, JobStore.open(url, create=False) as other:
        assert other.identity == store.identity


def test_a_supervisor_whose_session_ended_claims_nothing(postgresql_server: Server, url: str) -> None:
    with JobStore.open(url) as store:
        lock = store.become_supervisor()
        store.submit("f", {})
        assert lock.held
        postgresql_server.end_sessions(url)
        assert not lock.held
        with pytest.raises(StoreError, match="has ended the session") as caught:
            store.claim(1, ["f"])
        assert "become_supervisor" not in str(caught.value), "a supervisor logs it, and takes the lock again by itself"
        assert caught.value.__notes__ == ["Call become_supervisor() again to go on."]
        with store.become_supervisor() as again:
            assert len(store.claim(1, ["f"])) == 1
            with pytest.raises(AlreadySupervised, match="this process is the supervisor"):
                store.become_supervisor()
            # Whoever has the one that was lost does not have this one.
            assert not lock.held and "was given back" in str(lock.loss())
            lock.release()
            assert again.held and commit_socket.is_there(str(store.folder))


@pytest.mark.parametrize("how", ["regain", "become_supervisor"])
def test_a_lock_that_was_given_to_a_session_whose_connection_broke_is_had_again(
    postgresql_server: Server, url: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Its answer was lost, and the server does not know yet: nobody else is the supervisor."""
    broken: list[Connection] = []

    def commit(connection: Connection) -> None:
        broken.append(connection)
        raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))

    with JobStore.open(url) as store:
        lock = store.become_supervisor()
        postgresql_server.end_sessions(url)
        assert not lock.held
        with monkeypatch.context() as cut:
            cut.setattr("sqlalchemy.Connection.commit", commit)
            cut.setattr("sqlalchemy.Connection.close", lambda connection: None)
            with pytest.raises(StoreAway):
                lock.regain()
        if how == "regain":
            lock.regain()
        else:
            lock = store.become_supervisor()
        assert lock.held
        lock.release()
        for each in broken:
            each.invalidate()
            each.close()


def test_a_late_attempt_for_a_lock_that_was_given_back_ends_no_other(
    postgresql_server: Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a connection while its supervisor ends and another one of this process begins."""
    with JobStore.open(url) as store:
        first = store.become_supervisor()
        postgresql_server.end_sessions(url)
        assert not first.held
        connect = Database.session
        others: list[Any] = []

        def late(database: Database) -> Connection:
            connection = connect(database)
            if not others:
                others.append(None)
                first.release()
                others[0] = store.become_supervisor()
            return connection

        monkeypatch.setattr(Database, "session", late)
        with pytest.raises(StoreError, match="was given back"):
            first.regain()
        (second,) = others
        assert second.held
        second.release()


def test_supervisors_on_two_machines_do_not_meet(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = []
    for machine in ("one", "two"):
        monkeypatch.setenv("ALLCORES_HOME", str(tmp_path / machine))
        stores.append(JobStore.open(url))
    monkeypatch.setattr("allcores.jobs.store.SESSION_ENDS_S", 0.1)
    first, second = stores
    assert first.folder != second.folder and first.identity == second.identity
    with first, second, first.become_supervisor():
        with pytest.raises(AlreadySupervised, match="another machine"):
            second.become_supervisor()
        assert second.submit("f", {}).job.seq == 1


def test_a_session_that_is_about_to_end_is_waited_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server notices a little later that a supervisor, which was killed here just now, is gone."""
    import psycopg

    waited: list[float] = []
    with JobStore.open(url) as store, psycopg.connect(url, autocommit=True) as former:
        former.execute(f"SELECT pg_advisory_lock({supervisor_lock.SESSION_LOCK})")

        def look_again(seconds: float) -> None:
            waited.append(seconds)
            former.execute(f"SELECT pg_advisory_unlock({supervisor_lock.SESSION_LOCK})")

        monkeypatch.setattr("allcores.jobs.session_lock.sleep", look_again)
        with store.become_supervisor() as lock:
            assert lock.held
    assert len(waited) == 1


def test_the_end_of_a_lock_is_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when the server has ended the session."""
    import psycopg

    with JobStore.open(url) as store, psycopg.connect(url, autocommit=True) as other:
        lock = store.become_supervisor()
        monkeypatch.setattr("sqlalchemy.Connection.close", lambda connection: None)
        lock.release()
        taken = other.execute(f"SELECT pg_try_advisory_lock({supervisor_lock.SESSION_LOCK})").fetchone()
        monkeypatch.undo()
        assert lock._session is not None
        lock._session.close()
    assert taken == (True,)


def test_a_lock_that_is_held_for_long_is_told(url: str) -> None:
    import psycopg

    with JobStore.open(url, busy_s=0.2) as store, psycopg.connect(url) as other:
        other.execute(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
        with pytest.raises(StoreBusy, match="try again"):
            store.submit("f", {})
        assert store.counts().total == 0, "reading goes on"
        other.rollback()
        store.submit("f", {})


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreGone, match="cannot be reached"):
        JobStore.open(f"postgresql://anna:secret@/jobs?host={tmp_path}")


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(StoreGone) as caught:
        JobStore.open(f"postgresql://anna:secret@/jobs?host={tmp_path}")
    assert "secret" not in str(caught.value)


@task(schedule="* * * * *", timezone="UTC")
def minutely() -> None: ...


def test_a_supervisor_on_another_machine_makes_up_for_times_of_schedules(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has another folder: until when times were looked at is in the store."""
    found = task_of(minutely)
    assert found is not None
    start = 1_800_000_000.0
    for machine, wall in (("one", start - 1), ("two", start + 20)):
        monkeypatch.setenv("ALLCORES_HOME", str(tmp_path / machine))
        with JobStore.open(url) as store:
            ScheduleDuty(store, Registry([found])).look(wall, stopping=False)
            keys = [job.key for job in store.page().jobs]
    assert keys == [f"schedule:minutely:{int(start)}"]
