"""The scheduler in whole simulated worlds."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.scheduler.harness import Harness, many
from tests.unit.simulation import MICRO, MILLI, Deed, Script, Task, World, slow_world, world_of

from allcores.errors import BrokenPool
from allcores.limits import Limits, Retry
from allcores.outcome import Kind
from allcores.scheduler.state import DEPTH


@pytest.mark.slow
@many
@given(st.binary(max_size=1200))
@example(b"")
def test_every_world_comes_to_a_good_end(data: bytes) -> None:
    """Whatever fails, dies, hangs, is late, is cancelled or stolen, at every moment and in the end:

    each item gets exactly one outcome, its own, in order where that was asked for; never more items or bytes
    are out than there is credit for; no item is tried more often than allowed, and none is charged for what
    another did; no worker is given work that it may not start, or more chunks than it may hold; nothing is left
    behind, all workers are back, and it does not go on for ever.
    """
    world_of(data).run()


@pytest.mark.slow
@many
@given(st.integers(0, 2**32 - 1), st.sampled_from([100, 400, 1500]))
def test_every_wild_world_comes_to_a_good_end(seed: int, size: int) -> None:
    """The same, where every choice is made by dice from the beginning to the end."""
    world_of(random.Random(seed).randbytes(size)).run()


@many
@given(st.integers(0, 2**32 - 1))
def test_every_reader_that_sleeps_until_a_worker_is_idle_is_woken(seed: int) -> None:
    """Also by what a map gives back that has ended, was stopped or was given up while its items ran."""
    slow_world(seed).run()


@given(st.binary(max_size=600), st.integers(1, 4), st.integers(1, 40))
def test_a_crash_costs_one_item(data: bytes, workers: int, items: int) -> None:
    """With one item that ends its worker each time, all others return, and that one says so."""
    world = World(workers, script=Script(data))
    bad = len(data) % items
    tasks = [Task(n, (Deed.CRASH if n == bad else Deed.RETURN,), 200 * MICRO) for n in range(items)]
    client = world.map(tasks, retry=Retry(times=data[0] % 3 if data else 0, wait_s=0.001))
    world.run()
    assert [task.index for task in tasks if task.outcome is not Kind.OK] == [bad]
    assert tasks[bad].executions == client.map_state.retry.times + 1
    assert world.state.counters.workers_started == workers + client.map_state.retry.times + 1


@given(st.binary(max_size=600), st.integers(1, 4), st.integers(1, 40), st.integers(1, 6))
def test_the_outcomes_are_the_same_at_any_depth(data: bytes, workers: int, items: int, depth: int) -> None:
    """Every item returns, in its place, however many chunks a worker may hold; the world checks what it does hold."""
    world = World(workers, limits=Limits(depth=depth), script=Script(data))
    tasks = [Task(n, (Deed.RETURN,), 200 * MICRO) for n in range(items)]
    world.map(tasks, chunk=1 + len(data) % 3)
    world.run()
    assert {task.outcome for task in tasks} == {Kind.OK}


@pytest.mark.parametrize("bytes_limit", [1 << 28, 2_000])
@pytest.mark.parametrize("items_limit", [65_536, 16])
def test_credit_bounds_what_is_out(items_limit: int, bytes_limit: int) -> None:
    """Behind a straggler in an ordered stream, no more is pulled than the limits say, in items and in bytes."""
    world = World(3)
    tasks = [Task(n, duration_ns=50 * MICRO, size_bytes=10, result_bytes=100) for n in range(600)]
    tasks[0].duration_ns = 300 * MILLI
    client = world.map(tasks, total=False, items_limit=items_limit, bytes_limit=bytes_limit)
    world.run()
    assert client.peak_items <= items_limit
    # The first items are pulled before anything is known about their size.
    assert client.peak_bytes <= bytes_limit + 3 * DEPTH * 100
    if bytes_limit == 2_000 or items_limit == 16:
        assert client.peak_items <= 40


def test_all_maps_advance_together() -> None:
    """Maps of the same kind that are read at the same time end at about the same time."""
    world = World(2)
    clients = [world.map([Task(n, duration_ns=MILLI) for n in range(60)], chunk=1) for _ in range(3)]
    world.settle(until=lambda: any(client.over for client in clients))
    assert min(client.map_state.consumed for client in clients) > 40
    world.settle()


def test_uneven_work_ends_together() -> None:
    """At the end of an input no worker idles while others have a queue: the makespan is near the ideal."""
    world = World(4)
    durations = [random.Random(3).choice((MILLI // 10, MILLI, 20 * MILLI)) for _ in range(300)]
    world.map([Task(n, duration_ns=duration) for n, duration in enumerate(durations)])
    begun = world.clock
    world.settle()
    ideal = max(sum(durations) / 4, max(durations))
    assert world.clock - begun < 1.15 * ideal + 20 * MILLI


def test_long_items_behind_each_other_are_spread() -> None:
    """Calls that wait behind a long one move to whoever becomes idle."""
    world = World(2)
    durations = [MILLI, 500 * MILLI, MILLI, 500 * MILLI]
    world.calls([Task(n, duration_ns=duration) for n, duration in enumerate(durations)])
    begun = world.clock
    world.settle()
    assert world.clock - begun < 600 * MILLI


def test_slow_items_among_quick_ones_are_spread() -> None:
    """Slow items that stand together behind quick ones, in one chunk, do not wait for each other for long."""
    world = World(4)
    slow = {100, 101, 102, 103}
    world.map([Task(n, duration_ns=500 * MILLI if n in slow else MICRO) for n in range(400)])
    begun = world.clock
    world.settle()
    # The first of them holds its burst, no more.
    assert world.clock - begun < 1_250 * MILLI


def test_a_starved_stream_steals_work() -> None:
    """With the credit used up behind a long item, what waits behind it goes to idle workers."""
    world = World(2)
    tasks = [Task(n, duration_ns=MILLI) for n in range(100)]
    tasks[9].duration_ns = 500 * MILLI
    client = world.map(tasks, total=False, items_limit=16)
    world.settle(until=lambda: world.clock > 1_400 * MILLI)
    assert client.map_state.settled >= 20
    world.settle()


@pytest.mark.slow
@settings(max_examples=max(150, settings().max_examples))
@given(st.integers(0, 2**32 - 1), st.sampled_from([100, 400, 1500]))
def test_whatever_happens_while_memory_is_short(seed: int, size: int) -> None:
    """Tasks are requeued and come again, one at least always runs, and the outcomes are those of any other day."""
    world_of(random.Random(seed).randbytes(size), squeezed=True).run()


def test_the_first_reason_of_a_broken_pool_counts() -> None:
    """What fails because of it, later, does not replace it."""
    harness = Harness(2)
    map_state = harness.map_state()
    first, second = BrokenPool("first"), BrokenPool("second")
    harness.scheduler.break_off(first)
    harness.scheduler.break_off(second)
    assert map_state.broken is first
    assert harness.state.broken is first
