"""Ends of jobs over time, from the counters that triggers keep: as quick with a million jobs as with ten."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select, text

from allcores.jobs import schema, statistics
from allcores.jobs.model import State
from allcores.jobs.rows import any_text
from allcores.jobs.statistics import MOST_COUNTED

if TYPE_CHECKING:
    from allcores.jobs.store import JobStore

#: running jobs that are drawn, at most
MOST_RUNNING = 100
#: ends that are looked at for jobs that have run: of many that were cancelled as they waited, not each one
MOST_LOOKED = 5_000


class Span(NamedTuple):
    """When a job ran; `finished` is None while it runs."""

    task: str
    state: State
    started: float
    finished: float | None


def spans(store: JobStore, since: float, most: int) -> list[Span]:
    """When jobs ran that run now or ended at that time or later: the last ones, at most so many.

    Only what a picture needs is read, and not the jobs.

    Raises:
        StoreError: The store cannot be read.
    """
    jobs = schema.jobs
    columns = (jobs.c.task, jobs.c.state, jobs.c.started, jobs.c.finished)
    began, last = jobs.c.started.is_not(None), time.time() + statistics.AHEAD_S
    running = select(*columns).where(text(schema.RUNNING), began).order_by(jobs.c.seq.desc()).limit(MOST_RUNNING)
    with store.reading() as connection:
        found = list(connection.execute(running).all())
        ends, newest = [jobs.c.finished.is_not(None), jobs.c.finished <= last], jobs.c.finished.desc()
        # The index alone says when the first of them was.
        first = connection.execute(
            select(jobs.c.finished).where(*ends, jobs.c.finished >= since).order_by(newest).limit(1).offset(MOST_LOOKED)
        ).scalar()
        # In place of the other bound: of two, SQLite looks one up.
        ends.append(jobs.c.finished >= (since if first is None else first))
        found += connection.execute(select(*columns).where(*ends, began).order_by(newest).limit(most)).all()
    return [
        Span(any_text(task), State(state), began_at, ended_at)
        for task, state, began_at, ended_at in found
        if state in tuple(State) and isinstance(began_at, int | float)  # not of a damaged row
    ]


_BAD = (State.FAILED.value, State.TIMED_OUT.value, State.QUARANTINED.value)


def ended(store: JobStore, now: float, span: float, columns: int) -> tuple[list[int], list[int]]:
    """How many jobs ended in each part of a span of time, the oldest part first.

    Args:
        store: The store.
        now: The end of the span.
        span: Seconds; each part has at least ten.
        columns: Parts.

    Returns:
        All that ended, and those of them without success (cancelled ones are neither).

    Raises:
        StoreError: The store cannot be read.
    """
    table = schema.ends
    width = max(1, round(span / columns / schema.BUCKET_S))
    # Parts are whole multiples of what is counted, so that no column has fewer because of where the span begins.
    last = int(now // schema.BUCKET_S) // width
    first = (last - columns + 1) * width
    every, bad = [0] * columns, [0] * columns
    with store.reading() as connection:
        # A clock that was set back has ends that lie ahead; what is damaged is no count.
        bounds = table.c.bucket.between(first, first + columns * width - 1), table.c.n.between(0, MOST_COUNTED)
        rows = connection.execute(select(table.c.bucket, table.c.state, table.c.n).where(*bounds))
        for bucket, state, number in rows:
            column = (bucket - first) // width
            every[column] += number
            if state in _BAD:
                bad[column] += number
    return every, bad
