"""The scheduler: workers that start."""

from __future__ import annotations

import pytest
from tests.unit.scheduler.harness import SECOND, Harness

from allcores.errors import BrokenPool, SetupError
from allcores.scheduler.messages import Kill, Launch
from allcores.scheduler.workers import MOST_FAILED_STARTS, MOST_FAILED_STARTS_LATER, MOST_KILLED_STARTS, STOPPED_NS


def test_workers_that_end_before_they_are_ready_break_the_pool() -> None:
    """A few in a row, and every map is told once, instead of a restart loop."""
    harness = Harness(1, ready=False)
    map_state = harness.map_state()
    harness.add(map_state)
    for worker in range(1, MOST_FAILED_STARTS):
        harness.gone(worker, idle=True)
        assert not map_state.finished
    harness.commands()
    harness.gone(MOST_FAILED_STARTS, idle=True)
    assert isinstance(map_state.broken, BrokenPool)
    assert map_state.finished
    assert map_state in harness.state.dirty_maps
    assert harness.commands() == [], "nobody is launched into a broken pool"
    late = harness.map_state()
    assert late.broken is map_state.broken


def test_a_setup_that_ends_its_process_each_time_is_a_setup_error() -> None:
    """Once is a failed start like any other; several in a row, with no worker ever ready, are the setup's fault."""
    harness = Harness(1, ready=False)
    map_state = harness.map_state()
    for worker in range(1, MOST_FAILED_STARTS):
        harness.gone(worker, idle=True, in_setup=True)
        assert map_state.broken is None
        assert Launch(worker + 1) in harness.commands()
    harness.gone(MOST_FAILED_STARTS, idle=True, in_setup=True)
    assert isinstance(map_state.broken, SetupError)
    assert "setup function ended its process 3 times in a row" in str(map_state.broken)


def test_workers_killed_as_they_start_are_replaced() -> None:
    """Whoever kills them says nothing of the setup; only many in a row, and never a ready one, end the pool."""
    harness = Harness(1, ready=False)
    for worker in range(1, MOST_KILLED_STARTS):
        harness.gone(worker, idle=True, killed=True, in_setup=worker % 2 == 0)
        assert harness.state.broken is None
    harness.gone(MOST_KILLED_STARTS, idle=True, killed=True)
    assert isinstance(harness.state.broken, BrokenPool)


def test_workers_that_fail_side_by_side_count_once() -> None:
    """Ten that are struck at the same moment are one failed start each, and one in a row."""
    harness = Harness(10, ready=False)
    for worker in range(1, 11):
        harness.gone(worker, idle=True)
    assert harness.state.broken is None
    assert harness.state.failed_starts == 1
    for worker in range(11, 21):
        harness.gone(worker, idle=True)
    assert harness.state.failed_starts == 2


def test_one_that_gets_ready_ends_the_row() -> None:
    """Failed starts count only in a row; those that the template took along do not count."""
    harness = Harness(1, ready=False)
    worker = 1
    for _ in range(3):
        for _ in range(MOST_FAILED_STARTS - 1):
            harness.gone(worker, idle=True)
            worker += 1
        harness.ready(worker)
        harness.gone(worker, idle=True)
        worker += 1
    for _ in range(2 * MOST_FAILED_STARTS_LATER):
        harness.gone(worker, idle=True, unattributed=True)
        worker += 1
    assert harness.state.broken is None


@pytest.mark.parametrize("beside", [True, False])
def test_once_a_worker_was_ready_more_starts_may_fail(beside: bool) -> None:
    """Whether it is still there or not; but not for ever."""
    harness = Harness(2 if beside else 1, ready=False)
    map_state = harness.map_state()
    harness.ready(1)
    worker = 2
    if not beside:
        harness.gone(1, idle=True)
    for _ in range(MOST_FAILED_STARTS_LATER - 1):
        harness.gone(worker, idle=True, in_setup=True)
        worker += 1
    assert harness.state.broken is None
    if beside:
        harness.add(map_state)
        assert harness.sent() == [(1, 0, 1, 1)]
    harness.gone(worker, idle=True, in_setup=True)
    assert isinstance(map_state.broken, BrokenPool)


@pytest.mark.parametrize("ready", [0, 1])
def test_a_worker_that_was_stopped_as_it_started_is_replaced(ready: int) -> None:
    """A look every STOPPED_NS finds it; its neighbours, and the pool, are well."""
    harness = Harness(2, ready=False)
    stopped = {2}
    harness.state.is_stopped = stopped.__contains__
    if ready:
        harness.ready(1)
    harness.commands()
    harness.pass_time(STOPPED_NS - 1)
    assert harness.commands() == []
    harness.pass_time(1)
    assert harness.commands() == [Kill(2, "it was stopped while it started"), Launch(3)]
    harness.gone(2, idle=True, killed=True)
    harness.ready(3)
    assert harness.state.broken is None
    assert harness.state.failed_starts == 0


