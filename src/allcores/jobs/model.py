"""What a job is, and what a store of jobs takes and gives: plain records that travel between the files of this room.

Times are seconds since 1970 by the wall clock, for people and for `run_at`; no lease is measured by them. Everything
that a task takes or gives is JSON: `None`, booleans, integers of any size (kept exactly), finite floats, strings,
lists and dicts with string keys. NaN and infinities are refused, and so are keys that JSON would turn into strings.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class State(enum.StrEnum):
    """Where a job is: in the queue, at work, or at one of five ends.

    `queued` → `running` → `succeeded`, `failed`, `timed_out`, `cancelled` or `quarantined`; from `running` back to
    `queued` for another attempt, and from any end back to `queued` if it is retried.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    #: it killed its process too often, or its row is damaged
    QUARANTINED = "quarantined"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to it of itself."""
        return self not in (State.QUEUED, State.RUNNING)


#: in which a job stays, unless it is retried
FINAL_STATES = tuple(state for state in State if state.is_final)


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file that a job made: `folder/results/<job id>/<name>` of the store.

    Attributes:
        name: Its name there, without folders.
        size: Bytes.
        media_type: "text/csv", for instance; what a browser may be told.
    """

    name: str
    size: int
    media_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class JobError:
    """Why an attempt failed.

    Attributes:
        type: The exception's class, with its module unless built in.
        message: Its text.
        traceback: As Python prints it; "" where there is none.
        cause: "exception", "signal 9", "exit code 3", "deadline", "memory limit", "cancelled", "damaged row"...
        peak_memory: Bytes that the process had at most, if known.
    """

    type: str
    message: str
    traceback: str = ""
    cause: str = "exception"
    peak_memory: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job is, as it last told.

    Attributes:
        done: Items that have a result.
        failed: Items that failed.
        total: Items in all, if known.
        started: When the first item began.
        at: When this was written: what is older than a few seconds is not known to be true any more.
        run: Name of the run in whose journal the items are kept, if there is one.
        note: A line of the task's own.
    """

    done: int = 0
    failed: int = 0
    total: int | None = None
    started: float | None = None
    at: float = 0.0
    run: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """The process that a running job is in.

    Attributes:
        pid: Of the worker; 0 as long as none has it.
        since: When it was claimed.
    """

    pid: int
    since: float


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it was when it was read.

    Attributes:
        id: Time-ordered, fit for a URL and not to be guessed: 32 hexadecimal digits (a UUID of version 7).
        seq: Number of its row, which grows with each submission: what pages are turned by.
        task: Name of its task.
        arguments: By name.
        state: Where it is.
        priority: The higher ones are claimed first; 0 by default.
        tags: To filter by.
        created: When it was submitted.
        run_at: Not claimed before.
        started: When its last attempt was claimed; None also for one that was cancelled while it waited for another.
        finished: When it came to its end.
        attempts: Attempts that ended in an exception or in time, or that succeeded: crashes are counted apart.
        crashes: Attempts whose process died.
        retries: Attempts after the first one that exceptions are given; None: what the task says.
        timeout: Seconds that an attempt may take; None: what the task says.
        result: What the task returned, if it has succeeded; None also if that takes more than 256 KB: then it is the
            file result.json, as `note` says, which `Queue.result` reads.
        result_files: Files that it made.
        error: Why the last attempt failed.
        progress: How far it is.
        parent: Id of the job that it was made from (run again, failed items only).
        key: The caller's: a second submission with it is the same job.
        submitted_by: Who submitted it.
        cancel_requested: Its end was asked for; it is `cancelled` only once its process is gone.
        worker: Where it runs.
        note: In words, why it is where it is.
        webhook: An address that is told of its end, if there is one.
        changed: The store's change number of its last change of state (for snapshots and comparisons).
        damaged: What is wrong with its row, if something is: then the other attributes are what could be read.
    """

    id: str
    seq: int
    task: str
    arguments: dict[str, Any]
    state: State
    priority: int = 0
    tags: tuple[str, ...] = ()
    created: float = 0.0
    run_at: float = 0.0
    started: float | None = None
    finished: float | None = None
    attempts: int = 0
    crashes: int = 0
    retries: int | None = None
    timeout: float | None = None
    result: Any = None
    result_files: tuple[ResultFile, ...] = ()
    error: JobError | None = None
    progress: Progress | None = None
    parent: str | None = None
    key: str | None = None
    submitted_by: str = ""
    cancel_requested: bool = False
    worker: WorkerInfo | None = None
    note: str = ""
    webhook: str | None = None
    changed: int = 0
    damaged: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """What is asked for by one call of `JobStore.submit`; the attributes are those of `Job`.

    Attributes:
        task: Name of the task.
        arguments: By name.
        priority: The higher ones are claimed first.
        run_at: Not before; None: at once.
        tags: To filter by.
        key: The same key with the same task and arguments is the same job, however often it is submitted.
        timeout: Seconds for an attempt; None: what the task says.
        retries: Attempts after the first one; None: what the task says.
        parent: Id of the job that this one is made from.
        by: Who submits.
        webhook: An address to tell of its end.
    """

    task: str
    arguments: Mapping[str, Any]
    priority: int = 0
    run_at: float | None = None
    tags: tuple[str, ...] = ()
    key: str | None = None
    timeout: float | None = None
    retries: int | None = None
    parent: str | None = None
    by: str = ""
    webhook: str | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission: it is committed.

    Attributes:
        job: The job; of a replay, as it is now.
        replayed: It was there already, by its key.
    """

    job: Job
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A job to be run, and the right to say how that ended.

    Attributes:
        job: As it was claimed: its state is running.
        attempt: Counts its claims, from 1.
        token: Not to be guessed: only who has it, in this attempt, can finish the job.
        in_doubt: A supervisor ended while it had the job, and perhaps because of it: that it does so again counts,
            whether its process was told or not.
    """

    job: Job
    attempt: int
    token: str
    in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """How an attempt ended.

    Attributes:
        state: A final one; QUEUED for another attempt.
        result: JSON; for SUCCEEDED.
        files: In `folder/results/<id>`, renamed there and synced before.
        error: Why it failed.
        crashed: The attempt counts as a crash, not as an attempt.
        retry_at: With QUEUED: not claimed again before; None: at once.
        note: In words, why it is where it is now.
        progress: The last of it, if it has not been written yet.
    """

    state: State
    result: Any = None
    files: tuple[ResultFile, ...] = ()
    error: JobError | None = None
    crashed: bool = False
    retry_at: float | None = None
    note: str = ""
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier attempt of a job that did not succeed.

    Attributes:
        attempt: Which claim it was, from 1.
        started: When it was claimed.
        finished: When it ended.
        state: What it ended as: a final state, or QUEUED where another attempt followed.
        crashed: Its process died.
        error: Why it failed.
        note: In words.
    """

    attempt: int
    started: float
    finished: float
    state: State
    crashed: bool
    error: JobError | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs: all conditions hold at once; the empty one is all jobs.

    Attributes:
        states: In one of them; empty: any.
        task: Of this task.
        tag: With this tag.
        text: Contained in its id, task, key, note, arguments, error or result (lower and upper case alike). Looked for
            in the newest jobs first, and for a bounded time.
        since: Submitted at this time or later.
        until: Submitted before this time.
        hidden: Names, as a pattern: no text is looked for in what stands under them in arguments and results.
    """

    states: tuple[State, ...] = ()
    task: str | None = None
    tag: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None
    hidden: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs, newest first.

    Attributes:
        jobs: Those of the page.
        older: What to give as `after` for the next page; None if there is none.
        newer: What to give as `before` for the page before; None if there is none.
        searched: Jobs that were looked at for `text`, `tag` with others, or times; 0 where an index gave the page.
        searched_all: False if time was up before all jobs were looked at: then `older` goes on from there.
    """

    jobs: tuple[Job, ...]
    older: int | None = None
    newer: int | None = None
    searched: int = 0
    searched_all: bool = True


@dataclass(frozen=True, slots=True)
class Counts:
    """How many jobs there are: exact, from counters that are kept where jobs change.

    Attributes:
        total: All of them.
        by_state: Of each state, also of those with none.
        by_task: Of each task and state; states with none are left out.
        bytes: What arguments, results, errors and result files take.
        delayed: Of the queued ones, those whose time has not come.
        damaged: Why they are not exact, in words; "": they are.
    """

    total: int
    by_state: Mapping[State, int]
    by_task: Mapping[str, Mapping[State, int]]
    bytes: int = 0
    delayed: int = 0
    damaged: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The jobs that were seen: what fits a filter and has not changed its state since.

    Attributes:
        filter: Which jobs.
        change: The store's change number at that time.
        count: How many they were.
        counted_all: False if they were too many to count in time (a search for text): then it is how many were found.
    """

    filter: JobFilter
    change: int
    count: int
    counted_all: bool = True


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of an action on several jobs.

    Attributes:
        count: Jobs that were changed.
        skipped: Jobs that were named or seen and could not be: gone, at another state, at work.
        ids: Of those that were changed, the first 1,000.
        audit: Number of the row in the audit: what `undelete` takes.
        time_was_up: Some were not reached: the same action again goes on with them.
    """

    count: int
    skipped: int = 0
    ids: tuple[str, ...] = ()
    audit: int = 0
    time_was_up: bool = False


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Who changed what.

    Attributes:
        seq: Grows with each row.
        at: When.
        by: Who.
        action: "cancel", "retry", "delete", "undelete", "retention", or a caller's own ("schedule added").
        count: How many jobs.
        detail: The filter or the ids, as JSON.
    """

    seq: int
    at: float
    by: str
    action: str
    count: int
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What happened of late.

    Attributes:
        window: Seconds that were asked for.
        finished: Jobs that ended in them, by state.
        throughput: Ends in a second.
        wait_p50: Seconds from when a job could run to its claim: half waited less; None without any.
        wait_p95: The same for 95 of 100.
        run_p50: Seconds from claim to end, of those that succeeded.
        run_p95: The same for 95 of 100.
        failures: By cause and exception: ("exception", "ValueError") → 3.
        sampled: Jobs that percentiles and causes are from: the last ones, at most 1,000.
    """

    window: float
    finished: Mapping[State, int]
    throughput: float
    wait_p50: float | None
    wait_p95: float | None
    run_p50: float | None
    run_p95: float | None
    failures: Mapping[tuple[str, str], int]
    sampled: int
