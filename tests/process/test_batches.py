"""Batches in worker processes: what ends one, or takes too long, costs the item at fault and nothing else."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract import batch_tasks
from tests.process.waiting import Bell, Gate, Watcher, lines, wait_full_strength, wait_gone

from allcores import Kind, Limits, Pool, TaskTimeout, WorkerLost, events

QUICK = Limits(grace_s=0.02, terminate_s=0.05)
TIMEOUT_S = 1.0


def same(value: Any) -> Any:
    return value


@pytest.fixture
def make_pool() -> Iterator[Callable[..., Any]]:
    """Pools of two workers, all of which are there: their starts count for no deadline."""
    made: list[Pool] = []

    def make(workers: int = 2, **options: Any) -> Pool:
        watcher = Watcher()
        made.append(Pool(workers, observers=[watcher], **({"limits": QUICK} | options)))
        wait_full_strength(made[-1], watcher)
        return made[-1]

    yield make
    for pool in made:
        pool.close()


class TestProcessesThatEnd:
    @pytest.mark.parametrize("how", ["exit", "abort", "kill"])
    def test_the_item_at_fault_is_lost_and_named(self, make_pool: Callable[..., Any], how: str) -> None:
        pool = make_pool(setup=same, setup_args=(how,))
        found = list(pool.outcomes(batch_tasks.end_at_seven, range(200), batch=64))
        assert [each.index for each in found if not each.ok] == [7]
        assert [each.value for each in found if each.ok] == [n for n in range(200) if n != 7]
        assert {each.attempts for each in found} == {1}
        error = found[7].error
        assert isinstance(error, WorkerLost) and error.index == 7
        assert "items[7] (7)" in str(error)

    def test_it_ends_one_process_alone_and_few_with_others(self, make_pool: Callable[..., Any], tmp_path: Path) -> None:
        """64 items, then 8, then 1; what ran once with a result runs no more."""
        book = str(tmp_path / "book")
        pool = make_pool(1, setup=same, setup_args=(book,))
        found = pool.map(batch_tasks.note_batches, range(64), batch=64, on_error="skip")
        assert found == [n for n in range(64) if n != 7]
        calls = [[int(word) for word in line.split(",")] for line in lines(book)]
        assert [len(call) for call in calls if 7 in call] == [64, 8, 1]
        assert sorted(n for call in calls for n in call if 7 not in call) == [n for n in range(64) if n != 7]
        assert pool.statistics().workers_started == 4

    def test_each_of_several_costs_itself(self, make_pool: Callable[..., Any]) -> None:
        found = list(make_pool().outcomes(batch_tasks.crash_at_sevens, range(200), batch="auto", chunk=64))
        assert [each.index for each in found if not each.ok] == [7, 57, 107, 157]
        assert {each.kind for each in found if not each.ok} == {Kind.WORKER_LOST}

    def test_attempts_are_counted_alone(self, make_pool: Callable[..., Any]) -> None:
        pool = make_pool()
        found = list(pool.outcomes(batch_tasks.crash_at_seven, range(64), batch=32, retries=2))
        assert [each.attempts for each in found] == [3 if n == 7 else 1 for n in range(64)]
        assert pool.statistics().retries == 2

    def test_batches_too_large_for_a_workers_memory_run_in_parts(self, make_pool: Callable[..., Any]) -> None:
        """Sixteen items need 480 MB together, and two 60."""
        limits = Limits(memory_per_worker=250_000_000, grace_s=0.02, terminate_s=0.05)
        pool = make_pool(1, limits=limits)
        assert pool.map(batch_tasks.hold_memory, range(16), batch=16) == [30_000_000] * 16


class TestDeadlines:
    @pytest.mark.parametrize("batch", [4, "auto"])
    def test_what_hangs_is_ended_and_named(self, make_pool: Callable[..., Any], batch: Any) -> None:
        """Batch, half, and item: each has its deadline."""
        pool = make_pool()
        found = list(pool.outcomes(batch_tasks.hang_at_seven, range(16), batch=batch, chunk=4, timeout=TIMEOUT_S / 2))
        assert [each.index for each in found if not each.ok] == [7]
        assert [each.value for each in found if each.ok] == [n for n in range(16) if n != 7]
        error = found[7].error
        assert isinstance(error, TaskTimeout) and (error.index, error.timeout, error.attempts) == (7, TIMEOUT_S / 2, 1)

    def test_a_timeout_is_each_items(self, make_pool: Callable[..., Any]) -> None:
        """A batch that takes longer than one of its items may is not too late."""
        assert make_pool(1).map(batch_tasks.take_a_while, range(8), batch=8, timeout=TIMEOUT_S) == list(range(8))


class TestEnds:
    def test_a_stream_that_is_left_ends_the_batch(self, make_pool: Callable[..., Any], tmp_path: Path) -> None:
        with Bell(tmp_path / "bell") as bell:
            pool = make_pool(1, setup=same, setup_args=(str(tmp_path / "bell"),))
            for value in pool.imap(batch_tasks.wait_after_the_first, range(64), batch=32):
                assert value == 0
                pids = bell.pids()
                break
            wait_gone(pids)

    def test_a_batch_that_runs_is_finished_when_its_stream_stops(
        self, make_pool: Callable[..., Any], tmp_path: Path
    ) -> None:
        with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
            paths = str(tmp_path / "bell"), str(tmp_path / "gate")
            stream = make_pool(1, setup=same, setup_args=(paths,)).imap(batch_tasks.pass_gate, range(64), batch=32)
            values: list[int] = []
            reader = threading.Thread(target=lambda: values.extend(stream))
            reader.start()
            bell.hear()
            stream.stop()
            gate.open()
            reader.join()
        assert values == list(range(32))


def test_a_traceback_begins_in_the_function() -> None:
    with Pool(1) as pool, pytest.raises(ValueError, match="no 7") as caught:
        pool.map(batch_tasks.refuse_sevens, range(20), batch=16)
    text = "".join(traceback.format_exception(caught.value.__cause__))
    assert "raise ValueError" in text
    assert "batch_runner" not in text and "transport/batches" not in text


def test_a_worker_is_replaced_after_its_items(make_pool: Callable[..., Any]) -> None:
    """In the middle of a batch, if that is where they are used up: what is left goes to the next one."""
    pool = make_pool(1, limits=Limits(items_per_worker=50))
    assert pool.map(batch_tasks.sizes, range(160), batch=32)[:50] == [32] * 32 + [18] * 18
    assert pool.statistics().workers_started >= 4


def test_observers_are_told_of_items(make_pool: Callable[..., Any]) -> None:
    watcher = Watcher()
    with Pool(2, observers=[watcher]) as pool:
        list(pool.outcomes(batch_tasks.refuse_sevens, range(300), batch=64))
    assert [event.outcome.index for event in watcher.of(events.TaskFailed)] == [7, 107, 207]
    assert watcher.of(events.MapEnded)[-1].done == 300
