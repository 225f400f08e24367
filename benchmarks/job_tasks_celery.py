"""The same job for Celery, whose Redis listens at $BENCH_JOBS_SOCKET."""

from __future__ import annotations

import os
from typing import Any

import celery

from benchmarks import job_tasks

_REDIS = f"redis+socket://{os.environ['BENCH_JOBS_SOCKET']}"

app: Any = celery.Celery("bench", broker=_REDIS, backend=_REDIS)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
)
nothing: Any = app.task(name="nothing")(job_tasks.nothing)
