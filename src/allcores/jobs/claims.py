"""Jobs are claimed, and claims are given back by who has them. Those that nobody has any more: see `lost_claims`."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import TextClause, bindparam, case, select, text, update

from allcores.errors import AllcoresError
from allcores.jobs import leases, schema
from allcores.jobs.ends import fits, held, write_progress
from allcores.jobs.group_commit import Transaction
from allcores.jobs.model import Claim, Job, Progress, State
from allcores.jobs.reading import among, rows_of
from allcores.jobs.rows import error_to_json, job_from_row

#: delayed jobs that become due in one transaction
_DUE_AT_ONCE = 1_000
#: In the place of a process's number. Of a job that waits: a supervisor ended while it had it, and whether it had begun
#: is not known. Of one that runs: it was such a job, and counts as begun, whoever tells of its process
IN_DOUBT, COUNTED = 0, -1
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
CLAIM = (
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
        worker_pid=bindparam("pid"),
        note="",
        changed=bindparam("change"),
    )
)


class Choice(NamedTuple):
    """What to claim: the highest priority first, then the oldest.

    Attributes:
        most: Jobs at most.
        tasks: Of these tasks.
        alone: Of those, the ones that need a core at once.
        cores: So many of the first jobs have a core. What comes behind them waits for one that they leave: where it is
            of a task of `alone`, it and all behind it stay in the queue, or short jobs would pass it by for ever.
        doubtful: Of these tasks also one job over which a supervisor may have ended; it has a core, and begins at once.
    """

    most: int
    tasks: Collection[str]
    alone: Collection[str] = ()
    cores: int = 0
    doubtful: Collection[str] = ()


#: what to claim, given the tasks that have jobs waiting; called in the transaction
Choose = Callable[[frozenset[str]], Choice]


def claim(transaction: Transaction, payloads: Sequence[Choose]) -> list[list[Claim] | AllcoresError]:
    """Up to so many jobs of these tasks: the highest priority first, then the oldest."""
    return [_claimed(transaction, choose) for choose in payloads]


def _claimed(transaction: Transaction, choose: Choose) -> list[Claim]:
    connection = transaction.connection
    connection.execute(COMING_DUE[transaction.dialect], {"now": transaction.now})
    waiting = frozenset(connection.execute(_WAITING).scalars())
    choice = choose(waiting)
    if choice.most < 1:
        return []
    ready: list[tuple[float, int, str]] = []
    for task in sorted(waiting.intersection(choice.tasks)):
        rows = connection.execute(_READY, {"task": task, "most": choice.most})
        ready.extend((order_of(row[1]), row[0], task) for row in rows)
    seqs: list[int] = []
    for _, seq, task in sorted(ready)[: choice.most]:
        if len(seqs) >= choice.cores and task in choice.alone:
            break
        seqs.append(seq)
    return _taken(transaction, seqs, choice.cores, choice.doubtful)


def order_of(priority: object) -> float:
    """Where a job is among others: the smaller ones come first. One that is no number is damaged, and met at once."""
    return -priority if isinstance(priority, int) else -math.inf


def _taken(
    transaction: Transaction, seqs: Sequence[int], cores: int, doubtful: Collection[str], holder: str = ""
) -> list[Claim]:
    """Claims of jobs that are ready, in this order."""
    if not seqs:
        return []
    connection = transaction.connection
    found = {row["seq"]: row for row in rows_of(connection, transaction.dialect, seqs=seqs)}
    claims: list[Claim] = []
    rows, damaged = [], []
    for seq in seqs:
        if (row := found.get(seq)) is None:
            continue
        in_doubt = row["worker_pid"] == IN_DOUBT
        if in_doubt and len(claims) >= cores:
            break  # it begins at once, or it would count as begun before it has; nothing passes it by
        if in_doubt and (row["task"] not in doubtful or any(claim.in_doubt for claim in claims)):
            continue  # one after the other, to know which of them it is; the one before has its end in a moment
        attempt = row["attempt"] + 1 if isinstance(row["attempt"], int) else 1
        token = token_of(holder)
        # As it will be in the store: the job is made of it once.
        row.update(
            state=State.RUNNING.value,
            started=transaction.now,
            finished=None,
            worker_pid=0,
            note="",
            changed=transaction.change,
        )
        job = job_from_row(row, row["progress_body"])
        if job.damaged:
            damaged.append(job)
            continue
        rows.append(
            {
                "of": seq,
                "next_attempt": attempt,
                "next_token": token,
                "now": transaction.now,
                "waited": max(0.0, transaction.now - max(job.created, job.run_at)),
                "pid": COUNTED if in_doubt else 0,
                "change": transaction.change,
            }
        )
        claims.append(Claim(job, attempt, token, in_doubt))
    quarantine(transaction, damaged)
    if rows:
        connection.execute(CLAIM, rows)
    return claims


def token_of(holder: str) -> str:
    """A new token; of one of several supervisors it says whose it is."""
    return f"{holder}.{secrets.token_hex(16)}" if holder else secrets.token_hex(16)


def holder_of(token: object) -> str:
    """Whose a token is; "" for that of a supervisor which has the store for itself."""
    return token.partition(".")[0] if isinstance(token, str) and "." in token else ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one of several supervisors asks for: jobs that were delivered to it.

    Attributes:
        holder: Name of its lease.
        ids: Of the jobs.
        choose: How many of them, of which tasks; nothing is claimed ahead of its core.
    """

    holder: str
    ids: tuple[str, ...]
    choose: Choose


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of that.

    Attributes:
        claims: Of jobs that were waiting.
        gone: Ids of those that wait no longer, or not yet: nothing is to be done about them.
    """

    claims: list[Claim]
    gone: frozenset[str]


def claim_delivered(transaction: Transaction, payloads: Sequence[Delivered]) -> list[Taken | AllcoresError]:
    """Claim jobs by their ids, for a holder whose lease stands; others get nothing."""
    return [_claimed_delivered(transaction, each) for each in payloads]


def _claimed_delivered(transaction: Transaction, asked: Delivered) -> Taken | AllcoresError:
    connection = transaction.connection
    if not leases.stands(transaction, asked.holder):
        return leases.LeaseLost(leases.LOST)
    connection.execute(COMING_DUE[transaction.dialect], {"now": transaction.now})
    found = connection.execute(
        select(_jobs.c.id, _jobs.c.seq, _jobs.c.task, _jobs.c.priority)
        .where(_jobs.c.id.in_(among(transaction.dialect, list(asked.ids))), text(schema.READY))
        .order_by(_jobs.c.priority.desc(), _jobs.c.seq)
    ).all()
    gone = frozenset(asked.ids).difference(row[0] for row in found)
    choice = asked.choose(frozenset(row[2] for row in found))
    seqs = [row[1] for row in found if row[2] in choice.tasks][: max(0, choice.most)]
    return Taken(_taken(transaction, seqs, len(seqs), choice.doubtful, asked.holder), gone)


def quarantine(transaction: Transaction, damaged: Sequence[Job]) -> None:
    """Put damaged rows where they are listed and not run; their arguments and results stay as they are."""
    for job in damaged:
        transaction.connection.execute(
            update(_jobs)
            .where(_jobs.c.seq == job.seq)
            .values(
                state=State.QUARANTINED.value,
                due=0,
                # Of one that waited it is an earlier attempt's.
                started=case((_jobs.c.state == State.QUEUED.value, None), else_=_jobs.c.started),
                finished=transaction.now,
                error=error_to_json(job.error),
                failure="damaged row\nDamagedRow",
                note=job.note,
                token=None,
                changed=transaction.change,
            )
        )


# -- claims that are given back ------------------------------------------------------------------------------------


def release(transaction: Transaction, payloads: Sequence[Sequence[Claim]]) -> list[int | AllcoresError]:
    """Give claims back: their jobs are queued as they were, and no attempt is charged."""
    return [_released(transaction, claims) for claims in payloads]


def _released(transaction: Transaction, claims: Sequence[Claim]) -> int:
    rows = held(transaction, claims)
    count = 0
    for claim in claims:
        row = rows.get(claim.job.id)
        if not fits(row, claim) or row is None or row["state"] != State.RUNNING:
            continue
        queue_again(transaction, row["seq"], cancelled=bool(row["cancel_requested"]), note="")
        count += 1
    return count


def queue_again(transaction: Transaction, seq: int, *, cancelled: bool, note: str, in_doubt: bool = False) -> None:
    """Put a running job back into the queue; one whose end was asked for is cancelled instead."""
    state = State.CANCELLED if cancelled else State.QUEUED
    transaction.connection.execute(
        update(_jobs)
        .where(_jobs.c.seq == seq)
        .values(
            state=state.value,
            due=int(not cancelled),
            # It was claimed, and has not begun.
            started=None if cancelled else _jobs.c.started,
            finished=transaction.now if cancelled else None,
            token=None,
            worker_pid=IN_DOUBT if in_doubt and not cancelled else None,
            note="cancelled before it ran again" if cancelled else note,
            changed=transaction.change,
        )
    )


# -- while an attempt runs ------------------------------------------------------------------------------------------


def report_worker(transaction: Transaction, payloads: Sequence[tuple[Claim, int]]) -> list[bool | AllcoresError]:
    """Write down which process runs a claimed job: from now on its death is a crash."""
    rows = held(transaction, [claim for claim, _ in payloads])
    answers: list[bool | AllcoresError] = []
    for claim, pid in payloads:
        row = rows.get(claim.job.id)
        holds = fits(row, claim) and row is not None and row["state"] == State.RUNNING
        answers.append(holds)
        if holds:
            transaction.connection.execute(update(_jobs).where(_jobs.c.seq == claim.job.seq).values(worker_pid=pid))
    return answers


def report_progress(transaction: Transaction, payloads: Sequence[tuple[Claim, Progress]]) -> list[bool | AllcoresError]:
    """Write how far running jobs are; of several reports of one job only the last."""
    rows = held(transaction, [claim for claim, _ in payloads])
    latest: dict[int, tuple[Claim, Progress]] = {}
    answers: list[bool | AllcoresError] = []
    for claim, progress in payloads:
        row = rows.get(claim.job.id)
        holds = fits(row, claim) and row is not None and row["state"] == State.RUNNING
        answers.append(holds)
        if holds:
            latest[claim.job.seq] = (claim, progress)
    write_progress(transaction, latest)
    return answers
