"""A store of jobs among real faults: kills, power cuts, full disks, other programs, files that are not there."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import select
import selectors
import shutil
import signal
import socket
import sqlite3
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.process.jobs import storing
from tests.process.jobs.conftest import PATIENCE_S, state, until
from tests.process.warm import Interpreter

from allcores import failpoints
from allcores.errors import UsageError
from allcores.jobs import checkpoints, commit_socket, database
from allcores.jobs.errors import (
    NoStore,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreGone,
    StoreReadOnly,
)
from allcores.jobs.model import Finished, Job, State, Submission
from allcores.jobs.store import JobStore
from allcores.jobs.submissions import prepared


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does not run meanwhile, and goes on afterwards."""
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: state(pid) == "T", "its stop")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Begun:
    """`storing`, with pipes to it and from it. To be closed; then it is ended if it still runs."""

    def __init__(self, interpreter: Interpreter, folder: Path, settings: dict[str, Any]) -> None:
        read, write = os.pipe()
        read_out, write_out = os.pipe()
        self.stdin, self.stdout = os.fdopen(write, "wb", 0), os.fdopen(read_out, "rb")
        self.log = folder / f"log-{read}"
        words = json.dumps({"store": str(folder / "jobs.sqlite"), **settings})
        with self.log.open("wb") as log:
            self.program = interpreter.begin(
                Path(storing.__file__), words, folder=folder, stdin=read, stdout=write_out, stderr=log.fileno()
            )
        for each in (read, write_out):
            os.close(each)

    def heard(self) -> Any:
        """The next thing that it says."""
        return json.loads(self.stdout.readline())

    def told(self, code: int = 0) -> list[Any]:
        """What it said was committed, once its input and it have ended."""
        self.stdin.close()
        out = self.stdout.read().decode()
        assert self.program.wait() == code, self.log.read_text()
        return said(out)

    def close(self) -> None:
        self.program.kill()
        self.program.wait()
        self.stdin.close()
        self.stdout.close()


Start = Callable[..., contextlib.AbstractContextManager[Begun]]


@pytest.fixture
def program(tmp_path: Path, warm_jobs: Interpreter) -> Start:
    """Begins it, for as long as a block lasts, on the store of the test."""
    return lambda **settings: contextlib.closing(Begun(warm_jobs, tmp_path, settings))


def said(out: str) -> list[Any]:
    return [json.loads(line) for line in out.splitlines(keepends=True) if line.endswith("\n")]


def all_jobs(store: JobStore) -> dict[str, Job]:
    jobs: dict[str, Job] = {}
    after = None
    while True:
        page = store.page(after=after, limit=1_000)
        jobs.update({job.id: job for job in page.jobs})
        if (after := page.older) is None:
            return jobs


