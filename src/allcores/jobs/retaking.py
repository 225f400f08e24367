"""After the store was away: which claims of a supervisor still stand, and what others have left meanwhile.

Its server may have crashed, and a claim does not wait for the disk (docs/design/jobs-store.md): one that was undone by
that is made again, for its job runs. One that another supervisor has taken away is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from allcores.errors import AllcoresError
from allcores.jobs import leases
from allcores.jobs.claims import CLAIM, COUNTED
from allcores.jobs.ends import fits, held
from allcores.jobs.group_commit import Transaction
from allcores.jobs.lost_claims import own, recovered
from allcores.jobs.model import Claim, Job, State


@dataclass(frozen=True, slots=True)
class Known:
    """What a supervisor has.

    Attributes:
        at_work: Claims of jobs that run.
        ended: Of those that have ended, which is not known to be written.
        holder: Name of its lease; "": it has the store for itself.
        max_crashes: Deaths of its process after which a job is quarantined.
    """

    at_work: Sequence[Claim] = ()
    ended: Sequence[Claim] = ()
    holder: str = ""
    max_crashes: int = 3


@dataclass(frozen=True, slots=True)
class Retaken:
    """What became of that.

    Attributes:
        lost: Ids of jobs at work that are no longer this supervisor's: their attempts are to be ended.
        recovered: Jobs that ran for a supervisor that is gone, and are queued again.
    """

    lost: list[str] = field(default_factory=list)
    recovered: list[Job] = field(default_factory=list)


def retake(transaction: Transaction, payloads: Sequence[Known]) -> list[Retaken | AllcoresError]:
    """See the module."""
    return [_retaken(transaction, each) for each in payloads]


def _retaken(transaction: Transaction, known: Known) -> Retaken | AllcoresError:
    if known.holder and not leases.stands(transaction, known.holder):
        return leases.LeaseLost(leases.LOST)
    claims = [*known.at_work, *known.ended]
    rows = held(transaction, claims)
    again: list[Claim] = []
    lost: list[str] = []
    for number, claim in enumerate(claims):
        row = rows.get(claim.job.id)
        if row is not None and row["state"] == State.QUEUED and row["attempt"] == claim.attempt - 1:
            again.append(claim)
        elif number < len(known.at_work) and (row is None or row["state"] != State.RUNNING or not fits(row, claim)):
            lost.append(claim.job.id)
    if again:
        transaction.connection.execute(CLAIM, [_row(transaction, claim) for claim in again])
    if known.holder:
        return Retaken(lost)
    return Retaken(lost, recovered(transaction, known.max_crashes, frozenset(), own(claims)))


def _row(transaction: Transaction, claim: Claim) -> dict[str, object]:
    job = claim.job
    started = transaction.now if job.started is None else job.started
    return {
        "of": job.seq,
        "next_attempt": claim.attempt,
        "next_token": claim.token,
        "now": started,
        "waited": max(0.0, started - max(job.created, job.run_at)),
        "pid": COUNTED if claim.in_doubt else 0,
        "change": transaction.change,
    }
