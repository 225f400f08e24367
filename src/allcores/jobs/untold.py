"""Ends that are to be told to an address: written down by a trigger, in the transaction of the end, and taken once.

So it is no clock that says which of them are new: each end is there until it was taken, whatever machine it came from,
and whenever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, insert, select

from allcores.errors import AllcoresError
from allcores.jobs import schema
from allcores.jobs.group_commit import Transaction
from allcores.jobs.rows import dumps

if TYPE_CHECKING:
    from allcores.jobs.store_reading import StoreReading

#: kind of the records that ends become once they are taken
KIND = "webhook"
#: ends that are taken in one transaction
MOST_TAKEN = 1_000
_untold, _records = schema.untold, schema.records
_FIRST = select(_untold.c.id, _untold.c.finished).order_by(_untold.c.id, _untold.c.finished)
_TAKEN = delete(_untold).where(_untold.c.id == bindparam("of"), _untold.c.finished == bindparam("at"))
_WRITTEN = delete(_records).where(_records.c.kind == KIND, _records.c.name == bindparam("of"))


def name_of(job: str, finished: float) -> str:
    """Of the record of an end."""
    return f"{job}:{finished:.6f}"


def record_of(name: str, said: Any, at: float) -> dict[str, Any]:
    """What a record says; of one that is damaged what its name does.

    Args:
        name: Of the record.
        said: What was read.
        at: When to tell that end, if it is damaged, seconds since 1970.
    """
    kinds = {"job": str, "tries": int, "at": int | float}
    if isinstance(said, dict) and all(isinstance(said.get(field), kind) for field, kind in kinds.items()):
        return said
    return {"job": name.partition(":")[0], "tries": 0, "at": at}


def are_there(store: StoreReading) -> bool:
    """Whether there are ends that nobody has taken. Raises: StoreError."""
    with store.reading() as connection:
        return connection.execute(_FIRST.limit(1)).first() is not None


def take(transaction: Transaction, payloads: Sequence[float]) -> list[dict[str, dict[str, Any]] | AllcoresError]:
    """Make records of ends, so many at most; what each says, by name.

    Payloads: when they are to be told, seconds since 1970.
    """
    answers: list[dict[str, dict[str, Any]] | AllcoresError] = []
    connection = transaction.connection
    for at in payloads:
        found = connection.execute(_FIRST.limit(MOST_TAKEN)).all()
        taken = {name_of(job, finished): {"job": job, "tries": 0, "at": at} for job, finished in found}
        if taken:
            connection.execute(_TAKEN, [{"of": job, "at": finished} for job, finished in found])
            connection.execute(_WRITTEN, [{"of": name} for name in taken])
            rows = [{"kind": KIND, "name": name, "body": dumps(body, name)} for name, body in taken.items()]
            connection.execute(insert(_records), [{**row, "changed": transaction.change} for row in rows])
        answers.append(taken)
    return answers
