"""Schedules: at which times a task makes a job by itself. Pure decisions; the supervisor does what they say.

Each time fires once, since its job has an idempotency key of task and time: two supervisors, one after the other, or a
supervisor that is killed between two steps, make no second one. Across changes of the clock it is as in Debian's cron:
of jobs at fixed times those that fall in a skipped hour run right after it, and those in a repeated hour run once.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import time
import zoneinfo
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cronsim import CronSim

from allcores.jobs.cron_text import zone_named
from allcores.jobs.tasks import Task

#: most times that are made up for with catch_up="all"
MOST_CAUGHT_UP = 100
#: seconds after its time that a job is not late: "none" makes up for no more
LATE_S = 60.0
#: seconds that a clock may be behind what was looked at: one that is set back by no more waits until it is there again
AHEAD_S = 2 * 3_600.0
#: the kind of the store's records that say until when each schedule was looked at: what was missed is made up for by
#: whichever supervisor comes next, wherever
KIND = "schedule"
#: in the store's folder: where earlier versions said so
FILE = "schedules.json"


@dataclass(frozen=True, slots=True)
class Firing:
    """A job that is due.

    Attributes:
        task: Its name.
        at: Its time, seconds since the epoch.
        key: The idempotency key of this one.
    """

    task: str
    at: float
    key: str


def zone_of(task: Task) -> datetime.tzinfo:
    """Where a task's schedule is."""
    if task.timezone is not None:
        return zone_named(task.timezone)
    return _local_zone()


def _local_zone() -> datetime.tzinfo:
    """The machine's, with its rules, so that the clock's changes are known in advance."""
    name = os.environ.get("TZ", "").removeprefix(":")
    path = name if os.path.isabs(name) else "/etc/localtime"
    if name and path != name:
        with contextlib.suppress(zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
            return zoneinfo.ZoneInfo(name)
    if not name or path == name:
        with contextlib.suppress(OSError, ValueError), open(path, "rb") as file:
            return zoneinfo.ZoneInfo.from_file(file, key="localtime")
    return _OfTheSystem()


class _OfTheSystem(datetime.tzinfo):
    """The time that the C library tells, by a rule that is no name ("CET-1CEST,M3.5.0,M10.5.0/3")."""

    def utcoffset(self, when: datetime.datetime | None) -> datetime.timedelta | None:
        return None if when is None else self._local(when).utcoffset()

    def dst(self, when: datetime.datetime | None) -> datetime.timedelta | None:
        return None if when is None else datetime.timedelta(hours=max(0, self._told(when).tm_isdst))

    def tzname(self, when: datetime.datetime | None) -> str | None:
        return None if when is None else self._local(when).tzname()

    def fromutc(self, when: datetime.datetime) -> datetime.datetime:
        told = when.replace(tzinfo=datetime.UTC).astimezone()
        local = told.replace(tzinfo=self)
        # Of an hour that comes twice, the second one.
        return local if local.utcoffset() == told.utcoffset() else local.replace(fold=1)

    def _local(self, when: datetime.datetime) -> datetime.datetime:
        # Python takes a time without a zone for one of the system's, and looks at `fold`.
        return when.replace(tzinfo=None).astimezone()

    def _told(self, when: datetime.datetime) -> time.struct_time:
        return time.localtime(when.replace(tzinfo=None).timestamp())

    def __str__(self) -> str:
        return os.environ.get("TZ", "").removeprefix(":") or "localtime"


def _times(task: Task, after: float) -> Iterator[float]:
    """The times of a task after a moment, in their order."""
    assert task.schedule is not None
    start = datetime.datetime.fromtimestamp(after, zone_of(task))
    for each in CronSim(task.schedule, start):
        # Within an hour that comes twice, that of its first pass is told, though it is over.
        if (at := each.timestamp()) > after:
            yield at


def next_time(task: Task, after: float) -> float | None:
    """The first time after a moment at which a task is due; None if there is none."""
    return next(_times(task, after), None)


def times_between(task: Task, after: float, until: float) -> Iterable[float]:
    """The times of a task from after one moment up to another one."""
    return itertools.takewhile(lambda at: at <= until, _times(task, after))


def looked_until(seen: float, now: float) -> float:
    """The moment until which times were looked at, for `due`.

    A clock that was far ahead and was put right would leave schedules silent for all that time, so what it told is not
    believed. Times that it had passed come again; their jobs have the same keys, so there is no second one.

    Args:
        seen: What was written down.
        now: The time.
    """
    return now if seen > now + AHEAD_S else seen


def due(task: Task, seen: float, now: float) -> list[Firing]:
    """What a task is to fire now.

    Args:
        task: With a schedule.
        seen: Until when its times were looked at.
        now: The time. One before `seen` (the clock was set back) fires nothing.
    """
    if now <= seen:
        return []
    # The latest ones, looked for in ever longer spans: there is a time every minute, and it may be a year since.
    span = 86_400.0
    while True:
        since = max(seen, now - span)
        times = list(deque(times_between(task, since, now), MOST_CAUGHT_UP))
        if since <= seen or len(times) == MOST_CAUGHT_UP:
            break
        span *= 4
    on_time = [at for at in times if now - at <= LATE_S]
    if task.catch_up == "latest":
        times = on_time or times[-1:]
    elif task.catch_up == "none":
        times = on_time
    return [Firing(task.name, at, f"schedule:{task.name}:{int(at)}") for at in times]


def seen_until(task: Task, known: Mapping[str, Any]) -> float | None:
    """Until when a task's times were looked at; None if it or its schedule is new.

    Args:
        task: With a schedule.
        known: What `as_seen` made, by task, as it was kept.
    """
    found = known.get(task.name)
    if isinstance(found, dict) and found.get("schedule") == task.schedule:
        at = found.get("seen")
        if isinstance(at, (int, float)):
            return float(at)
    return None


def as_seen(task: Task, until: float) -> dict[str, Any]:
    """That a task's times were looked at until a moment, as it is kept."""
    return {"schedule": task.schedule, "seen": until}


def seen_in_file(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What earlier versions kept of that in a file; {} if there is none."""
    with contextlib.suppress(OSError, ValueError), open(os.path.join(folder, FILE), encoding="utf-8") as file:
        found = json.load(file)
        return found if isinstance(found, dict) else {}
    return {}
