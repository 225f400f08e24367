"""Jobs come into the store: checked, each once by its key and by its id, many in one transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select

from allcores.errors import AllcoresError
from allcores.jobs import schema, uploads
from allcores.jobs.errors import BadJob, KeyConflict
from allcores.jobs.given_text import NO_ADDRESS, is_web_address
from allcores.jobs.group_commit import Transaction
from allcores.jobs.model import Job, State, Submission, Submitted
from allcores.jobs.reading import among, jobs_where, rows_of
from allcores.jobs.rows import MAX_TAGS, as_seconds, check_name, digest, dumps, job_from_row, new_id, shown

#: seconds since 1970 of what no calendar shows any more
YEAR_10000 = 253_402_300_800.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A submission that was checked, as a row; it can be sent to another process as JSON.

    Attributes:
        row: By column; without `seq` and `changed`.
    """

    row: dict[str, Any]

    @property
    def size(self) -> int:
        """About how many bytes it writes; 0 for what another process has sent and is no row."""
        arguments = self.row.get("arguments") if isinstance(self.row, dict) else None
        return len(arguments) if isinstance(arguments, str) else 0


def prepared(submission: Submission, now: float | None = None) -> Prepared:
    """The row of a submission.

    Raises:
        BadJob: It cannot be kept.
    """
    now = time.time() if now is None else now
    if not isinstance(submission.arguments, dict):
        raise BadJob(f"the arguments are a dict by name, not {type(submission.arguments).__name__}")
    arguments = dumps(submission.arguments, "the dict of arguments", characters=True)
    given: object = submission.tags
    if not isinstance(given, list | tuple) or len(given) > MAX_TAGS:
        raise BadJob(f"tags are a list of at most {MAX_TAGS} texts")
    tags = list(dict.fromkeys(check_name(each, "a tag") for each in given))
    run_at = now if submission.run_at is None else _moment(submission.run_at)
    key = submission.key
    task = check_name(submission.task, "the task's name")
    return Prepared(
        {
            "id": new_id(now),
            "task": task,
            "arguments": arguments,
            "state": State.QUEUED.value,
            "priority": _whole(submission.priority, "the priority", -(2**31)),
            "tags": json.dumps(tags),
            "created": now,
            "run_at": run_at,
            "due": int(run_at <= now),
            "attempts": 0,
            "crashes": 0,
            "retries": None if submission.retries is None else _whole(submission.retries, "the number of retries", 0),
            "timeout": None if submission.timeout is None else as_seconds(submission.timeout, "the timeout", above=0),
            "attempt": 0,
            "files": "[]",
            "parent": None if submission.parent is None else check_name(submission.parent, "the parent's id"),
            "key": None if key is None else check_name(key, "the key"),
            "body": None if key is None else digest(task, uploads.by_content(json.loads(arguments))),
            "submitted_by": check_name(submission.by, "who submits", empty=True),
            "cancel_requested": 0,
            "note": "",
            "webhook": None if submission.webhook is None else _address(submission.webhook),
            "bytes": len(arguments),
        }
    )


def begin_of(run_at: float | datetime | None) -> float | None:
    """When a job may begin, as seconds since 1970.

    Raises:
        BadJob: It is a day that no clock has.
    """
    if not isinstance(run_at, datetime):
        return run_at
    try:
        return run_at.timestamp()
    except (ValueError, OverflowError, OSError):
        raise BadJob(f"run_at is a time after 1970 and before the year 10000, not {run_at}") from None


def _moment(value: Any) -> float:
    found = as_seconds(value, "run_at")
    if not 0 <= found < YEAR_10000:
        raise BadJob(f"run_at is a time after 1970 and before the year 10000, in seconds since 1970, not {found!r}")
    return found


def _address(value: Any) -> str:
    found = check_name(value, "the webhook's address")
    if not is_web_address(found):
        raise BadJob(f"the webhook: {NO_ADDRESS}, not {shown(value)}")
    return found


def _whole(value: Any, what: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
        raise BadJob(f"{what} is a whole number from {least} on, below {2**31}, not {shown(value)}")
    return value


def submit(transaction: Transaction, payloads: Sequence[Prepared]) -> list[Submitted | AllcoresError]:
    """Write jobs that are not there yet."""
    rows = [each.row for each in payloads]
    by_id, by_key = _there(transaction, rows)
    answers: list[Submitted | AllcoresError] = []
    new: list[dict[str, Any]] = []
    for row in rows:
        key = row["key"]
        other, body = by_key.get(key, (None, None)) if key is not None else (None, None)
        if other is not None and body != row["body"]:
            answers.append(
                KeyConflict(
                    f"the key {key!r} was used for job {other.id} ({other.task}), with another task or other arguments:"
                    " use another key for another job",
                    key=str(key),
                    id=other.id,
                )
            )
        elif other is not None or (other := by_id.get(row["id"])) is not None:
            # With this very id it is this submission: its answer was lost on the way.
            answers.append(Submitted(other, replayed=other.id != row["id"]))
        else:
            new.append(row)
            seq = transaction.sequence(1)
            # A new dict: another try of the transaction begins with the submission as it was.
            new[-1] = {**row, "seq": seq, "changed": transaction.change}
            job = _job(new[-1])
            answers.append(Submitted(job))
            by_id[job.id] = job
            if key is not None:
                by_key[key] = (job, row["body"])
    if new:
        transaction.connection.execute(insert(schema.jobs), new)
        tags = [
            {"tag": tag, "seq": row["seq"]} for row in new if row["tags"] != "[]" for tag in json.loads(row["tags"])
        ]
        if tags:
            transaction.connection.execute(insert(schema.job_tags), tags)
    return answers


def _there(
    transaction: Transaction, rows: Sequence[dict[str, Any]]
) -> tuple[dict[str, Job], dict[str, tuple[Job, str | None]]]:
    """Jobs of these rows' ids and keys that are there already."""
    jobs = schema.jobs
    there = rows_of(transaction.connection, transaction.dialect, ids=[row["id"] for row in rows])
    by_id = {str(row["id"]): job_from_row(row, row["progress_body"]) for row in there}
    keys = [row["key"] for row in rows if row["key"] is not None]
    if not keys:
        return by_id, {}
    condition = jobs.c.key.in_(among(transaction.dialect, keys))
    bodies = dict(transaction.connection.execute(select(jobs.c.id, jobs.c.body).where(condition)).all())
    found = jobs_where(transaction.connection, condition)
    return by_id, {job.key: (job, bodies.get(job.id)) for job in found if job.key is not None}


def _job(row: dict[str, Any]) -> Job:
    return Job(
        id=row["id"],
        seq=row["seq"],
        task=row["task"],
        arguments=json.loads(row["arguments"]),
        state=State.QUEUED,
        priority=row["priority"],
        tags=tuple(json.loads(row["tags"])),
        created=row["created"],
        run_at=row["run_at"],
        retries=row["retries"],
        timeout=row["timeout"],
        parent=row["parent"],
        key=row["key"],
        submitted_by=row["submitted_by"],
        webhook=row["webhook"],
        changed=row["changed"],
    )


def as_submitted(prepared_one: Prepared, seq: int, changed: int) -> Submitted:
    """What became of a submission that another process committed."""
    return Submitted(_job({**prepared_one.row, "seq": seq, "changed": changed}))
