"""What who announces jobs asks the store: one read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, text

from allcores.jobs import schema
from allcores.jobs.reading import among
from allcores.jobs.store import JobStore

_jobs = schema.jobs


@dataclass(frozen=True, slots=True)
class ToAnnounce:
    """What was seen.

    Attributes:
        ready: Ids of jobs that may begin: the highest priority first, then the oldest.
        queued: Of those that were announced, the ones that are queued still.
    """

    ready: list[str]
    queued: frozenset[str]


def to_announce(store: JobStore, tasks: Sequence[str], announced: Sequence[str], window: int) -> ToAnnounce:
    """Jobs that are to be announced, and those that were and have not begun.

    Args:
        store: The store.
        tasks: Whose jobs.
        announced: Ids.
        window: Jobs at most, beside those that were announced.

    Raises:
        StoreError: The store cannot be read.
    """
    now = time.time()
    dialect = store.dialect
    ready: list[tuple[int, int, str]] = []
    with store.reading() as connection:
        for task in tasks:
            columns = select(_jobs.c.priority, _jobs.c.seq, _jobs.c.id).where(_jobs.c.task == task)
            first = columns.where(text(schema.READY)).order_by(_jobs.c.priority.desc(), _jobs.c.seq)
            ready += [(-row[0], row[1], row[2]) for row in connection.execute(first.limit(window + len(announced)))]
        # Those whose time has come become ready when they are claimed.
        late = select(_jobs.c.priority, _jobs.c.seq, _jobs.c.id, _jobs.c.task).where(text(schema.DELAYED))
        late = late.where(_jobs.c.run_at <= now).order_by(_jobs.c.run_at).limit(window)
        ready += [(-row[0], row[1], row[2]) for row in connection.execute(late) if row[3] in tasks]
        queued: frozenset[str] = frozenset()
        if announced:
            there = select(_jobs.c.id).where(_jobs.c.id.in_(among(dialect, list(announced))), _jobs.c.state == "queued")
            queued = frozenset(connection.execute(there).scalars())
    return ToAnnounce([id for _, _, id in sorted(ready)], queued)
