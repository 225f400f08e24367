"""How many jobs there are, and what happened of late: from counters, and from the last jobs that ended."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from allcores.jobs import schema
from allcores.jobs.model import Counts, JobFilter, State, Statistics
from allcores.jobs.rows import any_text, as_seconds

#: jobs that percentiles and causes are taken from, at most
SAMPLE = 1_000
#: seconds by which clocks of other machines may be ahead: what ended later than that, a clock wrote that was wrong
AHEAD_S = 60.0
#: what no store reaches: it is no count
MOST_COUNTED = 2**53
#: what is said where counters are none
DAMAGED = "the store's counters of jobs are damaged, and what is no count is left out until a supervisor counts anew"
_jobs = schema.jobs


def is_count(value: object) -> bool:
    """Whether a counter has a number that it may have."""
    return type(value) is int and 0 <= value <= MOST_COUNTED


def is_size(value: object) -> bool:
    """Whether a counter has bytes that it may have: where the size of a job is damaged, it is any number."""
    return isinstance(value, int | float) and abs(value) <= MOST_COUNTED


def counts(connection: Connection) -> Counts:
    """How many jobs there are."""
    table = schema.counters
    by_state: dict[State, int] = dict.fromkeys(State, 0)
    by_task: dict[str, dict[State, int]] = {}
    size = delayed = 0
    damaged = ""
    for task, word, due, number, taken in connection.execute(
        select(table.c.task, table.c.state, table.c.due, table.c.n, table.c.bytes).where(table.c.n != 0)
    ).all():
        if not is_count(number) or not is_size(taken):
            damaged = DAMAGED
        if not is_count(number):
            continue
        # A word that is none is a damaged row, which is shown as quarantined.
        state = State(word) if word in tuple(State) else State.QUARANTINED
        by_state[state] += number
        of_task = by_task.setdefault(any_text(task), {})
        of_task[state] = of_task.get(state, 0) + number
        size += int(taken) if is_size(taken) else 0
        if state is State.QUEUED and not due:
            delayed += number
    return Counts(sum(by_state.values()), by_state, by_task, size, delayed, damaged)


def count(connection: Connection, wanted: JobFilter) -> int:
    """How many jobs fit a filter of states and a task."""
    found = counts(connection)
    by_state = found.by_state if wanted.task is None else found.by_task.get(wanted.task, {})
    return sum(by_state.get(state, 0) for state in set(wanted.states or State))


def of_window(connection: Connection, window: float, now: float) -> Statistics:
    """What happened in the seconds before now.

    Raises:
        BadJob: The window is no number above 0.
    """
    window = as_seconds(window, "a window", above=0)
    table = schema.ends
    # No longer ago than a database can count to.
    first, last = (int(max(0.0, at) // schema.BUCKET_S) for at in (now - window, now + AHEAD_S))
    ends = connection.execute(
        select(table.c.state, func.sum(table.c.n))
        # What is damaged is no count.
        .where(table.c.bucket > first, table.c.bucket <= last, table.c.n.between(0, MOST_COUNTED))
        .group_by(table.c.state)
    ).all()
    finished = {State(word): int(number) for word, number in ends if word in tuple(State)}
    rows = connection.execute(
        select(_jobs.c.state, _jobs.c.wait, _jobs.c.started, _jobs.c.finished, _jobs.c.failure)
        .where(_jobs.c.finished.is_not(None), _jobs.c.finished >= now - window, _jobs.c.finished <= now + AHEAD_S)
        .order_by(_jobs.c.finished.desc())
        .limit(SAMPLE)
    ).all()
    waits: list[float] = []
    runs: list[float] = []
    failures: Counter[tuple[str, str]] = Counter()
    sampled = 0
    for state, wait, started, end, failure in rows:
        sampled += 1
        # What is none of these, a damaged row has.
        if isinstance(wait, int | float):
            waits.append(wait)
        if state == State.SUCCEEDED and isinstance(started, int | float):
            runs.append(max(0.0, end - started))
        elif failure and isinstance(failure, str):
            cause, _, kind = failure.partition("\n")
            failures[cause, kind] += 1
    waits.sort()
    runs.sort()
    return Statistics(
        window=float(window),
        finished=finished,
        throughput=sum(finished.values()) / window,
        wait_p50=_percentile(waits, 0.5),
        wait_p95=_percentile(waits, 0.95),
        run_p50=_percentile(runs, 0.5),
        run_p95=_percentile(runs, 0.95),
        failures=dict(failures.most_common()),
        sampled=sampled,
    )


def _percentile(ordered: Sequence[float], part: float) -> float | None:
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)] if ordered else None
