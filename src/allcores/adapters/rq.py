"""RQ as what carries jobs to the machines that run them.

    from allcores.adapters.rq import make_worker

    if __name__ == "__main__":
        make_worker("postgresql://shop@db/shop", tasks="tasks.py", url="redis://10.0.0.1:6379/0").work()

See docs/howto/jobs-celery.md. Needs `pip install 'allcores[rq]'`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from typing import Any

try:
    import redis as untyped_redis
    import rq as untyped
    from rq.job import Job
    from rq.serializers import JSONSerializer
    from rq.worker import SimpleWorker, WorkerStatus
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"allcores.adapters.rq needs {error.name}: pip install 'allcores[rq]'", name=error.name
    ) from error

from allcores.adapters.job_messages import AGAIN_S, WAIT_S, WINDOW, JobWorker, queue_of, refuse
from allcores.errors import UsageError
from allcores.formatting import without_passwords
from allcores.jobs.lead_duty import BEAT_S
from allcores.jobs.tasks import Place

#: they come without types
rq: Any = untyped
redis: Any = untyped_redis
#: the function that a message names, as RQ wants one; it is never called
FUNCTION = "allcores.adapters.rq.take"
#: Seconds after which a message that nobody asks for is removed by Redis, which holds nothing for good.
KEPT_S = 86_400
#: seconds between two signs of life in Redis; a Redis that does not answer is noticed as late
ALIVE_S = 30
#: seconds that Redis has to answer who sends messages, and at most between two tries to reach it
ANSWER_S = 5.0
_AWAY = (redis.ConnectionError, redis.TimeoutError)


def take(job: str) -> None:
    """What messages name; workers that `make_worker` made never call it, for a message may name anything."""
    raise UsageError(f"job {job} is for workers of allcores.adapters.rq.make_worker, not for RQ's own")


def make_worker(
    store: str | os.PathLike[str],
    tasks: Place | Iterable[Place],
    *,
    url: str = "redis://127.0.0.1:6379/0",
    queue: str | None = None,
    workers: int | None = None,
    grace: float = 30.0,
    again_s: float = AGAIN_S,
    window: int = WINDOW,
    beat_s: float = BEAT_S,
) -> JobsWorker:
    """A worker of RQ that runs the jobs of a store on all cores of its machine; its `work` runs until it is ended.

    Jobs are submitted as ever (`Queue.submit`, the console, a schedule); one of the workers sends a message for each.
    Their states, results and progress are in the store.

    Args:
        store: File or URL of the store; PostgreSQL, if workers are on several machines.
        tasks: Where the tasks are: "tasks.py", "package.module".
        url: Redis's address.
        queue: RQ's queue; None: one that belongs to this store alone.
        workers: Jobs at a time; None: the core budget.
        grace: Seconds that jobs at work have to end when the worker is asked to.
        again_s: Seconds after which a message that was lost is sent again.
        window: Jobs that have a message and have not begun, at most: more makes priorities coarser.
        beat_s: Seconds between two signs of life in the store. The jobs of a worker that was lost are queued again
            after eight of them.

    Raises:
        UsageError: The store makes no sense, or there is no Redis.
        StoreError: The store cannot be opened.
    """
    name = queue_of(store) if queue is None else queue
    made = JobWorker(
        store,
        tasks,
        lambda: _Messages(url, name),
        workers=workers,
        grace=grace,
        again_s=again_s,
        window=window,
        beat_s=beat_s,
    )
    connection = redis.Redis.from_url(url, socket_connect_timeout=ANSWER_S)
    try:
        return JobsWorker(made, rq.Queue(name, connection=connection, serializer=JSONSerializer), connection)
    except _AWAY as error:
        connection.close()
        shown = without_passwords(url).rpartition("@")[2]
        raise UsageError(f"there is no Redis at {shown}: {error}; start it, or correct url") from error


class _Message(Job):  # type: ignore[misc]
    """A message as a worker sees it: its id, and nothing of what Redis has for it."""

    def refresh(self) -> None:
        """Nothing is read."""


class JobsWorker(SimpleWorker):  # type: ignore[misc]
    """RQ's worker in one process, whose jobs are those of a store; made by `make_worker`.

    Nothing that a message names is imported or called, and a Redis that is away is waited for.
    """

    max_connection_wait_time = ANSWER_S

    def __init__(self, worker: JobWorker, queue: Any, connection: Any) -> None:
        super().__init__(
            [queue],
            connection=connection,
            job_class=_Message,
            serializer=JSONSerializer,
            worker_ttl=ALIVE_S,
            log_job_description=False,
        )
        self._jobs = worker

    def work(self, *args: Any, **options: Any) -> bool:
        """Run jobs until it is asked to end (SIGTERM, Ctrl-C); arguments as of RQ's worker, without a scheduler.

        Raises:
            UsageError: A scheduler or burst mode was asked for.
            AlreadySupervised: A supervisor has the store for itself.
        """
        refuse(
            [
                (
                    bool(options.get("with_scheduler")),
                    "with_scheduler=True schedules nothing of the store: use @task(schedule=...)",
                ),
                (
                    bool(args or options.get("burst")),
                    "burst=True ends when there are no messages, not when there are no jobs: leave it out",
                ),
            ],
            "This worker of RQ",
        )
        self._jobs.start()
        try:
            worked = bool(super().work(**options))
        finally:
            self._jobs.stop()
        if self._jobs.failed:
            # It was told why; the program that is to start it again goes by the code.
            raise SystemExit(1)
        return worked

    def execute_job(self, job: Any, queue: Any) -> None:
        """Have the job of a message begun; the message is done with then, and given back if no core is free."""
        self.set_state(WorkerStatus.BUSY)
        served = self._jobs.take(job.id, WAIT_S)
        with contextlib.suppress(*_AWAY), self.connection.pipeline() as pipeline:
            pipeline.lrem(f"{queue.key}:intermediate", 0, job.id)
            if served:
                pipeline.delete(job.key)
            else:
                pipeline.lpush(queue.key, job.id)
            pipeline.execute()
        self.set_state(WorkerStatus.IDLE)

    def dequeue_job_and_maintain_ttl(self, timeout: int | None, max_idle_time: int | None = None) -> Any:
        """See RQ; what is no message is thrown away."""
        while True:
            try:
                return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
            except (LookupError, TypeError, ValueError) as error:
                self.log.warning("Worker %s: a message that cannot be read is thrown away: %s", self.name, error)

    def run_maintenance_tasks(self) -> None:
        """Nothing: what RQ would clear up after its jobs, calls what messages name."""
        self.last_cleaned_at = rq.utils.now()

    # What RQ writes about a worker is for people: a Redis that is away does not end the worker.

    def set_state(self, state: Any, pipeline: Any = None) -> None:
        """See RQ."""
        self._state = state
        with contextlib.suppress(*_AWAY):
            super().set_state(state, pipeline)

    def heartbeat(self, timeout: Any = None, pipeline: Any = None) -> None:
        """See RQ."""
        with contextlib.suppress(*_AWAY):
            super().heartbeat(timeout, pipeline)

    def check_for_suspension(self, burst: bool) -> None:
        """See RQ."""
        with contextlib.suppress(*_AWAY):
            super().check_for_suspension(burst)

    def set_shutdown_requested_date(self) -> None:
        """See RQ."""
        with contextlib.suppress(*_AWAY):
            super().set_shutdown_requested_date()

    def register_birth(self) -> None:
        """See RQ; a Redis that is not there yet is waited for."""
        while True:
            try:
                super().register_birth()
                return
            except _AWAY as error:
                self.log.warning("Worker %s: Redis cannot be reached (%s); the next try is in 1 s", self.name, error)
                time.sleep(1.0)

    def register_death(self) -> None:
        """See RQ."""
        with contextlib.suppress(*_AWAY):
            super().register_death()


class _Messages:
    """See `job_messages.Messages`."""

    def __init__(self, url: str, queue: str) -> None:
        self._connection: Any = redis.Redis.from_url(url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S)
        self._queue: Any = rq.Queue(queue, connection=self._connection, serializer=JSONSerializer)

    def waiting(self) -> int:
        return int(self._queue.count)

    def send(self, id: str) -> None:
        self._queue.enqueue_call(FUNCTION, args=(id,), job_id=id, ttl=KEPT_S, result_ttl=0)

    def close(self) -> None:
        self._connection.close()
