"""Celery as what carries jobs to the machines that run them: `celery -A app worker -P solo`.

    from allcores.adapters.celery import make_app

    app = make_app("postgresql://shop@db/shop", tasks="tasks.py", broker="redis://10.0.0.1:6379/0")

See docs/howto/jobs-celery.md. Needs `pip install 'allcores[celery]'`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Any

try:
    import celery as untyped
    from celery import bootsteps
    from celery.exceptions import Reject
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"allcores.adapters.celery needs {error.name}: pip install 'allcores[celery]'", name=error.name
    ) from error

from allcores.adapters.job_messages import AGAIN_S, WAIT_S, WINDOW, JobWorker, queue_of, refuse
from allcores.errors import AllcoresError, UsageError
from allcores.formatting import without_passwords
from allcores.jobs.lead_duty import BEAT_S
from allcores.jobs.tasks import Place
from allcores.limits import check_seconds

log = logging.getLogger("celery.worker")
#: it comes without types
celery: Any = untyped
#: the one task there is: it is given the id of a job, which is also its own
TASK = "allcores.take"
#: Seconds after which Redis gives a message again that a worker took and neither finished nor gave back. Jobs do not
#: depend on it, however long they run: a message is done with once its job has begun.
VISIBILITY_S = 3600
#: seconds that Redis has to answer
ANSWER_S = 5.0


def make_app(
    store: str | os.PathLike[str],
    tasks: Place | Iterable[Place],
    *,
    broker: str = "redis://127.0.0.1:6379/0",
    queue: str | None = None,
    workers: int | None = None,
    grace: float = 30.0,
    again_s: float = AGAIN_S,
    window: int = WINDOW,
    beat_s: float = BEAT_S,
) -> Any:
    """An app of Celery whose workers run the jobs of a store, each on all cores of its machine.

    Jobs are submitted as ever (`Queue.submit`, the console, a schedule); one of the workers sends a message for each.
    Their states, results and progress are in the store.

    Args:
        store: File or URL of the store; PostgreSQL, if workers are on several machines.
        tasks: Where the tasks are: "tasks.py", "package.module".
        broker: Redis's address, as Celery takes it.
        queue: Celery's queue; None: one that belongs to this store alone.
        workers: Jobs at a time in each worker; None: the core budget of its machine.
        grace: Seconds that jobs at work have to end when their worker is asked to.
        again_s: Seconds after which a message that was lost is sent again.
        window: Jobs that have a message and have not begun, at most: more makes priorities coarser.
        beat_s: Seconds between two signs of life of a worker in the store. The jobs of one that was lost are queued
            again after eight of them.

    Raises:
        UsageError: The store or the broker is none, or the grace.
        StoreError: The store cannot be opened.
    """
    if not isinstance(broker, str) or not broker.startswith(("redis://", "rediss://", "redis+socket://")):
        shown = without_passwords(broker) if isinstance(broker, str) else broker
        raise UsageError(
            f"broker={shown!r} is no address of a Redis: write redis://host:6379/0 (allcores counts the messages that"
            " wait there, to send again those that are lost)"
        )
    grace = check_seconds("grace", grace)
    queue = queue_of(store) if queue is None else queue
    app = celery.Celery("allcores", broker=broker, set_as_current=False)
    transport = {
        "visibility_timeout": VISIBILITY_S,
        "socket_timeout": ANSWER_S,
        "socket_connect_timeout": ANSWER_S,
    }
    app.conf.update(
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=transport,
        result_backend_transport_options={"visibility_timeout": VISIBILITY_S},
        result_serializer="json",
        task_acks_late=True,
        task_default_queue=queue,
        task_ignore_result=True,
        task_reject_on_worker_lost=True,
        task_serializer="json",
        visibility_timeout=VISIBILITY_S,
        worker_concurrency=1,
        worker_pool="solo",
        worker_prefetch_multiplier=1,
    )

    @app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
    def take(self: Any, job: Any = None, *_: Any, **__: Any) -> None:
        found: JobWorker | None = app.__dict__.get("allcores_worker")
        if found is None or not found.take(job, WAIT_S):
            raise Reject("no core is free", requeue=True)

    def make_worker() -> JobWorker:
        return JobWorker(
            store,
            tasks,
            lambda: _Messages(app, app.conf.task_default_queue),
            workers=workers,
            grace=grace,
            beat_s=beat_s,
            again_s=again_s,
            window=window,
        )

    class Jobs(bootsteps.StartStopStep):  # type: ignore[misc]
        """The supervisor of a worker: it begins before messages are asked for, and ends after that."""

        requires = ("celery.worker.components:Pool",)

        def start(self, worker: Any) -> None:
            made = make_worker()
            try:
                check(app, worker)
                made.start()
            except AllcoresError as error:
                log.critical("%s", error)
                raise SystemExit(1) from None
            logging.getLogger("celery.app.trace").addFilter(_is_to_be_told)
            app.__dict__["allcores_worker"] = made

        def stop(self, worker: Any) -> None:
            self._end(worker, now=False)

        def terminate(self, worker: Any) -> None:
            self._end(worker, now=True)

        def _end(self, worker: Any, *, now: bool) -> None:
            found: JobWorker | None = app.__dict__.pop("allcores_worker", None)
            if found is not None:
                found.stop(now=now)
                if found.failed:
                    worker.exitcode = 1

    app.steps["worker"].add(Jobs)
    app.steps["consumer"].add(_Answers)
    return app


class _Answers(bootsteps.StartStopStep):  # type: ignore[misc]
    """Connects anew where Redis did not answer that a message is done with: Celery asks for no other one then, ever."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        self._timer = consumer.timer.call_repeatedly(ANSWER_S, self._look, (consumer,))

    def stop(self, consumer: Any) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self, consumer: Any) -> None:
        # Between two messages: one that counts as at work was not let go of. Celery connects anew, and it is had again.
        if not consumer.task_consumer.channel.qos.can_consume():
            raise ConnectionError("Redis did not answer that a message is done with")


