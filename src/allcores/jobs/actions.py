"""What people do with jobs: cancel, retry, delete and bring back, many at once, each written down.

Many are done in portions, so that others get their turn; and only those that were seen: a job that has changed its
state since a snapshot was taken is left alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Insert, and_, bindparam, delete, func, insert, select, update
from sqlalchemy.sql import ColumnElement

from allcores.errors import AllcoresError
from allcores.jobs import schema
from allcores.jobs.errors import UndoExpired
from allcores.jobs.filters import Walk
from allcores.jobs.group_commit import Transaction
from allcores.jobs.model import FINAL_STATES, AuditRow, Changed, JobFilter, Snapshot, State
from allcores.jobs.reading import among
from allcores.jobs.rows import any_number, any_text

#: jobs that are changed in one transaction, and bytes of them: SQLite writes the whole row, with its arguments
PORTION, PORTION_BYTES = 500, 8 * 1024**2
#: seconds for which the jobs of one portion are looked for
SEEN_S = 0.5
#: seconds for which deleted jobs can be brought back
UNDO_S = 600.0
#: rows of the audit, the last ones, among which an action that is asked for once more is looked for
LOOKED_AT = 1_000
#: ids that an answer and the audit name
NAMED = 1_000
T = TypeVar("T")
_jobs = schema.jobs
_FINAL = [state.value for state in FINAL_STATES]

#: changes the jobs of these numbers that it can change, and returns those
Act = Callable[[Transaction, Sequence[int], int], list[int]]


def cancel(transaction: Transaction, seqs: Sequence[int], audit: int) -> list[int]:
    """Queued jobs are cancelled; of running ones the end is asked for."""
    return [
        *_changed(
            transaction,
            seqs,
            _jobs.c.state == State.QUEUED.value,
            state=State.CANCELLED.value,
            due=0,
            # Of an earlier attempt: what ends now has not begun.
            started=None,
            finished=transaction.now,
            note="cancelled before it ran",
            changed=transaction.change,
        ),
        *_changed(
            transaction,
            seqs,
            and_(_jobs.c.state == State.RUNNING.value, _jobs.c.cancel_requested == 0),
            cancel_requested=1,
        ),
    ]


def retry(transaction: Transaction, seqs: Sequence[int], audit: int) -> list[int]:
    """Jobs that have come to an end are queued again, with all their attempts before them."""
    return _queued_again(transaction, seqs, _FINAL)


def retry_unsuccessful(transaction: Transaction, seqs: Sequence[int], audit: int) -> list[int]:
    """The same for those that did not succeed: a result is not given up."""
    return _queued_again(transaction, seqs, [state for state in _FINAL if state != State.SUCCEEDED.value])


def _queued_again(transaction: Transaction, seqs: Sequence[int], states: list[str]) -> list[int]:
    found = _changed(
        transaction,
        seqs,
        _jobs.c.state.in_(states),
        state=State.QUEUED.value,
        due=1,
        run_at=transaction.now,
        finished=None,
        attempts=0,
        crashes=0,
        token=None,
        result=None,
        files="[]",
        cancel_requested=0,
        note="",
        changed=transaction.change,
        bytes=func.length(_jobs.c.arguments) + func.coalesce(func.length(_jobs.c.error), 0),
    )
    _without(transaction, schema.progress, found)
    return found


def remove(transaction: Transaction, seqs: Sequence[int], audit: int) -> list[int]:
    """Jobs that do not run are put aside, where they can be brought back from."""
    return _put_aside(transaction, seqs, audit, _jobs.c.state != State.RUNNING.value)


def remove_ended(transaction: Transaction, seqs: Sequence[int], audit: int) -> list[int]:
    """The same for those that have come to an end: what waits in the queue stays there."""
    # Not "those at one of the ends": a row that is damaged may have a word that is none, and is to go.
    return _put_aside(transaction, seqs, audit, _jobs.c.state.not_in([State.QUEUED.value, State.RUNNING.value]))


def _put_aside(transaction: Transaction, seqs: Sequence[int], audit: int, condition: ColumnElement[bool]) -> list[int]:
    within = _jobs.c.seq.in_(among(transaction.dialect, list(seqs)))
    fitting = and_(within, condition)
    found = list(transaction.connection.execute(select(_jobs.c.seq).where(fitting)).scalars())
    _move(transaction, _aside(transaction.now, audit), found)
    _without(transaction, _jobs, found)
    return found


def _aside(now: float, audit: int) -> Callable[[Any], Insert]:
    def statement(within: Any) -> Insert:
        columns = list(_jobs.c)
        chosen = select(*columns, bindparam("now", now).label("deleted"), bindparam("row", audit).label("audit"))
        return insert(schema.deleted).from_select(
            [*(each.name for each in columns), "deleted", "audit"], chosen.where(within(_jobs.c.seq))
        )

    return statement


def _move(transaction: Transaction, statement: Callable[[Any], Insert], seqs: list[int]) -> None:
    if seqs:
        chosen = among(transaction.dialect, seqs)
        transaction.connection.execute(statement(lambda column: column.in_(chosen)))


def _without(transaction: Transaction, table: Any, seqs: Sequence[int]) -> None:
    if seqs:
        transaction.connection.execute(delete(table).where(table.c.seq.in_(among(transaction.dialect, list(seqs)))))


def _changed(transaction: Transaction, seqs: Sequence[int], condition: ColumnElement[bool], **values: Any) -> list[int]:
    within = _jobs.c.seq.in_(among(transaction.dialect, list(seqs)))
    found = list(transaction.connection.execute(select(_jobs.c.seq).where(within, condition)).scalars())
    if found:
        chosen = _jobs.c.seq.in_(among(transaction.dialect, found))
        transaction.connection.execute(update(_jobs).where(chosen).values(values))
    return found


# -- which -----------------------------------------------------------------------------------------------------------


def portion_of_ids(
    transaction: Transaction, payloads: Sequence[tuple[Act, Sequence[str], int]]
) -> list[list[str] | AllcoresError]:
    """Act on jobs of these ids; returns the ids of those that were changed."""
    answers: list[list[str] | AllcoresError] = []
    for act, ids, audit in payloads:
        condition = _jobs.c.id.in_(among(transaction.dialect, list(ids)))
        by_seq = dict(transaction.connection.execute(select(_jobs.c.seq, _jobs.c.id).where(condition)).all())
        answers.append(_acted(transaction, act, by_seq, audit))
    return answers


def portions(
    sizes: Iterable[tuple[T, int]], most: int | None = None, most_bytes: int | None = None
) -> Iterator[list[T]]:
    """What is acted on in one transaction each, however large the jobs are.

    Args:
        sizes: What a job is known by, and its bytes.
        most: Jobs in one; None: `PORTION`.
        most_bytes: Bytes of them; one that has more is alone. None: `PORTION_BYTES`.
    """
    most, most_bytes = most or PORTION, most_bytes or PORTION_BYTES
    part: list[T] = []
    taken = 0
    for each, size in sizes:
        if part and (len(part) == most or taken + size > most_bytes):
            yield part
            part, taken = [], 0
        part.append(each)
        taken += size
    if part:
        yield part


def sizes_of(connection: Connection, dialect: str, ids: Sequence[str]) -> list[tuple[str, int]]:
    """Those of these jobs that are there, in this order, with their bytes."""
    chosen = _jobs.c.id.in_(among(dialect, list(ids)))
    found = dict(connection.execute(select(_jobs.c.id, _jobs.c.bytes).where(chosen)).all())
    return [(id, found[id]) for id in ids if id in found]


def seen_in(
    connection: Connection, dialect: str, snapshot: Snapshot, beyond: int | None
) -> tuple[list[tuple[int, int]], int | None]:
    """The next jobs of a snapshot beyond a number, with their bytes, and the number to go on from: None at the end.

    In a transaction that only reads: to look for a text in large arguments may take seconds. It ends after `SEEN_S`.
    """
    walk = Walk(connection, dialect, snapshot.filter)
    end, looked = time.monotonic() + SEEN_S, 0
    sizes: list[tuple[int, int]] = []
    for seqs, is_last in walk.steps(beyond, PORTION, PORTION):
        chosen = _jobs.c.seq.in_(among(dialect, walk.matching(seqs, _jobs.c.changed <= snapshot.change)))
        found = connection.execute(select(_jobs.c.seq, _jobs.c.bytes).where(chosen)).all()
        sizes += [(row[0], row[1]) for row in found]
        looked += len(seqs)
        if not is_last and (looked >= PORTION or time.monotonic() > end):
            return sizes, seqs[-1]
    return sizes, None


def portion_of_snapshot(
    transaction: Transaction, payloads: Sequence[tuple[Act, Sequence[int], int, int]]
) -> list[list[str] | AllcoresError]:
    """Act on jobs that were seen, of these numbers; returns the ids of those that were changed.

    Whether they fit the filter was looked at before. Each change of a state has a number, and what has none since then
    fits it still.
    """
    answers: list[list[str] | AllcoresError] = []
    for act, seen, change, audit in payloads:
        condition = and_(_jobs.c.seq.in_(among(transaction.dialect, list(seen))), _jobs.c.changed <= change)
        by_seq = dict(transaction.connection.execute(select(_jobs.c.seq, _jobs.c.id).where(condition)).all())
        answers.append(_acted(transaction, act, by_seq, audit))
    return answers


def _acted(transaction: Transaction, act: Act, by_seq: dict[int, str], audit: int) -> list[str]:
    changed = act(transaction, list(by_seq), audit) if by_seq else []
    if changed:
        table = schema.audit
        transaction.connection.execute(
            update(table).where(table.c.seq == audit).values(count=table.c.count + len(changed))
        )
    return [by_seq[seq] for seq in sorted(changed)]


def counted(walk: Walk, change: int, most: float) -> tuple[int, bool]:
    """How many jobs of a filter have not changed since; False if time was up."""
    end, count = time.monotonic() + most, 0
    for seqs, is_last in walk.steps(None, 5_000, 5_000):
        count += len(walk.matching(seqs, _jobs.c.changed <= change))
        if not is_last and time.monotonic() > end:
            return count, False
    return count, True


def bring_back(
    transaction: Transaction, payloads: Sequence[tuple[int, str, int | None]]
) -> list[tuple[list[str], int | None] | AllcoresError]:
    """Up to a portion of the jobs that a row of the audit deleted come back; a key that is taken stays taken.

    That is written down in the same transaction: who asks for it at the same time finds them, or the row of who has.

    Payloads: that row, who brings them back, and the row in which earlier portions are written down, if there are any.
    Returns ids, and the row.
    """
    answers: list[tuple[list[str], int | None] | AllcoresError] = []
    table = schema.deleted
    for audit, by, written in payloads:
        sizes = transaction.connection.execute(
            select(table.c.seq, table.c.bytes).where(table.c.audit == audit).order_by(table.c.seq).limit(PORTION)
        ).all()
        some = next(portions((row[0], row[1]) for row in sizes), [])
        rows = transaction.connection.execute(
            select(table).where(table.c.seq.in_(among(transaction.dialect, some))).order_by(table.c.seq)
        ).mappings()
        back = [dict(row) for row in rows]
        keys = [row["key"] for row in back if row["key"] is not None]
        taken = set(
            transaction.connection.execute(
                select(_jobs.c.key).where(_jobs.c.key.in_(among(transaction.dialect, keys)))
            ).scalars()
            if keys
            else ()
        )
        for row in back:
            del row["deleted"], row["audit"]
            row["changed"] = transaction.change
            if row["key"] in taken:
                row["key"], row["body"] = None, None
        if back:
            transaction.connection.execute(insert(_jobs), back)
            tags = [{"tag": tag, "seq": row["seq"]} for row in back for tag in _tags(row["tags"])]
            if tags:
                transaction.connection.execute(insert(schema.job_tags), tags)
            _without(transaction, table, [row["seq"] for row in back])
            written = _written_down(transaction, audit, by, written, len(back))
        answers.append(([row["id"] for row in back], written))
    return answers


def _written_down(transaction: Transaction, deletion: int, by: str, row: int | None, count: int) -> int:
    """The row of the audit that says so many more jobs of a deletion came back."""
    table = schema.audit
    if row is None:
        (made,) = write_down(transaction, [(by, "undelete", count, {"audit": deletion})])
        assert isinstance(made, int)
        return made
    transaction.connection.execute(update(table).where(table.c.seq == row).values(count=table.c.count + count))
    return row


def _tags(text: str) -> list[str]:
    try:
        return [str(each) for each in json.loads(text)]
    except ValueError:
        return []


def check_undo(count: int, deleted: int) -> None:
    """Raise UndoExpired if there is nothing to bring back of an action that deleted so many."""
    if not count and deleted:
        raise UndoExpired(f"what was deleted is gone for good: it can be brought back for {UNDO_S / 60:g} minutes")


# -- audit -----------------------------------------------------------------------------------------------------------


def write_down(
    transaction: Transaction, payloads: Sequence[tuple[str, str, int, dict[str, Any]]]
) -> list[int | AllcoresError]:
    """Add rows to the audit: who, what, how many, which; returns their numbers."""
    table = schema.audit
    last = transaction.connection.execute(select(func.max(table.c.seq))).scalar() or 0
    rows = [
        {
            "seq": last + number,
            "at": transaction.now,
            "by": by,
            "action": action,
            "count": count,
            "detail": json.dumps(detail),
        }
        for number, (by, action, count, detail) in enumerate(payloads, 1)
    ]
    transaction.connection.execute(insert(table), rows)
    return [last + number for number in range(1, len(rows) + 1)]


def deletion_again(connection: Connection, by: str, detail: dict[str, Any]) -> Changed | None:
    """The last deletion of these jobs by this user, as long as each job of it is aside still; None: there is none."""
    table, aside = schema.audit, schema.deleted
    last = connection.execute(select(func.max(table.c.seq))).scalar() or 0
    row = connection.execute(
        select(table.c.seq, table.c.count)
        .where(
            table.c.seq > last - LOOKED_AT,
            table.c.action == "delete",
            table.c.by == by,
            table.c.detail == json.dumps(detail),
            table.c.count > 0,
        )
        .order_by(table.c.seq.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    left = connection.execute(select(func.count()).where(aside.c.audit == row[0])).scalar()
    return Changed(row[1], audit=row[0]) if left == row[1] else None


def audit_row(row: Any) -> AuditRow:
    """A row of the audit as a record; of one that is damaged what could be read."""
    try:
        detail = json.loads(row["detail"])
    except (TypeError, ValueError):
        detail = {}
    by, action = any_text(row["by"]), any_text(row["action"])
    count = row["count"] if type(row["count"]) is int else 0
    return AuditRow(row["seq"], any_number(row["at"]), by, action, count, detail if isinstance(detail, dict) else {})


def described(wanted: Collection[str] | Snapshot) -> dict[str, Any]:
    """Which jobs, for the audit."""
    if isinstance(wanted, Snapshot):
        return {"filter": _described(wanted.filter), "change": wanted.change, "count": wanted.count}
    ids = list(wanted)
    return {"ids": ids[:NAMED], "named": len(ids)}


def _described(wanted: JobFilter) -> dict[str, Any]:
    values = {name: getattr(wanted, name) for name in JobFilter.__slots__ if name != "hidden"}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if value}
