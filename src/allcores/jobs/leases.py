"""Leases of several supervisors of one store, and which of them leads: rows of `records`, and no clock."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, insert, select, update

from allcores.jobs import schema
from allcores.jobs.errors import StoreError
from allcores.jobs.group_commit import Transaction
from allcores.jobs.rows import json_or_none

#: kinds of records: a lease, by the name of its holder; and whose lease is that of the one that leads
LEASE, LEADER = "lease", "leader"
LOST = "this process was silent for so long that others took over its jobs: start it again"
_records = schema.records


class LeaseLost(StoreError):
    """One of several supervisors was taken for dead: it may claim nothing, and its claims are others'."""


def stands(transaction: Transaction, holder: str) -> bool:
    """Whether a holder has its lease still."""
    lease = select(_records.c.name).where(_records.c.kind == LEASE, _records.c.name == holder)
    return transaction.connection.execute(lease).first() is not None


def renew(transaction: Transaction, payloads: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Any]:
    """Write what holders say of themselves; False for those whose leases were taken away."""
    answers: list[Any] = []
    for holder, body in payloads:
        statement = (
            update(_records)
            .where(_records.c.kind == LEASE, _records.c.name == holder)
            .values(body=json.dumps(body), changed=transaction.change)
        )
        answers.append(transaction.connection.execute(statement).rowcount > 0)
    return answers


def take_away(transaction: Transaction, silent: Mapping[str, int]) -> frozenset[str]:
    """Take leases away that stand at these numbers still; those that are left."""
    leases = select(_records.c.name, _records.c.body).where(_records.c.kind == LEASE)
    rows = transaction.connection.execute(leases).all()
    standing = frozenset(name for name, body in rows if silent.get(name) != beat_of(json_or_none(body)))
    lost = [name for name, _ in rows if name not in standing]
    if lost:
        transaction.connection.execute(delete(_records).where(_records.c.kind == LEASE, _records.c.name.in_(lost)))
    return standing


def lead(transaction: Transaction, payloads: Sequence[tuple[str, bool]]) -> list[Any]:
    """Have holders lead, where nobody does.

    Who has the store's lock leads. It is not enough to wait for that lock: one that hangs, or whose machine was lost,
    may have it for hours. So the one that is said to lead is followed by another one as soon as its lease is gone.

    Payloads: the holder, and whether it has the store's lock.
    """
    answers: list[Any] = []
    for holder, has_lock in payloads:
        found = transaction.connection.execute(select(_records.c.body).where(_records.c.kind == LEADER)).scalar()
        leader = None if found is None else json_or_none(found)
        may = has_lock or (found is not None and (leader == holder or not stands(transaction, str(leader))))
        answers.append(may and stands(transaction, holder))
        if answers[-1] and leader != holder:
            transaction.connection.execute(delete(_records).where(_records.c.kind == LEADER))
            row = {"kind": LEADER, "name": LEADER, "body": json.dumps(holder), "changed": transaction.change}
            transaction.connection.execute(insert(_records).values(row))
    return answers


def follow(transaction: Transaction, payloads: Sequence[str]) -> list[Any]:
    """Holders that lead do so no longer: the next one is who gets the store's lock."""
    for holder in payloads:
        condition = (_records.c.kind == LEADER) & (_records.c.body == json.dumps(holder))
        transaction.connection.execute(delete(_records).where(condition))
    return [None] * len(payloads)


def beat_of(said: Any) -> int:
    """The number at which a holder is; 0 where what it said is damaged: it says it anew, or is gone."""
    beat = said.get("beat") if isinstance(said, dict) else None
    return beat if isinstance(beat, int) else 0
