"""Whether a text says when to run something."""

from __future__ import annotations

import datetime
import zoneinfo

from cronsim import CronSim, CronSimError

from allcores.errors import UsageError
from allcores.formatting import counted
from allcores.jobs.rows import shown

#: minute, hour, day, month, weekday
PARTS = 5
#: what dates are looked for from on: with leap years in the fifty years that are searched
_START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def check_cron(name: str, schedule: str, timezone: str | None) -> None:
    """Raise UsageError unless a task's schedule and time zone make sense."""
    try:
        if not isinstance(schedule, str):
            raise CronSimError("it is no text")
        if (parts := len(schedule.split())) != PARTS:
            # CronSim takes a sixth one, for seconds: times are looked at now and then, and not each second.
            raise CronSimError(f"this has {counted(parts, 'part')}")
        times = CronSim(schedule, _START)
    except (CronSimError, ValueError) as error:
        raise UsageError(
            f"task {name!r}: schedule={shown(schedule)} is no cron text ({error}); it has five parts: minute hour day"
            " month weekday, as in '*/5 * * * *'"
        ) from None
    if next(times, None) is None:
        raise UsageError(f"task {name!r}: schedule={shown(schedule)} never comes: no such day is in such a month")
    if timezone is not None and not _is_zone(timezone):
        # What small images lack.
        has_zones = bool(zoneinfo.available_timezones())
        hint = "one is 'Europe/Berlin'" if has_zones else "no files of zones are here: `pip install tzdata` brings them"
        raise UsageError(f"task {name!r}: there is no time zone {shown(timezone)}; {hint}")


def zone_named(name: str) -> datetime.tzinfo:
    """A time zone; UTC is there without files of zones, too.

    Raises:
        ZoneInfoNotFoundError, OSError, ValueError: There is none of that name.
    """
    return datetime.UTC if name == "UTC" else zoneinfo.ZoneInfo(name)


def _is_zone(name: object) -> bool:
    if not isinstance(name, str):
        return False
    try:
        zone_named(name)
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):  # a folder of zones, or a name that is too long
        return False
    return True
