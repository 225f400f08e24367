"""What is read from a store of jobs; each call sees one moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, select

from allcores.jobs import actions, filters, schema, statistics
from allcores.jobs.database import Database
from allcores.jobs.group_commit import GroupCommit
from allcores.jobs.model import Attempt, AuditRow, Counts, Job, JobFilter, JobPage, Snapshot, Statistics
from allcores.jobs.reading import attempts_of, change_in, jobs_where
from allcores.jobs.rows import check_whole, json_or_none
from allcores.system.forks import renew_in_children

#: seconds between two looks for changes of other processes, however many threads wait for them
LOOK_S = 0.1
#: ... of who has just begun to wait for the end of a job: a short one ends within milliseconds. Then a part of the
#: time waited so far: what is seen late is late by an eighth.
SOON_S, SOON_PARTS = 0.001, 8


def pause_s(waited: float | None) -> float:
    """Seconds between two looks of who has waited for so many, for what may come soon; None: it may come whenever."""
    return LOOK_S if waited is None else min(LOOK_S, max(SOON_S, waited / SOON_PARTS))


class StoreReading:
    """The part of a store that reads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._commits = GroupCommit(database, self._committed)
        self._condition = threading.Condition()
        self._last_change = 0
        self._looked = 0.0
        renew_in_children(self)

    def after_fork(self) -> None:
        """In a child: what other threads of the parent were at is theirs."""
        self._condition = threading.Condition()
        self._commits.after_fork()

    def _committed(self, change: int) -> None:
        with self._condition:
            self._last_change = max(self._last_change, change)
            self._condition.notify_all()

    @property
    def dialect(self) -> str:
        """The database's: "sqlite" or "postgresql"."""
        return self._database.dialect

    @property
    def last_change(self) -> int:
        """The change number of the last commit that this process has heard of, without a read."""
        return self._last_change

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
        seconds: float | None = None,
    ) -> JobPage:
        """Jobs that fit a filter, newest first.

        Args:
            filter: Which jobs.
            after: Jobs that come after this `seq` in the list: older ones. `JobPage.older` is meant for it.
            before: Jobs that come before this `seq`: newer ones. `JobPage.newer` is meant for it.
            limit: Jobs of a page, up to 1,000.
            seconds: For what no index knows (text, times, a tag with others): how long to look for it. None: a quarter
                of a second for a text, 20 ms for the rest; the page says how far it came.

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
        """Grows with each change, whoever makes it: what was read at one number is still true at the same.

        A crash of PostgreSQL may set it back, together with changes that did not wait for the disk (claims, progress).
        """
        before = self._last_change
        with self._database.reading() as connection:
            number = change_in(connection)
        with self._condition:
            # What this process had heard of before it read is undone where that is less, and waits for nobody.
            if number > self._last_change or number < before <= self._last_change:
                self._last_change = number
                self._condition.notify_all()
        return number

    def wait_for_change(self, since: int, timeout: float, *, begun: float | None = None) -> int:
        """Wait until the change number is another one than is known; returns it, or `since` when time is up.

        It is above it, or below where a crash of the server has set it back. A change of this process ends the wait at
        once; one of another process is noticed within 100 ms, by one look for all threads that wait.

        Args:
            since: What is known.
            timeout: Seconds.
            begun: When the caller began to wait for what may come soon, by the monotonic clock: the less time has
                passed since, the sooner a change is noticed.
        """
        end = time.monotonic() + timeout
        while True:
            with self._condition:
                now, last = time.monotonic(), self._last_change
                if last > since or now >= end:
                    return max(last, since)
                # Below: this process has not heard of it yet, or it was set back.
                pause = pause_s(None if begun is None else now - begun)
                looks = last < since or now - self._looked >= pause
                if looks:
                    self._looked = now
                else:
                    self._condition.wait(min(end - now, pause))
            if looks and (number := self.change_number()) < since:
                return number

    def snapshot(self, filter: JobFilter, *, seconds: float = 2.0) -> Snapshot:
        """The jobs that fit a filter now: what `cancel`, `retry` and `delete` are given to act on all of them.

        Args:
            filter: Which jobs.
            seconds: For counting them.
        """
        filter = filters.checked(filter)
        with self._database.reading() as connection:
            number = change_in(connection)
            walk = filters.Walk(connection, self._database.dialect, filter)
            if walk.rest is None and filter.tag is None:
                # What counters know need not be counted.
                count, counted_all = statistics.count(connection, filter), True
            else:
                count, counted_all = actions.counted(walk, number, seconds)
        return Snapshot(filter, number, count, counted_all)

    def audit(self, after: int | None = None, limit: int = 100) -> list[AuditRow]:
        """Who changed what, the latest first.

        Args:
            after: Rows that come after the one of this number: earlier ones.
            limit: Rows at most.

        Raises:
            BadJob: There are no such numbers.
            StoreError: The store cannot be read.
        """
        check_whole(limit, "the number of rows", 1)
        if after is not None:
            check_whole(after, "the number of a row of the audit")
        table = schema.audit
        statement = select(table).order_by(table.c.seq.desc()).limit(limit)
        if after is not None:
            statement = statement.where(table.c.seq < after)
        with self._database.reading() as connection:
            return [actions.audit_row(row) for row in connection.execute(statement).mappings()]

    def records(self, kind: str) -> dict[str, Any]:
        """Values of a kind by name, in the order of their names; None for one that is damaged."""
        table = schema.records
        statement = select(table.c.name, table.c.body).where(table.c.kind == kind).order_by(table.c.name)
        with self._database.reading() as connection:
            return {name: json_or_none(body) for name, body in connection.execute(statement).all()}

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection of SQLAlchemy's that reads, and sees one moment; for questions that nobody else asks."""
        with self._database.reading() as connection:
            yield connection
