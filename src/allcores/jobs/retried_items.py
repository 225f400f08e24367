"""Jobs that run only those items again that failed in the runs of another job."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def job_of_them(store: JobStore, job: Job, by: str) -> Submission:
    """What is to be submitted: all else is as it was, also who is told of its end.

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
        timeout=job.timeout,
        retries=job.retries,
        parent=job.id,
        by=by,
        webhook=job.webhook,
    )
