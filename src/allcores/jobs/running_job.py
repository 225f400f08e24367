"""The running job, as its own code has it: maps on all cores, progress, log, files.

Everything here happens in the process of the job, see `job_process`.
"""

from __future__ import annotations

import contextlib
import operator
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from allcores.errors import RunChanged, RunInUse, RunNotFound, UsageError
from allcores.jobs import stacks
from allcores.jobs.counting import Counting
from allcores.jobs.errors import JobDrained
from allcores.jobs.job_files import JobFiles, RunOfJob
from allcores.jobs.results import ResultFolder
from allcores.jobs.rows import FAILED_ITEMS, shown
from allcores.limits import Limits, Retry
from allcores.outcome import Kind, Outcome
from allcores.pool.pool import Pool
from allcores.runs.base import OutcomeStream
from allcores.runs.options import Journal, OnError, RunResult
from allcores.runs.rows import RunRow
from allcores.runs.session import RunSession
from allcores.runs.spec import RunHooks, RunSpec, count_of
from allcores.sinks.open import sink_of
from allcores.sources.open import source_of
from allcores.timeline import Timeline

if TYPE_CHECKING:
    from allcores.runs.options import SinkLike, SourceLike

R = TypeVar("R")

#: seconds between two commits of a run: what is younger runs again after a kill
COMMIT_S = 0.05
#: and items that are enough for one before, or that part of the run: in 50 ms thousands of tiny ones come to an end
COMMIT_ITEMS, OF_RUN = 25, 400
#: the part of a run's items that may be under way, and items for each worker at least: with those that are not
#: committed, some hundredth of a run runs again after a kill, however short its items are
UNDER_WAY, EACH_UNDER_WAY = 200, 8
#: Seconds for which a run of an attempt that has just been ended may still be held: its lock is given back last, after
#: a hundred gigabytes of memory, or what is on its way to the disk of a network.
HELD_S = 120.0
#: what is raised in a task whose run is not at its end
DRAINED = "the supervisor ends; the run goes on with the next one"
#: what is counted is below it, as everywhere where it may be kept
MOST_ITEMS = 1 << 63


class Supervisor(Protocol):
    """What a job asks of its supervisor."""

    def cores(self) -> int:
        """Wait until it may map, and on how many cores."""
        ...

    def give_back(self) -> None:
        """It does not map any more."""
        ...

    def report(self, progress: dict[str, Any]) -> None:
        """How far it is."""
        ...


