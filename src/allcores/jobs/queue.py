"""Jobs from Python: submitted with checked arguments, looked at, waited for."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any

from allcores.jobs import results, retried_items
from allcores.jobs.errors import BadJob, JobFailed, TaskNotFound
from allcores.jobs.model import Job, Submission, Submitted
from allcores.jobs.patience import Patient, TimeIsUp
from allcores.jobs.rows import as_seconds, as_tags
from allcores.jobs.store import JobStore
from allcores.jobs.submissions import begin_of
from allcores.jobs.tasks import Place, Registry
from allcores.system.tracebacks import hiding


class Queue:
    """A store and the tasks that its jobs may run. It starts nothing, and can be made anywhere.

        queue = Queue(tasks="tasks.py")
        job = queue.submit("count_primes", {"n": 10**6})
        print(queue.result(job.id, timeout=60))

    For all threads. `allcores work tasks.py`, or a `Supervisor`, runs what is submitted.

    Args:
        store: A `JobStore`, a file, or a URL; None: the file in the user's state folder.
        tasks: Where the tasks are, or a `Registry`.

    Raises:
        UsageError: If tasks or store make no sense.
        StoreError: If the store cannot be opened.
    """

    @hiding
    def __init__(
        self, store: JobStore | str | os.PathLike[str] | None = None, *, tasks: Registry | Place | Iterable[Place]
    ) -> None:
        self.registry = tasks if isinstance(tasks, Registry) else Registry.load(tasks)
        self._opened = not isinstance(store, JobStore)
        self.store = store if isinstance(store, JobStore) else JobStore.open(store)

    def __enter__(self) -> Queue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store, if it was opened here."""
        if self._opened:
            self.store.close()

    @hiding
    def submission(
        self,
        task: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        priority: int | None = None,
        run_at: float | datetime | None = None,
        delay: float | None = None,
        tags: Iterable[str] = (),
        key: str | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        parent: str | None = None,
        by: str = "",
        webhook: str | None = None,
    ) -> Submission:
        """What `submit` hands to the store, checked. Arguments and errors as there."""
        found = self.registry[task]
        run_at = begin_of(run_at)
        if delay is not None:
            delay = as_seconds(delay, "the delay")
            if run_at is not None and delay:
                raise BadJob("run_at and delay both say when: give one of the two")
            run_at = time.time() + delay if run_at is None else run_at
        return Submission(
            task,
            found.arguments.check({} if arguments is None else arguments),
            priority=found.priority if priority is None else priority,
            run_at=run_at,
            tags=tuple(dict.fromkeys((*found.tags, *as_tags(tags)))),
            key=key,
            timeout=found.timeout if timeout is None else timeout,
            retries=found.retries if retries is None else retries,
            parent=parent,
            by=by,
            webhook=webhook,
        )

    def submit(self, task: str, arguments: Mapping[str, Any] | None = None, **options: Any) -> Job:
        """Put a job into the queue; it is on the disk when this returns.

        Args:
            task: Name of a registered task.
            arguments: By name.
            **options: priority, tags, timeout, retries (else what the task says); run_at (seconds since 1970, or a
                datetime) or delay (seconds); key (a second submission with it is the same job); parent, by, webhook.

        Raises:
            TaskNotFound: There is no such task.
            ArgumentErrors: The arguments do not fit its signature.
            KeyConflict: The key was used for something else.
            StoreError: It was not submitted.
        """
        return self.submit_all([self.submission(task, arguments, **options)])[0].job

    def submit_all(self, submissions: Iterable[Submission]) -> list[Submitted]:
        """Put what `submission` made into the queue, in one transaction, and wake the supervisor."""
        return self.store.submit_many(list(submissions))

    def get(self, id: str) -> Job | None:
        """The job as it is now; None if there is none."""
        return self.store.get(id)

    @hiding
    def wait(self, id: str, timeout: float | None = None) -> Job:
        """Wait until a job has come to its end; a server of the store that restarts meanwhile is waited for, too.

        Args:
            id: Of the job.
            timeout: Seconds; None: as long as it takes.

        Raises:
            TaskNotFound: There is no such job.
            TimeoutError: It has not come to its end in time, or that is not known: the store's server is away.
            BadJob: The timeout is no number of seconds.
            StoreError: The store cannot be read; its server was away for a minute.
        """
        if timeout is not None:
            timeout = None if timeout == math.inf else as_seconds(timeout, "the timeout")
        until = None if timeout is None else time.monotonic() + timeout
        try:
            return self._waited_for(id, timeout, until)
        except TimeIsUp as error:
            raise TimeoutError(f"job {id} is not known to be at its end after {timeout:g} s: {error}") from error

    def _waited_for(self, id: str, timeout: float | None, until: float | None) -> Job:
        store = Patient(self.store, until)
        while True:
            change = store.change_number()
            job = store.get(id)
            if job is None:
                raise TaskNotFound(f"there is no job {id!r}")
            if job.state.is_final:
                return job
            left = 60.0 if until is None else until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"job {id} is still {job.state} after {timeout:g} s")
            store.wait_for_change(change, min(left, 60.0))

    @hiding
    def result(self, id: str, timeout: float | None = None) -> Any:
        """What a job's task returned; waits for it.

        Raises:
            JobFailed: It did not succeed.
            TimeoutError: It has not come to its end in time.
            StoreError: The store cannot be read, or the file that a large result became.
        """
        job = self.wait(id, timeout)
        if job.state != "succeeded":
            why = job.note if job.error is None else f"{job.error.type}: {job.error.message}"
            raise JobFailed(f"job {id} ({job.task}) is {job.state}: {why}", job=id, state=str(job.state))
        return results.whole_result(self.store.folder, job)

    @hiding
    def cancel(self, id: str, by: str = "") -> bool:
        """Ask for the end of a job; False if it has ended. It is `cancelled` once its process is gone."""
        count = self.store.cancel([id], by).count
        return count > 0

    @hiding
    def retry(self, id: str, by: str = "") -> bool:
        """Run a job that has ended again; False if it has not. A run goes on at the item where it was."""
        count = self.store.retry([id], by).count
        return count > 0

    @hiding
    def retry_failed_items(self, id: str, by: str = "") -> Job:
        """A new job that runs only those items of a job's runs again that failed; its output has all of them.

        Raises:
            TaskNotFound: There is no such job, or its task maps nothing.
            BadJob: It has not ended, or no failed items of it are known.
        """
        job = self.store.get(id)
        if job is None:
            raise TaskNotFound(f"there is no job {id!r}")
        if not self.registry[job.task].takes_job:
            raise TaskNotFound(f"task {job.task!r} has no items: run job {id} again as a whole")
        return self.submit_all([retried_items.job_of_them(self.store, job, by)])[0].job
