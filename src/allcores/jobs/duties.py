"""Schedules that fire, and what is kept no longer: seen to by the supervisor."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from allcores.jobs import job_files, uploads
from allcores.jobs.duty import Duty
from allcores.jobs.errors import BadJob, KeyConflict
from allcores.jobs.firings import Fire
from allcores.jobs.model import Submission
from allcores.jobs.schedules import KIND, as_seen, due, looked_until, next_time, seen_in_file, seen_until
from allcores.jobs.submissions import Prepared, prepared
from allcores.system import own_files

if TYPE_CHECKING:
    from allcores.jobs.retention import Retention
    from allcores.jobs.store import JobStore
    from allcores.jobs.tasks import Registry, Task

log = logging.getLogger("allcores.jobs")

#: seconds between two looks at schedules, and after which it is written down that there was nothing to fire
SCHEDULES_S = 0.5
WRITE_S = 60.0
#: seconds between two looks at what goes
KEEP_S = 60.0
#: the same while there is more than could be removed at once, and seconds for which it is removed at a time: jobs that
#: end as fast as they can are removed as fast, and the supervisor does little else meanwhile for 50 ms at most
KEEP_MORE_S, SWEEP_S = 0.2, 0.05
#: seconds between two looks at SQLite's log
LOG_S = 1.0
#: seconds for which a file that was handed in waits for its job
UPLOAD_S = 86_400.0
#: names of files, and of folders, that are looked at each time
UPLOADS_AT_ONCE, FOLDERS_AT_ONCE = 100, 1_000
_ID = re.compile(r"[0-9a-f]{32}")


class ScheduleDuty(Duty):
    """Makes the jobs of tasks that have a schedule.

    Args:
        store: The store.
        registry: The tasks.
    """

    def __init__(self, store: JobStore, registry: Registry) -> None:
        self._store = store
        self._tasks = [each for each in registry.values() if each.schedule is not None]
        self._at = 0.0
        #: until when each task's times were looked at; None: that was not read yet
        self._moments: dict[str, float] | None = None
        self._written = 0.0

    def look(self, wall: float, *, stopping: bool) -> bool:
        """Submit what is due; the store sees to it that each time fires once."""
        if stopping or abs(wall - self._at) < SCHEDULES_S:
            return False
        self._at = wall
        if self._moments is None:
            self._moments = self._read(wall)
        moments = dict(self._moments)
        fires = []
        for task in self._tasks:
            seen = looked_until(moments[task.name], wall)
            moments[task.name] = max(seen, wall)
            fires.append(Fire(task.name, as_seen(task, moments[task.name]), self._jobs(task, seen, wall), wall))
        done = False
        if any(each.jobs for each in fires) or (fires and abs(wall - self._written) >= WRITE_S):
            for each, answers in zip(fires, self._store.fire(fires), strict=True):
                for answer in answers:
                    if isinstance(answer, KeyConflict):
                        # So it will be each time: another job has the key. Other times, and other tasks, go on.
                        log.warning("task %s does not run at its time: %s", each.task, answer)
            self._written = wall
            done = True
        self._moments = moments
        return done

    def _jobs(self, task: Task, seen: float, wall: float) -> list[tuple[float, Prepared]]:
        """What a task is to fire now, with its times."""
        found = []
        for firing in due(task, seen, wall):
            try:
                job = Submission(
                    task.name, {}, task.priority, None, task.tags, firing.key, task.timeout, task.retries, by="schedule"
                )
                found.append((firing.at, prepared(job)))
            except BadJob as error:
                log.warning("task %s does not run at its time: %s", task.name, error)
        return found

    def _read(self, wall: float) -> dict[str, float]:
        """Until when each task's times were looked at; one that is new begins now."""
        if not self._tasks:
            return {}
        # What is in the file is older than what is in the store.
        known = {**seen_in_file(self._store.folder), **self._store.records(KIND)}
        found = {task.name: seen_until(task, known) for task in self._tasks}
        return {name: wall if seen is None else seen for name, seen in found.items()}

    def put_down(self) -> None:
        """See Duty: another one looks at the times from now on."""
        self._moments = None

    def next_times(self) -> dict[str, float]:
        """When each is due next."""
        now = time.time()
        found = {task.name: next_time(task, now) for task in self._tasks}
        return {name: at for name, at in found.items() if at is not None}


