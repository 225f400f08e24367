"""What a job started, wherever it went: below its process, and by a mark that programs inherit.

A process that leaves the group or session of its parent (`setsid`, `start_new_session=True`) is still the parent's
child, and one whose parent is gone still has the environment that it was started with. Both are looked for when an
attempt is ended by force. What is killed is known by its number and the moment of its start: numbers are given again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterable

from allcores.system import procfs

#: in the environment of what an attempt starts: "<id of the job>.<number of the attempt>"
MARK = "ALLCORES_JOB"

#: the kernel's clock of starts is as fine as that
_TICK_S = 0.02
#: number of a process, and when it was started, in the kernel's ticks
Process = tuple[int, int]


def mark_of(job: str, attempt: int) -> str:
    """The mark of an attempt."""
    return f"{job}.{attempt}"


def alive(pid: int) -> Process | None:
    """A process that runs, or is stopped; None if there is none, or it only waits to be collected."""
    fields = procfs.stat_fields(pid)
    return None if fields is None or fields[0] in (b"Z", b"X") else (pid, int(fields[19]))


def below(pid: int, seconds: float | None = None, mark: str | None = None) -> set[Process]:
    """Children of a process, and theirs, as far as they can be seen.

    Args:
        pid: The process.
        seconds: Only what was started in the last seconds; None: all of them.
        mark: Of the attempt that it runs: nothing that has the mark of another, which may have ended just before.
    """
    found = {alive(each) for each in procfs.tree(pid) if each != pid}
    since = 0 if seconds is None else time.monotonic_ns() - int((seconds + _TICK_S) * 1e9)
    return {
        each
        for each in found
        if each is not None
        and procfs.started_ns(each[0]) >= since
        and (mark is None or _mark_in(each[0]) in (None, mark))
    }


def _mark_in(pid: int) -> str | None:
    """The mark that a process was started with."""
    start = f"{MARK}=".encode()
    for entry in (procfs.read(f"{pid}/environ") or b"").split(b"\0"):
        if entry.startswith(start):
            return entry[len(start) :].decode("utf-8", "replace")
    return None


def in_session(leader: int) -> set[Process]:
    """Processes of a session, without its leader."""
    found = set()
    with contextlib.suppress(OSError):
        for pid in procfs.processes():
            fields = procfs.stat_fields(pid)
            if pid != leader and fields is not None and int(fields[3]) == leader and fields[0] not in (b"Z", b"X"):
                found.add((pid, int(fields[19])))
    return found


def marked(job: str, attempt: int | None = None) -> set[Process]:
    """Processes that were started with the mark of an attempt, or of any attempt of the job."""
    return of_jobs({job}, attempt)


def of_jobs(jobs: Collection[str], attempt: int | None = None) -> set[Process]:
    """The same for several jobs."""
    found: set[Process] = set()
    with contextlib.suppress(OSError):
        for pid in procfs.processes() if jobs else ():
            job, _, number = (_mark_in(pid) or "").rpartition(".")
            if job in jobs and (attempt is None or number == str(attempt)) and pid != os.getpid():
                found.update(filter(None, (alive(pid),)))
    return found


def kill(processes: Iterable[Process]) -> set[Process]:
    """Kill those that are there still; they are given back."""
    there = {each for each in processes if alive(each[0]) == each}
    for pid, _ in there:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return there
