"""The same job for allcores."""

from __future__ import annotations

from allcores.jobs import task
from benchmarks import job_tasks

nothing = task(job_tasks.nothing)
busy = task(job_tasks.busy)
