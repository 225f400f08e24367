"""How attempts end: written by who has the claim, once; an attempt that has lost it writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import RowMapping, bindparam, delete, insert, select, update

from allcores.errors import AllcoresError
from allcores.jobs import schema
from allcores.jobs.errors import BadJob
from allcores.jobs.group_commit import Transaction
from allcores.jobs.model import Claim, Finished, Progress, State
from allcores.jobs.reading import among, among_given
from allcores.jobs.rows import dumps, error_to_json, files_to_json, plain_text, progress_to_json

_jobs = schema.jobs


class End(NamedTuple):
    """How an attempt ended.

    Attributes:
        claim: Of the attempt.
        outcome: It.
        columns: What `checked` made of it.
    """

    claim: Claim
    outcome: Finished
    columns: dict[str, Any]

    @property
    def size(self) -> int:
        """About how many bytes it writes."""
        return len(self.columns["result"] or "") + len(self.columns["error"] or "")


FENCE = (
    _jobs.c.seq,
    _jobs.c.id,
    _jobs.c.state,
    _jobs.c.attempt,
    _jobs.c.token,
    _jobs.c.run_at,
    _jobs.c.started,
    _jobs.c.attempts,
    _jobs.c.crashes,
    _jobs.c.cancel_requested,
    _jobs.c.arguments,
)


_HELD = {
    dialect: select(*FENCE).where(_jobs.c.seq.op("IN")(among_given(dialect, "bigint")))
    for dialect in ("sqlite", "postgresql")
}


def held(transaction: Transaction, claims: Sequence[Claim]) -> dict[str, Mapping[str, Any]]:
    """Rows of claimed jobs, by id."""
    given = {"given": json.dumps([claim.job.seq for claim in claims])}
    found = transaction.connection.execute(_HELD[transaction.dialect], given)
    return {row["id"]: as_dict(row) for row in found.mappings()}


def as_dict(row: RowMapping) -> dict[str, Any]:
    """A row that can be changed."""
    return {str(name): value for name, value in row.items()}


def fits(row: Mapping[str, Any] | None, claim: Claim) -> bool:
    """Whether a row is still at this claim, or was when it was finished."""
    return row is not None and row["attempt"] == claim.attempt and row["token"] == claim.token


_FINISH = (
    update(_jobs)
    .where(_jobs.c.seq == bindparam("of"))
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                "state", "due", "run_at", "finished", "attempts", "crashes", "result", "files", "error", "failure",
                "cancel_requested", "note", "changed", "bytes",
            )
        }
        | {"worker_pid": None}
    )
)  # fmt: skip


def checked(outcome: Finished) -> dict[str, Any]:
    """The columns of an outcome.

    Raises:
        BadJob: Its result cannot be kept, or it is none.
    """
    if outcome.state is State.RUNNING:
        raise BadJob("an attempt does not end as running: give a final state, or QUEUED for another attempt")
    result = dumps(outcome.result, "the result") if outcome.state is State.SUCCEEDED else None
    error = outcome.error
    return {
        "state": outcome.state,
        "result": result,
        "files": files_to_json(tuple(outcome.files)),
        "error": error_to_json(error),
        "failure": None if error is None else plain_text(f"{error.cause}\n{error.type}"),
        "file_bytes": sum(each.size for each in outcome.files),
    }


def finish(transaction: Transaction, payloads: Sequence[End]) -> list[bool | AllcoresError]:
    """Write how attempts ended; False for those that have lost their claim.

    An end that is written a second time, because the first time was not known to have worked, is as true as it was.
    """
    rows = held(transaction, [claim for claim, _, _ in payloads])
    answers: list[bool | AllcoresError] = []
    ends: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    ended: set[str] = set()
    latest: dict[int, tuple[Claim, Progress]] = {}
    for claim, outcome, columns in payloads:
        row = rows.get(claim.job.id)
        if not fits(row, claim):
            answers.append(False)
            continue
        assert row is not None
        answers.append(True)
        if row["state"] != State.RUNNING or claim.job.id in ended:
            continue  # it is written already
        ended.add(claim.job.id)
        end = end_of(transaction, row, outcome, columns)
        ends.append(end)
        if end["new_state"] != State.SUCCEEDED:
            failed.append(attempt_of(transaction, row, end, outcome.crashed))
        if outcome.progress is not None:
            latest[claim.job.seq] = (claim, outcome.progress)
    write(transaction, ends, failed)
    write_progress(transaction, latest)
    return answers


def end_of(
    transaction: Transaction, row: Mapping[str, Any], outcome: Finished, columns: Mapping[str, Any]
) -> dict[str, Any]:
    """What an end writes into the row of its job."""
    state: State = columns["state"]
    now = transaction.now
    note = plain_text(outcome.note)
    if state is State.QUEUED and row["cancel_requested"]:
        # Its process is gone, and nobody wants another attempt.
        state, note = State.CANCELLED, note or "cancelled between two attempts"
    queued = state is State.QUEUED
    run_at = now if outcome.retry_at is None else outcome.retry_at
    kept = len(columns["result"] or "") + len(columns["error"] or "") + int(columns["file_bytes"])
    return {
        "of": row["seq"],
        "new_state": state.value,
        "new_due": int(queued and run_at <= now),
        "new_run_at": run_at if queued else row["run_at"],
        "new_finished": None if queued else now,
        "new_attempts": row["attempts"] + (not outcome.crashed),
        "new_crashes": row["crashes"] + outcome.crashed,
        "new_result": columns["result"],
        "new_files": columns["files"],
        "new_error": columns["error"],
        "new_failure": columns["failure"],
        "new_cancel_requested": int(bool(row["cancel_requested"]) and not queued),
        "new_note": note,
        "new_changed": transaction.change,
        "new_bytes": len(row["arguments"]) + kept,
    }


def attempt_of(
    transaction: Transaction, row: Mapping[str, Any], end: Mapping[str, Any], crashed: bool
) -> dict[str, Any]:
    """The row of an attempt that did not succeed."""
    return {
        "seq": row["seq"],
        "attempt": row["attempt"],
        "started": row["started"] or transaction.now,
        "finished": transaction.now,
        "state": end["new_state"],
        "crashed": int(crashed),
        "error": end["new_error"],
        "note": end["new_note"],
    }


def write(transaction: Transaction, ends: list[dict[str, Any]], failed: list[dict[str, Any]]) -> None:
    """Write ends into the rows of jobs, and attempts that did not succeed."""
    if ends:
        transaction.connection.execute(_FINISH, ends)
    if failed:
        transaction.connection.execute(insert(schema.attempts), failed)


def write_progress(transaction: Transaction, latest: Mapping[int, tuple[Claim, Progress]]) -> None:
    """Write progress in place of what was there."""
    if not latest:
        return
    table = schema.progress
    transaction.connection.execute(delete(table).where(table.c.seq.in_(among(transaction.dialect, list(latest)))))
    transaction.connection.execute(
        insert(table),
        [
            {"seq": seq, "attempt": claim.attempt, "body": progress_to_json(progress)}
            for seq, (claim, progress) in latest.items()
        ],
    )
