"""The scheduler: workers that hold the object of an actor."""

from __future__ import annotations

import pytest
from tests.unit.scheduler.harness import SECOND, Harness, take_all
from tests.unit.simulation import MILLI

from allcores.errors import ActorLost, SetupError
from allcores.limits import Retry
from allcores.outcome import Kind
from allcores.scheduler.actor_policy import ActorPolicy
from allcores.scheduler.item_words import call_text
from allcores.scheduler.map_state import MapState
from allcores.scheduler.messages import Kill, Launch
from allcores.transport.positions import PHASE_LOADING, PHASE_RUNNING


def actor(workers: int = 1, *, restart: int | None = 3, concurrent: int = 1) -> Harness:
    harness = Harness(workers)
    harness.state.actor_policy = ActorPolicy(
        "Index('a')", restart=restart, within_ns=10 * SECOND, concurrent=concurrent
    )
    return harness


def calls(harness: Harness, timeout_ns: int | None = None) -> MapState:
    return harness.map_state(calls=True, timeout_ns=timeout_ns, retry=Retry())


def test_restarts_are_counted_within_their_seconds() -> None:
    policy = ActorPolicy("Index()", restart=2, within_ns=10 * SECOND)
    assert policy.grants(0, ordered=False)
    assert policy.grants(SECOND, ordered=False)
    assert not policy.grants(9 * SECOND, ordered=False)
    assert policy.grants(10 * SECOND, ordered=False)
    assert not policy.grants(10 * SECOND + 1, ordered=False)
    assert policy.grants(10 * SECOND + 1, ordered=True)
    assert policy.grants(11 * SECOND, ordered=False)


@pytest.mark.parametrize(("restart", "granted"), [(0, False), (None, True)])
def test_never_and_always(restart: int | None, granted: bool) -> None:
    policy = ActorPolicy("Index()", restart=restart, within_ns=1)
    assert [policy.grants(n, ordered=ordered) for n in range(9) for ordered in (True, False)] == [granted] * 18


def test_what_was_begun_is_lost_and_the_rest_is_requeued_in_order() -> None:
    harness = actor()
    map_state = calls(harness)
    for _ in range(4):
        harness.add(map_state)
    harness.at(1, 1, 0)
    harness.gone(1)
    assert take_all(map_state) == [(0, 1, [Kind.WORKER_LOST])]
    assert [chunk.first for chunk in map_state.pending] == [1, 2, 3]
    assert [order for order in harness.commands() if isinstance(order, Launch)] == [Launch(2)]


@pytest.mark.parametrize("phase", [PHASE_LOADING, PHASE_RUNNING])
def test_an_exit_that_no_call_explains_is_no_reason_to_run_it_twice(phase: int) -> None:
    """Its template was ended, say. In another pool the item would be requeued."""
    harness = actor()
    map_state = calls(harness)
    harness.add(map_state)
    harness.at(1, 1, 0, phase=phase)
    harness.gone(1, unattributed=True)
    assert take_all(map_state) == [(0, 1, [Kind.WORKER_LOST])]


def test_a_call_that_began_in_the_moment_its_process_was_ended_is_lost_too() -> None:
    """The one before it had used up its seconds, but finished before the signal came."""
    harness = actor()
    map_state = calls(harness, timeout_ns=100 * MILLI)
    for _ in range(3):
        harness.add(map_state)
    harness.at(1, 1, 0)
    harness.tick(200 * MILLI)
    assert any(isinstance(order, Kill) for order in harness.commands())
    harness.results(1, 1, 0, 1)
    harness.at(1, 2, 0)
    harness.gone(1)
    found = take_all(map_state)
    assert found == [(0, 1, []), (1, 1, [Kind.WORKER_LOST])]
    assert [chunk.first for chunk in map_state.pending] == [2]


def test_a_call_that_was_stolen_is_not_lost_with_its_first_worker() -> None:
    """Of several objects one is free, and takes what waits behind a long call."""
    harness = actor(2)
    map_state = calls(harness)
    for _ in range(3):
        harness.add(map_state)
    for worker in (1, 2):
        harness.at(worker, 1, 0)
    first = next(worker for worker in (1, 2) if len(harness.state.worker_states[worker].chunks) == 2)
    harness.commands()
    harness.results(3 - first, 1, 0, 1)
    harness.pass_time(SECOND)
    assert [sent[:2] for sent in harness.sent()] == [(3 - first, 2)]
    harness.gone(first)
    assert sorted(start for start, *_ in take_all(map_state)) == [0, 1]
    assert not map_state.pending


def test_another_is_built_when_the_old_one_is_gone() -> None:
    harness = actor()
    map_state = calls(harness, timeout_ns=100 * MILLI)
    harness.add(map_state)
    harness.at(1, 1, 0)
    harness.tick(200 * MILLI)
    assert not any(isinstance(order, Launch) for order in harness.commands())
    harness.gone(1)
    assert harness.commands() == [Launch(2)]
    assert take_all(map_state) == [(0, 1, [Kind.TIMED_OUT])]


def test_a_short_deadline_behind_a_long_one_is_kept() -> None:
    """Of calls of one actor, and of two maps as well."""
    harness = Harness(1)
    slow, quick = harness.map_state(timeout_ns=60 * SECOND), harness.map_state(timeout_ns=100 * MILLI)
    harness.add(slow)
    harness.at(1, 1, 0)
    harness.add(quick)
    harness.pass_time(SECOND)
    harness.results(1, 1, 0, 1)
    harness.at(1, 2, 0)
    harness.commands()
    harness.pass_time(300 * MILLI)
    assert any(isinstance(order, Kill) for order in harness.commands())


def test_when_none_is_left_everybody_is_told() -> None:
    harness = actor(2, restart=0)
    map_state = calls(harness)
    harness.gone(1)
    assert harness.commands() == []
    harness.add(map_state)
    assert [sent[0] for sent in harness.sent()] == [2]
    assert map_state.broken is None
    harness.gone(2)
    assert isinstance(map_state.broken, ActorLost)
    assert "Index('a') is gone" in str(map_state.broken) and "restart=0" in str(map_state.broken)


def test_one_that_ends_while_it_is_built_is_a_setup_error() -> None:
    harness = Harness(1, ready=False)
    harness.state.actor_policy = ActorPolicy("Index('a')", restart=0, within_ns=1)
    map_state = calls(harness)
    harness.gone(1, in_setup=True)
    assert isinstance(map_state.broken, SetupError) and "while it was built" in str(map_state.broken)


def test_calls_in_words() -> None:
    assert call_text("f", ("word", 3), {"limit": None}) == "f('word', 3, limit=None)"
    assert call_text("f", (object(), 10**500), {}) == "f(<object>, <int of 1661 bits>)"
    assert len(call_text("f", ("x" * 1000,) * 9, {})) < 100
