"""Claims that nobody has any more, after the end of a supervisor or a claim that raised: their jobs go back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import RowMapping, select, text, update

from allcores.errors import AllcoresError
from allcores.jobs import leases, schema
from allcores.jobs.claims import COUNTED, IN_DOUBT, holder_of, quarantine, queue_again
from allcores.jobs.ends import FENCE, as_dict, attempt_of, checked, end_of, write
from allcores.jobs.group_commit import Transaction
from allcores.jobs.model import Claim, Finished, Job, JobError, State
from allcores.jobs.reading import among, jobs_where, rows_of
from allcores.jobs.rows import job_from_row

#: what is said of a claim whose process was not told yet
NOT_KNOWN = "its supervisor ended, and it is not known to have begun"
_jobs = schema.jobs


def own(claims: Iterable[Claim]) -> frozenset[tuple[int, int, str]]:
    """What tells the rows of these claims from all others: number, attempt and token."""
    return frozenset((claim.job.seq, claim.attempt, claim.token) for claim in claims)


def _claim_of(row: RowMapping) -> tuple[int, int, str]:
    return row["seq"], row["attempt"], row["token"]


def release_strays(
    transaction: Transaction, payloads: Sequence[tuple[Sequence[Claim], str]]
) -> list[int | AllcoresError]:
    """Queue again what is claimed in the store, under a holder's name, by nobody: all that runs, but these claims."""
    answers: list[int | AllcoresError] = []
    for claims, holder in payloads:
        known = own(claims)
        found = transaction.connection.execute(select(*FENCE).where(text(schema.RUNNING))).mappings().all()
        strays = [row for row in found if _claim_of(row) not in known and holder in ("", holder_of(row["token"]))]
        for row in strays:
            queue_again(transaction, row["seq"], cancelled=bool(row["cancel_requested"]), note="")
        answers.append(len(strays))
    return answers


def recover(transaction: Transaction, payloads: Sequence[int]) -> list[list[Job] | AllcoresError]:
    """Queue again what a supervisor that is gone had claimed; what crashed too often is quarantined."""
    return [recovered(transaction, most, frozenset()) for most in payloads]


def recover_lost(
    transaction: Transaction, payloads: Sequence[tuple[int, Mapping[str, int], bool]]
) -> list[list[Job] | AllcoresError]:
    """Take leases away whose holders are silent, and queue again what nobody with a lease has.

    Payloads: crashes that quarantine a job; silent holders, with the number at which each stands; whether nobody has
    the store for itself, so that what runs without a lease was left behind.
    """
    answers: list[list[Job] | AllcoresError] = []
    for most, silent, shared in payloads:
        standing = leases.take_away(transaction, silent)
        answers.append(recovered(transaction, most, standing if shared else standing | {""}))
    return answers


def recovered(
    transaction: Transaction,
    most_crashes: int,
    standing: frozenset[str],
    mine: Collection[tuple[int, int, str]] = (),
) -> list[Job]:
    """Queue again what runs, but for what holders have whose leases stand, and claims that are the caller's own."""
    connection = transaction.connection
    rows = (
        connection.execute(select(*FENCE, _jobs.c.worker_pid).where(text(schema.RUNNING)).order_by(_jobs.c.seq))
        .mappings()
        .all()
    )
    rows = [each for each in rows if holder_of(each["token"]) not in standing and _claim_of(each) not in mine]
    read = rows_of(connection, transaction.dialect, seqs=[row["seq"] for row in rows]) if rows else []
    jobs = {row["seq"]: job_from_row(row, row["progress_body"]) for row in read}
    quarantine(transaction, [job for job in jobs.values() if job.damaged])
    for each in rows:
        if jobs[each["seq"]].damaged:
            continue
        row = as_dict(each)
        if not row["worker_pid"]:
            cancelled = bool(row["cancel_requested"])
            note = f"{NOT_KNOWN}: queued again"
            queue_again(transaction, row["seq"], cancelled=cancelled, note=note, in_doubt=True)
            # It may have begun within the last moments: whoever asks why it did so twice finds this. If it is what ends
            # supervisors, it does so again before its process is told; so the next time it counts from the claim on.
            state = State.CANCELLED if cancelled else State.QUEUED
            columns = {"new_state": state.value, "new_error": None, "new_note": NOT_KNOWN}
            write(transaction, [], [attempt_of(transaction, row, columns, False)])
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
        end = end_of(transaction, row, outcome, checked(outcome))
        write(transaction, [end], [attempt_of(transaction, row, end, True)])
        # Whoever had it and lives after all has lost it.
        in_doubt = again and row["worker_pid"] == COUNTED
        values = {"token": None, "worker_pid": IN_DOUBT if in_doubt else None}
        connection.execute(update(_jobs).where(_jobs.c.seq == row["seq"]).values(values))
    _scrub(transaction)
    if not rows:
        return []
    return jobs_where(connection, _jobs.c.seq.in_(among(transaction.dialect, [row["seq"] for row in rows])))


def _scrub(transaction: Transaction) -> None:
    """Quarantine rows whose state is no word that is known."""
    known = {state.value for state in State}
    unknown = [
        each
        for each in transaction.connection.execute(select(schema.counters.c.state).distinct()).scalars()
        if each not in known
    ]
    for state in unknown:
        found = jobs_where(transaction.connection, _jobs.c.state == state, limit=1_000)
        quarantine(transaction, [job for job in found if job.damaged])
