"""When schedules fire: each time once, also across changes of the clock and while nobody looked."""

from __future__ import annotations

import datetime
import importlib.util
import itertools
import os
import time
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from allcores.errors import UsageError
from allcores.jobs import Task, schedules, task
from allcores.jobs.schedules import (
    MOST_CAUGHT_UP,
    as_seen,
    due,
    looked_until,
    next_time,
    seen_in_file,
    seen_until,
    times_between,
)
from allcores.jobs.tasks import task_of

BERLIN = ZoneInfo("Europe/Berlin")


def scheduled(schedule: str, **options: Any) -> Task:
    @task(name="nightly", schedule=schedule, **options)
    def nightly() -> None: ...

    found = task_of(nightly)
    assert found is not None
    return found


def at(text: str, zone: datetime.tzinfo = datetime.UTC) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def fired(one: Task, seen: float, now: float) -> list[str]:
    zone = ZoneInfo(one.timezone or "UTC")
    return [datetime.datetime.fromtimestamp(each.at, zone).strftime("%d %H:%M") for each in due(one, seen, now)]


def test_a_time_fires_when_it_is_passed() -> None:
    one = scheduled("*/5 * * * *", timezone="UTC")
    assert fired(one, at("2026-01-01 00:04"), at("2026-01-01 00:04:59")) == []
    assert fired(one, at("2026-01-01 00:04"), at("2026-01-01 00:05")) == ["01 00:05"]
    assert fired(one, at("2026-01-01 00:05"), at("2026-01-01 00:05:30")) == []
    assert next_time(one, at("2026-01-01 00:05")) == at("2026-01-01 00:10")


