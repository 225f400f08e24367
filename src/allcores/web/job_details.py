"""What is known of a job besides its row: attempts, logs, memory, the pace of its items, its run's timeline."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allcores.errors import UsageError
from allcores.formatting import pace_text
from allcores.jobs import retried_items
from allcores.jobs.errors import BadJob
from allcores.jobs.job_files import JobFiles, failed_items
from allcores.jobs.model import Attempt, Job, State, Submitted
from allcores.progress.estimate import Estimator, eta_text
from allcores.system import procfs
from allcores.web.security import Refused
from allcores.web.views import is_fresh

if TYPE_CHECKING:
    from allcores.web.state import Console

#: the end of a job's logs that a page shows
LOG_BYTES = 64 << 10
#: failed items that it lists
MOST_FAILED = 50


@dataclass(frozen=True, slots=True)
class Details:
    """What a job's page shows besides its row.

    Attributes:
        logs: The end of what it wrote.
        memory: Bytes that its process has now.
        timelines: How many maps of it were recorded.
        failed: Items of its runs that failed.
        stamp: Changes with what is not in the store.
    """

    attempts: tuple[Attempt, ...] = ()
    logs: str = ""
    memory: int | None = None
    timelines: int = 0
    failed: Sequence[dict[str, Any]] = ()
    stamp: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast items go, and how long it may still take, in words: the likely time, and the range of four in five."""

    text: str
    left: str = ""
    range: str = ""


class _Estimators:
    """What was seen of running jobs, so that the time left gets a range. Of this process, bounded; any thread."""

    def __init__(self, most: int = 500) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._known: OrderedDict[tuple[str, float], Estimator] = OrderedDict()

    def seen(self, job: str, started: float, at: float, done: int) -> Estimator:
        """The job's, told what was reported last."""
        with self._lock:
            found = self._known.pop((job, started), None) or Estimator(started)
            self._known[(job, started)] = found
            if len(self._known) > self._most:
                self._known.popitem(last=False)
            found.observe(at, done)
            return found


_estimators = _Estimators()


def pace(job: Job, now: float) -> Pace | None:
    """How its items go; None if nothing is known of that."""
    progress = job.progress
    if progress is None or progress.started is None or progress.at <= progress.started:
        return None
    settled = progress.done + progress.failed
    if not settled:
        return None
    if job.state is not State.RUNNING:
        return Pace(pace_text(settled / (progress.at - progress.started)))
    estimator = _estimators.seen(job.id, progress.started, progress.at, settled)
    text = pace_text(estimator.pace)
    if progress.total is None or not is_fresh(progress, now):
        return Pace(text)
    left = estimator.estimate(now, max(0, progress.total - settled))
    if left is None:
        return Pace(text)
    middle, _, band = eta_text(left).partition(" (")
    return Pace(text, middle, f"four of five times: {band.rstrip(')')}" if band else "")


def read(console: Console, job: Job) -> Details:
    """What there is beside the row."""
    store = console.store
    files = JobFiles(store.folder, job.id)
    memory = None
    if job.state is State.RUNNING and job.worker is not None and job.worker.pid:
        memory = procfs.resident_bytes(job.worker.pid)
    logs, timelines = files.read_log(LOG_BYTES), files.timelines()
    failed = failed_items(store.folder, job.id, MOST_FAILED) if job.progress is not None and job.progress.failed else []
    return Details(
        attempts=tuple(store.attempts(job.id)),
        logs=logs,
        memory=memory,
        timelines=len(timelines),
        failed=failed,
        stamp=f"{len(logs)}|{len(timelines)}|{len(failed)}",
    )


def timeline_page(console: Console, job: Job) -> str | None:
    """The report of the job's run as HTML; None if there is none."""
    found = JobFiles(console.store.folder, job.id).timelines()
    if not found:
        return None
    from allcores.timeline.html_report import as_html
    from allcores.timeline.reader import Recording

    return as_html(Recording.load(found[-1]))


def retry_failed_items(console: Console, job: Job, by: str, number: int | None) -> Submitted:
    """A job of the items that failed.

    Args:
        console: The app's.
        job: Whose items.
        by: Who asks.
        number: Which of such jobs the page offered; None: it did not say.

    Raises:
        Refused: 409, if it has none, or they are not known.
    """
    try:
        wanted = retried_items.job_of_them(console.store, job, by, number)
    except BadJob as error:
        raise Refused(409, "no_failed_items", f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
    return console.store.submit_many([wanted])[0]


def stack_of(console: Console, job: Job) -> str:
    """What the job's process is doing at this moment.

    Raises:
        Refused: 409, if there is no such process, or it does not answer.
    """
    from allcores.jobs import stacks

    if job.state is not State.RUNNING or job.worker is None or not job.worker.pid:
        raise Refused(409, "not_running", "Only a job that runs has a stack.")
    try:
        return stacks.of_process(console.store.folder, job.worker.pid)
    except UsageError as error:
        raise Refused(409, "no_stack", f"{str(error)[:1].upper()}{str(error)[1:]}.") from None


def item_line(item: dict[str, Any]) -> str:
    """A failed item in words."""
    parts = [str(item[name]) for name in ("error", "message") if item.get(name)]
    return ": ".join(parts) or str(item.get("cause") or item.get("kind") or "it failed")
