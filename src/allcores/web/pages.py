"""The pages that look: overview, lists, a job, settings and health, the audit log."""

from __future__ import annotations

import time
from typing import Any

from werkzeug.wrappers import Response

from allcores.jobs import decisions, health, history, retried_items
from allcores.jobs.errors import StoreError
from allcores.jobs.model import Counts, Job, State, Statistics
from allcores.jobs.secret_values import hide_secrets
from allcores.web import charts, job_details, supervision, views
from allcores.web.api import found_job
from allcores.web.lists import sequence
from allcores.web.rendering import WITHOUT_SUCCESS, live_tag, page, unchanged
from allcores.web.state import Console, current, is_poll, told

#: jobs that the picture of the cores is made from, at most, and the seconds that it shows
MOST_DRAWN, CORE_SECONDS = 400, 300.0
PACE_SECONDS, PACE_COLUMNS = 3_600.0, 60
DAY = 86_400.0
#: rows of the audit on a page
MOST_ROWS = 100
#: seconds for which open overviews share what one of them has read: twenty of them read no more than two
SHARED_S = 1.5


# --- overview ---


def overview() -> Any:
    """What is going on."""
    console, now = current(), time.time()
    seen = supervision.look(console.store)
    # Spans that end now move on by themselves.
    moving = int(now // 2) if console.change_and_running()[1] else int(now // 15)
    tag = live_tag(seen.stamp, moving)
    if (answer := unchanged(tag)) is not None:
        return answer
    read = console.shared.get("overview", SHARED_S, _read, fresh=not is_poll(), change=told())
    change, counts, hour, day, recent, pace = read
    # What another page has read a moment ago may be older than what is there now: then the next poll is answered.
    tag = live_tag(seen.stamp, moving, change=change)
    ended = sum(hour.finished.values())
    bad = sum(hour.finished.get(state, 0) for state in WITHOUT_SUCCESS)
    return page(
        "console/overview.html.j2",
        "overview",
        poll=True,
        tag=tag,
        counts=counts,
        seen=seen,
        hour=hour,
        day=day,
        bad=bad,
        bad_part=100 * bad / ended if ended else None,
        strips=charts.strips(recent, now, CORE_SECONDS),
        span=CORE_SECONDS,
        pace=pace,
        causes=charts.causes(day.failures.items()),
        states=[state.value for state in State],
        by_task=sorted(
            (
                (task, {s.value: n for s, n in each.items()})
                for task, each in counts.by_task.items()
                if any(each.values())
            )
        ),
    )


def _read() -> tuple[int, Counts, Statistics, Statistics, list[history.Span], charts.Pace]:
    """What the overview shows of the store."""
    store, now = current().store, time.time()
    # First, so that the tag is never newer than what it is of.
    change = store.change_number()
    all_ended, bad = history.ended(store, now, PACE_SECONDS, PACE_COLUMNS)
    return (
        change,
        store.counts(),
        store.stats(3_600.0),
        store.stats(DAY),
        history.spans(store, now - CORE_SECONDS, MOST_DRAWN),
        charts.pace(all_ended, bad, PACE_SECONDS),
    )


# --- one job ---


def job(job_id: str) -> Any:
    """All that is known of one job."""
    # First, so that the tag is never newer than what it is of.
    change = current().change_and_running()[0]
    return job_page(found_job(job_id), change)


def job_page(found: Job, change: int, stack: str | None = None) -> Response:
    """The page of a job; with the stack of its process, if that was asked for.

    Args:
        found: The job.
        change: The store's change number before it was read.
        stack: The stack.
    """
    console, now = current(), time.time()
    running = found.state is State.RUNNING
    details = job_details.read(console, found)
    why_none_runs = health.why_none_runs(console.store.folder, found.task) if found.state is State.QUEUED else ""
    tag = live_tag(details.stamp, int(now // 5) if running else 0, why_none_runs, change=change)
    if (answer := unchanged(tag)) is not None:
        return answer
    task = console.tasks.get(found.task)
    return page(
        "console/job.html.j2",
        "jobs",
        poll=stack is None,
        tag=tag,
        job=found,
        stack=stack,
        known=task is not None,
        why_none_runs=why_none_runs,
        deadline=found.timeout if task is None else decisions.timeout_of(found, task),
        retries=found.retries if task is None else decisions.retries_of(found, task),
        arguments=views.pretty(hide_secrets(found.arguments, console.settings.secret)),
        result=views.pretty(hide_secrets(found.result, console.settings.secret)),
        seconds=views.took(found, now),
        pace=job_details.pace(found, now),
        attempts=details.attempts,
        logs=details.logs,
        memory=details.memory,
        has_timeline=details.timelines > 0,
        failed_items=details.failed,
        retry_items=_retry_items(console, found) if task is not None else None,
        item_line=job_details.item_line,
    )


def _retry_items(console: Console, found: Job) -> int | None:
    """The number of the job that is made of its failed items; None if there is nothing to make it of."""
    known = retried_items.are_known(console.store, found)
    return retried_items.number_of(console.store, found) if known else None


# --- settings, audit ---


def settings() -> Any:
    """How the console and its store are set, and whether they are well."""
    console = current()
    store = console.store
    seen = supervision.look(store)
    return page(
        "console/settings.html.j2",
        "settings",
        seen=seen,
        settings=console.settings,
        health=_health(),
        store_facts=supervision.store_facts(store, seen),
        tasks=sorted(console.tasks.values(), key=lambda task: task.name),
        users=console.gate.names(),
    )


def _health() -> list[tuple[str, bool, str]]:
    store = current().store
    found = []
    try:
        found.append(("the store can be read", True, f"change {store.change_number():,}"))
    except StoreError as error:
        found.append(("the store can be read", False, str(error)))
    seen = supervision.look(store)
    found.append(("a supervisor runs jobs", seen.alive, f"process {seen.pid}" if seen.alive else "none is running"))
    return found


def audit() -> Any:
    """Who changed what."""
    found = current().store.audit(sequence("after"), MOST_ROWS + 1)
    rows = found[:MOST_ROWS]
    older = rows[-1].seq if len(found) > MOST_ROWS else None
    return page("console/audit.html.j2", "audit", rows=rows, older=older, short=views.short)
