"""What is kept, and for how long: the oldest ends go first, in portions that hold up nobody.

A portion is as large as fits into a few milliseconds of the lock, measured as it goes. Results in files are removed
after the row that names them, and only from folders whose names are ids of jobs that were here.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, func, select

from allcores.errors import AllcoresError, UsageError
from allcores.formatting import size_text
from allcores.jobs import schema
from allcores.jobs.actions import UNDO_S
from allcores.jobs.group_commit import GroupCommit, Transaction
from allcores.jobs.model import FINAL_STATES
from allcores.jobs.reading import among
from allcores.jobs.results import NEW
from allcores.system import own_files

#: seconds that a portion is to take, and jobs in the first one, which is the smallest, and in the largest one
PORTION_S = 0.02
_FIRST, _MOST = 50, 2_000
#: seconds for which ends are counted together in `allcores_ends`
ENDS_S = 7 * 86_400.0
#: a bound above it is none
_ALL = 2**62
_ID = re.compile(r"[0-9a-f]{32}")
_jobs = schema.jobs


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of jobs that have come to an end, whatever is reached first, and of the audit.

    None is no bound, and so are infinity and numbers that no store reaches.

    Attributes:
        age: Seconds since their end.
        rows: How many.
        bytes: What arguments, results, errors and result files take, of all jobs.
        audit: How many rows of the audit; the last one always.
    """

    age: float | None = 30 * 86_400.0
    rows: int | None = 1_000_000
    bytes: int | None = 10 * 1024**3
    audit: int | None = 100_000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, int | float) and value > _ALL:
                object.__setattr__(self, name, None)
            elif value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0
            ):
                raise UsageError(f"retention: {name} is a number from 0 on, or None for no bound, not {value!r}")

    def in_words(self) -> str:
        """For people: "ended jobs: 30 days, 1,000,000, 10 GB; audit: 100,000 rows"."""
        ended = [
            *([] if self.age is None else [f"{self.age / 86_400:g} days"]),
            *([] if self.rows is None else [f"{self.rows:,}"]),
            *([] if self.bytes is None else [size_text(self.bytes)]),
        ]
        audit = "all" if self.audit is None else f"{self.audit:,} rows"
        return f"ended jobs: {', '.join(ended) or 'all'}; audit: {audit}"


@dataclass(frozen=True, slots=True)
class Swept:
    """What was removed.

    Attributes:
        jobs: Jobs that had come to an end.
        undone: Deleted jobs that nobody brought back.
        folders: Folders with results of jobs that are gone.
        complete: False if time was up before all was removed.
        portion: Jobs that were removed in one transaction at last: where the next call may begin.
    """

    jobs: int = 0
    undone: int = 0
    folders: int = 0
    complete: bool = True
    portion: int = 0


def purge(
    transaction: Transaction, payloads: Sequence[tuple[Retention, int, float]]
) -> list[tuple[list[str], bool] | AllcoresError]:
    """Remove up to so many of the oldest ends that are too many; returns their ids, and whether there are more.

    Payloads: what is kept, how many are removed at most, and how late it is.
    """
    answers: list[tuple[list[str], bool] | AllcoresError] = []
    for retention, most, now in payloads:
        connection = transaction.connection
        counters = schema.counters
        ended, taken = 0, 0
        for state, number, size in connection.execute(
            select(counters.c.state, func.sum(counters.c.n), func.sum(counters.c.bytes)).group_by(counters.c.state)
        ):
            ended += int(number) if state in FINAL_STATES else 0
            taken += int(size)
        # Only what has ended has a time of its end; a condition on the state would mislead SQLite to another index.
        oldest = connection.execute(
            select(_jobs.c.seq, _jobs.c.id, _jobs.c.finished, _jobs.c.bytes)
            .where(_jobs.c.finished.is_not(None))
            .order_by(_jobs.c.finished)
            .limit(most)
        ).all()
        gone: dict[int, str] = {}
        for seq, id, finished, size in oldest:
            too_old = retention.age is not None and finished < now - retention.age
            too_many = retention.rows is not None and ended > retention.rows
            too_large = retention.bytes is not None and taken > retention.bytes
            if not (too_old or too_many or too_large):
                break
            gone[seq] = id
            ended -= 1
            taken -= size
        for table in (_jobs, schema.attempts):
            _delete(transaction, table, list(gone))
        answers.append((list(gone.values()), bool(gone) and len(gone) == len(oldest)))
    return answers


