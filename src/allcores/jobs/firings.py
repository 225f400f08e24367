"""Jobs of schedules come into the store: each time of a task once, in the transaction that writes down that it fired.

Its job has a key of task and time, but a job can be deleted, and its key with it. Who thinks that it leads, and does no
longer, would fire the time once more then; so the store itself says up to which time each task has fired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select

from allcores.errors import AllcoresError
from allcores.jobs import schema, submissions
from allcores.jobs.group_commit import Transaction
from allcores.jobs.model import Submitted
from allcores.jobs.rows import dumps, json_or_none
from allcores.jobs.schedules import AHEAD_S, KIND
from allcores.jobs.submissions import Prepared

_records = schema.records


@dataclass(frozen=True, slots=True)
class Fire:
    """What one task is to fire.

    Attributes:
        task: Its name.
        seen: Until when its times were looked at, as that is kept.
        jobs: With their times, seconds since 1970, the earliest first; perhaps none.
        wall: The time at which that was looked at.
    """

    task: str
    seen: dict[str, Any]
    jobs: Sequence[tuple[float, Prepared]]
    wall: float


#: of each job that was not fired before, what became of it
Fired = list[Submitted | AllcoresError]


def fire(transaction: Transaction, payloads: Sequence[Fire]) -> list[Fired | AllcoresError]:
    """Submit what was not fired before, and write down until when times were looked at, and fired."""
    answers: list[Fired | AllcoresError] = []
    for each in payloads:
        place = (_records.c.kind == KIND) & (_records.c.name == each.task)
        known = json_or_none(transaction.connection.execute(select(_records.c.body).where(place)).scalar())
        # A clock that was far ahead says nothing (`schedules.looked_until`). The caller may have looked long ago.
        until = max(each.wall, transaction.now) + AHEAD_S
        fired, seen = (_moment_in(known, name, until) for name in ("fired", "seen"))
        new = [(at, job) for at, job in each.jobs if fired is None or at > fired]
        answers.append(submissions.submit(transaction, [job for _, job in new]))
        body = dict(each.seen)
        if seen is not None and isinstance(known, dict) and known.get("schedule") == body["schedule"]:
            body["seen"] = max(seen, body["seen"])
        if new:
            fired = new[-1][0]
        if fired is not None:
            body["fired"] = fired
        transaction.connection.execute(delete(_records).where(place))
        row = {"kind": KIND, "name": each.task, "body": dumps(body, each.task), "changed": transaction.change}
        transaction.connection.execute(insert(_records).values(row))
    return answers


def _moment_in(known: Any, name: str, until: float) -> float | None:
    """A moment of what is kept, if it is one that is believed."""
    found = known.get(name) if isinstance(known, dict) else None
    return float(found) if isinstance(found, int | float) and found <= until else None
