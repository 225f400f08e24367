"""Jobs are claimed, and finished by who has the claim: an attempt that has lost it writes nothing."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import RowMapping, TextClause, bindparam, delete, insert, select, text, update

from allcores.errors import AllcoresError
from allcores.jobs import schema
from allcores.jobs.group_commit import Transaction
from allcores.jobs.model import BadJob, Claim, Finished, Job, JobError, Progress, State, WorkerInfo
from allcores.jobs.reading import among, among_given, jobs_where, rows_of
from allcores.jobs.rows import dumps, error_to_json, files_to_json, job_from_row, plain_text, progress_to_json

#: delayed jobs that become due in one transaction
_DUE_AT_ONCE = 1_000
_jobs = schema.jobs


def _coming_due(hint: str) -> TextClause:
    return text(
        "UPDATE allcores_jobs SET due = 1, note = '' WHERE seq IN"
        f" (SELECT seq FROM allcores_jobs {hint} WHERE {schema.DELAYED} AND run_at <= :now"
        f" ORDER BY run_at LIMIT {_DUE_AT_ONCE})"
    )


#: SQLite, which knows nothing of the values in a table, would look at all queued jobs
COMING_DUE = {"sqlite": _coming_due("INDEXED BY allcores_jobs_delayed"), "postgresql": _coming_due("")}
_WAITING = text("SELECT task FROM allcores_counters WHERE state = 'queued' AND due = 1 AND n > 0")
_READY = text(
    "SELECT seq, priority FROM allcores_jobs"
    f" WHERE {schema.READY} AND task = :task ORDER BY priority DESC, seq LIMIT :most"
)
_CLAIM = (
    update(_jobs)
    .where(_jobs.c.seq == bindparam("of"))
    .values(
        state=State.RUNNING.value,
        due=0,
        attempt=bindparam("next_attempt"),
        token=bindparam("next_token"),
        started=bindparam("now"),
        finished=None,
        wait=bindparam("waited"),
        worker_pid=0,
        note="",
        changed=bindparam("change"),
    )
)


def claim(
    transaction: Transaction, payloads: Sequence[tuple[int, Collection[str]]]
) -> list[list[Claim] | AllcoresError]:
    """Up to so many jobs of these tasks: the highest priority first, then the oldest."""
    return [_claimed(transaction, limit, frozenset(tasks)) for limit, tasks in payloads]


def _claimed(transaction: Transaction, limit: int, tasks: frozenset[str]) -> list[Claim]:
    connection = transaction.connection
    connection.execute(COMING_DUE[transaction.dialect], {"now": transaction.now})
    ready: list[tuple[int, int]] = []
    for task in sorted(tasks.intersection(connection.execute(_WAITING).scalars())):
        ready.extend((-row[1], row[0]) for row in connection.execute(_READY, {"task": task, "most": limit}))
    seqs = [seq for _, seq in sorted(ready)[:limit]]
    if not seqs:
        return []
    rows_there = rows_of(connection, transaction.dialect, seqs=seqs)
    found = [job_from_row(row, row["progress_body"]) for row in rows_there]
    attempts = {row["seq"]: row["attempt"] for row in rows_there}
    quarantine(transaction, [job for job in found if job.damaged])
    sound = {job.seq: job for job in found if not job.damaged}
    claims = []
    rows = []
    for seq in seqs:
        if (job := sound.get(seq)) is None:
            continue
        attempt, token = int(attempts[seq]) + 1, secrets.token_hex(16)
        rows.append(
            {
                "of": seq,
                "next_attempt": attempt,
                "next_token": token,
                "now": transaction.now,
                "waited": max(0.0, transaction.now - max(job.created, job.run_at)),
                "change": transaction.change,
            }
        )
        job = replace(
            job,
            state=State.RUNNING,
            started=transaction.now,
            finished=None,
            worker=WorkerInfo(0, transaction.now),
            note="",
            changed=transaction.change,
        )
        claims.append(Claim(job, attempt, token))
    if rows:
        connection.execute(_CLAIM, rows)
    return claims


def quarantine(transaction: Transaction, damaged: Sequence[Job]) -> None:
    """Put damaged rows where they are listed and not run; their arguments and results stay as they are."""
    for job in damaged:
        transaction.connection.execute(
            update(_jobs)
            .where(_jobs.c.seq == job.seq)
            .values(
                state=State.QUARANTINED.value,
                due=0,
                finished=transaction.now,
                error=error_to_json(job.error),
                failure="damaged row\nDamagedRow",
                note=job.note,
                token=None,
                changed=transaction.change,
            )
        )


# -- the end of an attempt ------------------------------------------------------------------------------------------

_FENCE = (
    _jobs.c.seq,
    _jobs.c.id,
    _jobs.c.state,
    _jobs.c.attempt,
    _jobs.c.token,
    _jobs.c.started,
    _jobs.c.attempts,
    _jobs.c.crashes,
    _jobs.c.cancel_requested,
    _jobs.c.arguments,
)


_HELD = {
    dialect: select(*_FENCE).where(_jobs.c.seq.op("IN")(among_given(dialect, "bigint")))
    for dialect in ("sqlite", "postgresql")
}


def _held(transaction: Transaction, claims: Sequence[Claim]) -> dict[str, Mapping[str, Any]]:
    """Rows of claimed jobs, by id."""
    given = {"given": json.dumps([claim.job.seq for claim in claims])}
    found = transaction.connection.execute(_HELD[transaction.dialect], given)
    return {row["id"]: _dict(row) for row in found.mappings()}


def _dict(row: RowMapping) -> dict[str, Any]:
    return {str(name): value for name, value in row.items()}


def _fits(row: Mapping[str, Any] | None, claim: Claim) -> bool:
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


def finish(
    transaction: Transaction, payloads: Sequence[tuple[Claim, Finished, dict[str, Any]]]
) -> list[bool | AllcoresError]:
    """Write how attempts ended; False for those that have lost their claim.

    An end that is written a second time, because the first time was not known to have worked, is as true as it was.
    """
    rows = _held(transaction, [claim for claim, _, _ in payloads])
    answers: list[bool | AllcoresError] = []
    ends: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    ended: set[str] = set()
    latest: dict[int, tuple[Claim, Progress]] = {}
    for claim, outcome, columns in payloads:
        row = rows.get(claim.job.id)
        if not _fits(row, claim):
            answers.append(False)
            continue
        assert row is not None
        answers.append(True)
        if row["state"] != State.RUNNING or claim.job.id in ended:
            continue  # it is written already
        ended.add(claim.job.id)
        end = _end(transaction, row, outcome, columns)
        ends.append(end)
        if end["new_state"] != State.SUCCEEDED:
            failed.append(_attempt(transaction, row, end, outcome.crashed))
        if outcome.progress is not None:
            latest[claim.job.seq] = (claim, outcome.progress)
    _write(transaction, ends, failed)
    write_progress(transaction, latest)
    return answers


def _end(
    transaction: Transaction, row: Mapping[str, Any], outcome: Finished, columns: Mapping[str, Any]
) -> dict[str, Any]:
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
        "new_run_at": run_at if queued else row["started"],
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


def _attempt(transaction: Transaction, row: Mapping[str, Any], end: Mapping[str, Any], crashed: bool) -> dict[str, Any]:
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


def _write(transaction: Transaction, ends: list[dict[str, Any]], failed: list[dict[str, Any]]) -> None:
    if ends:
        transaction.connection.execute(_FINISH, ends)
    if failed:
        transaction.connection.execute(insert(schema.attempts), failed)


def release(transaction: Transaction, payloads: Sequence[Sequence[Claim]]) -> list[int | AllcoresError]:
    """Give claims back: their jobs are queued as they were, and no attempt is charged."""
    return [_released(transaction, claims) for claims in payloads]


def _released(transaction: Transaction, claims: Sequence[Claim]) -> int:
    rows = _held(transaction, claims)
    count = 0
    for claim in claims:
        row = rows.get(claim.job.id)
        if not _fits(row, claim) or row is None or row["state"] != State.RUNNING:
            continue
        _queue_again(transaction, row["seq"], cancelled=bool(row["cancel_requested"]), note="")
        count += 1
    return count


def _queue_again(transaction: Transaction, seq: int, *, cancelled: bool, note: str) -> None:
    state = State.CANCELLED if cancelled else State.QUEUED
    transaction.connection.execute(
        update(_jobs)
        .where(_jobs.c.seq == seq)
        .values(
            state=state.value,
            due=int(not cancelled),
            finished=transaction.now if cancelled else None,
            token=None,
            worker_pid=None,
            note="cancelled before it ran again" if cancelled else note,
            changed=transaction.change,
        )
    )


# -- while an attempt runs ------------------------------------------------------------------------------------------


def report_worker(transaction: Transaction, payloads: Sequence[tuple[Claim, int]]) -> list[bool | AllcoresError]:
    """Write down which process runs a claimed job: from now on its death is a crash."""
    rows = _held(transaction, [claim for claim, _ in payloads])
    answers: list[bool | AllcoresError] = []
    for claim, pid in payloads:
        row = rows.get(claim.job.id)
        holds = _fits(row, claim) and row is not None and row["state"] == State.RUNNING
        answers.append(holds)
        if holds:
            transaction.connection.execute(update(_jobs).where(_jobs.c.seq == claim.job.seq).values(worker_pid=pid))
    return answers


def report_progress(transaction: Transaction, payloads: Sequence[tuple[Claim, Progress]]) -> list[bool | AllcoresError]:
    """Write how far running jobs are; of several reports of one job only the last."""
    rows = _held(transaction, [claim for claim, _ in payloads])
    latest: dict[int, tuple[Claim, Progress]] = {}
    answers: list[bool | AllcoresError] = []
    for claim, progress in payloads:
        row = rows.get(claim.job.id)
        holds = _fits(row, claim) and row is not None and row["state"] == State.RUNNING
        answers.append(holds)
        if holds:
            latest[claim.job.seq] = (claim, progress)
    write_progress(transaction, latest)
    return answers


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


# -- after the death of a supervisor --------------------------------------------------------------------------------


def recover(transaction: Transaction, payloads: Sequence[int]) -> list[list[Job] | AllcoresError]:
    """Queue again what a supervisor that is gone had claimed; what crashed too often is quarantined."""
    return [_recovered(transaction, most) for most in payloads]


def _recovered(transaction: Transaction, most_crashes: int) -> list[Job]:
    connection = transaction.connection
    rows = (
        connection.execute(select(*_FENCE, _jobs.c.worker_pid).where(text(schema.RUNNING)).order_by(_jobs.c.seq))
        .mappings()
        .all()
    )
    for each in rows:
        row = _dict(each)
        if not row["worker_pid"]:
            _queue_again(
                transaction,
                row["seq"],
                cancelled=bool(row["cancel_requested"]),
                note="its supervisor ended before it began: queued again",
            )
            continue
        crashes = row["crashes"] + 1
        error = JobError(
            type="WorkerLost",
            message="the supervisor and its processes ended while the job ran",
            cause="supervisor lost",
        )
        again = crashes < most_crashes and not row["cancel_requested"]
        state = State.QUEUED if again else State.CANCELLED if row["cancel_requested"] else State.QUARANTINED
        note = {
            State.QUEUED: "its supervisor ended while it ran: queued again",
            State.CANCELLED: "its supervisor ended while it ran, and its end was asked for",
            State.QUARANTINED: f"quarantined after {crashes} crashes",
        }[state]
        outcome = Finished(state, error=error, crashed=True, note=note)
        end = _end(transaction, row, outcome, checked(outcome))
        _write(transaction, [end], [_attempt(transaction, row, end, True)])
        # Whoever had it and lives after all has lost it.
        connection.execute(update(_jobs).where(_jobs.c.seq == row["seq"]).values(token=None))
    scrub(transaction)
    if not rows:
        return []
    return jobs_where(connection, _jobs.c.seq.in_(among(transaction.dialect, [row["seq"] for row in rows])))


def scrub(transaction: Transaction) -> int:
    """Quarantine rows whose state is no word that is known; returns how many there were."""
    known = {state.value for state in State}
    unknown = [
        each
        for each in transaction.connection.execute(select(schema.counters.c.state).distinct()).scalars()
        if each not in known
    ]
    count = 0
    for state in unknown:
        found = jobs_where(transaction.connection, _jobs.c.state == state, limit=1_000)
        quarantine(transaction, [job for job in found if job.damaged])
        count += len(found)
    return count
