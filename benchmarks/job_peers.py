"""Job queues of others, each with real workers of its own: huey with SQLite, RQ and Celery with a real Redis.

A system is asked for two things only: put so many jobs that do nothing into the queue and say when all have a
stored result, and do that for a single one. Each is set up so that a job that was accepted survives a power cut, as far
as it can be asked to: huey with `fsync=True`, Redis with `appendfsync always`, Celery with `acks_late`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.processes import RUN, end_all, environment

#: seconds that workers have to start, and that jobs have to be done
START_S, DONE_S = 60.0, 180.0
#: between two looks for a result
LOOK_S = 0.001


class JobSystem:
    """A queue with workers, from `with` to its end. Processes carry a mark, and are ended by it."""

    #: how it is set up, for the page
    how = ""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.mark = f"{RUN}-{uuid.uuid4().hex}"
        self.folder = Path(tempfile.mkdtemp(prefix="bench-jobs-"))
        self.processes: list[subprocess.Popen[bytes]] = []

    def launch(self, *command: str, **environ: str) -> None:
        """Start a process of the system, in its folder."""
        with (self.folder / "log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env=environment(self.mark) | {"BENCH_JOBS_FOLDER": str(self.folder)} | environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def __enter__(self) -> JobSystem:
        try:
            self.start()
            self.run(self.workers)  # all that is loaded late is loaded now
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        end_all(self.mark)
        for process in reversed(self.processes):
            process.kill()  # Redis writes its title over the environment that the mark is in
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start what runs jobs."""
        raise NotImplementedError

    def stop(self) -> None:
        """End what is in this process; processes are ended by their mark."""

    def run(self, jobs: int) -> float:
        """Seconds from before the first of `jobs` is submitted until the last has a stored result."""
        raise NotImplementedError

    def until(self, condition: Callable[[], bool], seconds: float = DONE_S) -> None:
        """Wait for it; RuntimeError with the end of the log if it does not come about."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until or any(process.poll() for process in self.processes):
                log = (self.folder / "log").read_text(errors="replace") if (self.folder / "log").exists() else ""
                raise RuntimeError(f"not done within {seconds:g} s: {log[-600:]}")
            time.sleep(LOOK_S)


class Huey(JobSystem):
    """SqliteHuey with a consumer of processes."""

    how = "SqliteHuey(fsync=True), huey_consumer with process workers, looking for jobs every 10 ms at most"

    def start(self) -> None:
        """One consumer."""
        os.environ["BENCH_JOBS_FOLDER"] = str(self.folder)
        script = Path(sys.executable).with_name("huey_consumer")
        options = ["-w", str(self.workers), "-k", "process", "-d", "0.01", "-m", "0.01", "-b", "1"]
        self.launch(str(script), "benchmarks.job_tasks_huey.queue", *options)
        sys.modules.pop("benchmarks.job_tasks_huey", None)
        import importlib

        self._tasks = importlib.import_module("benchmarks.job_tasks_huey")

    def run(self, jobs: int) -> float:
        """Submitted one by one: it knows no other way."""
        started = time.perf_counter()
        results = [self._tasks.nothing(number) for number in range(jobs)]
        storage = self._tasks.queue.storage
        self.until(lambda: bool(storage.result_store_size() >= jobs))
        seconds = time.perf_counter() - started
        assert [result.get() for result in results] == list(range(jobs)), "wrong results"
        return seconds

    def stop(self) -> None:
        """Close the file."""
        if hasattr(self, "_tasks"):
            self._tasks.queue.storage.close()


class _WithRedis(JobSystem):
    """A Redis server of its own, on a socket in its folder, that writes each change through."""

    def start(self) -> None:
        """The server, and workers after it answers."""
        import redis

        program = shutil.which("redis-server")
        if program is None:
            raise RuntimeError("there is no redis-server here (Debian: apt-get install redis-server)")
        self.socket = str(self.folder / "redis.sock")
        options = ["--port", "0", "--unixsocket", self.socket, "--dir", str(self.folder), "--save", ""]
        self.launch(program, *options, "--appendonly", "yes", "--appendfsync", "always")
        self.redis: Any = redis.Redis(unix_socket_path=self.socket)
        self.until(lambda: os.path.exists(self.socket) and self._answers(), START_S)
        self.start_workers()

    def _answers(self) -> bool:
        import redis

        try:
            return bool(self.redis.ping())
        except redis.exceptions.RedisError:
            return False

    def start_workers(self) -> None:
        """Start what runs jobs."""
        raise NotImplementedError

    def stop(self) -> None:
        """Close connections, and have workers go before their server."""
        for process in reversed(self.processes[1:]):
            process.send_signal(signal.SIGKILL)
        if hasattr(self, "redis"):
            self.redis.close()


class RQ(_WithRedis):
    """RQ: its default worker, which forks for each job."""

    how = "Queue.enqueue_many, `rq worker` processes (each forks for each job), Redis with appendfsync always"
    worker_class = "rq.Worker"

    def start_workers(self) -> None:
        """As many workers as asked for."""
        import rq

        self._queue = rq.Queue("bench", connection=self.redis)
        for _ in range(self.workers):
            self.launch(
                *(str(Path(sys.executable).with_name("rq")), "worker", "bench", "--quiet"),
                *("--url", f"unix://{self.socket}", "--worker-class", self.worker_class),
            )

    def run(self, jobs: int) -> float:
        """One pipeline of all."""
        import rq
        from rq.job import Job

        from benchmarks.job_tasks import nothing

        started = time.perf_counter()
        if jobs == 1:
            made = [self._queue.enqueue(nothing, 0)]
        else:
            made = self._queue.enqueue_many([rq.Queue.prepare_data(nothing, [number]) for number in range(jobs)])
        registry = rq.registry.FinishedJobRegistry(queue=self._queue)
        if jobs == 1:
            self.until(lambda: made[0].get_status() == "finished")
        else:
            self.until(lambda: bool(registry.get_job_count(cleanup=False) >= jobs))
        seconds = time.perf_counter() - started
        found = Job.fetch_many([job.id for job in made], connection=self.redis)
        assert [job and job.return_value() for job in found] == list(range(jobs)), "wrong results"
        for job in found:
            if job is not None:
                job.delete()
        return seconds


class RQSimple(RQ):
    """RQ without a fork for each job: a crash then ends the worker."""

    how = "the same with rq.SimpleWorker, which runs jobs in its own process"
    worker_class = "rq.SimpleWorker"


class Celery(_WithRedis):
    """Celery with the settings under which a job is not lost."""

    how = "prefork, acks_late, prefetch 1, results in Redis; appendfsync always"

    def start_workers(self) -> None:
        """One worker with so many processes."""
        os.environ["BENCH_JOBS_SOCKET"] = self.socket
        sys.modules.pop("benchmarks.job_tasks_celery", None)
        import importlib

        self._tasks = importlib.import_module("benchmarks.job_tasks_celery")
        self.launch(
            *(sys.executable, "-m", "celery", "-A", "benchmarks.job_tasks_celery", "worker", "-c", str(self.workers)),
            *("-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"),
            BENCH_JOBS_SOCKET=self.socket,
            C_FORCE_ROOT="1",
        )

    def run(self, jobs: int) -> float:
        """One message each, over one connection."""
        started = time.perf_counter()
        made = [self._tasks.nothing.delay(number) for number in range(jobs)]
        keys = [self._tasks.app.backend.get_key_for_task(result.id) for result in made]
        self.until(lambda: self.redis.exists(keys[-1]) == 1 and self.redis.exists(*keys) == jobs)
        seconds = time.perf_counter() - started
        assert [result.get(timeout=DONE_S) for result in made] == list(range(jobs)), "wrong results"
        self.redis.delete(*keys)
        return seconds

    def stop(self) -> None:
        """Close the connections of the producer, too."""
        super().stop()
        if hasattr(self, "_tasks"):
            self._tasks.app.close()


class Allcores(JobSystem):
    """`allcores work` on a store of its own in one SQLite file."""

    how = "`allcores work` with synchronous=FULL; submitted with JobStore.submit_many"
    threads = 0
    address = "{}"

    def start(self) -> None:
        """The supervisor."""
        from allcores.jobs.store import JobStore

        tasks = Path(__file__).with_name("job_tasks_allcores.py")
        store = self.address.format(self.folder / "jobs.sqlite")
        self.store: Any = JobStore.open(store)
        self.launch(
            *(sys.executable, "-m", "allcores", "work", str(tasks)),
            *("--store", store, "--workers", str(self.workers)),
        )

    def run(self, jobs: int) -> float:
        """In one batch, or one by one from several threads, as a web server does."""
        from concurrent.futures import ThreadPoolExecutor

        from allcores.jobs.model import JobFilter, State, Submission

        started = time.perf_counter()
        before = self.store.counts().by_state[State.SUCCEEDED]
        if self.threads and jobs > 1:
            with ThreadPoolExecutor(self.threads) as clients:
                made = list(clients.map(lambda number: self.store.submit("nothing", {"number": number}), range(jobs)))
        else:
            made = self.store.submit_many([Submission("nothing", {"number": number}) for number in range(jobs)])
        if jobs == 1:
            self.until(lambda: self.store.get(made[0].job.id).state == State.SUCCEEDED)
        else:
            self.until(lambda: bool(self.store.counts().by_state[State.SUCCEEDED] - before >= jobs))
        seconds = time.perf_counter() - started
        page = self.store.page(JobFilter(), limit=min(jobs, 500))
        assert all(job.result == job.arguments["number"] for job in page.jobs), "wrong results"
        return seconds

    def stop(self) -> None:
        """Ask the supervisor to end, and close the store."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
            process.wait(START_S)
        if hasattr(self, "store"):
            self.store.close()


class AllcoresOneByOne(Allcores):
    """The same with each job submitted by itself."""

    how = "the same, each job submitted by itself from 16 threads"
    threads = 16


class AllcoresNormal(Allcores):
    """The same store without a wait for the disk."""

    how = "the same with ?synchronous=NORMAL: a power cut may take the last jobs"
    address = "sqlite:///{}?synchronous=NORMAL"


SYSTEMS: dict[str, type[JobSystem]] = {
    "allcores": Allcores,
    "allcores, one by one": AllcoresOneByOne,
    "allcores, NORMAL": AllcoresNormal,
    "huey, SQLite": Huey,
    "RQ": RQ,
    "RQ, SimpleWorker": RQSimple,
    "Celery": Celery,
}