@pytest.fixture
def machine_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the time zone of this process."""

    def put(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield put
    monkeypatch.undo()
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs tzset")
@pytest.mark.parametrize("zone", ["CET-1CEST,M3.5.0,M10.5.0/3", ":CET-1CEST,M3.5.0,M10.5.0/3"])
@pytest.mark.parametrize("schedule", ["30 2 * * *", "*/30 * * * *", "0 3 * * *", "15 */2 * * *"])
def test_the_zone_of_the_machine_may_be_a_rule(zone: str, schedule: str, machine_in: Callable[[str], None]) -> None:
    """As small images have it, without files of zones: times are those of a zone with a name, also around changes."""
    machine_in(zone)
    for day in ("2026-03-27", "2026-06-01", "2026-10-23", "2026-12-31"):
        span = at(f"{day} 12:00"), at(f"{day} 12:00") + 3 * 86_400
        by_name = list(times_between(scheduled(schedule, timezone="Europe/Berlin"), *span))
        assert list(itertools.islice(times_between(scheduled(schedule), *span), 200)) == by_name != []
    assert str(schedules.zone_of(scheduled(schedule))) == zone.removeprefix(":")


@pytest.mark.skipif(not os.path.exists("/usr/share/zoneinfo/Asia/Tokyo"), reason="needs files of zones")
def test_the_zone_of_the_machine_may_be_a_file(machine_in: Callable[[str], None]) -> None:
    machine_in(":/usr/share/zoneinfo/Asia/Tokyo")
    assert next_time(scheduled("0 3 * * *"), at("2026-01-01 12:00")) == at("2026-01-01 18:00")


def test_keys_are_those_of_the_time() -> None:
    one = scheduled("0 * * * *", timezone="UTC")
    first = due(one, at("2026-01-01 00:30"), at("2026-01-01 01:00:01"))
    again = due(one, at("2026-01-01 00:10"), at("2026-01-01 01:00:50"))
    assert [each.key for each in first] == [each.key for each in again] != []


def test_what_was_missed() -> None:
    night = (at("2026-01-01 00:00"), at("2026-01-01 06:30"))
    assert fired(scheduled("0 * * * *", timezone="UTC"), *night) == ["01 06:00"]
    assert fired(scheduled("0 * * * *", timezone="UTC", catch_up="none"), *night) == []
    every = fired(scheduled("0 * * * *", timezone="UTC", catch_up="all"), *night)
    assert every == [f"01 0{hour}:00" for hour in range(1, 7)]
    assert fired(scheduled("30 * * * *", timezone="UTC", catch_up="none"), *night) == ["01 06:30"]


@pytest.mark.parametrize(
    ("schedule", "first"),
    [("* * * * *", "2025-12-31 22:21"), ("0 0 * * *", "2025-09-24 00:00"), ("0 0 1 * *", "2017-10-01 00:00")],
)
def test_a_long_time_is_not_walked_through_minute_by_minute(
    schedule: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[float] = []

    def counted(*args: Any) -> Iterator[float]:
        for each in times_between(*args):
            walked.append(each)
            yield each

    monkeypatch.setattr(schedules, "times_between", counted)
    task = scheduled(schedule, timezone="UTC", catch_up="all")
    found = [firing.at for firing in due(task, at("2016-01-01 00:00"), at("2026-01-01 00:00"))]
    assert (len(found), found[0], found[-1]) == (MOST_CAUGHT_UP, at(first), at("2026-01-01 00:00"))
    assert found == sorted(set(found))
    assert len(walked) < 3_000


def test_a_clock_that_is_set_back_fires_nothing_twice() -> None:
    one = scheduled("0 * * * *", timezone="UTC")
    assert due(one, at("2026-01-01 02:00"), at("2026-01-01 01:00")) == []


def test_a_clock_that_was_far_ahead_leaves_no_schedule_silent() -> None:
    one = scheduled("0 * * * *", timezone="UTC")
    ahead, now = at("2027-01-01 02:30"), at("2026-01-01 01:30")
    assert looked_until(ahead, now) == now
    assert fired(one, looked_until(ahead, now), now) == []
    assert fired(one, looked_until(ahead, now), at("2026-01-01 02:00")) == ["01 02:00"]
    # A little: it waits until the time is there again.
    assert looked_until(now + 3_600, now) == now + 3_600


def test_an_hour_that_is_skipped() -> None:
    """In Berlin, 02:00 to 03:00 of 29 March 2026 does not exist: what falls there runs right after it."""
    one = scheduled("30 2 * * *", timezone="Europe/Berlin", catch_up="all")
    seen, now = at("2026-03-28 12:00", BERLIN), at("2026-03-30 12:00", BERLIN)
    assert fired(one, seen, now) == ["29 03:00", "30 02:30"]


def test_an_hour_that_is_repeated() -> None:
    """In Berlin, 02:00 to 03:00 of 25 October 2026 comes twice: what is due at a time runs once."""
    one = scheduled("30 2 * * *", timezone="Europe/Berlin", catch_up="all")
    seen, now = at("2026-10-24 12:00", BERLIN), at("2026-10-26 12:00", BERLIN)
    assert fired(one, seen, now) == ["25 02:30", "26 02:30"]


@pytest.mark.parametrize("schedule", ["30 2 * * *", "*/30 * * * *", "30 * * * *"])
def test_within_an_hour_that_is_repeated(schedule: str) -> None:
    """The next time lies ahead there, too, and what was due in its first pass is not due once more."""
    one = scheduled(schedule, timezone="Europe/Berlin", catch_up="all")
    first, second = (at(f"2026-10-25 0{hour}:10") for hour in (0, 1))
    whole = list(times_between(one, first, second + 100_000))
    assert whole == sorted(set(whole))
    for seen in (first, second, second + 1_800):
        later = [each for each in whole if each > seen]
        assert next_time(one, seen) == later[0]
        assert [each.at for each in due(one, seen, second + 100_000)] == later


def test_half_an_hour_that_is_repeated() -> None:
    """On Lord Howe Island clocks change by thirty minutes: 01:30 to 02:00 comes twice."""
    one = scheduled("45 1 * * *", timezone="Australia/Lord_Howe", catch_up="all")
    change = at("2026-04-04 15:00")
    assert list(times_between(one, change - 90_000, change + 90_000)) == [
        at(f"2026-04-{text}") for text in ("03 14:45", "04 14:45", "05 15:15")
    ]
    assert next_time(one, change + 60) == at("2026-04-05 15:15")


def test_what_was_seen_is_of_one_schedule() -> None:
    one, other = scheduled("0 * * * *"), scheduled("5 * * * *")
    known = {one.name: as_seen(one, 300.0)}
    assert (seen_until(one, known), seen_until(one, {})) == (300.0, None)
    assert seen_until(other, known) is None, "another schedule begins anew"
    strange: list[Any] = [[], {"schedule": "0 * * * *"}, {"schedule": "0 * * * *", "seen": "x"}]
    for odd in strange:
        assert seen_until(one, {one.name: odd}) is None


def test_what_earlier_versions_kept_in_a_file(tmp_path: Path) -> None:
    assert seen_in_file(tmp_path) == {}
    (tmp_path / "schedules.json").write_text('{"f": {"schedule": "0 * * * *", "seen": 300.0}}')
    assert seen_in_file(tmp_path) == {"f": {"schedule": "0 * * * *", "seen": 300.0}}
    for odd in ("{", "[]"):
        (tmp_path / "schedules.json").write_text(odd)
        assert seen_in_file(tmp_path) == {}


@pytest.mark.skipif(importlib.util.find_spec("tzdata") is not None, reason="there are files of zones, whatever is done")
def test_where_there_are_no_files_of_zones() -> None:
    """Small images have none: UTC is there all the same, and for others the way out is named."""
    zoneinfo.reset_tzpath(to=[])
    ZoneInfo.clear_cache()
    try:
        assert next_time(scheduled("0 3 * * *", timezone="UTC"), at("2026-01-01 12:00")) == at("2026-01-02 03:00")
        with pytest.raises(UsageError, match=r"no time zone 'Europe/Berlin'; no files of zones .*tzdata`"):
            scheduled("0 3 * * *", timezone="Europe/Berlin")
    finally:
        zoneinfo.reset_tzpath()
        ZoneInfo.clear_cache()
