"""Several supervisors of one store: who may claim what, and what becomes of what one had that fell silent."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.process.jobs.conftest import until

from allcores.jobs import JobStore, State, delivery_queries
from allcores.jobs.claims import Choice
from allcores.jobs.lead_duty import MISSED, LeadDuty
from allcores.jobs.leases import LeaseLost, beat_of
from allcores.jobs.model import Claim, Finished
from allcores.jobs.shared_store import SharedStore
from allcores.jobs.wake import Listener, wake

EVERY = 100


def claimed(store: SharedStore, *ids: str, limit: int = EVERY) -> list[Claim]:
    """What a supervisor is given after these deliveries."""
    for id in ids:
        store.deliver(id)
    return store.exchange([], [], lambda waiting: Choice(limit, waiting)).claims


def test_each_job_is_claimed_by_one_of_them_and_only_where_it_was_delivered(where: str) -> None:
    with JobStore.open(where) as client, SharedStore.open(where) as one, SharedStore.open(where) as two:
        one.become_supervisor(), two.become_supervisor()
        a, b, c = (client.submit("f", {"n": n}).job.id for n in range(3))
        assert claimed(one) == [] and not one.look().waiting
        first, again, nobody = one.deliver(a), two.deliver(a), two.deliver("0" * 32)
        assert [each.job.id for each in claimed(one)] == [a] and first.answer is True
        assert [each.job.id for each in claimed(two, b)] == [b] and (again.answer, nobody.answer) == (False, False)
        # No core is free: it waits for one here, or is given back.
        waiting = two.deliver(c)
        assert two.look().waiting == {"f"}
        assert claimed(two, limit=0) == [] and waiting.answer is None
        two.withdraw(waiting)
        assert claimed(two) == [] and client.counts().by_state[State.QUEUED] == 1


def test_what_one_had_that_fell_silent_is_queued_again_and_its_end_is_not_written(where: str) -> None:
    with JobStore.open(where) as client, SharedStore.open(where) as one, SharedStore.open(where) as two:
        lease = one.become_supervisor()
        two.become_supervisor()
        a, b, c = (client.submit("f", {"n": n}).job.id for n in range(3))
        begun, unbegun = sorted(claimed(one, a, b), key=lambda claim: claim.job.seq)
        one.report_worker(begun, 1)
        (kept,) = claimed(two, c)
        assert one.lead() and not two.lead()
        one.stop_leading()
        until(two.lead, "the lock")
        assert two.recover_lost({}) == []
        # It counted on in the meantime.
        assert one.renew() and two.recover_lost({one.holder: 0}) == []
        assert {job.id for job in two.recover_lost({one.holder: 1})} == {a, b}
        jobs = {id: client.get(id) for id in (a, b, c)}
        assert [(job.state, job.crashes) for job in jobs.values() if job] == [
            (State.QUEUED, 1), (State.QUEUED, 0), (State.RUNNING, 0),
        ]  # fmt: skip
        # It wakes.
        assert one.finish_many([(each, Finished(State.SUCCEEDED)) for each in (begun, unbegun)]) == [False, False]
        assert not one.renew() and not lease.held
        with pytest.raises(LeaseLost, match="silent"):
            claimed(one, a)
        assert two.finish(kept, Finished(State.SUCCEEDED))


def test_a_lease_that_was_taken_away_claims_nothing_even_before_its_holder_knows(where: str) -> None:
    with JobStore.open(where) as client, SharedStore.open(where) as one, SharedStore.open(where) as two:
        one.become_supervisor(), two.become_supervisor()
        two.lead()
        two.recover_lost({one.holder: 0})
        one.deliver(client.submit("f", {}).job.id)
        done = one.exchange([], [], lambda waiting: Choice(EVERY, waiting))
        assert isinstance(done.error, LeaseLost) and done.claims == []
        assert client.counts().by_state[State.QUEUED] == 1


def test_one_that_leads_and_hangs_is_followed_though_it_keeps_the_lock(where: str) -> None:
    with JobStore.open(where) as alone, SharedStore.open(where) as one, SharedStore.open(where) as two:
        with alone.become_supervisor():
            two.become_supervisor()
            assert not two.lead()
        one.become_supervisor()
        # PostgreSQL gives a lock back once it has seen that the connection is closed.
        until(one.lead, "the lock")
        assert one.has_lock
        assert not two.lead() and not two.lead()
        two.recover_lost({one.holder: 0})
        assert two.lead() and not two.has_lock and two.lead()
        # What is submitted is not left to the one that hangs.
        committed: list[int] = []
        two.when_changed(lambda: committed.append(1))
        assert alone.submit("f", {}).job.seq == 1 and committed == [1]
        two.maintain()
        # It wakes, and ends: what it says then is nobody's.
        assert not one.renew()
        one.stop_leading()
        assert not one.lead() and not one.leads
        until(lambda: two.lead() and two.has_lock, "the lock")
        two.stop_leading()
        assert two.records("leader") == {}


def test_what_a_supervisor_alone_left_behind_is_taken_over(where: str) -> None:
    with JobStore.open(where) as alone, SharedStore.open(where) as one:
        job = alone.submit("f", {}).job.id
        with alone.become_supervisor():
            alone.claim(1, ["f"])
            one.become_supervisor()
            assert not one.lead()
        until(one.lead, "the lock")
        assert [each.id for each in one.recover_lost({})] == [job]
        one.become_supervisor().release()


def test_what_is_ready_is_told_in_order_and_what_was_begun_is_not_queued(where: str) -> None:
    with JobStore.open(where) as client, SharedStore.open(where) as one:
        one.become_supervisor()
        a = client.submit("f", {"n": 0}).job.id
        b = client.submit("g", {"n": 1}, priority=5).job.id
        c = client.submit("f", {"n": 2}, priority=5).job.id
        client.submit("other", {})
        client.submit("f", {"n": 3}, run_at=time.time() + 1000)
        assert delivery_queries.ready(one, ["f", "g"], 10) == [b, c, a]
        assert delivery_queries.ready(one, ["f", "g"], 2) == [b, c] and delivery_queries.ready(one, ["f"], 0) == []
        claimed(one, c)
        assert delivery_queries.queued(one, [a, b, c, "0" * 32]) == {a, b}
        assert delivery_queries.queued(one, []) == frozenset()


def test_one_that_becomes_due_is_told_of_and_claimed(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, later = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: clock() + later[0])
    with JobStore.open(where) as client, SharedStore.open(where) as one:
        one.become_supervisor()
        id = client.submit("f", {}, run_at=time.time() + 1_000).job.id
        assert claimed(one, id) == []
        later[0] = 1_001
        until(lambda: delivery_queries.ready(one, ["f"], 1) == [id], "its time")
        assert [each.job.id for each in claimed(one, id)] == [id]


def test_strays_of_others_are_left_alone(where: str) -> None:
    with JobStore.open(where) as client, SharedStore.open(where) as one, SharedStore.open(where) as two:
        one.become_supervisor(), two.become_supervisor()
        a, b = (client.submit("f", {"n": n}).job.id for n in range(2))
        claimed(one, a), claimed(two, b)
        assert one.release_strays([]) == 1
        states = [job.state for id in (a, b) if (job := client.get(id))]
        assert states == [State.QUEUED, State.RUNNING]


def test_who_has_lost_the_lead_leaves_the_socket_of_who_has_it_now(where: str, parts: list[int]) -> None:
    """Others would commit each submission by themselves from then on."""
    with JobStore.open(where) as client, SharedStore.open(where) as one, SharedStore.open(where) as two:
        one.become_supervisor(), two.become_supervisor()
        assert one.lead() and not two.lead()
        two.recover_lost({one.holder: 0})
        assert two.lead()
        assert not one.renew() and not one.lead()
        assert client.submit("f", {}).job.seq == 1 and parts == [1]


def test_the_end_of_one_leaves_the_other_one_to_be_woken(tmp_path: Path) -> None:
    with ExitStack() as first:
        first.enter_context(Listener(str(tmp_path)))
        with Listener(str(tmp_path)) as later:
            first.close()
            wake(tmp_path)
            assert later.socket is not None and later.socket.recv(16) == b"w"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["x", "[]", '{"beat": "x"}'])
def test_damaged_records_keep_nobody_from_leading(where: str, damage: str) -> None:
    """A dead one's lease is taken away all the same, and one that lives says anew what it said."""
    with JobStore.open(where) as client, SharedStore.open(where) as one, SharedStore.open(where) as two:
        one.become_supervisor(), two.become_supervisor()
        (claim,) = claimed(one, client.submit("f", {}).job.id)
        with client.reading() as connection:
            connection.execute(text("UPDATE allcores_records SET body = :body"), {"body": damage})
            connection.commit()
        led: list[bool] = []
        clock = iter(range(0, 1_000, 10))
        duty = LeadDuty(two, [], led.append, clock=lambda: float(next(clock)))
        for _ in range(MISSED + 2):
            assert duty.look(1.0, stopping=False)
        assert led == [True] and set(two.leases()) == {two.holder} and beat_of(two.leases()[two.holder]) > MISSED
        assert (job := client.get(claim.job.id)) is not None and job.state is State.QUEUED
        two.stop_leading()
