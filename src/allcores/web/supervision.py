"""What is known of the supervisor and its workers, from what it leaves in the store's folder; only read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allcores.formatting import size_text
from allcores.jobs import health
from allcores.jobs.health import SupervisorHealth
from allcores.jobs.model import Job
from allcores.system import procfs
from allcores.web.views import moment

if TYPE_CHECKING:
    from allcores.jobs.store import JobStore


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known.

    Attributes:
        alive: A process holds the store as its supervisor.
        pid: Of it; None if there is none, or its number is not known.
        health: What one last told, perhaps one that is gone.
        fresh: It was told just now, by the one that is there.
        stamp: Changes with all this.
    """

    alive: bool = False
    pid: int | None = None
    health: SupervisorHealth | None = None
    fresh: bool = False
    stamp: str = ""

    @property
    def since(self) -> float | None:
        """When one last told of itself."""
        return None if self.health is None else self.health.at

    @property
    def cores(self) -> int | None:
        """The core budget."""
        return self.health.cores if self.health is not None and self.fresh else None

    def as_json(self) -> dict[str, Any]:
        """For programs: what is not known to be true any more is null."""
        health = self.health if self.fresh else None
        return {
            "alive": self.alive,
            "pid": self.pid,
            "since": moment(self.since),
            "state": None if health is None else health.state,
            "trouble": None if health is None else health.trouble,
            "cores": self.cores,
            "running": None if health is None else health.running,
        }


def look(store: JobStore) -> Seen:
    """What is known now."""
    pid = store.supervisor_pid()
    told = health.read(store.folder)
    fresh = pid is not None and told is not None and told.is_current
    # What it tells twice a second is no change; that it has stopped telling is one.
    stamp = f"{pid}|{fresh}|{told.state if told is not None else None}|{told.trouble if told is not None else None}"
    return Seen(pid is not None, pid or None, told, fresh, stamp)


@dataclass(frozen=True, slots=True)
class Process:
    """The process of a running job, as the kernel tells; None is not known."""

    job: Job
    pid: int
    memory: int | None
    cpu: float | None


def processes(running: Sequence[Job]) -> list[Process]:
    """The processes of running jobs, if they are on this machine."""
    found = []
    for job in running:
        pid = 0 if job.worker is None else job.worker.pid
        memory = procfs.resident_bytes(pid) if pid else None
        found.append(Process(job, pid, memory, None if memory is None else _share(pid)))
    return found


def _share(pid: int) -> float | None:
    """The part of a core that the process has had since it began."""
    used = procfs.cpu_ns(pid)
    if used is None:
        return None
    lived = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - procfs.started_ns(pid)
    return used / lived if lived > 0 else None


def store_facts(store: JobStore, seen: Seen) -> list[tuple[str, str]]:
    """What there is to say about the store, in words."""
    told = seen.health if seen.fresh else None
    counts = store.counts()
    return [
        ("where", store.name),
        ("folder", str(store.folder)),
        ("jobs", f"{counts.total:,}"),
        ("arguments, results, files", size_text(counts.bytes)),
        ("what is kept", "as the supervisor is set: none tells" if told is None else told.kept),
    ]
