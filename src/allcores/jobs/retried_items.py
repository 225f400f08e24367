"""Jobs that run only those items again that failed in the runs of another job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allcores.jobs import queries
from allcores.jobs.errors import BadJob
from allcores.jobs.job_files import JobFiles
from allcores.jobs.model import Job, Submission
from allcores.jobs.rows import FAILED_ITEMS

if TYPE_CHECKING:
    from allcores.jobs.store import JobStore


def are_known(store: JobStore, job: Job) -> bool:
    """Whether a job has ended, and left failed items that a new one can take up. Reads a file.

    With a store that several machines share, the files may be on another one: the new job finds out.
    """
    if not job.state.is_final or job.progress is None or not job.progress.failed:
        return False
    return store.dialect != "sqlite" or bool(JobFiles(store.folder, job.id).runs())


def _key(job: Job, number: int) -> str:
    return f"{FAILED_ITEMS}:{job.id}:{job.finished or 0.0:.6f}:{number}"


def number_of(store: JobStore, job: Job) -> int:
    """Which job of its failed items one that is asked for now is, from 1: that of another asker, until it has ended."""
    number = 1
    while (there := queries.with_key(store, _key(job, number))) is not None and there.state.is_final:
        number += 1
    return number


def job_of_them(store: JobStore, job: Job, by: str, number: int | None = None) -> Submission:
    """What is to be submitted: all else is as it was, also who is told of its end.

    It has a key, so that who asks twice (a double click) gets one job, and no two of them take up the same run.

    Args:
        store: The store.
        job: Whose failed items are to run.
        by: Who asks.
        number: What `number_of` said when that was offered; None: what it says now.

    Raises:
        BadJob: The job has not ended, or left no failed items, or they are not known any more.
    """
    if not job.state.is_final:
        raise BadJob(f"job {job.id} is {job.state}: its failed items can run again once it has ended")
    if not are_known(store, job):
        raise BadJob(f"no failed items of job {job.id} are known: run it again as a whole")
    return Submission(
        job.task,
        job.arguments,
        priority=job.priority,
        tags=tuple(dict.fromkeys([*job.tags, FAILED_ITEMS])),
        key=_key(job, number_of(store, job) if number is None else number),
        timeout=job.timeout,
        retries=job.retries,
        parent=job.id,
        by=by,
        webhook=job.webhook,
    )
