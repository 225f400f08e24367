"""Jobs: work behind a web page that is kept in a database, run by one supervisor on all cores, and never lost.

    from allcores.jobs import Queue, task

    @task(timeout=600, retries=2)
    def count_primes(n: int) -> int: ...

Needs `pip install 'allcores[jobs]'`. Names are loaded when they are first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from allcores.jobs.errors import (
        AlreadySupervised,
        ArgumentErrors,
        JobFailed,
        JobsError,
        KeyConflict,
        TaskNotFound,
        TooLarge,
    )
    from allcores.jobs.model import Job, JobError, JobFilter, Progress, ResultFile, State
    from allcores.jobs.queue import Queue
    from allcores.jobs.running_job import RunningJob
    from allcores.jobs.signatures import is_signed
    from allcores.jobs.store import JobStore
    from allcores.jobs.supervisor import Supervisor
    from allcores.jobs.tasks import Registry, Task, task
    from allcores.jobs.uploads import UploadedFile

_HOMES = {
    "errors": (
        "AlreadySupervised",
        "ArgumentErrors",
        "JobFailed",
        "JobsError",
        "KeyConflict",
        "TaskNotFound",
        "TooLarge",
    ),
    "model": ("Job", "JobError", "JobFilter", "Progress", "ResultFile", "State"),
    "queue": ("Queue",),
    "running_job": ("RunningJob",),
    "signatures": ("is_signed",),
    "store": ("JobStore",),
    "supervisor": ("Supervisor",),
    "tasks": ("Registry", "Task", "task"),
    "uploads": ("UploadedFile",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AlreadySupervised",
    "ArgumentErrors",
    "Job",
    "JobError",
    "JobFailed",
    "JobFilter",
    "JobStore",
    "JobsError",
    "KeyConflict",
    "Progress",
    "Queue",
    "Registry",
    "ResultFile",
    "RunningJob",
    "State",
    "Supervisor",
    "Task",
    "TaskNotFound",
    "TooLarge",
    "UploadedFile",
    "is_signed",
    "task",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'allcores.jobs' has no attribute {name!r}")
    from importlib import import_module

    try:
        module = import_module(f"allcores.jobs.{home}")
    except ModuleNotFoundError as error:
        if error.name not in ("cronsim", "pydantic", "pydantic_core", "sqlalchemy"):
            raise
        raise ModuleNotFoundError(
            f"allcores.jobs needs {error.name}: pip install 'allcores[jobs]'", name=error.name
        ) from error
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
