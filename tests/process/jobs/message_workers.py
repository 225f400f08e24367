"""Workers of Celery and RQ as processes, and a store whose jobs they run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.process.jobs.conftest import PATIENCE_S, SOURCE, TASKS, lines, until
from tests.process.jobs.redis_server import RedisServer

from allcores.jobs import Queue, State

#: of one that died its jobs are queued again after eight of these, in seconds
BEAT_S = 1.0


class WorkerProcess:
    """A program in a process group of its own."""

    def __init__(self, command: Sequence[str], folder: Path, name: str, ready: str, home: Path | None = None) -> None:
        self.log = folder / f"{name}.log"
        # It may run as root where tests do, which Celery warns of.
        environment = {**os.environ, "PYTHONPATH": SOURCE, "PYTHONWARNINGS": "default", "PYTHONUNBUFFERED": "1"}
        if home is not None:
            environment["ALLCORES_HOME"] = str(home)
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            until(lambda: self.is_ready(ready), f"{name} is ready")
        except BaseException:
            self.kill()
            raise

    def is_ready(self, text: str) -> bool:
        assert self.popen.poll() is None, self.log.read_text()
        return text in self.log.read_text()

    def kill(self) -> None:
        """kill -9."""
        self.popen.kill()
        self.popen.wait(PATIENCE_S)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; how it ended."""
        self.popen.send_signal(number)
        return self.popen.wait(PATIENCE_S)


class Workers:
    """A Redis, a store, and workers of it.

    Args:
        folder: For their files.
        library: "celery" or "rq".
        store: Address of the store, each worker having a home of its own, as on several machines; None: a file.
    """

    def __init__(self, folder: Path, library: str, store: str | None = None) -> None:
        self.folder = folder
        self.library = library
        self.store = store
        self.redis = RedisServer(folder / "redis")
        self.queue = Queue(store or folder / "jobs.sqlite", tasks=TASKS)
        self.made: list[WorkerProcess] = []

    def __enter__(self) -> Workers:
        self.redis.start()
        options = f"workers=2, grace=5.0, beat_s={BEAT_S}, again_s=1.0"
        places = f"{self.store or str(self.folder / 'jobs.sqlite')!r}, {TASKS!r}"
        if self.library == "celery":
            program = (
                "from allcores.adapters.celery import make_app\n"
                f"app = make_app({places}, broker={self.redis.url!r}, {options})\n"
            )
        else:
            program = (
                "from allcores.adapters.rq import make_worker\n"
                "if __name__ == '__main__':\n"
                f"    make_worker({places}, url={self.redis.url!r}, {options}).work()\n"
            )
        (self.folder / "work.py").write_text(program)
        return self

    def start(self) -> WorkerProcess:
        """Start a worker; it takes jobs when this returns."""
        name = f"worker-{len(self.made)}"
        home = None if self.store is None else self.folder / f"home-{name}"
        if self.library == "celery":
            command = ["celery", "-A", "work", "worker", "-P", "solo", "-l", "info", "-n", f"{name}@here"]
            self.made.append(WorkerProcess(command, self.folder, name, " ready.", home=home))
        else:
            self.made.append(WorkerProcess(["work"], self.folder, name, "Listening on", home=home))
        return self.made[-1]

    def leader(self) -> int | None:
        """The process that leads."""
        found = self.queue.store.records("leader").get("leader", "")
        pid = self.queue.store.records("lease").get(found, {}).get("pid")
        return None if pid is None else int(pid)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each in self.made:
            if each.popen.poll() is None:
                each.kill()
            if error is not None:
                print(f"--- {each.log.name}\n{each.log.read_text()[-20_000:]}")
        self.queue.close()
        self.redis.__exit__(kind, error, traceback)


def nothing_is_lost(workers: Workers, tmp_path: Path) -> None:
    """Redis is emptied, then killed and started again, empty; the worker that leads is killed.

    In the meantime jobs are submitted. Each comes to one end, and only what the killed one had begun runs again.
    """
    first, second = workers.start(), workers.start()
    queue, ran = workers.queue, tmp_path / "ran"
    submitted: list[str] = []

    def submit(count: int) -> None:
        numbers = range(len(submitted), len(submitted) + count)
        made = queue.submit_all([queue.submission("numbered", {"path": str(ran), "n": n}) for n in numbers])
        submitted.extend(each.job.id for each in made)

    def succeeded(count: int) -> None:
        until(lambda: queue.store.counts().by_state[State.SUCCEEDED] >= count, f"{count} jobs that succeeded")

    submit(40)
    succeeded(8)
    workers.redis.flush()
    succeeded(25)
    workers.redis.kill()
    submit(40)
    workers.redis.start()
    succeeded(55)
    leader = workers.leader()
    killed, other = (first, second) if first.popen.pid == leader else (second, first)
    assert killed.popen.pid == leader
    # All cores of both are at work.
    succeeded(80)
    held = [queue.submit("hold", {"path": str(tmp_path / "h")}).id for _ in range(4)]
    until(lambda: len(lines(tmp_path / "h.pids")) == 4, "four jobs that hold cores")
    until(lambda: all((job := queue.get(id)) and job.worker and job.worker.pid for id in held))
    killed.kill()
    submit(20)
    (tmp_path / "h").touch()
    ends = [queue.wait(id, PATIENCE_S) for id in held]
    assert (
        sorted((job.result, job.attempts, job.crashes) for job in ends) == [("held", 1, 0)] * 2 + [("held", 1, 1)] * 2
    )
    jobs = [queue.wait(id, PATIENCE_S) for id in submitted]
    assert [(job.state, job.result) for job in jobs] == [("succeeded", n) for n in range(100)]
    # Each end that is written counts as one.
    assert {job.attempts for job in jobs} == {1}
    until(lambda: workers.leader() == other.popen.pid, "another one that leads")
    # Only what the one that was killed had begun ran a second time.
    assert Counter(lines(ran)) == {str(n): 1 for n in range(100)}
    assert other.end() == 0
