"""Memory that runs short: work is held, the youngest task is requeued, and every result is right.

The machine is pretended: its memory is what the pool's real workers really use, out of a small total.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest
from tests.process import crimes
from tests.process.hungry import MB, hold
from tests.process.waiting import PATIENCE_S, Bell, Gate, Watcher

from allcores import Kind, Limits, Pool, WorkerLost, events
from allcores.scheduler.memory_policy import MAX_PREEMPTIONS
from allcores.system import procfs
from allcores.system.clock import monotonic_ns

pytestmark = pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs /proc")


class SmallMachine:
    """A reader of memory: `total` bytes, less what the workers of `pool` use beyond what they began with."""

    def __init__(self, pool: Pool, total: int) -> None:
        self.total = total
        self._links: dict[int, Any] = pool._driver.backend._worker_table.connections  # type: ignore[attr-defined]
        self.least = total
        with pool._driver.lock:
            pool._driver.scheduler.admission.read = self

    def __call__(self) -> tuple[int, int]:
        used = sum(max(0, procfs.tree_bytes(link.pid) - 20 * MB) for link in self._links.values() if link.pid)
        available = max(0, self.total - used)
        self.least = min(self.least, available)
        return available, self.total


def test_the_youngest_is_requeued_and_runs_when_there_is_memory(tmp_path: Path) -> None:
    """Three tasks do not fit. Two go on, the third comes again; no attempt is counted."""
    watcher = Watcher()
    limits = Limits(memory_reserve=100 * MB, grace_s=0.02)
    with (
        Bell(tmp_path / "bell") as bell,
        Gate(tmp_path / "gate") as gate,
        Pool(3, limits=limits, observers=[watcher]) as pool,
    ):
        SmallMachine(pool, 600 * MB)
        task = functools.partial(hold, bell.path, gate.path)
        futures = [pool.submit(task, number, 200) for number in range(2)]
        bell.hear(2)
        futures.append(pool.submit(task, 2, 200))
        watcher.wait_for(events.TaskPreempted)
        gate.open()
        assert [future.result() for future in futures] == [200, 201, 202]
        statistics = pool.statistics()
    [preempted] = watcher.of(events.TaskPreempted)
    assert (preempted.index, preempted.times) == (2, 1)
    assert watcher.of(events.MemoryHeld) and watcher.of(events.MemoryReleased)
    assert (statistics.preempted, statistics.workers_lost, statistics.ok) == (1, 0, 3)
    assert statistics.memory_holds >= 1


def test_an_item_that_needs_more_than_there_is_gets_its_outcome(tmp_path: Path) -> None:
    """It is requeued so often, then runs alone, then it is told with the figures. The others are not harmed."""
    limits = Limits(memory_reserve=60 * MB, grace_s=0.02)
    with (
        Bell(tmp_path / "bell") as bell,
        Gate(tmp_path / "gate") as gate,
        Gate(tmp_path / "open") as opened,
        Pool(2, limits=limits) as pool,
    ):
        opened.open()
        SmallMachine(pool, 250 * MB)
        items = [(0, 1), (1, 240), *((number, 2) for number in range(2, 8))]
        paths = [gate.path if megabytes > 100 else opened.path for _, megabytes in items]
        found = list(
            pool.outcomes(_hold_one, [(bell.path, path, *item) for path, item in zip(paths, items, strict=True)])
        )
        statistics = pool.statistics()
    lost = found.pop(1)
    assert [outcome.kind for outcome in found] == [Kind.OK] * 7
    assert [outcome.attempts for outcome in found] == [1] * 7
    assert [outcome.value for outcome in found] == [1, 4, 5, 6, 7, 8, 9]
    assert (lost.kind, lost.attempts) == (Kind.WORKER_LOST, 1)
    assert isinstance(lost.error, WorkerLost) and lost.error.index == 1
    assert "memory ran out" in str(lost.error) and f"requeued {MAX_PREEMPTIONS} times" in str(lost.error)
    # It is ended while it takes memory, somewhere between the reserve and what it asks for.
    assert lost.error.peak_memory is not None and lost.error.peak_memory > 190 * MB
    assert statistics.preempted == MAX_PREEMPTIONS


def _hold_one(item: tuple[str, str, int, int]) -> int:
    return hold(*item)


def test_a_machine_that_others_have_filled_is_worked_on_one_by_one(tmp_path: Path) -> None:
    """Nobody is ended when that would not help, and nothing stands still."""
    watcher = Watcher()
    with Pool(3, limits=Limits(memory_reserve=100 * MB), observers=[watcher]) as pool:
        SmallMachine(pool, 1000)
        with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
            task = functools.partial(hold, bell.path, gate.path)
            first = pool.submit(task, 0, 1)
            watcher.wait_until(lambda: bool(watcher.of(events.MemoryHeld)))
            more = [pool.submit(task, number, 1) for number in range(1, 6)]
            gate.open()
            assert [first.result(), *(future.result() for future in more)] == [1, 2, 3, 4, 5, 6]
        assert pool.map(abs, range(-500, 0), chunk=7) == list(range(500, 0, -1))
        assert list(pool.imap_unordered(abs, iter(range(50)))) == list(range(50))
        statistics = pool.statistics()
    assert statistics.preempted == statistics.workers_lost == 0
    assert len(watcher.of(events.MemoryHeld)) == 1


@pytest.mark.quick
def test_a_worker_is_measured_also_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool's thread sleeps while no work is out; work that then comes by itself wakes it."""
    # an alarm of theirs would wake the thread, too
    monkeypatch.setattr("allcores.scheduler.timeouts.START_NS", 3600 * 10**9)
    with Pool(1, limits=Limits(memory_per_worker=100 * MB, memory_reserve=None)) as pool:
        driver = pool._driver
        for _ in range(3):
            assert pool.submit(abs, -1).result() == 1
            until = monotonic_ns() + int(PATIENCE_S * 1e9)
            while (driver.backend.sleeps_until or 0) < monotonic_ns() + 10**9:
                assert monotonic_ns() < until, "it does not fall asleep"
                os.sched_yield()
        with pytest.raises(WorkerLost, match="memory_per_worker"):
            pool.submit(crimes.eat_memory).result(timeout=PATIENCE_S)
