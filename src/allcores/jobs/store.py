"""The store of jobs: what web pages, the command line and the supervisor see of the database."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import select, text

from allcores.errors import AllcoresError, UsageError
from allcores.jobs import (
    actions,
    checkpoints,
    claims,
    commit_socket,
    ends,
    lost_claims,
    queries,
    retaking,
    schema,
    submissions,
)
from allcores.jobs.database import BUSY_S, Database
from allcores.jobs.errors import KeyConflict, StoreError
from allcores.jobs.location import locate
from allcores.jobs.model import (
    Claim,
    Finished,
    Job,
    Progress,
    Submission,
    Submitted,
)
from allcores.jobs.opening import opened
from allcores.jobs.rows import as_tags
from allcores.jobs.session_lock import Session
from allcores.jobs.store_keeping import StoreKeeping
from allcores.jobs.supervisor_lock import SESSION_ENDS_S, SupervisorLock, supervisor_of
from allcores.jobs.wake import wake

#: crashes after which a job is run no more
MAX_CRASHES = 3
#: submissions that are handed to the supervisor at once, and bytes of them: some 100 ms of its commits
HANDED_OVER, HANDED_OVER_BYTES = 2_000, 16 * 1024**2


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What became of an exchange.

    Attributes:
        held: For each end whether the claim was held; whole only without an error.
        claims: What was claimed.
        error: Why something may not have been written.
    """

    held: list[bool]
    claims: list[Claim]
    error: Exception | None


def _submitted(answer: Submitted | KeyConflict) -> Submitted:
    if isinstance(answer, KeyConflict):
        raise answer
    return answer