def test_workers_stopped_each_time_break_the_pool() -> None:
    """Some guardian stops them all: that ends, too."""
    harness = Harness(1, ready=False)
    harness.state.is_stopped = lambda worker: True
    for worker in range(1, MOST_KILLED_STARTS + 1):
        assert harness.state.broken is None
        harness.pass_time(STOPPED_NS)
        harness.gone(worker, idle=True, killed=True)
    assert isinstance(harness.state.broken, BrokenPool)


def test_a_template_that_was_stopped_as_it_loads_is_ended() -> None:
    """It would hold the pool for as long as a setup may take."""
    harness = Harness(1, ready=False)
    harness.scheduler.preload_began(harness.now)
    harness.commands()
    harness.state.is_stopped = lambda worker: worker == 0
    harness.pass_time(STOPPED_NS)
    assert harness.commands() == [Kill(0, "it was stopped")]
    assert harness.state.broken is None
    harness.pass_time(STOPPED_NS - 1)
    assert harness.commands() == []


def test_a_setup_that_hangs_beside_healthy_workers_is_a_failed_start() -> None:
    """The work goes on."""
    harness = Harness(2, ready=False, setup_s=3)
    harness.ready(1)
    harness.commands()
    harness.pass_time(3 * SECOND)
    assert harness.commands() == [Kill(2, "its setup took too long"), Launch(3)]
    assert harness.state.broken is None


def test_a_setup_that_hangs_is_reported() -> None:
    """After `setup_s` the worker is ended and everybody who waits gets a SetupError."""
    harness = Harness(1, ready=False, setup_s=3)
    map_state = harness.map_state()
    harness.commands()
    harness.pass_time(3 * SECOND - 1)
    assert not map_state.finished
    harness.pass_time(1)
    assert isinstance(map_state.broken, SetupError)
    assert Kill(1, "its setup took too long") in harness.commands()


def test_what_is_loaded_for_all_does_not_count_as_setup() -> None:
    """The workers' seconds begin when it is loaded, and are as many as ever."""
    harness = Harness(2, ready=False, setup_s=3)
    map_state = harness.map_state()
    harness.commands()
    harness.pass_time(1 * SECOND)
    harness.scheduler.preload_began(harness.now)
    harness.pass_time(3 * SECOND - 1)
    assert harness.state.broken is None
    harness.scheduler.preload_ended(harness.now)
    harness.pass_time(3 * SECOND - 1)
    assert map_state.broken is None and harness.commands() == []
    harness.pass_time(1)
    assert "was not ready after 3 s: its setup function" in str(map_state.broken)


def test_loading_for_all_has_its_own_seconds() -> None:
    """They are as many as a setup has. Who waits is told, once."""
    harness = Harness(2, ready=False, setup_s=3)
    map_state = harness.map_state()
    harness.pass_time(2 * SECOND)
    harness.scheduler.preload_began(harness.now)
    harness.pass_time(3 * SECOND - 1)
    assert map_state.broken is None
    harness.pass_time(1)
    assert isinstance(map_state.broken, SetupError)
    assert "The preload function was not done after 3 s" in str(map_state.broken)


def test_loading_that_ended_in_time_has_no_aftermath() -> None:
    """Also when a second template has begun anew before the first one's alarm."""
    harness = Harness(1, ready=False, setup_s=3)
    harness.scheduler.preload_began(harness.now)
    harness.pass_time(2 * SECOND)
    harness.scheduler.preload_ended(harness.now)
    harness.scheduler.preload_began(harness.now)
    harness.pass_time(3 * SECOND - 1)
    assert harness.state.broken is None
    harness.scheduler.preload_ended(harness.now)
    harness.ready(1)
    harness.pass_time(10 * SECOND)
    assert harness.state.broken is None


def test_a_setup_that_failed_is_reported_once() -> None:
    """The first error stays; workers that fail after it change nothing."""
    harness = Harness(2, ready=False)
    map_state = harness.map_state()
    first = SetupError("first")
    harness.scheduler.setup_failed(first)
    harness.gone(1, idle=True)
    assert map_state.broken is first
    assert harness.map_state().broken is first


def test_a_timely_setup_has_no_aftermath() -> None:
    """The alarm of a worker that got ready in time ends nobody."""
    harness = Harness(1, setup_s=3)
    harness.commands()
    harness.pass_time(10 * SECOND)
    assert harness.commands() == []
    assert harness.state.broken is None


@pytest.mark.parametrize("preloads", [False, True])
def test_a_program_that_was_stopped_as_workers_start_gives_them_their_seconds_once_more(preloads: bool) -> None:
    """A container that is paused: the clock goes on, and setup does not. Not twice, or one that hangs has no end."""
    harness = Harness(1, ready=False, setup_s=30.0)
    if preloads:
        harness.scheduler.preload_began(harness.now)
    map_state = harness.map_state()
    harness.commands()
    harness.pass_time(20 * SECOND)
    harness.tick(3600 * SECOND)
    harness.pass_time(29 * SECOND)
    assert map_state.broken is None and harness.commands() == []
    harness.tick(3600 * SECOND)
    assert isinstance(map_state.broken, SetupError)