def check(app: Any, worker: Any = None) -> None:
    """See that the settings of an app, and of a worker of it, are those that keep what is promised.

    Raises:
        UsageError: They are not, with all that is wrong in one sentence.
    """
    conf = app.conf
    transport = conf.broker_transport_options or {}
    results = conf.result_backend_transport_options or {}
    timeouts = (transport.get("visibility_timeout"), results.get("visibility_timeout"), conf.get("visibility_timeout"))
    pool = "solo" if worker is None else worker.pool_cls.__module__.rpartition(".")[2]
    asked = {conf.task_default_queue} if worker is None else set(app.amqp.queues.consume_from)
    refuse(
        [
            (pool != "solo", f"the worker has the pool {pool!r}, but cores are allcores' own: start it with -P solo"),
            (
                not conf.task_acks_late,
                "task_acks_late is off, so a worker that dies takes a message with it: set it to True",
            ),
            (
                not conf.task_reject_on_worker_lost,
                "task_reject_on_worker_lost is off: set it to True",
            ),
            (
                len(set(timeouts)) != 1 or not timeouts[0],
                "visibility_timeout differs in broker_transport_options, result_backend_transport_options and"
                f" visibility_timeout {timeouts}: set all three to the same seconds",
            ),
            (set(conf.accept_content) != {"json"}, "accept_content is not ['json'], so messages could run code"),
            (bool(conf.task_always_eager), "task_always_eager is on: set it to False"),
            (
                conf.task_default_queue not in asked,
                f"the worker asks for messages of {', '.join(sorted(asked))} alone: leave -Q out, or add"
                f" {conf.task_default_queue}",
            ),
        ],
        "This app of Celery",
    )


def _is_to_be_told(record: logging.LogRecord) -> bool:
    """Not that a message was given back, for no core was free."""
    data = getattr(record, "data", None)
    return not (isinstance(data, dict) and data.get("name") == TASK and data.get("description") == "rejected")


class _Messages:
    """See `job_messages.Messages`."""

    def __init__(self, app: Any, queue: str) -> None:
        self._app = app
        self._queue = queue
        self._connection: Any = None
        self._producer: Any = None

    def _open(self) -> Any:
        if self._connection is None:
            self._connection = self._app.connection_for_write()
            self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)
        return self._producer

    def waiting(self) -> int:
        return int(self._open().channel.queue_declare(queue=self._queue, durable=True).message_count)

    def send(self, id: str) -> None:
        self._app.send_task(TASK, args=[id], task_id=id, queue=self._queue, producer=self._open(), retry=False)

    def close(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.release()
