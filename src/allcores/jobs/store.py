"""The store of jobs: what web pages, the command line and the supervisor see of the database."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select, text

from allcores.errors import AllcoresError, UsageError
from allcores.jobs import actions, checkpoints, claims, commit_socket, filters, schema, statistics, submissions
from allcores.jobs.database import BUSY_S, Database
from allcores.jobs.group_commit import GroupCommit, Transaction
from allcores.jobs.location import locate
from allcores.jobs.model import (
    Attempt,
    AuditRow,
    BadJob,
    Changed,
    Claim,
    Counts,
    Finished,
    Job,
    JobFilter,
    JobPage,
    Progress,
    Snapshot,
    Statistics,
    StoreError,
    Submission,
    Submitted,
)
from allcores.jobs.opening import RESULTS, opened
from allcores.jobs.reading import among, attempts_of, jobs_where
from allcores.jobs.retention import Retention, Swept, orphans, remove_results, sweep
from allcores.jobs.rows import check_name, dumps
from allcores.jobs.supervisor_lock import SupervisorLock, supervisor_of

#: crashes after which a job is run no more
MAX_CRASHES = 3


class JobStore:
    """Jobs in a database: one SQLite file, or PostgreSQL. For all threads of a process; forked children may go on.

    Nothing is open between calls but a few idle connections, which are closed before a fork. Each method that changes
    something returns once that is committed, and raises a `StoreError` if it is not.

    Attributes:
        folder: Beside the store, open to this user alone: `results/<job id>/`, sockets, runs.
        name: For messages: the file, or the URL without its password.
        identity: The store's own name, which no other store has.
    """

    def __init__(self, database: Database, folder: Path, identity: str) -> None:
        """Use `JobStore.open`."""
        self.folder = folder
        self.name = database.location.name
        self.identity = identity
        self._database = database
        self._condition = threading.Condition()
        self._last_change = 0
        self._commits = GroupCommit(database, self._committed)
        self._client = commit_socket.CommitClient(str(folder), database.busy_s + 5.0)
        self._server: commit_socket.CommitServer | None = None
        self._lock: SupervisorLock | None = None

    @classmethod
    def open(
        cls,
        where: str | os.PathLike[str] | None = None,
        *,
        allow_network: bool = False,
        busy_s: float = BUSY_S,
        synchronous: str = "FULL",
    ) -> JobStore:
        """Open a store, or begin one where there is none.

        Args:
            where: A file for SQLite, or a URL as SQLAlchemy writes it (postgresql://...). None: jobs.sqlite in
                $ALLCORES_HOME/jobs, or allcores in $XDG_STATE_HOME (~/.local/state).
            allow_network: Use a file on a network's file system all the same. Its locks may not keep two machines
                from damaging the file.
            busy_s: Seconds for which another process's lock is waited for.
            synchronous: SQLite only. "FULL": what was committed survives a power cut. "NORMAL": a crash of any
                program, but the last moments before a power cut may be lost; a commit does not wait for the disk.

        Raises:
            UsageError: It is no place for a store, or cannot be trusted.
            SchemaTooNew: A newer program made or changed it.
            StoreError: It cannot be opened.
        """
        if synchronous not in ("FULL", "NORMAL"):
            raise UsageError(f"synchronous is FULL or NORMAL, not {synchronous!r}")
        location = locate(where)
        database, identity = opened(location, allow_network=allow_network, busy_s=busy_s, synchronous=synchronous)
        return cls(database, location.folder, identity)

    def close(self) -> None:
        """Close idle connections, and let go of the supervisor's lock; idempotent."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self._client.close()
        self._database.close()

    def _without_supervisor(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def __enter__(self) -> JobStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _committed(self, change: int) -> None:
        with self._condition:
            self._last_change = max(self._last_change, change)
            self._condition.notify_all()
        if change % 64 == 0 and checkpoints.size_of_log(self._database) > checkpoints.OF_OTHERS:
            checkpoints.checkpoint(self._database, self.folder)

    # -- submit --------------------------------------------------------------------------------------------------

    def submit(
        self,
        task: str,
        arguments: dict[str, Any],
        *,
        priority: int = 0,
        run_at: float | None = None,
        tags: Sequence[str] = (),
        key: str | None = None,
        timeout: float | None = None,
        retries: int = 0,
        parent: str | None = None,
        by: str = "",
        webhook: str | None = None,
    ) -> Submitted:
        """Put a job into the queue; it is committed when this returns.

        If this raises, whether it was committed may not be known (a connection that breaks in that moment): with a
        key the same call can be made again.

        Args:
            task: Name of the task.
            arguments: By name; JSON.
            priority: The higher ones are claimed first.
            run_at: Not before, seconds since 1970; None: at once.
            tags: To filter by; at most 20.
            key: A second submission with it is the same job.
            timeout: Seconds for an attempt; None: what the task says.
            retries: Attempts after the first one that exceptions are given.
            parent: Id of the job that this one is made from.
            by: Who submits.
            webhook: An address to tell of its end.

        Raises:
            BadJob: Something cannot be kept.
            KeyConflict: The key has another task or other arguments.
            StoreError: It was not committed.
        """
        return self.submit_many(
            [Submission(task, arguments, priority, run_at, tuple(tags), key, timeout, retries, parent, by, webhook)]
        )[0]

    def submit_many(self, submissions_: Sequence[Submission]) -> list[Submitted]:
        """Put jobs into the queue, in order, in one transaction (of 500 or fewer, if they are more).

        Raises:
            BadJob: One of them cannot be kept; none was submitted.
            KeyConflict: One of them has a key with another task or other arguments; the others were submitted.
            StoreError: They were not committed.
        """
        rows = [submissions.prepared(each) for each in submissions_]
        return self._handed_over(rows) or self._submitted_here(rows)

    def _submitted_here(self, rows: Sequence[submissions.Prepared]) -> list[Submitted]:
        return [answer() for answer in self._commits.run_all([(submissions.submit, row) for row in rows])]

    def _handed_over(self, rows: Sequence[submissions.Prepared]) -> list[Submitted]:
        """What became of submissions that the supervisor, another process, has committed; nothing if it has not."""
        if self._server is not None or not rows or not commit_socket.is_there(str(self.folder)):
            return []
        self._database.check_file()
        try:
            answers = self._client.submit(rows)
        except commit_socket.Unanswered:
            # It may have been committed and not told: the ids say so.
            return self._submitted_here(rows)
        found = []
        for answer in answers:
            if isinstance(answer, AllcoresError):
                raise answer
            if isinstance(answer, str):
                job = self.get(answer)
                if job is None:
                    raise StoreError(f"job {answer}, which has the key, was deleted a moment ago: submit again")
                answer = Submitted(job, replayed=True)
            found.append(answer)
        return found

    # -- read ----------------------------------------------------------------------------------------------------

    def get(self, id: str) -> Job | None:
        """The job of an id as it is now; None if there is none.

        Raises:
            StoreError: The store cannot be read.
        """
        if not isinstance(id, str) or not 0 < len(id) <= 64 or not id.isalnum() or not id.isascii():
            return None
        with self._database.reading() as connection:
            return next(iter(jobs_where(connection, schema.jobs.c.id == id)), None)

    def attempts(self, id: str) -> list[Attempt]:
        """Attempts of a job that did not succeed, the first one first."""
        job = self.get(id)
        if job is None:
            return []
        with self._database.reading() as connection:
            return attempts_of(connection, job.seq)

    def page(
        self,
        filter: JobFilter = JobFilter(),  # noqa: B008 (it is frozen)
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = 50,
        seconds: float = filters.SEARCH_S,
    ) -> JobPage:
        """Jobs that fit a filter, newest first.

        Args:
            filter: Which jobs.
            after: Jobs that come after this `seq` in the list: older ones. `JobPage.older` is meant for it.
            before: Jobs that come before this `seq`: newer ones. `JobPage.newer` is meant for it.
            limit: Jobs of a page, up to 1,000.
            seconds: For what no index knows (text, times): how long to look for it.

        Raises:
            BadJob: The filter makes no sense.
            StoreError: The store cannot be read.
        """
        with self._database.reading() as connection:
            return filters.page(
                connection, self._database.dialect, filter, after=after, before=before, limit=limit, seconds=seconds
            )

    def counts(self) -> Counts:
        """How many jobs there are, by state and by task: exact, and as quick with a million of them."""
        with self._database.reading() as connection:
            return statistics.counts(connection)

    def stats(self, window: float = 3600.0) -> Statistics:
        """What happened in the last seconds: ends, waiting, failures by cause.

        Args:
            window: Seconds; up to seven days are kept.
        """
        with self._database.reading() as connection:
            return statistics.of_window(connection, window, time.time())

    def change_number(self) -> int:
        """Grows with each change, whoever makes it: what was read at one number is still true at the same."""
        with self._database.reading() as connection:
            return int(connection.execute(text("SELECT number FROM allcores_changes")).scalar() or 0)

    def wait_for_change(self, since: int, timeout: float) -> int:
        """Wait until the change number is above one that is known; returns it as it is then, or when time is up.

        A change of this process ends the wait at once; one of another process is noticed within 100 ms.
        """
        end = time.monotonic() + timeout
        while True:
            with self._condition:
                if self._last_change > since:
                    return self._last_change
            if (number := self.change_number()) > since or (left := end - time.monotonic()) <= 0:
                return number
            with self._condition:
                self._condition.wait_for(lambda: self._last_change > since, timeout=min(left, 0.1))

    # -- the supervisor's side -----------------------------------------------------------------------------------

    def become_supervisor(self) -> SupervisorLock:
        """Take the right to claim jobs, until the lock is released or this process ends.

        A thread then takes submissions of other processes, which are committed together.

        Raises:
            AlreadySupervised: Another process has it.
            StoreError: The lock cannot be taken.
        """
        self._lock = SupervisorLock(self.folder, self._database, before_release=self._without_supervisor)
        # Where there can be no socket, others commit by themselves.
        with suppress(OSError, AttributeError):
            self._server = commit_socket.CommitServer(str(self.folder), self._commits)
        return self._lock

    def supervisor_pid(self) -> int | None:
        """The process that is the supervisor, on this machine; None if there is none, 0 if its number is not known."""
        return supervisor_of(self.folder)

    def _check_supervisor(self) -> None:
        if self._lock is None or not self._lock.held:
            raise StoreError(f"this process is not the supervisor of the store {self.name}: become_supervisor() first")

    def claim(self, limit: int, tasks: Collection[str]) -> list[Claim]:
        """Claim up to so many jobs of these tasks, the highest priority first, then the oldest.

        Only the supervisor does that. Damaged rows are quarantined on the way.
        """
        self._check_supervisor()
        if limit < 1 or not tasks:
            return []
        return self._commits.run(claims.claim, (limit, tasks))

    def finish(self, claim: Claim, outcome: Finished) -> bool:
        """Write how an attempt ended, if this claim is still the job's.

        The same end may be written again when it is not known whether it was committed: that changes nothing.

        Returns:
            Whether it holds. False: the claim was lost (a later attempt has it, or the job is gone); nothing was
            written.

        Raises:
            BadJob: The result cannot be kept: finish with an error instead.
        """
        return self.finish_many([(claim, outcome)])[0]

    def finish_many(self, ends: Sequence[tuple[Claim, Finished]]) -> list[bool]:
        """The same for several, committed together: a commit costs a wait for the disk, however much is in it."""
        checked = [(claim, outcome, claims.checked(outcome)) for claim, outcome in ends]
        return [answer() for answer in self._commits.run_all([(claims.finish, each) for each in checked])]

    def release(self, claims_: Sequence[Claim]) -> int:
        """Give claims back: their jobs are queued as they were, and no attempt is charged. Returns how many."""
        return self._commits.run(claims.release, list(claims_)) if claims_ else 0

    def report_worker(self, claim: Claim, pid: int) -> bool:
        """Write down which process runs a job: from now on `recover` counts its death as a crash."""
        return self.report_workers([(claim, pid)])[0]

    def report_workers(self, workers: Sequence[tuple[Claim, int]]) -> list[bool]:
        """The same for several, committed together; False for a claim that was lost."""
        return [answer() for answer in self._commits.run_all([(claims.report_worker, each) for each in workers])]

    def report_progress(self, claim: Claim, progress: Progress) -> bool:
        """Write how far a running job is; False if the claim was lost. A few times a second is enough."""
        return self._commits.run(claims.report_progress, (claim, progress))

    def recover(self, *, max_crashes: int = MAX_CRASHES) -> list[Job]:
        """Queue again what a supervisor that is gone had claimed; call it once, at the start.

        An attempt whose process was known (`report_worker`) counts as a crash; after `max_crashes` the job is
        quarantined, and one whose end was asked for is cancelled. Old claims can finish nothing any more.
        """
        self._check_supervisor()
        return self._commits.run(claims.recover, max_crashes)

    def maintain(self, retention: Retention = Retention(), *, seconds: float = 1.0) -> Swept:  # noqa: B008 (frozen)
        """Remove what is not to be kept, and move SQLite's log into its file; to be called every minute or so.

        No transaction of it takes longer than some 20 ms, however much there is to remove.

        Args:
            retention: What is kept.
            seconds: For how long at most; what is left is removed by the next call.
        """
        self._check_supervisor()
        swept = sweep(self._commits, self.folder / RESULTS, retention, seconds)
        if swept.jobs:
            self._commits.run(actions.write_down, ("", "retention", swept.jobs, {}))
        if checkpoints.size_of_log(self._database) > checkpoints.OF_SUPERVISOR:
            checkpoints.checkpoint(self._database, self.folder)
        return swept

    def remove_orphans(self) -> int:
        """Remove folders of results that no job has (a supervisor died before the commit); at the start. How many."""
        self._check_supervisor()
        ids = orphans(self.folder / RESULTS)
        known: set[str] = set()
        with self._database.reading() as connection:
            for table in (schema.jobs, schema.deleted):
                chosen = table.c.id.in_(among(self._database.dialect, ids))
                known.update(connection.execute(select(table.c.id).where(chosen)).scalars())
        return sum(remove_results(self.folder / RESULTS, each) for each in ids if each not in known)

    def cancel_requests(self) -> list[str]:
        """Ids of running jobs whose end was asked for."""
        with self._database.reading() as connection:
            statement = select(schema.jobs.c.id).where(text(schema.CANCELS))
            return list(connection.execute(statement).scalars())

    # -- people's side -------------------------------------------------------------------------------------------

    def snapshot(self, filter: JobFilter, *, seconds: float = 2.0) -> Snapshot:
        """The jobs that fit a filter now: what `cancel`, `retry` and `delete` are given to act on all of them.

        Args:
            filter: Which jobs.
            seconds: For counting them.
        """
        with self._database.reading() as connection:
            number = int(connection.execute(text("SELECT number FROM allcores_changes")).scalar() or 0)
            walk = filters.Walk(connection, self._database.dialect, filter)
            count, counted_all = actions.counted(walk, number, seconds)
        return Snapshot(filter, number, count, counted_all)

    def cancel(self, which: Collection[str] | Snapshot, by: str) -> Changed:
        """Cancel queued jobs, and ask for the end of running ones; others are skipped."""
        return self._act("cancel", actions.cancel, which, by)

    def retry(self, which: Collection[str] | Snapshot, by: str) -> Changed:
        """Queue jobs that have come to an end again, at once and with all attempts before them; others are skipped."""
        return self._act("retry", actions.retry, which, by)

    def delete(self, which: Collection[str] | Snapshot, by: str) -> Changed:
        """Delete jobs that do not run; for ten minutes `undelete` brings them back. Others are skipped."""
        return self._act("delete", actions.remove, which, by)

    def undelete(self, audit: int, by: str) -> Changed:
        """Bring back what was deleted by the action of a row of the audit (`Changed.audit`).

        Raises:
            UndoExpired: It is gone for good.
        """
        ids: list[str] = []
        while some := self._commits.run(actions.bring_back, audit):
            ids += some
        with self._database.reading() as connection:
            table = schema.audit
            deleted = connection.execute(
                select(table.c.count).where(table.c.seq == audit, table.c.action == "delete")
            ).scalar()
        actions.check_undo(len(ids), int(deleted or 1))
        row = self._commits.run(actions.write_down, (by, "undelete", len(ids), {"audit": audit}))
        return Changed(len(ids), ids=tuple(ids[: actions.NAMED]), audit=row)

    def _act(self, name: str, act: actions.Act, which: Collection[str] | Snapshot, by: str) -> Changed:
        if isinstance(which, str):
            raise BadJob("jobs are named as a list of ids")
        check_name(by, "who does it", empty=True)
        # Written down first, so that what is done is in the audit even if this process ends on the way.
        audit = self._commits.run(actions.write_down, (by, name, 0, actions.described(which)))
        changed: list[str] = []
        skipped = 0
        if isinstance(which, Snapshot):
            beyond: int | None = None
            while True:
                some, missed, beyond = self._commits.run(actions.portion_of_snapshot, (act, which, beyond, audit))
                changed += some
                skipped += missed
                if beyond is None:
                    break
            skipped = max(skipped, which.count - len(changed))
        else:
            ids = list(dict.fromkeys(which))
            for start in range(0, len(ids), actions.PORTION):
                portion = ids[start : start + actions.PORTION]
                done: list[str] = self._commits.run(actions.portion_of_ids, (act, portion, audit))
                changed += done
            skipped = len(ids) - len(changed)
        return Changed(len(changed), skipped, tuple(changed[: actions.NAMED]), audit)

    def write_audit(self, by: str, action: str, count: int = 1, detail: dict[str, Any] | None = None) -> int:
        """Add a row to the audit, for what others than this store change; returns its number."""
        dumps(detail or {}, "the detail")
        return self._commits.run(actions.write_down, (check_name(by, "who", empty=True), action, count, detail or {}))

    def audit(self, after: int | None = None, limit: int = 100) -> list[AuditRow]:
        """Who changed what, the latest first.

        Args:
            after: Rows that come after the one of this number: earlier ones.
            limit: Rows at most.
        """
        table = schema.audit
        statement = select(table).order_by(table.c.seq.desc()).limit(limit)
        if after is not None:
            statement = statement.where(table.c.seq < after)
        with self._database.reading() as connection:
            return [actions.audit_row(row) for row in connection.execute(statement).mappings()]

    # -- small things that outlive a process -----------------------------------------------------------------------

    def put_record(self, kind: str, name: str, body: Any) -> None:
        """Keep a value (JSON) under a kind and a name, in place of what was there: a schedule, say."""
        row = {"kind": check_name(kind, "the kind"), "name": check_name(name, "the name"), "body": dumps(body, name)}
        self._commits.run(_put_record, row)

    def delete_record(self, kind: str, name: str) -> bool:
        """Remove such a value; False if there was none."""
        return bool(self._commits.run(_delete_record, (kind, name)))

    def records(self, kind: str) -> dict[str, Any]:
        """Values of a kind by name, in the order of their names."""
        table = schema.records
        statement = select(table.c.name, table.c.body).where(table.c.kind == kind).order_by(table.c.name)
        with self._database.reading() as connection:
            return {name: json.loads(body) for name, body in connection.execute(statement).all()}

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection of SQLAlchemy's that reads, and sees one moment; for questions that nobody else asks."""
        with self._database.reading() as connection:
            yield connection


def _put_record(transaction: Transaction, payloads: Sequence[dict[str, Any]]) -> list[Any]:
    table = schema.records
    for row in payloads:
        transaction.connection.execute(delete(table).where(table.c.kind == row["kind"], table.c.name == row["name"]))
        transaction.connection.execute(insert(table).values(**row, changed=transaction.change))
    return [None] * len(payloads)


def _delete_record(transaction: Transaction, payloads: Sequence[tuple[str, str]]) -> list[Any]:
    table = schema.records
    return [
        transaction.connection.execute(delete(table).where(table.c.kind == kind, table.c.name == name)).rowcount > 0
        for kind, name in payloads
    ]
