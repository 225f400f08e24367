"""What runs: workers, schedules, and the stack of a running job."""

from __future__ import annotations

import time
from typing import Any

import flask
from werkzeug.exceptions import NotFound

from allcores.jobs.model import JobFilter, State
from allcores.jobs.rows import digest
from allcores.jobs.schedules import next_time, zone_of
from allcores.web import job_details, pages, rendering, sent_once, supervision
from allcores.web.api import found_job
from allcores.web.state import current
from allcores.web.submitting import Wanted, submit

#: running jobs that the page of workers lists
MOST_RUNNING = 200


def workers() -> Any:
    """The supervisor, its workers, and what runs in them."""
    store = current().store
    seen = supervision.look(store)
    tag = rendering.live_tag(seen.stamp, int(time.time() // 2))
    if (answer := rendering.unchanged(tag)) is not None:
        return answer
    running = store.page(JobFilter(states=(State.RUNNING,)), limit=MOST_RUNNING).jobs
    return rendering.page(
        "console/workers.html.j2",
        "workers",
        poll=True,
        tag=tag,
        seen=seen,
        processes=supervision.processes(running),
        more=max(0, store.counts().by_state.get(State.RUNNING, 0) - len(running)),
    )


def schedules() -> Any:
    """The tasks that make jobs by themselves, and when."""
    console, now = current(), time.time()
    found = []
    for task in sorted(console.tasks.values(), key=lambda each: each.name):
        if task.schedule is None:
            continue
        last = console.store.page(JobFilter(task=task.name), limit=1).jobs
        found.append(
            {
                "task": task,
                "zone": str(zone_of(task)),
                "next": next_time(task, now),
                "last": last[0] if last else None,
            }
        )
    seen = supervision.look(console.store)
    return rendering.page("console/schedules.html.j2", "schedules", schedules=found, seen=seen, once=sent_once.token())


def schedule_action(name: str, what: str) -> Any:
    """Run a scheduled task now."""
    console = current()
    if name not in console.tasks or console.tasks[name].schedule is None or what != "run":
        raise NotFound
    made = submit(console, Wanted(task=name, key=sent_once.key_of(digest(name, "run"))), flask.g.allcores_user.name)
    return flask.redirect(flask.url_for("allcores.job", job_id=made.job.id, did="submit", count=1), 303)


def stack(job_id: str) -> Any:
    """The job's page, with what its process is doing at this moment."""
    change = current().change_and_running()[0]
    found = found_job(job_id)
    return pages.job_page(found, change, stack=job_details.stack_of(current(), found))