class RunningJob:
    """What a task's first parameter `job` is.

    Attributes:
        id: The job's.
        attempt: How often it has been begun, from 1.
        tags: What it is marked with.
        parent: Id of the job that it was made from; None if it was not.
    """

    def __init__(
        self,
        id: str,
        attempt: int,
        store_folder: str,
        supervisor: Supervisor,
        *,
        tags: Sequence[str] = (),
        parent: str | None = None,
    ) -> None:
        self.id = id
        self.attempt = attempt
        self.tags = tuple(tags)
        self.parent = parent
        self._store_folder = store_folder
        self._supervisor = supervisor
        self._files = JobFiles(store_folder, id)
        self._results = ResultFolder(store_folder, id)
        self._results.go_on()
        self._counting = Counting(supervisor.report)
        self._runs_begun = 0
        self._draining = threading.Event()
        self._streams: list[OutcomeStream[Any]] = []

    # --- for tasks ---

    def run(
        self,
        function: Callable[..., Any],
        source: SourceLike,
        sink: SinkLike | None = None,
        *,
        timeout: float | None = None,
        retries: int | Retry = 0,
        chunk: int | None = None,
        batch: int | Literal["auto"] | None = None,
        on_error: OnError = "skip",
        key: str | int | None = None,
    ) -> RunResult:
        """Map a source into a sink on all cores, with a journal: the next attempt of the job goes on at the item.

        Args:
            function: Called as `function(item)`, in a worker.
            source: As for `allcores.run`: a path, a pattern or folder of files, or anything that can be iterated.
            sink: As for `allcores.run`; `job.result_path("out.jsonl")` makes it a file of the job's results. None:
                "results.jsonl" there.
            timeout: Seconds per item and attempt.
            retries: Further attempts for an item that fails.
            chunk: Items that travel together.
            batch: Items that `function` gets in one call.
            on_error: "skip" (default) goes on: what failed is shown with the job, and can be run again alone. "record"
                writes failures to the output, "raise" ends the job with the first one.
            key: A field of the items that tells them apart in an input that changes.

        Returns:
            What became of it; as the result of a task it is a summary.

        Raises:
            Exception: What `allcores.run` raises.
        """
        number, self._runs_begun = self._runs_begun, self._runs_begun + 1
        if sink is None:
            sink = self.result_path("results.jsonl")
        work = RunSpec(
            function,
            source_of(source),
            sink_of(sink, records=on_error == "record"),
            on_error,
            timeout,
            retries,
            chunk,
            batch=batch,
        )
        work.check()
        with self._session(work, number, key) as session:
            runs = self._files.runs()
            # Those behind one that goes on have begun in an earlier attempt, and go on in their turn.
            behind = runs[number + 1 :] if [each.name for each in runs[number : number + 1]] == [session.name] else []
            runs = [*runs[:number], RunOfJob(session.name, str(getattr(work.sink, "path", ""))), *behind]
            self._files.put_runs(runs)
            recording = os.path.join(session.folder, f"timeline-{session.run_row.sessions}.jsonl.gz")
            with self._mapping(recording, count_of(work.source)) as pool:
                hooks = _Hooks(self, count_of(work.source))
                result = session.work(pool, hooks)
        self._counting.tell()
        if hooks.stopped:
            raise JobDrained(DRAINED)
        return result

    def map(self, function: Callable[..., R], items: Iterable[Any], **options: Any) -> list[R]:
        """Results of `function(item)` for all items, in order, on all cores. Options as for `allcores.map`."""
        return list(self.imap(function, items, **options))

    def imap(
        self, function: Callable[..., R], items: Iterable[Any], *, on_error: str = "raise", **options: Any
    ) -> Iterator[R]:
        """Results one by one, in order, on all cores. Options as for `allcores.imap`.

        What is done is not remembered: the next attempt begins at the first item. `run` remembers.
        """
        if on_error not in ("raise", "skip"):
            raise UsageError(f"on_error={on_error!r} must be 'raise' or 'skip'")
        try:
            total = len(items)  # type: ignore[arg-type]
        except TypeError:
            total = None
        counting = self._counting
        with self._mapping(self._files.new_timeline()) as pool:
            counting.begin(total)
            with pool.outcomes(function, items, **options) as stream:
                for outcome in stream:
                    if outcome.ok:
                        counting.done += 1
                        yield outcome.value
                        continue
                    counting.failed += 1
                    if on_error == "raise":
                        raise outcome.error
        counting.tell()

    def progress(self, done: int, total: int | None = None, *, failed: int = 0, note: str = "") -> None:
        """Say how far the job is; shown at most four times a second, and the last one always.

        Args:
            done: What is done.
            total: Of how many; None if that is not known.
            failed: What failed.
            note: A line to show.

        Raises:
            UsageError: If these are no numbers of things.
        """
        done, failed = _count(done, "done"), _count(failed, "failed")
        total = None if total is None else _count(total, "total")
        counting = self._counting
        if counting.total != total or done < counting.done:
            counting.begin(total)
        counting.done, counting.failed, counting.note = done, failed, str(note)[:500]

    def log(self, text: str, *arguments: Any) -> None:
        """Add a line to the job's log, which its page shows; `arguments` are put in as by `logging`."""
        self._files.log(text % arguments if arguments else str(text))

    def result_path(self, name: str) -> str:
        """Where to write a file of the job's results; it is handed out once the job has succeeded.

        Raises:
            UsageError: If that is no name of a file.
        """
        return self._results.path(name)

    # --- for its process ---

    @property
    def results(self) -> ResultFolder:
        """Where its files are until they get their places."""
        return self._results

    def drain(self) -> None:
        """End runs in peace: nothing more begins. Any thread."""
        self._draining.set()
        for stream in list(self._streams):
            stream.stop()

    @property
    def draining(self) -> bool:
        """Whether it was asked to come to an end."""
        return self._draining.is_set()

    def close(self) -> None:
        """The last word on progress."""
        self._counting.close()

    @contextlib.contextmanager
    def _session(self, work: RunSpec, number: int, key: str | int | None) -> Iterator[RunSession]:
        """The run, begun or resumed."""
        runs = self._files.runs()
        known = runs[number].name if number < len(runs) else None
        again = False
        if known is None and self.parent is not None and FAILED_ITEMS in self.tags:
            of_parent = JobFiles(self._store_folder, self.parent).runs()
            if not of_parent:
                raise RunNotFound(
                    f"the runs of job {self.parent} are not on this machine (any more): run it as a whole"
                )
            known = of_parent[number].name if number < len(of_parent) else None
            again = known is not None
        elif FAILED_ITEMS in self.tags:
            again = known is not None
        self._files.make_runs_folder()
        until, pause_s = time.monotonic() + HELD_S, 0.02
        commit_items = max(COMMIT_ITEMS, (count_of(work.source) or 0) // OF_RUN)
        while True:
            journal = Journal(folder=self._files.runs_folder, key=key, commit_s=COMMIT_S, commit_items=commit_items)
            if known is not None:
                # Where the results go is another file then.
                journal = Journal(
                    folder=self._files.runs_folder,
                    key=key,
                    commit_s=COMMIT_S,
                    commit_items=commit_items,
                    resume=known,
                    retry_failed=again,
                    accept_changes=again,
                )
            try:
                session = RunSession(work, journal)
                break
            except RunInUse:
                if self.draining:
                    raise JobDrained(DRAINED) from None
                if time.monotonic() > until:
                    raise
                time.sleep(pause_s)
                pause_s = min(0.5, pause_s * 1.5)
            except (RunChanged, RunNotFound) as error:
                if known is None or again:  # items that did not fail are not run again
                    raise
                self.log(f"the run begins anew: {error}")
                known = None
        with session:
            yield session

    @contextlib.contextmanager
    def _mapping(self, recording: str, count: int | None = None) -> Iterator[Pool]:
        """A pool of as many workers as there are cores for.

        Args:
            recording: Where its timeline is written.
            count: Items of a run, what of them is under way is to be few; None: unknown, or no run.
        """
        workers = self._supervisor.cores()
        limits = None
        if count is not None:
            most = max(count // UNDER_WAY, EACH_UNDER_WAY * workers)
            limits = Limits(items_in_flight=min(Limits().items_in_flight, most))
        try:
            timeline = Timeline(recording)
            try:
                with Pool(
                    workers,
                    setup=stacks.listen,
                    setup_args=(self._store_folder,),
                    limits=limits,
                    observers=[timeline],
                    name=f"job {self.id[-6:]}",
                ) as pool:
                    yield pool
            finally:
                timeline.close()
        finally:
            self._supervisor.give_back()

    def opened(self, run: str, total: int | None, run_row: RunRow) -> None:
        """A run is open: what earlier attempts settled counts."""
        failed = run_row.failures
        again = FAILED_ITEMS in self.tags
        self._counting.begin(total, done=run_row.ok, failed=0 if again else failed, run=run)
        self._counting.tell()

    def settled(self, outcome: Outcome[Any]) -> None:
        """An item has its outcome."""
        if outcome.kind is Kind.OK:
            self._counting.done += 1
        elif outcome.kind is not Kind.CANCELLED:
            self._counting.failed += 1

    def watch(self, stream: OutcomeStream[Any]) -> None:
        """A run's stream is there."""
        self._streams.append(stream)
        if self.draining:
            stream.stop()


def _count(value: Any, what: str) -> int:
    """A number of items as whole one; NumPy's, and floats such as 3.0, are meant so."""
    try:
        found = int(value) if isinstance(value, float) else operator.index(value)
    except (TypeError, ValueError, OverflowError):
        found = -1
    if not 0 <= found < MOST_ITEMS:
        raise UsageError(f"job.progress({what}={shown(value)}): give a whole number from 0 on, below 2**63")
    return found


class _Hooks(RunHooks):
    def __init__(self, job: RunningJob, total: int | None) -> None:
        self._job = job
        self._total = total

    @property
    def stopped(self) -> bool:
        return self._job.draining

    def opened(self, run_row: RunRow, resumed: int) -> None:
        self._job.opened(run_row.id, self._total, run_row)

    def started(self, stream: OutcomeStream[Any]) -> None:
        self._job.watch(stream)

    def settled(self, outcome: Outcome[str]) -> None:
        self._job.settled(outcome)
