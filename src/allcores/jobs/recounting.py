"""Counters that cannot be right are counted anew. Triggers keep them, so another program has changed or removed some.

A supervisor claims by them: jobs of a counter that is gone would wait for ever. It is looked for that each minute, by
what an index tells of which tasks and states there are, and not by counting: that takes a second for a million jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Connection, cast, delete, func, insert, not_, select, text

from allcores.errors import AllcoresError
from allcores.jobs import schema
from allcores.jobs.group_commit import Transaction
from allcores.jobs.statistics import MOST_COUNTED, is_count, is_size

#: pairs of task and state that are looked for at most
_MOST_PAIRS = 10_000
_jobs, _counters, _ends = schema.jobs, schema.counters, schema.ends
_PAIR = "SELECT task, state FROM allcores_jobs"
_FIRST_PAIR = text(f"{_PAIR} ORDER BY task, state LIMIT 1")
_NEXT_PAIR = text(f"{_PAIR} WHERE (task, state) > (:task, :state) ORDER BY task, state LIMIT 1")
_READY = text(f"SELECT seq FROM allcores_jobs WHERE {schema.READY} AND task = :task LIMIT 1")
#: in SQLite a text is more than each number, so that this is of whole ones alone
_SOUND = _ends.c.n.between(0, MOST_COUNTED) & _ends.c.bucket.between(0, MOST_COUNTED)


def damage(connection: Connection) -> str:
    """Why counters cannot be right, in words; "" if nothing says so. In a transaction that sees one moment."""
    rows = connection.execute(select(_counters.c.task, _counters.c.state, _counters.c.due, _counters.c.n)).all()
    sizes = connection.execute(select(_counters.c.bytes)).scalars()
    if not all(is_count(row[3]) for row in rows) or not all(map(is_size, sizes)):
        return "the counters of jobs have what is no count"
    known = {(task, state) for task, state, _, number in rows if number}
    waiting = {task for task, state, due, number in rows if number and state == "queued" and due == 1}
    if not _all_ends_sound(connection):
        return "the counters of ends have what is no count"
    pair = connection.execute(_FIRST_PAIR).first()
    for _ in range(_MOST_PAIRS):
        if pair is None:
            break
        task, state = pair
        if (task, state) not in known:
            return "a counter of jobs is missing"
        if state == "queued" and task not in waiting and connection.execute(_READY, {"task": task}).first():
            return "a counter of jobs that wait is missing"
        pair = connection.execute(_NEXT_PAIR, {"task": task, "state": state}).first()
    return ""


def _all_ends_sound(connection: Connection) -> bool:
    return connection.execute(select(_ends.c.n).where(not_(_SOUND)).limit(1)).first() is None


def recount(transaction: Transaction, payloads: Sequence[Any]) -> list[AllcoresError | None]:
    """Count all jobs; of ends, what is no count is removed: the jobs that it was of may be gone."""
    connection = transaction.connection
    connection.execute(delete(_ends).where(not_(_SOUND)))
    connection.execute(delete(_counters))
    by = (_jobs.c.task, _jobs.c.state, _jobs.c.due)
    found = select(*by, func.count(), cast(func.sum(_jobs.c.bytes), BigInteger)).group_by(*by)
    connection.execute(insert(_counters).from_select(["task", "state", "due", "n", "bytes"], found))
    return [None] * len(payloads)
