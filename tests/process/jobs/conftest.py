"""A store, its queue, and supervisors: in a thread of the test, or in a process of its own that can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process.waiting import PATIENCE_S
from tests.process.waiting import wait_until as until

from allcores.jobs import Job, JobStore, Queue, Registry, Supervisor
from allcores.jobs.wake import wake

TASKS = str(Path(__file__).parent / "tasks_of_tests.py")
SOURCE = str(Path(__file__).parents[3] / "src")

_PROGRAM = """
import sys
from allcores.jobs import JobStore, Supervisor
store = JobStore.open(sys.argv[1])
supervisor = Supervisor(store, sys.argv[2], workers=int(sys.argv[3]), grace=float(sys.argv[4]))
supervisor.handle_signals()
take = store.become_supervisor

def taken():
    # Not before the store has its supervisor: the test may be about to be one, too.
    try:
        return take()
    finally:
        print("ready", flush=True)

store.become_supervisor = taken
supervisor.run()
store.close()
"""


def lines(path: str | Path) -> list[str]:
    """The lines of a file that may not be there."""
    try:
        return Path(path).read_text().splitlines()
    except FileNotFoundError:
        return []


class Running:
    """A store with a supervisor in a thread."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.store = JobStore.open(folder / "jobs.sqlite")
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
    """A supervisor in a process of its own."""

    def __init__(self, file: Path, workers: int = 2, grace: float = 5.0) -> None:
        self._file = file
        environment = {**os.environ, "PYTHONPATH": SOURCE}
        self.popen = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(file), TASKS, str(workers), str(grace)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.popen.stdout is not None
        assert self.popen.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """kill -9."""
        self.popen.kill()
        self.close()

    def stop(self) -> None:
        """SIGSTOP, never amid a transaction, which would lock all others out: the lock is ours until it has stopped."""
        with contextlib.closing(sqlite3.connect(self._file, isolation_level=None, timeout=PATIENCE_S)) as db:
            db.execute("BEGIN IMMEDIATE")
            self.popen.send_signal(signal.SIGSTOP)
            os.waitpid(self.popen.pid, os.WUNTRACED)
            db.execute("ROLLBACK")

    def terminate(self) -> None:
        """SIGTERM."""
        self.popen.send_signal(signal.SIGTERM)

    def close(self) -> int:
        """Wait for its end."""
        code = self.popen.wait(PATIENCE_S)
        assert self.popen.stdout is not None
        self.popen.stdout.close()
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
def supervise(tmp_path: Path) -> Iterator[Callable[..., SupervisorProcess]]:
    """Starts supervisors of that queue; those that are left are ended."""
    made: list[SupervisorProcess] = []

    def start(**options: Any) -> SupervisorProcess:
        made.append(SupervisorProcess(tmp_path / "jobs.sqlite", **options))
        return made[-1]

    yield start
    for each in made:
        if each.popen.poll() is None:
            each.popen.kill()
        each.close()


__all__ = ["PATIENCE_S", "Running", "SupervisorProcess", "lines", "until", "wake"]
