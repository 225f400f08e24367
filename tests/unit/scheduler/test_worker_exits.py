"""The scheduler: workers that exit."""

from __future__ import annotations

import pytest
from tests.unit.scheduler.harness import Harness, take_all
from tests.unit.simulation import MILLI

from allcores.events import WorkerEnded
from allcores.limits import Retry
from allcores.outcome import Kind
from allcores.scheduler.exit_settlement import MAX_REQUEUES
from allcores.scheduler.messages import Launch
from allcores.scheduler.timers import MOST_TIMERS
from allcores.scheduler.work_stealing import CONFIRM_NS, SOON_NS
from allcores.transport.positions import PHASE_FUNCTION, PHASE_IDLE, PHASE_LOADING, PHASE_SEALING, mark


def test_only_the_item_that_ran_is_charged() -> None:
    """A worker that dies loses the outcome of one item. What was sealed stays; the rest goes back to the front."""
    harness = Harness(1)
    map_state = harness.map_state(ordered=False)
    harness.add(map_state, 6)
    harness.add(map_state, 2)
    harness.add(map_state, 2)
    harness.results(1, 1, 0, 2, ended=False)
    harness.at(1, 1, 3)
    harness.commands()
    harness.gone(1)
    assert take_all(map_state) == [(0, 2, []), (3, 1, [Kind.WORKER_LOST])]
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [
        (2, 1, 1),  # finished, but not sealed
        (4, 2, 1),
        (6, 2, 1),
        (8, 2, 1),
    ]
    assert harness.commands() == [Launch(2)]
    assert harness.state.counters.requeues == 5
    harness.ready(2)
    assert harness.sent() == [(2, 2, 1, 1), (2, 4, 2, 1)]


def test_an_item_that_finished_as_its_worker_died_counts() -> None:
    """When the death came after the sealing, no item is charged."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 3)
    harness.at(1, 1, 1)
    harness.results(1, 1, 0, 2, ended=False)
    harness.gone(1)
    assert take_all(map_state) == [(0, 2, [])]
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [(2, 1, 1)]


@pytest.mark.parametrize("phase", [PHASE_LOADING, PHASE_SEALING])
def test_a_death_over_a_whole_chunk_is_looked_into(phase: int) -> None:
    """Where the death cannot be pinned to one item, its items run one by one, uncharged: that will tell."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 3)
    harness.at(1, 1, 0 if phase == PHASE_LOADING else 2, phase=phase)
    harness.gone(1)
    assert take_all(map_state) == []
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [
        (0, 1, 1),
        (1, 1, 1),
        (2, 1, 1),
    ]
    harness.ready(2)
    harness.at(2, 1, 0, phase=phase)
    harness.gone(2)
    assert take_all(map_state) == [(0, 1, [Kind.WORKER_LOST])]


