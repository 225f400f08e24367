"""What the supervisor asks the store in between: one read that says whether there is anything to do."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select, text

from allcores.jobs import schema
from allcores.jobs.reading import among, change_in, jobs_where

if TYPE_CHECKING:
    from allcores.jobs.model import Job
    from allcores.jobs.store_reading import StoreReading

_WAITING = text("SELECT task FROM allcores_counters WHERE state = 'queued' AND due = 1 AND n > 0")
_RUNNING = text("SELECT sum(n) FROM allcores_counters WHERE state = 'running'")
_NEXT = text("SELECT min(run_at) FROM allcores_jobs WHERE state = 'queued' AND due = 0")
_ENDS = text(
    "SELECT (SELECT min(finished) FROM allcores_jobs WHERE finished IS NOT NULL),"
    " (SELECT max(finished) FROM allcores_jobs WHERE finished IS NOT NULL)"
)
_BEGINNING = text(
    "SELECT id FROM allcores_jobs WHERE id >= :least AND id < :above AND id LIKE :like ORDER BY id LIMIT :most"
)

# Also of those that were deleted: as long as they can be brought back, theirs stays theirs.
_WITH_FILES = tuple(
    text(f"SELECT arguments FROM {table} WHERE arguments LIKE '%\"upload\"%'")
    for table in ("allcores_jobs", "allcores_deleted")
)
_UPLOAD = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen.

    Attributes:
        change: The store's change number.
        waiting: Tasks that have jobs which could run.
        next_at: When the next delayed job may run, seconds since 1970; None: there is none.
        due: Whether that time has come: which task it is of, the claim finds out.
    """

    change: int
    waiting: frozenset[str]
    next_at: float | None
    due: bool


def look(store: StoreReading) -> Look:
    """Look. Raises: StoreError."""
    with store.reading() as connection:
        change = change_in(connection)
        waiting = frozenset(connection.execute(_WAITING).scalars())
        next_at = connection.execute(_NEXT).scalar()
    next_at = None if next_at is None else float(next_at)
    return Look(change, waiting, next_at, next_at is not None and next_at <= time.time())


def change_and_running(store: StoreReading) -> tuple[int, int]:
    """The store's change number, and how many jobs run. Raises: StoreError."""
    with store.reading() as connection:
        change = change_in(connection)
        return change, int(connection.execute(_RUNNING).scalar() or 0)


def first_and_last_end(store: StoreReading) -> tuple[float | None, float | None]:
    """When the first of all jobs that are there ended, and the last; None: none has. Raises: StoreError."""
    with store.reading() as connection:
        first, last = connection.execute(_ENDS).one()
        return first, last


def not_named_in_arguments(store: StoreReading, uploads: Collection[str]) -> set[str]:
    """Those of these uploaded files that no job names which is there, or can be brought back.

    All of them by one pass over the jobs, which takes a second for millions.

    Raises:
        StoreError: The store cannot be read.
    """
    left = set(uploads)
    with store.reading() as connection:
        for each in _WITH_FILES:
            with connection.execute(each, execution_options={"yield_per": 1_000}) as rows:
                for (arguments,) in rows:
                    left.difference_update(_UPLOAD.findall(arguments))
                    if not left:
                        break
    return left


def ids_beginning(store: StoreReading, text: str, most: int) -> list[str]:
    """Ids of jobs that begin so, in their order; so many at most. Raises: StoreError."""
    if not (text.isascii() and text.isalnum()):
        return []
    with store.reading() as connection:
        # The bounds are for the index; ids are digits and small letters.
        found = connection.execute(_BEGINNING, {"least": text, "above": f"{text}g", "like": f"{text}%", "most": most})
        return list(found.scalars())


def kept(store: StoreReading, ids: Collection[str]) -> set[str]:
    """Those of these jobs that are there, or can be brought back. Raises: StoreError."""
    found: set[str] = set()
    with store.reading() as connection:
        for table in (schema.jobs, schema.deleted):
            chosen = table.c.id.in_(among(store.dialect, list(ids)))
            found.update(connection.execute(select(table.c.id).where(chosen)).scalars())
    return found


def with_key(store: StoreReading, key: str) -> Job | None:
    """The job that has this key. Raises: StoreError."""
    with store.reading() as connection:
        found = jobs_where(connection, schema.jobs.c.key == key, limit=1)
    return found[0] if found else None