def purge_deleted(
    transaction: Transaction, payloads: Sequence[tuple[int, float]]
) -> list[tuple[list[str], bool] | AllcoresError]:
    """Remove up to so many deleted jobs that cannot be brought back any more; returns their ids, and if there are more.

    Old counts of ends go as well. Payloads: how many at most, and how late it is.
    """
    answers: list[tuple[list[str], bool] | AllcoresError] = []
    table = schema.deleted
    for most, now in payloads:
        rows = transaction.connection.execute(
            select(table.c.seq, table.c.id).where(table.c.deleted < now - UNDO_S).limit(most)
        ).all()
        seqs = [row[0] for row in rows]
        for each in (table, schema.attempts):
            _delete(transaction, each, seqs)
        ends = schema.ends
        before = int((now - ENDS_S) // schema.BUCKET_S)
        transaction.connection.execute(delete(ends).where(ends.c.bucket < before, ends.c.bucket > before - 10_000))
        answers.append(([row[1] for row in rows], len(rows) == most))
    return answers


def purge_audit(transaction: Transaction, payloads: Sequence[tuple[int, int]]) -> list[bool | AllcoresError]:
    """Remove up to so many of the oldest rows of the audit, beyond those that are kept; whether there are more."""
    answers: list[bool | AllcoresError] = []
    table = schema.audit
    for kept, most in payloads:
        first, last = transaction.connection.execute(select(func.min(table.c.seq), func.max(table.c.seq))).one()
        # The last row stays: its number is the next one's.
        bound = (last or 0) - max(1, kept)
        if first is not None and first <= bound:
            transaction.connection.execute(delete(table).where(table.c.seq <= min(bound, first + most - 1)))
        answers.append(first is not None and first + most <= bound)
    return answers


def _delete(transaction: Transaction, table: object, seqs: list[int]) -> None:
    if seqs:
        column = table.c.seq  # type: ignore[attr-defined]
        transaction.connection.execute(
            delete(table).where(column.in_(among(transaction.dialect, seqs)))  # type: ignore[arg-type]
        )


def sweep(
    commits: GroupCommit, results: Path, retention: Retention, seconds: float, now: float, portion: int = 0
) -> Swept:
    """Remove what is not to be kept, for so many seconds at most; others get as much of the time as this takes.

    Args:
        commits: Of the store.
        results: Its folder of results.
        retention: What is kept.
        seconds: For how long.
        now: How late it is, seconds since 1970.
        portion: Jobs in the first transaction; 0: as few as are worth one.
    """
    end = time.monotonic() + seconds
    jobs = undone = folders = 0
    most, complete = portion or _FIRST, True
    for kind in ("jobs", "deleted"):
        more = True
        while more:
            if time.monotonic() > end:
                complete = False
                break
            begun = time.monotonic()
            if kind == "jobs":
                ids, more = commits.run(purge, (retention, most, now))
                jobs += len(ids)
            else:
                ids, more = commits.run(purge_deleted, (most, now))
                undone += len(ids)
            took = time.monotonic() - begun
            folders += sum(remove_results(results, each) for each in ids)
            if took > PORTION_S:
                # Not below the first size: what is left then is the commit, which costs the same for one job.
                most = max(_FIRST, most // 2)
            elif took < PORTION_S / 2:
                most = min(_MOST, most * 2)
            if more:
                time.sleep(min(took, 0.05))
    while retention.audit is not None and complete and commits.run(purge_audit, (int(retention.audit), _MOST)):
        complete = time.monotonic() <= end
    return Swept(jobs, undone, folders, complete, most)


def remove_results(results: Path, id: str) -> bool:
    """Remove the folder with the results of a job that is gone; False if there is none, or if it stays."""
    path = str(results / id)
    if not _ID.fullmatch(id) or not own_files.is_own_folder(path):
        return False
    # Whatever is in it is the job's: the name says whose it is, and plain files alone are removed. Below it is what an
    # attempt without success has left.
    own_files.remove_own_folder(os.path.join(path, NEW), lambda _: True)
    return own_files.remove_own_folder(path, lambda _: True)


def orphans(results: Path, older_than: float = 60.0) -> list[str]:
    """Ids of folders of results, made some seconds ago: those that no job has are to be removed."""
    found = []
    with contextlib.suppress(OSError), os.scandir(results) as entries:
        for each in entries:
            with contextlib.suppress(OSError):
                if _ID.fullmatch(each.name) and time.time() - each.stat(follow_symlinks=False).st_mtime > older_than:
                    found.append(each.name)
    return found
