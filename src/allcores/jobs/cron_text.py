"""Whether a text says when to run something."""

from __future__ import annotations

import datetime
import zoneinfo

from cronsim import CronSim, CronSimError

from allcores.errors import UsageError


def check_cron(name: str, schedule: str, timezone: str | None) -> None:
    """Raise UsageError unless a task's schedule and time zone make sense."""
    try:
        CronSim(schedule, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
    except CronSimError as error:
        raise UsageError(
            f"task {name!r}: schedule={schedule!r} is no cron text ({error}); it has five parts: minute hour day month"
            " weekday, as in '*/5 * * * *'"
        ) from None
    if timezone is not None:
        try:
            zoneinfo.ZoneInfo(timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            raise UsageError(f"task {name!r}: there is no time zone {timezone!r}; one is 'Europe/Berlin'") from None