def test_items_that_would_not_unpickle_together_run_one_by_one() -> None:
    """A chunk that a worker could not unpickle comes back in pieces of one item."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 3)
    harness.commands()
    harness.results(1, 1, 0, 0, unloadable=True)
    assert harness.sent() == [(1, 0, 1, 1), (1, 1, 1, 1)]


def test_an_idle_worker_that_dies_is_replaced() -> None:
    """A death between two chunks costs nobody an outcome."""
    harness = Harness(2)
    map_state = harness.map_state()
    harness.add(map_state, 2)
    harness.at(1, 0, 0, phase=PHASE_IDLE)
    harness.commands()
    harness.gone(1, idle=True)
    assert harness.commands()[0] == Launch(3)
    assert map_state.settled == 0
    assert [event.worker for event in harness.state.events if isinstance(event, WorkerEnded)] == [1]
    harness.gone(1)
    assert harness.commands() == [], "a second notice of the same death is no news"


def test_a_chunk_that_waited_behind_the_item_that_ran_is_not_charged() -> None:
    """The second chunk of a dying worker goes back whole."""
    harness = Harness(1)
    map_state, other = harness.map_state(), harness.map_state()
    harness.add(map_state)
    harness.add(other, 3)
    harness.at(1, 1, 0)
    harness.gone(1)
    assert take_all(map_state) == [(0, 1, [Kind.WORKER_LOST])]
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in other.pending] == [(0, 3, 1)]


def test_a_worker_that_dies_at_its_limit_was_not_running_anything() -> None:
    """The item at the limit was never started: it is not charged, whether it was stolen already or not."""
    for confirmed in (False, True):
        harness = Harness(2)
        map_state = harness.map_state()
        harness.add(map_state, 4)
        harness.end_of_input(map_state)
        # Worker 1 has run items[0] for long; the rest is to be stolen.
        harness.at(1, 1, 0)
        harness.now += 100 * MILLI
        harness.gone(2, idle=True)
        harness.ready(3)
        harness.tick(SOON_NS)
        assert harness.state.worker_states[1].limit == mark(1, 1)
        assert harness.state.worker_states[1].confirming
        if confirmed:
            harness.tick(CONFIRM_NS)
        harness.commands()
        harness.results(1, 1, 0, 1, ended=False)
        harness.at(1, 1, 1)
        harness.gone(1)
        assert take_all(map_state) == [(0, 1, [])], "confirmed" if confirmed else "not yet confirmed"
        assert map_state.failed == 0


def test_an_unattributed_exit_charges_nobody() -> None:
    """When the template dies, the items that ran go back uncharged; but not for ever."""
    harness = Harness(1)
    map_state = harness.map_state(retry=Retry(times=0))
    harness.add(map_state)
    for deaths in range(1, MAX_REQUEUES + 2):
        harness.at(deaths, 1, 0)
        harness.gone(deaths, unattributed=True)
        if deaths <= MAX_REQUEUES:
            assert take_all(map_state) == []
            assert [chunk.attempt for chunk in map_state.pending] == [1]
            harness.ready(deaths + 1)
    assert take_all(map_state) == [(0, 1, [Kind.WORKER_LOST])]


def test_an_item_of_a_chunk_that_ended_its_worker_is_given_up_no_earlier_than_others() -> None:
    """When the template dies later, what ran is requeued as often as if that had not been."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 2)
    worker = 1
    for phase in (PHASE_LOADING, PHASE_SEALING):
        harness.at(worker, 1, 0, phase=phase)
        harness.state.worker_states[worker].chunks[0].cut = True
        harness.gone(worker)
        worker += 1
        harness.ready(worker)
    for _ in range(MAX_REQUEUES):
        harness.at(worker, 1, 0)
        harness.gone(worker, unattributed=True)
        assert take_all(map_state) == []
        worker += 1
        harness.ready(worker)
    harness.at(worker, 1, 0)
    harness.gone(worker, unattributed=True)
    assert take_all(map_state) == [(0, 1, [Kind.WORKER_LOST])]


def test_alarms_of_workers_that_are_gone_are_dropped() -> None:
    """However many are replaced, before any of their alarms is due."""
    harness = Harness(1)
    for worker in range(1, 10 * MOST_TIMERS):
        harness.gone(worker, idle=True)
        harness.ready(worker + 1)
    assert len(harness.state.timers.heap) <= MOST_TIMERS + 2


def test_a_function_that_ends_its_workers() -> None:
    """Each item costs a few of them: another program may have ended one, but not all, and nothing is tried for ever."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 2)
    harness.commands()
    worker = 1
    for _ in range(MAX_REQUEUES):
        harness.gone(worker, idle=True, preparing=True)
        assert take_all(map_state) == []
        worker += 1
        harness.ready(worker)
        assert harness.sent() == [(worker, 0, 2, 1)]
    harness.gone(worker, idle=True, preparing=True)
    assert take_all(map_state) == [(0, 1, [Kind.WORKER_LOST])]
    harness.ready(worker + 1)
    assert harness.sent() == [(worker + 1, 1, 1, 1)]
    harness.gone(worker + 1, idle=True, preparing=True)
    assert take_all(map_state) == [(1, 1, [Kind.WORKER_LOST])]
    assert not map_state.pending


def test_a_worker_whose_template_is_gone_is_not_the_function_s_fault() -> None:
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 2)
    for worker in range(1, 2 * MAX_REQUEUES + 2):
        harness.gone(worker, idle=True, preparing=True, unattributed=True)
        harness.ready(worker + 1)
    assert take_all(map_state) == [] and harness.state.counters.count(Kind.WORKER_LOST) == 0


def test_only_the_first_chunk_waits_for_what_is_unpickled() -> None:
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 2)
    harness.add(map_state, 2)
    harness.gone(1, idle=True, preparing=True)
    assert [(chunk.first, chunk.requeues) for chunk in map_state.pending] == [(0, 1), (2, 0)]


def test_what_was_stolen_from_a_worker_that_prepares_is_not_its_loss() -> None:
    """It ends as its only chunk is about to be another one's, or is."""
    for is_confirmed in (False, True):
        harness = Harness(1)
        map_state = harness.map_state()
        chunk = harness.add(map_state, 1)
        chunk.requeues = MAX_REQUEUES
        harness.at(1, 0, 0, phase=PHASE_FUNCTION, since=0)
        worker_state = harness.state.worker_states[1]
        worker_state.limit = mark(chunk.sequence, 0)
        if is_confirmed:
            map_state.pending.append(chunk.part(0, 1))
            del chunk.items[0:]
        harness.gone(1, idle=True, preparing=True)
        assert take_all(map_state) == []
        assert [(each.first, len(each.items)) for each in map_state.pending] == [(0, 1)]
