"""A store, its queue, and supervisors: in a thread of the test, or in a process of its own that can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process.waiting import PATIENCE_S
from tests.process.waiting import wait_until as until
from tests.process.warm import Interpreter

from allcores.jobs import Job, JobStore, Queue, Registry, Supervisor
from allcores.jobs.wake import wake

TASKS = str(Path(__file__).parent / "tasks_of_tests.py")
#: what a supervisor in a process of its own is
PROGRAM = Path(__file__).parent / "supervising.py"
SOURCE = str(Path(__file__).parents[3] / "src")


def state(pid: int) -> str:
    """The letter that /proc has for what a process does."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def lines(path: str | Path) -> list[str]:
    """The lines of a file that may not be there."""
    try:
        return Path(path).read_text().splitlines()
    except FileNotFoundError:
        return []


class Running:
    """A store with a supervisor in a thread."""

    def __init__(self, folder: Path, where: str | None = None, **options: Any) -> None:
        self.folder = folder
        self.store = JobStore.open(folder / "jobs.sqlite" if where is None else where)
        self.queue = Queue(self.store, tasks=Registry.load(TASKS))
        self.supervisor = Supervisor(self.store, self.queue.registry, **{"workers": 2, "grace": 5.0, **options})
        self._thread = threading.Thread(target=self.supervisor.run)

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.stop(now=True)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        self.store.close()

    def run(self, task: str, arguments: dict[str, Any] | None = None, **options: Any) -> Job:
        """Submit a job and wait for its end."""
        return self.queue.wait(self.queue.submit(task, arguments, **options).id, PATIENCE_S)


class SupervisorProcess:
    """A supervisor in a process of its own: a fork of an interpreter that has the libraries already."""

    def __init__(
        self, interpreter: Interpreter, file: Path, workers: int = 2, grace: float = 5.0, point: str = ""
    ) -> None:
        self._file = file
        read, write = os.pipe()
        self._said = os.fdopen(read)
        words = str(file), TASKS, str(workers), str(grace), point
        self.program = interpreter.begin(PROGRAM, *words, folder=Path.cwd(), stdout=write, stderr=2)
        os.close(write)
        assert self._said.readline() == "ready\n"

    def kill(self) -> None:
        """kill -9."""
        self.program.kill()
        self.close()

    def stop(self) -> None:
        """SIGSTOP, never amid a transaction, which would lock all others out: the lock is ours until it has stopped."""
        with contextlib.closing(sqlite3.connect(self._file, isolation_level=None, timeout=PATIENCE_S)) as db:
            db.execute("BEGIN IMMEDIATE")
            self.program.send_signal(signal.SIGSTOP)
            until(lambda: state(self.program.pid) == "T", "its stop")
            db.execute("ROLLBACK")

    def terminate(self) -> None:
        """SIGTERM."""
        self.program.send_signal(signal.SIGTERM)

    def close(self) -> int:
        """Wait for its end."""
        code = self.program.wait()
        self._said.close()
        return code


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path) as found:
        yield found


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """A queue that a supervisor in another process can run."""
    with Queue(tmp_path / "jobs.sqlite", tasks=TASKS) as found:
        yield found


@pytest.fixture
def supervise(tmp_path: Path, warm_jobs: Interpreter) -> Iterator[Callable[..., SupervisorProcess]]:
    """Starts supervisors of that queue; those that are left are ended."""
    made: list[SupervisorProcess] = []

    def start(**options: Any) -> SupervisorProcess:
        made.append(SupervisorProcess(warm_jobs, tmp_path / "jobs.sqlite", **options))
        return made[-1]

    yield start
    for each in made:
        each.kill()


__all__ = ["PATIENCE_S", "Running", "SupervisorProcess", "lines", "until", "wake"]
