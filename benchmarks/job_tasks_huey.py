"""The same job for huey, whose queue is a file in $BENCH_JOBS_FOLDER."""

from __future__ import annotations

import os
from typing import Any

from huey import SqliteHuey

from benchmarks import job_tasks

queue: Any = SqliteHuey("bench", filename=os.path.join(os.environ["BENCH_JOBS_FOLDER"], "huey.db"), fsync=True)
nothing: Any = queue.task()(job_tasks.nothing)
