"""What who announces jobs asks the store."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import select, text

from allcores.jobs import schema
from allcores.jobs.claims import order_of
from allcores.jobs.reading import among
from allcores.jobs.store_reading import StoreReading

_jobs = schema.jobs


def ready(store: StoreReading, tasks: Sequence[str], most: int) -> list[str]:
    """Ids of jobs that may begin: the highest priority first, then the oldest.

    Args:
        store: The store.
        tasks: Whose jobs.
        most: Jobs at most; 0: the store is not asked.

    Raises:
        StoreError: The store cannot be read.
    """
    if most < 1:
        return []
    found: list[tuple[float, int, str]] = []
    columns = select(_jobs.c.priority, _jobs.c.seq, _jobs.c.id)
    with store.reading() as connection:
        # By task, as the index for claims has them.
        for task in tasks:
            first = columns.where(_jobs.c.task == task, text(schema.READY))
            rows = connection.execute(first.order_by(_jobs.c.priority.desc(), _jobs.c.seq).limit(most))
            found += [(order_of(row[0]), row[1], row[2]) for row in rows]
        # Those whose time has come become ready when they are claimed.
        late = select(_jobs.c.priority, _jobs.c.seq, _jobs.c.id, _jobs.c.task).where(text(schema.DELAYED))
        late = late.where(_jobs.c.run_at <= time.time()).order_by(_jobs.c.run_at).limit(most)
        found += [(order_of(row[0]), row[1], row[2]) for row in connection.execute(late) if row[3] in tasks]
    return [id for _, _, id in sorted(found)[:most]]


def queued(store: StoreReading, ids: Sequence[str]) -> frozenset[str]:
    """Those of these jobs that are queued. Raises: StoreError."""
    if not ids:
        return frozenset()
    chosen = _jobs.c.id.in_(among(store.dialect, list(ids)))
    with store.reading() as connection:
        return frozenset(connection.execute(select(_jobs.c.id).where(chosen, _jobs.c.state == "queued")).scalars())
