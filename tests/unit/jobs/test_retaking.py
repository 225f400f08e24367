"""What is left of a supervisor's claims after its store was away."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from allcores.jobs import JobStore, State, schema
from allcores.jobs.claims import Choice
from allcores.jobs.leases import LeaseLost
from allcores.jobs.model import Claim, Finished
from allcores.jobs.shared_store import SharedStore

END = Finished(State.SUCCEEDED)


def undo(store: JobStore, claim: Claim) -> None:
    """As a server's crash does: the claim did not wait for the disk."""
    before = {"state": "queued", "due": 1, "attempt": claim.attempt - 1, "token": None, "worker_pid": None}
    with store._database.writing() as connection:
        connection.execute(update(schema.jobs).where(schema.jobs.c.seq == claim.job.seq).values(started=None, **before))


def queue_again(store: JobStore, claim: Claim) -> None:
    """As another supervisor does, for which the one that had it is gone."""
    with store._database.writing() as connection:
        values = {"state": "queued", "due": 1, "token": None, "worker_pid": None}
        connection.execute(update(schema.jobs).where(schema.jobs.c.seq == claim.job.seq).values(**values))


def test_what_stands_goes_on_what_was_undone_is_made_again_and_the_rest_is_lost(store: JobStore) -> None:
    for number in range(7):
        store.submit("f", {"n": number})
    with store.become_supervisor():
        stands, undone, ended, taken, cancelled, begun, unbegun = claims = store.claim(7, ["f"])
        for claim in (undone, ended, cancelled):
            undo(store, claim)
        store.cancel([cancelled.job.id], "me")
        queue_again(store, taken)
        store.report_worker(begun, 1)
        # The last two are of a supervisor that came and went.
        found = store.retake([stands, undone, taken, cancelled], [ended])
        assert found.lost == [taken.job.id, cancelled.job.id]
        assert [(job.id, job.state, job.crashes) for job in found.recovered] == [
            (begun.job.id, State.QUEUED, 1), (unbegun.job.id, State.QUEUED, 0),
        ]  # fmt: skip
        made = store.get(undone.job.id)
        assert made is not None and (made.state, made.started) == (State.RUNNING, undone.job.started)
        assert store.finish_many([(claim, END) for claim in claims]) == [True] * 3 + [False] * 4
        assert sorted(each.job.id for each in store.claim(9, ["f"])) == sorted(
            each.job.id for each in (taken, begun, unbegun)
        )
        assert (again := store.get(undone.job.id)) is not None and (again.attempts, again.crashes) == (1, 0)


def test_one_of_several_looks_at_its_own_claims_alone(where: str) -> None:
    with JobStore.open(where) as client, SharedStore.open(where) as one, SharedStore.open(where) as two:
        claims = []
        for store in (one, two):
            store.become_supervisor()
            for _ in range(2):
                store.deliver(client.submit("f", {}).job.id)
            claims.append(store.exchange([], [], lambda waiting: Choice(9, waiting)).claims)
        (stands, undone), (other, lost) = claims
        undo(client, undone)
        queue_again(client, lost)
        assert one.retake([], []).lost == [] == one.retake([stands, undone], []).lost
        assert two.retake([other, lost], []).lost == [lost.job.id]
        ends = [(claim, END) for claim in (stands, undone, other, lost)]
        assert client.finish_many(ends) == [True, True, True, False]
        two.lead()
        two.recover_lost({one.holder: 0})
        with pytest.raises(LeaseLost, match="silent"):
            one.retake([stands], [])