class KeepingDuty(Duty):
    """Removes what is to be kept no longer, and what belongs to no job.

    Args:
        store: The store.
        retention: What is kept.
        clock: Monotonic.
    """

    def __init__(self, store: JobStore, retention: Retention, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._retention = retention
        #: when to remove again, when to look for files again, and at the log, by the monotonic clock
        self._sweep_at = self._files_at = self._log_at = float("-inf")
        self._began = False
        #: parts that have raised, and were not done since
        self._undone: set[str] = set()
        #: by folder: the last name that was looked at
        self._looked_at: dict[str, str] = {}

    def look(self, wall: float, *, stopping: bool) -> bool:
        """Once a minute; a portion at a time, and the next one soon if there is more."""
        now = self._clock()
        if stopping:
            return False
        done = False
        if now >= self._log_at:
            self._log_at = now + LOG_S
            with self._step("log"):
                self._store.tend_log()
            done = True
        if now >= self._sweep_at:
            # For the case that it raises.
            self._sweep_at = now + KEEP_S
            with self._step("sweep"):
                if not self._store.maintain(self._retention, seconds=SWEEP_S).complete:
                    self._sweep_at = now + KEEP_MORE_S
            done = True
        if now >= self._files_at:
            self._files_at = now + KEEP_S
            with self._step("files"):
                self._keep_files(wall)
            done = True
        return done and not self._undone

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """What is not done if the block raises."""
        self._undone.add(name)
        yield
        self._undone.discard(name)

    def _keep_files(self, wall: float) -> None:
        if not self._began:
            self._began = True
            self._store.remove_orphans()
        self._remove_work()
        self._remove_uploads(wall)

    def _remove_work(self) -> None:
        """What is kept for jobs that are gone: their runs go by the rules of runs."""
        folder = os.path.join(self._store.folder, job_files.FOLDER)
        some = self._some(folder, filter(_ID.fullmatch, _names(folder)), FOLDERS_AT_ONCE)
        old = [name for name in some if _age(os.path.join(folder, name)) > UPLOAD_S]
        if not old:
            return
        from allcores.jobs.queries import kept

        # Of all of them by one question: jobs that are to begin wait meanwhile.
        there = kept(self._store, old)
        for name in old:
            if name not in there:
                own_files.remove_own_folder(os.path.join(folder, name), job_files.is_ours)

    def _remove_uploads(self, wall: float) -> None:
        """Files that were handed in and that no job names: they are older than a day."""
        folder = os.path.join(self._store.folder, uploads.FOLDER)
        old = [name for name in _names(folder) if uploads.is_ours(name) and _age(os.path.join(folder, name)) > UPLOAD_S]
        if not old:
            return
        from allcores.jobs.queries import not_named_in_arguments

        some = {name: name.removesuffix(".new") for name in self._some(folder, old, UPLOADS_AT_ONCE)}
        gone = not_named_in_arguments(self._store, some.values())
        for name, upload in some.items():
            if upload in gone:
                own_files.remove_own_file(os.path.join(folder, name))

    def _some(self, folder: str, names: Iterable[str], most: int) -> list[str]:
        """So many of the names, each time those behind the last ones: what stays hides nothing that is to go."""
        last = self._looked_at.get(folder, "")
        behind = sorted(name for name in names if name > last)[:most]
        self._looked_at[folder] = behind[-1] if len(behind) == most else ""
        return behind


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _age(path: str) -> float:
    try:
        return time.time() - os.stat(path, follow_symlinks=False).st_mtime
    except OSError:
        return 0.0
