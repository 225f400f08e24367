"""The scheduler: workers that leave, and the end of a pool."""

from __future__ import annotations

from tests.unit.scheduler.harness import SECOND, Harness

from allcores.errors import BrokenPool
from allcores.scheduler.messages import Kill, Launch, Stop
from allcores.transport.positions import PHASE_OUTPUT


def test_a_worker_that_leaves_is_replaced_and_loses_nothing() -> None:
    """A worker that has run its share ends by itself; what it still held goes back to the front in old order."""
    harness = Harness(1)
    map_state = harness.map_state()
    for _ in range(3):
        harness.add(map_state, 2)
    harness.commands()
    harness.results(1, 1, 0, 1, leaving=True)
    assert harness.commands() == [Launch(2)]
    assert [(chunk.first, len(chunk.items)) for chunk in map_state.pending] == [(1, 1), (2, 2), (4, 2)]
    harness.gone(1, idle=True)
    assert harness.commands() == []
    harness.ready(2)
    assert harness.sent() == [(2, 1, 1, 1), (2, 2, 2, 1)]
    assert map_state.failed == 0


def test_closing_stops_the_idle_and_waits_for_the_busy() -> None:
    """Idle workers are told to stop at once, busy ones when they have finished; nobody is launched."""
    harness = Harness(2)
    map_state = harness.map_state()
    harness.add(map_state)
    harness.commands()
    harness.scheduler.close()
    assert harness.commands() == [Stop(2)]
    harness.gone(2, idle=True)
    assert harness.commands() == []
    harness.results(1, 1, 0, 1)
    assert harness.commands() == [Stop(1)]
    harness.gone(1, idle=True)
    assert harness.commands() == []
    assert harness.state.worker_states == {}


def test_closing_does_not_wait_for_what_others_have_by_now() -> None:
    """A worker whose output nobody reads cannot say that nothing is left of it: it has the time of a stop."""
    harness = Harness(2, ready=False)
    map_state = harness.map_state(ordered=False)
    harness.add(map_state, 12)
    harness.end_of_input(map_state)
    harness.ready(1)
    harness.at(1, 0, 0, phase=PHASE_OUTPUT, since=0)
    harness.ready(2)
    harness.pass_time(SECOND, alarms=10_000)
    for chunk in list(harness.state.worker_states[2].chunks):
        harness.results(2, chunk.sequence, 0, len(chunk.items))
    assert [len(chunk.items) for chunk in harness.state.worker_states[1].chunks] == [0]
    harness.commands()
    harness.scheduler.close()
    assert harness.commands() == [Stop(1), Stop(2)]
    harness.results(1, 1, 0, 0)
    assert harness.commands() == []
    for worker in (1, 2):
        harness.gone(worker, idle=True)
    assert harness.state.worker_states == {}


def test_closing_does_not_wait_for_those_that_start() -> None:
    """A worker in the middle of its setup is ended; one that gets ready at that moment is stopped."""
    harness = Harness(2, ready=False)
    harness.commands()
    harness.scheduler.close()
    assert [type(order) for order in harness.commands()] == [Kill, Kill]
    harness.ready(1)
    assert harness.commands() == [Stop(1)]
    for worker in (1, 2):
        harness.gone(worker, idle=True)
    assert harness.state.worker_states == {}
    assert harness.commands() == []
    assert harness.state.broken is None


def test_a_broken_pool_starts_nothing_more() -> None:
    """Once a pool is broken, its workers are given no more chunks of maps that nobody reads any more."""
    harness = Harness(2)
    map_state = harness.map_state()
    for _ in range(6):
        harness.add(map_state)
    harness.commands()
    harness.scheduler.break_off(BrokenPool("broken"))
    harness.results(1, 1, 0, 1)
    harness.at(2, 1, 0)
    harness.gone(2)
    assert harness.commands() == []