class JobStore(StoreKeeping):
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
        self.name = database.location.name
        self.identity = identity
        super().__init__(database, folder)
        self._client = commit_socket.CommitClient(str(folder), database.busy_s + 5.0)
        self._server: commit_socket.CommitServer | None = None
        self._lock: SupervisorLock | None = None
        #: of all its locks: the server may not have missed those whose connections broke
        self._sessions: list[Session] = []
        self._when_changed: Callable[[], None] | None = None
        self._when_submitted: Callable[[], None] | None = None

    @property
    def is_on_this_machine(self) -> bool:
        """Whether all that changes it is on this machine, and wakes the supervisor."""
        return self._database.dialect == "sqlite"

    def when_changed(self, call: Callable[[], None] | None, submitted: Callable[[], None] | None = None) -> None:
        """Have a function called, by any thread, when others have changed something; for the supervisor.

        Args:
            call: The function; None: nothing is called any more.
            submitted: Called in its place where jobs were submitted through this store, and nothing else happened.
        """
        self._when_changed, self._when_submitted = call, submitted

    def _changed(self) -> None:
        call = self._when_changed
        if call is not None:
            call()
        elif self._server is None:
            wake(self.folder)

    def _has_submitted(self) -> None:
        (self._when_submitted or self._changed)()

    @classmethod
    def open(
        cls,
        where: str | os.PathLike[str] | None = None,
        *,
        allow_network: bool = False,
        busy_s: float = BUSY_S,
        synchronous: str | None = None,
        create: bool = True,
    ) -> Self:
        """Open a store, or begin one where there is none.

        Args:
            where: A file for SQLite, or a URL as SQLAlchemy writes it (postgresql://...,
                sqlite:///jobs.sqlite?synchronous=NORMAL). None: jobs.sqlite in $ALLCORES_HOME/jobs, or allcores in
                $XDG_STATE_HOME (~/.local/state).
            allow_network: Use a file on a network's file system all the same. Its locks may not keep two machines
                from damaging the file.
            busy_s: Seconds for which another process's lock is waited for.
            synchronous: SQLite only. "FULL": what was committed survives a power cut. "NORMAL": a crash of any
                program, but the last moments before a power cut may be lost; a commit does not wait for the disk.
                None: as the address says, else FULL. The program that commits decides: the supervisor, while it runs.
            create: Begin one where there is none.

        Raises:
            UsageError: It is no place for a store, or cannot be trusted.
            NoStore: There is none, and none is to be begun.
            SchemaTooNew: A newer program made or changed it.
            StoreError: It cannot be opened.
        """
        location = locate(where)
        synchronous = synchronous if synchronous is not None else location.synchronous or "FULL"
        if synchronous not in ("FULL", "NORMAL"):
            raise UsageError(f"synchronous is FULL or NORMAL, not {synchronous!r}")
        database, identity = opened(
            location, allow_network=allow_network, busy_s=busy_s, synchronous=synchronous, create=create
        )
        return cls(database, location.folder, identity)

    def close(self) -> None:
        """Close idle connections, and let go of the supervisor's lock; idempotent."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        # One of several supervisors may have led without the lock.
        self._without_supervisor()
        self._client.close()
        self._database.close()

    def _without_supervisor(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def after_fork(self) -> None:
        """In a child: what other threads of the parent were at is theirs, and so is the supervisor's lock."""
        super().after_fork()
        self._client = commit_socket.CommitClient(str(self.folder), self._database.busy_s + 5.0)
        self._server = self._lock = None
        self._sessions = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _committed(self, change: int) -> None:
        super()._committed(change)
        if change % 64 == 0 and checkpoints.size_of_log(self._database) > checkpoints.OF_OTHERS:
            # What is committed is committed, whatever becomes of the log.
            with suppress(StoreError, OSError):
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
        retries: int | None = None,
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
            retries: Attempts after the first one that exceptions are given; None: what the task says.
            parent: Id of the job that this one is made from.
            by: Who submits.
            webhook: An address to tell of its end.

        Raises:
            BadJob: Something cannot be kept.
            KeyConflict: The key has another task or other arguments.
            StoreError: It was not committed.
        """
        return self.submit_many(
            [Submission(task, arguments, priority, run_at, as_tags(tags), key, timeout, retries, parent, by, webhook)]
        )[0]

    def submit_many(self, submissions_: Sequence[Submission]) -> list[Submitted]:
        """Put jobs into the queue, in order, in one transaction (several, if they are more than 500, or than 8 MB).

        Raises:
            BadJob: One of them cannot be kept; none was submitted.
            KeyConflict: One of them has a key with another task or other arguments; the others were submitted.
            StoreError: They were not committed.
        """
        rows = [submissions.prepared(each) for each in submissions_]
        found: list[Submitted | KeyConflict] = []
        # In parts: others hand over theirs between two of them, and each has its answer before it is given up.
        for part in actions.portions(((row, row.size) for row in rows), HANDED_OVER, HANDED_OVER_BYTES):
            found += self._handed_over(part) or self._submitted_here(part)
        return [_submitted(each) for each in found]

    def _submitted_here(self, rows: Sequence[submissions.Prepared]) -> list[Submitted | KeyConflict]:
        answers = self._commits.run_all([(submissions.submit, row) for row in rows])
        self._has_submitted()
        found: list[Submitted | KeyConflict] = []
        for answer in answers:
            try:
                found.append(answer())
            except KeyConflict as error:
                found.append(error)
        return found

    def _handed_over(self, rows: Sequence[submissions.Prepared]) -> list[Submitted | KeyConflict]:
        """What became of submissions that the supervisor, another process, has committed; nothing if it has not."""
        if self._server is not None or not rows or not commit_socket.is_there(str(self.folder)):
            return []
        self._database.check_file()
        try:
            answers = self._client.submit(rows)
        except commit_socket.Unanswered:
            # It may have been committed and not told: the ids say so.
            return self._submitted_here(rows)
        found: list[Submitted | KeyConflict] = []
        for answer in answers:
            if isinstance(answer, KeyConflict):
                found.append(answer)
                continue
            if isinstance(answer, AllcoresError):
                raise answer
            if isinstance(answer, str):
                job = self.get(answer)
                if job is None:
                    raise StoreError(f"job {answer}, which has the key, was deleted a moment ago: submit again")
                answer = Submitted(job, replayed=True)
            found.append(answer)
        return found

    # -- the supervisor's side -----------------------------------------------------------------------------------

    def become_supervisor(self) -> SupervisorLock:
        """Take the right to claim jobs, until the lock is released or this process ends.

        A thread then takes submissions of other processes, which are committed together. One that this store has had,
        and that was lost (the server of the store ended its session), is given back first.

        Raises:
            AlreadySupervised: Another process has it.
            StoreError: The lock cannot be taken.
        """
        return self._become_supervisor(SESSION_ENDS_S)

    def _become_supervisor(self, wait_s: float) -> SupervisorLock:
        if self._lock is not None and not self._lock.held:
            self._lock.release()
        lock = SupervisorLock(self.folder, self._database, self._without_supervisor, wait_s, self._sessions)
        self._lock = lock
        self._take_submissions()
        return lock

    def _take_submissions(self) -> None:
        """Take submissions of other processes from now on, in the place of whoever did."""
        if self._server is None:
            # Where there can be no socket, others commit by themselves.
            with suppress(OSError, AttributeError):
                self._server = commit_socket.CommitServer(str(self.folder), self._commits, self._has_submitted)

    def supervisor_pid(self) -> int | None:
        """The process that is the supervisor, on this machine; None if there is none, 0 if its number is not known."""
        return supervisor_of(self.folder)

    def _check_supervisor(self) -> None:
        if self._lock is None or not self._lock.held:
            if self._lock is not None and self._lock.may_return:
                loss = self._lock.loss()
                # For callers: a supervisor, which logs the text, takes it again by itself.
                loss.add_note("Call become_supervisor() again to go on.")
                raise loss
            raise StoreError(f"this process is not the supervisor of the store {self.name}: become_supervisor() first")
        self._lock.check_place()

    def claim(self, limit: int, tasks: Collection[str]) -> list[Claim]:
        """Claim up to so many jobs of these tasks, the highest priority first, then the oldest.

        Only the supervisor does that. Damaged rows are quarantined on the way.
        """
        self._check_supervisor()
        if limit < 1 or not tasks:
            return []
        return self._commits.run(
            claims.claim, lambda _: claims.Choice(limit, tasks, cores=limit, doubtful=tasks), durable=False
        )

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

    def finish_many(self, finished: Sequence[tuple[Claim, Finished]]) -> list[bool]:
        """The same for several, committed together: a commit costs a wait for the disk, however much is in it."""
        checked = [ends.End(claim, outcome, ends.checked(outcome)) for claim, outcome in finished]
        return [answer() for answer in self._commits.run_all([(ends.finish, each) for each in checked])]

    def exchange(
        self, finished: Sequence[ends.End], releases: Sequence[Claim], choose: claims.Choose | None
    ) -> Exchanged:
        """Write how attempts ended, give claims back, and claim what comes next: all in one commit.

        A claim alone does not wait for the disk: after a power cut the job is queued as if it had not been claimed,
        and an end that was written is never there without its claim.

        Args:
            finished: As `ends.checked` made them.
            releases: Claims to give back.
            choose: How many jobs of which tasks to claim; it may be called more than once, and what was claimed by an
                earlier call may be claimed all the same (`release_strays`). None: nothing is claimed.
        """
        self._check_claims()
        operations: list[tuple[Any, Any]] = [(ends.finish, each) for each in finished]
        if releases:
            operations.append((claims.release, list(releases)))
        claiming = None if choose is None else self._claiming(choose)
        if claiming is not None:
            operations.append(claiming)
        answers = self._commits.run_all(operations, durable=bool(finished))
        held: list[bool] = []
        claimed: list[Claim] = []
        error: Exception | None = None
        # What was claimed is told whatever became of the rest.
        for number, answer in enumerate(answers):
            try:
                told = answer()
            except Exception as its_own:
                error = its_own
                continue
            if number < len(finished):
                held.append(told)
            elif operations[number] is claiming:
                claimed = self._taken(told)
        return Exchanged(held, claimed, error)

    def _check_claims(self) -> None:
        """See that this process may claim."""
        self._check_supervisor()

    def _claiming(self, choose: claims.Choose) -> tuple[Any, Any] | None:
        """What claims, and what it is given; None: nothing is to be claimed."""
        return claims.claim, choose

    def _taken(self, answer: Any) -> list[Claim]:
        """The claims in its answer."""
        found: list[Claim] = answer
        return found

    def look(self) -> queries.Look:
        """What waits to be claimed by this process. Raises: StoreError."""
        return queries.look(self)

    @property
    def is_shown(self) -> bool:
        """Whether what this process tells of itself is what pages show as the supervisor."""
        return True

    @property
    def claims_ahead(self) -> bool:
        """Whether short jobs are claimed before there is a core for them, since nobody else could run them."""
        return True

    def release_strays(self, known: Sequence[Claim]) -> int:
        """Queue again what is claimed by nobody, after a claim that raised and may have been committed; how many.

        Args:
            known: All claims that this process has.
        """
        self._check_supervisor()
        return self._commits.run(lost_claims.release_strays, (list(known), ""))

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
        return self.report_all_progress([(claim, progress)])[0]

    def report_all_progress(self, reports: Sequence[tuple[Claim, Progress]]) -> list[bool]:
        """The same for several jobs, committed together."""
        operations = [(claims.report_progress, each) for each in reports]
        return [answer() for answer in self._commits.run_all(operations, durable=False)]

    def recover(self, *, max_crashes: int = MAX_CRASHES) -> list[Job]:
        """Queue again what a supervisor that is gone had claimed; call it once, at the start.

        An attempt whose process was known (`report_worker`) counts as a crash; after `max_crashes` the job is
        quarantined, and one whose end was asked for is cancelled. Old claims can finish nothing any more.
        """
        self._check_supervisor()
        return self._commits.run(lost_claims.recover, max_crashes)

    def retake(
        self, at_work: Sequence[Claim], ended: Sequence[Claim], *, max_crashes: int = MAX_CRASHES
    ) -> retaking.Retaken:
        """See which claims stand after the store was away, and queue again what a supervisor that is gone had.

        Args:
            at_work: Claims of jobs that run.
            ended: Of those that have ended, which may not be written yet.
            max_crashes: Deaths of its process after which a job is quarantined.
        """
        self._check_supervisor()
        return self._commits.run(retaking.retake, retaking.Known(at_work, ended, "", max_crashes))

    @property
    def sessions_lost(self) -> int:
        """Another number than before: the server of the store may have crashed, and have lost the last moments."""
        return self._database.sessions_lost

    def cancel_requests(self) -> list[str]:
        """Ids of running jobs whose end was asked for."""
        with self._database.reading() as connection:
            statement = select(schema.jobs.c.id).where(text(schema.CANCELS))
            return list(connection.execute(statement).scalars())
