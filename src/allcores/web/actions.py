"""What forms do to jobs. Each is a POST, writes a row of the audit, and leads to a page that says what was done."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import flask

from allcores.jobs.model import Changed, Snapshot, State
from allcores.web import job_details
from allcores.web.api import found_job
from allcores.web.filters import read_filter
from allcores.web.security import Refused, Role, User, parts_of
from allcores.web.state import current, root

#: jobs that may be ticked on one page
MOST_CHOSEN = 500
#: seconds for which one request changes jobs: a million take minutes, and servers and proxies give up after 30 or 60
BULK_S = 10.0


def _user() -> User:
    user: User = flask.g.allcores_user
    return user


def _whole(name: str) -> int:
    text = flask.request.form.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refused(400, "bad_form", f"{name} is a whole number.")
    return int(text)


def local_path(text: str, default: str) -> str:
    """An address of this console, or the default: never one of another site."""
    prefix = root()
    parts = parts_of(text)
    fine = (
        text.startswith(f"{prefix}/")
        and not text.startswith("//")
        and "\\" not in text
        and not parts.netloc
        and bool(parts.path)
    )
    return text if fine and text.isprintable() and not parts.scheme else default


def _go(path: str, what: str, changed: Changed, undo: int | None = None) -> Any:
    separator = "&" if "?" in path else "?"
    facts = {
        "did": what,
        "count": changed.count,
        "skipped": changed.skipped or None,
        "more": 1 if changed.time_was_up else None,
        "undo": undo or changed.audit or None,
    }
    query = urlencode({name: value for name, value in facts.items() if value is not None})
    return flask.redirect(f"{path}{separator}{query}", 303)


def cancel(job_id: str) -> Any:
    """End one job."""
    found = found_job(job_id)
    if found.state is State.CANCELLED or (found.cancel_requested and not found.state.is_final):
        # A second click: it is what was asked for.
        return _go(flask.url_for("allcores.job", job_id=job_id), "cancel", Changed(1))
    if found.state.is_final:
        raise Refused(409, "already_ended", f"The job has ended: it is {found.state.value}.")
    return _go(flask.url_for("allcores.job", job_id=job_id), "cancel", current().store.cancel([job_id], _user().name))


def retry(job_id: str) -> Any:
    """Queue one job again."""
    found = found_job(job_id)
    changed = current().store.retry([job_id], _user().name, succeeded=False)
    if not changed.count and found.state not in (State.QUEUED, State.RUNNING):
        raise Refused(409, "not_ended", "Only a job that ended without success is retried.")
    # One that waits or runs was retried by an earlier click.
    return _go(flask.url_for("allcores.job", job_id=job_id), "retry", Changed(1, audit=changed.audit))


def delete(job_id: str) -> Any:
    """Remove one job that has ended."""
    store, by = current().store, _user().name
    if store.get(job_id) is None and (again := store.deletion_again([job_id], by)) is not None:
        return _go(flask.url_for("allcores.jobs"), "delete", again)
    found = found_job(job_id)
    if not found.state.is_final:
        raise Refused(409, "not_ended", "Only a job that has ended is deleted: cancel it first.")
    # A damaged row counts as ended, also one that says it waits.
    changed = store.delete([job_id], by, queued=bool(found.damaged))
    return _go(flask.url_for("allcores.jobs"), "delete", changed)


def retry_failed_items(job_id: str) -> Any:
    """Make a job of the items that failed."""
    number = _whole("number") if "number" in flask.request.form else None
    made = job_details.retry_failed_items(current(), found_job(job_id), _user().name, number)
    return _go(flask.url_for("allcores.job", job_id=made.job.id), "submit", Changed(1))


def bulk() -> Any:
    """Act on the jobs that were ticked, or on all of a list as it was when its page was made."""
    form, store = flask.request.form, current().store
    what = form.get("what", "")
    if what not in ("retry", "cancel", "delete"):
        raise Refused(400, "bad_form", "what is retry, cancel or delete.")
    if what == "delete" and not _user().may(Role.ADMIN):
        raise Refused(403, "not_allowed", "This needs the role admin.")
    jobs: list[str] | Snapshot
    if "change" in form:
        jobs = Snapshot(read_filter(form, current().settings.secret), _whole("change"), _whole("count"))
    else:
        jobs = form.getlist("id")
        if len(jobs) > MOST_CHOSEN:
            raise Refused(400, "too_many_chosen", f"{len(jobs):,} jobs were chosen: choose {MOST_CHOSEN} at most.")
        if not jobs:
            raise Refused(400, "none_chosen", "No job was chosen: tick some of them first.")
    by = _user().name
    # What waits is not deleted, and no result is given up: nobody who ticks a whole page means that.
    if what == "retry":
        changed = store.retry(jobs, by, succeeded=False, seconds=BULK_S)
    elif what == "cancel":
        changed = store.cancel(jobs, by, seconds=BULK_S)
    else:
        changed = store.delete(jobs, by, queued=False, seconds=BULK_S)
        if not changed.count:
            # A second click finds none of them, and would offer no way to bring them back.
            changed = store.deletion_again(jobs, by) or changed
    return _go(local_path(form.get("back", ""), flask.url_for("allcores.jobs")), what, changed)


def undo() -> Any:
    """Bring deleted jobs back."""
    form, store, by = flask.request.form, current().store, _user().name
    number = _whole("audit")
    if form.get("what") == "delete":
        if not _user().may(Role.ADMIN):
            raise Refused(403, "not_allowed", "This needs the role admin.")
        changed = store.undelete(number, by, seconds=BULK_S)
        # What is not there yet is brought back by the same deletion's row.
        return _go(flask.url_for("allcores.jobs"), "undelete", changed, number if changed.time_was_up else None)
    raise Refused(400, "bad_form", "what is delete.")