def check_whole(path: Path) -> None:
    """The file is sound, and its counters are what count(*) says."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counted = db.execute("SELECT state, sum(n) FROM allcores_counters GROUP BY state HAVING sum(n) > 0 ORDER BY 1")
        assert (
            counted.fetchall()
            == db.execute("SELECT state, count(*) FROM allcores_jobs GROUP BY state ORDER BY 1").fetchall()
        )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore.open(tmp_path / "jobs.sqlite", busy_s=0.2) as store:
        yield store


class TestKilled:
    @pytest.mark.parametrize("passed", [1, 2, 3, 5, 8])
    @pytest.mark.parametrize("name", failpoints.JOBS)
    def test_at_any_step(self, tmp_path: Path, warm_jobs: Interpreter, name: str, passed: int) -> None:
        """What was said to be committed is there; the rest is done once, by the next one."""
        both = []
        for kill_at, code in ([name, passed], -signal.SIGKILL), (["nowhere", 0], 0):
            settings = {"store": str(tmp_path / "jobs.sqlite"), "action": "whole_life", "count": 2, "kill_at": kill_at}
            done = warm_jobs.script(Path(storing.__file__), json.dumps(settings), folder=tmp_path)
            assert done.code == code, done.err
            both += said(done.out)
        both = [tuple(each) for each in both if each[0] in ("submitted", "finished")]
        assert len(both) == len(set(both)), "nothing is committed twice"
        with JobStore.open(tmp_path / "jobs.sqlite") as store:
            jobs = all_jobs(store)
        assert {id for what, id in both if what == "submitted"} <= jobs.keys()
        for what, id in both:
            assert what == "submitted" or jobs[id].state is State.SUCCEEDED
        # the one it was at may have been submitted and not told
        assert len(jobs) in range(4, 9) and all(job.crashes <= 1 for job in jobs.values())
        assert {job.state for job in jobs.values()} <= {State.SUCCEEDED, State.QUEUED}
        check_whole(tmp_path / "jobs.sqlite")

    def test_a_supervisor_that_others_hand_their_submissions_to(
        self, tmp_path: Path, store: JobStore, program: Start
    ) -> None:
        """All that is told is there, once: by the supervisor, or without it."""
        jobs = []
        for passed in (3, 0):
            with program(action="supervise", kill_at=["jobs.commit.after", passed + 1]) as process:
                assert [process.heard(), process.heard()] == ["open", "ready"]
                jobs += [store.submit("f", {"i": i}).job for i in range(passed + 2)]
                assert process.program.wait() == -signal.SIGKILL
        assert all_jobs(store) == {job.id: job for job in jobs}
        assert store.counts().total == len(jobs) == 7
        with store.become_supervisor():
            assert len(store.claim(10, ["f"])) == 7

    def test_a_forked_child_does_not_keep_a_dead_supervisor(self, store: JobStore) -> None:
        with store.become_supervisor():
            read, write = os.pipe()
            if (pid := os.fork()) == 0:
                os.close(write)
                os.read(read, 1)
                os._exit(0)
            os.close(read)
        try:
            with JobStore.open(store.name) as other, other.become_supervisor():
                assert other.supervisor_pid() == os.getpid()
        finally:
            os.close(write)
            os.waitpid(pid, 0)


class TestCommittedAndNotTold:
    """The commit succeeds and who asked for it sees an error."""

    @pytest.fixture
    def failing(self) -> Iterator[list[str]]:
        at: list[str] = []

        def reached(name: str) -> None:
            if name in at:
                at.remove(name)
                raise OSError("the answer was lost")

        failpoints.install(reached)
        yield at
        failpoints.install(None)

    def test_a_submission_is_one_job_by_its_key(self, store: JobStore, failing: list[str]) -> None:
        failing.append("jobs.commit.after")
        with pytest.raises(OSError, match="the answer was lost"):
            store.submit("f", {}, key="k")
        assert store.submit("f", {}, key="k").replayed
        assert store.counts().total == 1

    def test_an_end_is_written_once(self, store: JobStore, failing: list[str]) -> None:
        store.submit("f", {})
        with store.become_supervisor():
            (claim,) = store.claim(1, ["f"])
            failing.append("jobs.commit.after")
            with pytest.raises(OSError):
                store.finish(claim, Finished(State.SUCCEEDED, result=1))
            assert store.finish(claim, Finished(State.FAILED)), "it has ended by this very claim"
        job = store.get(claim.job.id)
        assert job is not None and (job.state, job.result, job.attempts) == (State.SUCCEEDED, 1, 1)

    def test_what_fails_before_the_commit_changes_nothing(self, store: JobStore, failing: list[str]) -> None:
        failing.append("jobs.commit.before")
        with pytest.raises(OSError):
            store.submit("f", {})
        assert store.counts().total == 0 and store.submit("f", {}).job.seq == 1

    def test_many_together(self, store: JobStore, failing: list[str]) -> None:
        failing.append("jobs.commit.after")
        found = store.submit_many([Submission("f", {"i": i}) for i in range(5)])
        assert [each.replayed for each in found] == [False] * 5
        assert store.counts().total == 5


class TestPowerCut:
    def test_a_log_that_is_cut_off_anywhere(self, tmp_path: Path, store: JobStore) -> None:
        """Only the last transactions are missing, and the file is sound."""
        jobs = [store.submit("f", {"i": i}).job.id for i in range(30)]
        chance = random.Random(3)
        log = (tmp_path / "jobs.sqlite-wal").read_bytes()
        kept = []
        for number, length in enumerate(sorted(chance.randrange(len(log) + 1) for _ in range(12))):
            folder = tmp_path / str(number)
            folder.mkdir(mode=0o700)
            shutil.copy(tmp_path / "jobs.sqlite", folder / "jobs.sqlite")
            (folder / "jobs.sqlite-wal").write_bytes(log[:length])
            for path in folder.iterdir():
                path.chmod(0o600)
            with JobStore.open(folder / "jobs.sqlite") as cut:
                left = [job.id for job in cut.page(limit=100).jobs]
                assert left == jobs[: len(left)][::-1]
                cut.submit("f", {})
            check_whole(folder / "jobs.sqlite")
            kept.append(len(left))
        assert kept == sorted(kept) and len(set(kept)) > 3


class TestLocked:
    def test_many_processes_while_one_holds_the_lock(self, tmp_path: Path, program: Start) -> None:
        with contextlib.ExitStack() as stack:
            holder = stack.enter_context(program(action="hold"))
            assert [holder.heard(), holder.heard()] == ["open", "held"]
            others = [stack.enter_context(program(action="submit", count=25, gate=True)) for _ in range(4)]
            for each in others:
                assert each.heard() == "open"
            for each in others:
                each.stdin.write(b"go\n")
            holder.told()
            ids = [id for each in others for id in each.told()]
        with JobStore.open(tmp_path / "jobs.sqlite") as store:
            assert sorted(ids) == sorted(all_jobs(store)) and len(ids) == 100

    def test_a_lock_that_is_held_for_long_is_told(self, tmp_path: Path, store: JobStore, program: Start) -> None:
        with program(action="hold") as holder:
            assert [holder.heard(), holder.heard()] == ["open", "held"]
            with pytest.raises(StoreBusy, match=r"locked by another process for more than 0\.2 s"):
                store.submit("f", {})
            assert store.counts().total == 0, "reading goes on"
            holder.told()
        store.submit("f", {})


class TestDisk:
    def test_full(self, tmp_path: Path, program: Start) -> None:
        with program(action="fill", file_bytes=1 << 20) as process:
            _, full, readable, again = process.told()
        assert full[0] == "full" and "no room" in full[1]
        assert (readable, again) == (["readable", True], ["again", True])
        check_whole(tmp_path / "jobs.sqlite")

    def test_read_only(self, tmp_path: Path, store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
        job = store.submit("f", {}).job
        # As os.access says to others than root.
        monkeypatch.setattr("allcores.jobs.database.os.access", lambda path, mode: False)
        with JobStore.open(store.name) as other:
            assert other.get(job.id) == job
            with pytest.raises(StoreReadOnly, match="can only be read"):
                other.submit("f", {})


class TestFile:
    def test_removed_under_us(self, tmp_path: Path, store: JobStore) -> None:
        job = store.submit("f", {}).job
        path = tmp_path / "jobs.sqlite"
        os.rename(path, tmp_path / "away")
        with pytest.raises(StoreGone, match="removed"):
            store.submit("f", {})
        with pytest.raises(StoreGone, match="removed"):
            store.page()
        with pytest.raises(StoreGone, match="put the file"):
            JobStore.open(path)
        assert not path.exists(), "nothing is made in its place"
        os.rename(tmp_path / "away", path)
        assert store.get(job.id) == job and store.submit("f", {}).job.seq == 2

    def test_replaced_under_us(self, tmp_path: Path, store: JobStore) -> None:
        store.submit("f", {})
        path = tmp_path / "jobs.sqlite"
        shutil.copy(path, tmp_path / "copy")
        os.rename(path, tmp_path / "away")
        os.rename(tmp_path / "copy", path)
        before = path.read_bytes()
        for use in (store.counts, lambda: store.submit("f", {})):
            with pytest.raises(StoreGone, match="another file"):
                use()
        assert path.read_bytes() == before

    def test_the_file_of_another_store(self, tmp_path: Path, store: JobStore) -> None:
        with JobStore.open(tmp_path / "other.sqlite"):
            pass
        store.close()
        for end in ("-wal", "-shm"):
            (tmp_path / f"jobs.sqlite{end}").unlink(missing_ok=True)
        os.replace(tmp_path / "other.sqlite", tmp_path / "jobs.sqlite")
        with pytest.raises(StoreGone, match="is another one than the folder"):
            JobStore.open(tmp_path / "jobs.sqlite")

    @pytest.mark.parametrize("what", ["text", "another's database", "a folder", "a pipe"])
    def test_nothing_is_left_beside_what_is_no_store(self, tmp_path: Path, what: str) -> None:
        path = tmp_path / "mine.txt"
        if what == "text":
            path.write_text("not a database " * 300)
        elif what == "a folder":
            path.mkdir()
        elif what == "a pipe":
            os.mkfifo(path)
        else:
            with contextlib.closing(sqlite3.connect(path)) as other:
                other.execute("CREATE TABLE mine (x)")
        os.chmod(path, 0o700)
        before = path.read_bytes() if path.is_file() else None
        with pytest.raises((StoreError, UsageError)):
            JobStore.open(path)
        assert os.listdir(tmp_path) == ["mine.txt"]
        assert before is None or path.read_bytes() == before

    @pytest.mark.parametrize("empty", [False, True])
    def test_not_there_and_not_to_be_begun(self, tmp_path: Path, empty: bool) -> None:
        """Nothing is made; an empty file is no store either. One that is there is opened."""
        path = tmp_path / "typo.sqlite"
        if empty:
            path.touch(0o600)
        with pytest.raises(NoStore, match=f"no store of jobs at {path}: name the one"):
            JobStore.open(path, create=False)
        assert [(each.name, each.stat().st_size) for each in tmp_path.iterdir()] == [(path.name, 0)] * empty
        with JobStore.open(path) as store, JobStore.open(path, create=False) as other:
            assert other.identity == store.identity

    @pytest.mark.parametrize("place", [0, 5_000])
    def test_damaged(self, tmp_path: Path, place: int) -> None:
        path = tmp_path / "jobs.sqlite"
        with JobStore.open(path) as store:
            store.submit_many([Submission("f", {"i": i}) for i in range(500)])
        content = bytearray(path.read_bytes())
        assert len(content) > 20_000
        content[place : place + 12_000] = b"\x07" * 12_000
        path.write_bytes(content)
        with pytest.raises(StoreDamaged, match=r"\.recover"):
            with JobStore.open(path) as store:
                all_jobs(store)
                store.submit("f", {})
        assert path.read_bytes() == content, "it is kept as it is"

    def test_of_another_program(self, tmp_path: Path) -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "theirs.sqlite")) as db:
            db.execute("CREATE TABLE jobs (id)")
            db.commit()
        os.chmod(tmp_path / "theirs.sqlite", 0o600)
        with pytest.raises(StoreError, match="another program"):
            JobStore.open(tmp_path / "theirs.sqlite")

    def test_whose_own_name_was_lost_by_a_power_cut(self, store: JobStore) -> None:
        (store.folder / "store").write_bytes(b"")
        with JobStore.open(store.name) as other:
            assert other.identity == store.identity
        assert (store.folder / "store").read_text() == f"{store.identity}\n"
        assert [each.name for each in store.folder.iterdir() if each.name.startswith((".", "store."))] == []

    def test_whose_own_name_is_a_named_pipe(self, store: JobStore) -> None:
        """It is not waited for, and stays."""
        (store.folder / "store").unlink()
        os.mkfifo(store.folder / "store", 0o600)
        with pytest.raises(StoreError, match="store is no file"):
            JobStore.open(store.name)
        assert (store.folder / "store").is_fifo()

    def test_nobody_else_can_look_into_it(self, tmp_path: Path) -> None:
        old = os.umask(0)
        try:
            with JobStore.open(tmp_path / "deep" / "jobs.sqlite") as store, store.become_supervisor():
                store.submit("f", {})
                store.maintain()
                modes = {
                    path.name: stat.S_IMODE(path.lstat().st_mode)
                    for path in (tmp_path / "deep").rglob("*")
                    if not path.is_socket()
                }
        finally:
            os.umask(old)
        assert {0o700} == {modes.pop(name) for name in ("jobs.sqlite.files", "results")}
        assert {"jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-shm", "store", "supervisor.lock"} <= modes.keys()
        assert set(modes.values()) == {0o600}

    def test_that_others_may_write_to(self, tmp_path: Path, store: JobStore) -> None:
        os.chmod(tmp_path / "jobs.sqlite", 0o660)
        with pytest.raises(UsageError, match="others may write to it"):
            JobStore.open(tmp_path / "jobs.sqlite")

    @pytest.mark.parametrize("mode", [0o777, 0o1777])
    def test_in_a_folder_that_others_may_write_to(self, tmp_path: Path, mode: int) -> None:
        """They could put another log in the place of its own; unless, as in /tmp, they may rename their own alone."""
        os.chmod(tmp_path, mode)
        try:
            if mode & stat.S_ISVTX:
                JobStore.open(tmp_path / "jobs.sqlite").close()
            else:
                with pytest.raises(UsageError, match=r"others may write to it .* a folder of your own"):
                    JobStore.open(tmp_path / "jobs.sqlite")
                assert list(tmp_path.iterdir()) == []
                JobStore.open(tmp_path / "mine" / "jobs.sqlite").close()
        finally:
            os.chmod(tmp_path, 0o700)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
    def test_in_a_folder_of_another_user(self, tmp_path: Path) -> None:
        os.chown(tmp_path, 65534, 65534)
        with pytest.raises(UsageError, match=r"belongs to user .* a folder of your own"):
            JobStore.open(tmp_path / "jobs.sqlite")
        assert list(tmp_path.iterdir()) == []

    def test_on_the_file_system_of_a_network(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("allcores.jobs.opening.network_file_system", lambda path: "nfs4")
        with pytest.raises(UsageError, match=r"network's file system \(nfs4\)"):
            JobStore.open(tmp_path / "jobs.sqlite")
        assert list(tmp_path.iterdir()) == []
        JobStore.open(tmp_path / "jobs.sqlite", allow_network=True).close()


class TestFork:
    def test_no_connection_goes_into_a_child(self, store: JobStore) -> None:
        job = store.submit("f", {}).job
        context = multiprocessing.get_context("fork")
        found: Any = context.Queue()
        child = context.Process(target=in_child, args=(store, job.id, found))
        child.start()
        open_there, seen = found.get(timeout=PATIENCE_S)
        child.join()
        found.close()
        found.join_thread()
        assert (open_there, seen) == ([], "f")
        assert sorted(each.task for each in all_jobs(store).values()) == ["f", "of the child"]

    def test_what_other_threads_are_at_is_let_go_of_as_it_forks(self, store: JobStore) -> None:
        """Not at the first use: two threads of the child may be the first at the same time."""
        commits, results = store._commits, multiprocessing.get_context("fork").SimpleQueue()
        commits._waiting.append("an operation of another thread")  # type: ignore[arg-type]
        with commits._turn:
            child = multiprocessing.get_context("fork").Process(
                target=lambda: results.put((commits._turn.locked(), list(commits._waiting)))
            )
            child.start()
            child.join(PATIENCE_S)
        assert results.get() == (False, [])
        results.close()
        commits._waiting.clear()


def in_child(store: JobStore, id: str, found: Any) -> None:
    names = [os.path.basename(link) for link in links()]
    job = store.get(id)
    store.submit("of the child", {})
    found.put(([name for name in names if name.startswith("jobs.sqlite")], job and job.task))


def links() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/self/fd/{name}")


class TestLog:
    def test_only_one_moves_it(self, tmp_path: Path, store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a supervisor it grows to its limit and no further, for then somebody has the lock for a moment."""
        log = tmp_path / "jobs.sqlite-wal"
        store.submit_many([Submission("f", {"text": "x" * 1000}) for _ in range(1_000)])
        assert log.stat().st_size > 1 << 20
        monkeypatch.setattr(checkpoints, "OF_OTHERS", 1 << 20)
        while store.submit("f", {}).job.changed < 65:
            pass
        large = log.stat().st_size
        while store.submit("f", {}).job.changed < 120:
            pass
        assert log.stat().st_size == large, "what was written is where the log began"
        with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as db:
            assert db.execute("SELECT count(*) FROM allcores_jobs").fetchone() == (1_118,)

    def test_one_that_grew_during_a_long_read_does_not_stay_large(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It cannot begin again meanwhile; once it has done so, most of it goes."""
        monkeypatch.setattr(database, "LOG_KEPT", 200_000)
        log = tmp_path / "jobs.sqlite-wal"
        with JobStore.open(tmp_path / "jobs.sqlite") as store:
            with store.reading() as reader:
                reader.exec_driver_sql("SELECT count(*) FROM allcores_jobs").one()
                for _ in range(3):
                    store.submit_many([Submission("f", {"text": "x" * 1_000}) for _ in range(500)])
            assert log.stat().st_size > 1 << 20
            assert checkpoints.checkpoint(store._database, store.folder)
            store.submit("f", {})
            assert log.stat().st_size <= 200_000

    def test_a_long_path_has_a_socket_all_the_same(self, tmp_path: Path) -> None:
        path = tmp_path / ("long" * 30) / "jobs.sqlite"
        with JobStore.open(path) as store, JobStore.open(path) as other, store.become_supervisor():
            assert (store.folder / "commits.sock").is_socket()
            assert other.submit("f", {}).job.seq == 1
            assert store.get(other.page().jobs[0].id) is not None

    def test_trouble_with_it_is_no_trouble_with_the_commit(
        self, store: JobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(*_: object) -> None:
            raise StoreError("the log cannot be moved")

        monkeypatch.setattr(checkpoints, "OF_OTHERS", 0)
        monkeypatch.setattr(checkpoints, "checkpoint", failing)
        found = [store.submit("f", {"i": i}) for i in range(70)]
        assert not any(each.replayed for each in found) and store.counts().total == 70


class TestSocket:
    """Who else talks to the supervisor's socket."""

    GARBAGE = (
        b"",
        b"\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02{}",
        b"\x00\x00\x00\x03[1]",
    )

    def test_what_is_no_submission_hurts_nobody(self, store: JobStore) -> None:
        with JobStore.open(store.name) as other, store.become_supervisor():
            address = str(store.folder / "commits.sock")
            lines = []
            for each in (*self.GARBAGE, b'\x00\x00\x00\x10[{"id": "short"}]'):
                line = socket.socket(socket.AF_UNIX)
                line.connect(address)
                line.sendall(each)
                lines.append(line)
            assert [other.submit("f", {"i": i}).replayed for i in range(3)] == [False] * 3
            for line in lines:
                line.close()
            assert store.counts().total == 3

    def test_one_that_goes_without_its_answer(self, store: JobStore) -> None:
        with JobStore.open(store.name) as other, store.become_supervisor():
            row = prepared(Submission("f", {})).row
            body = json.dumps([row]).encode()
            line = socket.socket(socket.AF_UNIX)
            line.connect(str(store.folder / "commits.sock"))
            line.sendall(struct.pack(">I", len(body)) + body)
            line.close()
            assert other.submit("f", {}).job.seq in (1, 2)
            assert store.counts().total in (1, 2)

    def test_what_was_taken_as_it_ends_is_answered(self, store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
        go, begun = threading.Event(), threading.Event()

        class Late(selectors.DefaultSelector):
            """Sees what came in a while at once, as soon as there is a connection."""

            def select(self, timeout: float | None = None) -> Any:
                if len(self.get_map()) > 2:
                    begun.set()
                    assert go.wait(PATIENCE_S)
                return super().select(timeout)

        monkeypatch.setattr(
            commit_socket, "selectors", SimpleNamespace(DefaultSelector=Late, EVENT_READ=selectors.EVENT_READ)
        )
        body = json.dumps([prepared(Submission("f", {})).row]).encode()
        with store.become_supervisor() as lock, socket.socket(socket.AF_UNIX) as line:
            server = store._server
            assert server is not None
            line.connect(str(store.folder / "commits.sock"))
            assert begun.wait(PATIENCE_S)
            line.sendall(struct.pack(">I", len(body)) + body)
            ender = threading.Thread(target=lock.release)
            ender.start()
            until(lambda: select.select([server._bell_end], [], [], 0)[0], "that its end is asked for")
            go.set()
            ender.join()
            line.settimeout(PATIENCE_S)
            assert line.recv(1 << 16)
        assert store.counts().total == 1

    def test_what_was_submitted_and_deleted_while_the_supervisor_was_stopped_is_gone(
        self, store: JobStore, program: Start
    ) -> None:
        """Its request is in the socket still: that job would be made, and run, once more."""
        with program(action="supervise") as process:
            assert [process.heard(), process.heard()] == ["open", "ready"]
            with stopped(process.program.pid):
                store._client._timeout = 0.2
                job = store.submit("f", {}).job
                assert store.delete([job.id], "ann").count == 1
            # Answered by the supervisor, after whatever had come before.
            store._client._silent_until = 0.0
            store._client._timeout = PATIENCE_S
            later = store.submit("f", {"i": 1}).job
            process.told()
        assert all_jobs(store).keys() == {later.id}

    def test_a_supervisor_that_answers_nothing(self, store: JobStore, tmp_path: Path, program: Start) -> None:
        """Stopped, say: the submission is committed without it, once."""
        with program(action="supervise") as process:
            assert [process.heard(), process.heard()] == ["open", "ready"]
            with stopped(process.program.pid):
                store._client._timeout = 0.2
                jobs = [store.submit("f", {"i": i}).job for i in range(2)]
            process.told()
        assert all_jobs(store).keys() == {job.id for job in jobs}
