"""What a supervisor tells of itself, twice a second, in a file beside the store: web pages read it, and ask nobody.

A page must say how old it is: what was told a minute ago is not known to be true any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from allcores.jobs.errors import meant
from allcores.system import own_files, procfs

FILE = "supervisor.json"
#: what a report is until it is complete
_NEW = re.compile(r"supervisor\.json\.(\d+)\.new")
#: seconds between two reports
REPORT_S = 0.5
#: seconds after which what was told is not known to be true any more
STALE_S = 3.0


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """A worker of the pool, or the process of a job.

    Attributes:
        pid: Of its process.
        state: "idle", "running", "starting", "ending" ...
        job: Id of the job that it runs; None: it runs none.
        task: Its task.
        seconds: How long it has been at it.
        memory: Resident bytes; None if unknown.
        cores: How many it uses.
    """

    pid: int
    state: str
    job: str | None = None
    task: str | None = None
    seconds: float = 0.0
    memory: int | None = None
    cores: int = 1


@dataclass(frozen=True, slots=True)
class SupervisorHealth:
    """A supervisor as it last told of itself.

    Attributes:
        pid: Its process.
        at: When it told this, seconds since 1970.
        started: When it began.
        state: "working", "draining", "crash-looping" (workers cannot be started), "store trouble", "ended".
        trouble: What is wrong, in words; "" if nothing.
        cores: The core budget.
        running: Jobs at work.
        claimed: Jobs that are claimed and wait for a worker.
        lost_claims: Ends of attempts that came too late: another attempt had the job.
        workers: Its processes.
        tasks: Names of the tasks that it runs.
        schedules: Task and next time, seconds since 1970.
        kept: What it keeps of jobs that have ended, in words.
    """

    pid: int
    at: float
    started: float
    state: str
    trouble: str = ""
    cores: int = 1
    running: int = 0
    claimed: int = 0
    lost_claims: int = 0
    workers: tuple[WorkerHealth, ...] = ()
    tasks: tuple[str, ...] = ()
    schedules: dict[str, float] = field(default_factory=dict)
    kept: str = ""

    @property
    def age(self) -> float:
        """Seconds since it told this."""
        return max(0.0, time.time() - self.at)

    @property
    def is_current(self) -> bool:
        """Whether it lives and told this a moment ago."""
        return self.state != "ended" and self.age < STALE_S and procfs.exists(self.pid)


def write(folder: str | os.PathLike[str], health: SupervisorHealth) -> None:
    """Replace what was told. Raises: OSError."""
    path = os.path.join(os.fspath(folder), FILE)
    new = f"{path}.{os.getpid()}.new"
    own_files.remove_own_file(new)
    with open(own_files.create(new), "w", encoding="utf-8") as file:
        json.dump(asdict(health), file)
    os.replace(new, path)


def tidy(folder: str | os.PathLike[str]) -> None:
    """Remove what supervisors that were killed amid a report have left."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            found = _NEW.fullmatch(name)
            if found is not None and not procfs.exists(int(found[1])):
                own_files.remove_own_file(os.path.join(os.fspath(folder), name))


def read(folder: str | os.PathLike[str]) -> SupervisorHealth | None:
    """What the supervisor of a store last told; None if there was none, or it cannot be read."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        with open(os.path.join(os.fspath(folder), FILE), encoding="utf-8") as file:
            raw: dict[str, Any] = json.load(file)
        workers = tuple(WorkerHealth(**each) for each in raw.pop("workers"))
        return SupervisorHealth(**{**raw, "workers": workers, "tasks": tuple(raw["tasks"])})
    return None


def why_none_runs(folder: str | os.PathLike[str], task: str) -> str:
    """Why no job of a task is going to run, in words: the supervisor that is there has no such task. "": none knows."""
    told = read(folder)
    if told is None or not told.is_current or not told.tasks or task in told.tasks:
        return ""
    return f"the supervisor that runs (process {told.pid}) has no task {task!r}{meant(task, told.tasks)}"
