"""Jobs are read from their rows, with their progress; lists of values are given to the database as one parameter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Connection, Select, TextClause, bindparam, column, select, text
from sqlalchemy.sql import ColumnElement

from allcores.jobs import schema
from allcores.jobs.model import Attempt, Job, State
from allcores.jobs.rows import any_number, any_text, error_from_json, job_from_row

_CHANGE = text("SELECT number FROM allcores_changes")


def change_in(connection: Connection) -> int:
    """The store's change number; 0 where the row is damaged: then nothing can be written, and pages are there still."""
    found = connection.execute(_CHANGE).scalar()
    return found if isinstance(found, int) else 0


def among(dialect: str, values: Sequence[str] | Sequence[int]) -> Select[Any] | list[Any]:
    """A subquery with the values, for `column.in_(...)`: one statement, however many there are; [] for none."""
    if not values:
        return []  # of which type they would be nothing says, and PostgreSQL compares no number with a text
    numbers = isinstance(values[0], int)
    clause: TextClause
    if dialect == "sqlite":
        clause = text("SELECT value FROM json_each(:values)")
    else:
        kind = "bigint" if numbers else "text"
        clause = text(f"SELECT CAST(value AS {kind}) FROM json_array_elements_text(CAST(:values AS json))")
    bound = clause.bindparams(bindparam("values", json.dumps(list(values)), unique=True))
    return bound.columns(column("value", BigInteger)) if numbers else bound.columns(column("value"))  # type: ignore[return-value]


def among_given(dialect: str, kind: str) -> TextClause:
    """The same for a statement that is made once and given the values, as JSON, as its parameter `given`.

    Args:
        dialect: "sqlite" or "postgresql".
        kind: "bigint" or "text".
    """
    if dialect == "sqlite":
        return text("(SELECT value FROM json_each(:given))")
    return text(f"(SELECT CAST(value AS {kind}) FROM json_array_elements_text(CAST(:given AS json)))")


def _with_progress() -> Select[Any]:
    return select(schema.jobs, schema.progress.c.body.label("progress_body")).outerjoin(
        schema.progress, schema.progress.c.seq == schema.jobs.c.seq
    )


#: made once: what SQLAlchemy does to make a statement takes longer than what SQLite does to carry it out
_BY_SEQ = {
    dialect: _with_progress().where(schema.jobs.c.seq.op("IN")(among_given(dialect, "bigint")))
    for dialect in ("sqlite", "postgresql")
}
_BY_ID = {
    dialect: _with_progress().where(schema.jobs.c.id.op("IN")(among_given(dialect, "text")))
    for dialect in ("sqlite", "postgresql")
}


def rows_of(
    connection: Connection, dialect: str, *, seqs: Sequence[int] = (), ids: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Rows of jobs by their numbers, or by their ids, with `progress_body`."""
    statement, given = (_BY_SEQ[dialect], list(seqs)) if seqs else (_BY_ID[dialect], list(ids))
    found = connection.execute(statement, {"given": json.dumps(given)})
    names = list(found.keys())
    return [dict(zip(names, row, strict=True)) for row in found.all()]


def jobs_where(
    connection: Connection, condition: ColumnElement[bool], *order: Any, limit: int | None = None
) -> list[Job]:
    """Jobs that fit, with the progress of those that have any."""
    statement = (
        select(schema.jobs, schema.progress.c.body.label("progress_body"))
        .outerjoin(schema.progress, schema.progress.c.seq == schema.jobs.c.seq)
        .where(condition)
        .order_by(*order)
    )
    if limit is not None:
        statement = statement.limit(limit)
    rows = ({str(name): value for name, value in row.items()} for row in connection.execute(statement).mappings())
    return [job_from_row(row, row["progress_body"]) for row in rows]


def attempts_of(connection: Connection, seq: int) -> list[Attempt]:
    """Attempts of a job that did not succeed, the first one first."""
    table = schema.attempts
    rows = connection.execute(select(table).where(table.c.seq == seq).order_by(table.c.attempt)).mappings()
    found = []
    for row in rows:
        try:
            state, error = State(row["state"]), error_from_json(row["error"])
        except (ValueError, TypeError, KeyError, RecursionError):
            state, error = State.QUARANTINED, None
        times = any_number(row["started"]), any_number(row["finished"])
        found.append(Attempt(row["attempt"], *times, state, bool(row["crashed"]), error, any_text(row["note"])))
    return found
