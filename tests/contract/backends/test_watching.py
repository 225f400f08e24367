"""Statistics and observers, on every backend."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.contract import tasks
from tests.contract.backends.support import PROCESSES, START_METHOD_WARNINGS, each_start_method, endless
from tests.process.listening import listening
from tests.process.waiting import Bell, Gate, Watcher

from allcores import Outcome, Pool, events

pytestmark = START_METHOD_WARNINGS


class TestStatistics:
    @each_start_method
    def test_outcomes_are_counted_by_kind(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool() as pool:
            before = pool.statistics()
            assert (before.items_done, before.failed, before.retries) == (0, 0, 0)
            assert pool.map(tasks.refuse_sevens, range(100), on_error="skip")
            assert pool.submit(tasks.double, 1).result() == 2
            after = pool.statistics()
        assert (after.ok, after.failed, after.timed_out, after.workers_lost, after.cancelled) == (91, 10, 0, 0, 0)
        assert after.items_done == 101
        assert after.items_in_flight == 0
        assert after.bytes_in_flight == 0
        assert after.busy_seconds > 0
        assert after.workers_started == pool.workers
        assert pool.statistics().workers <= pool.workers

    def test_a_snapshot_is_frozen(self, pool: Pool) -> None:
        with pytest.raises(AttributeError):
            pool.statistics().ok = 5  # type: ignore[misc]

    def test_items_in_flight_are_those_pulled_and_not_consumed(self, pool: Pool) -> None:
        pulled: list[int] = []
        stream = pool.imap(tasks.double, endless(pulled), chunk=1)
        for _ in range(5):
            next(stream)
        assert pool.statistics().items_in_flight == len(pulled) - 5
        stream.close()
        assert pool.statistics().items_in_flight == 0


class TestObservers:
    def test_they_are_told_the_story_of_a_map(self, make_pool: Callable[..., Pool], tmp_path: Path) -> None:
        watcher = Watcher()
        with make_pool(1, observers=[watcher]) as pool:
            assert pool.map(tasks.refuse_sevens, range(10), on_error="skip")
            (started,) = watcher.wait_for(events.MapStarted)
            (ended,) = watcher.wait_for(events.MapEnded)
            (failed,) = watcher.wait_for(events.TaskFailed)
            assert started.total == 10
            assert started.map_number == ended.map_number == failed.map_number
            assert (ended.done, ended.failed, ended.cancelled) == (10, 1, False)
            assert isinstance(failed.outcome, Outcome)
            assert failed.outcome.index == 7
            progress = watcher.of(events.Progress)
            assert [each.done for each in progress] == sorted(each.done for each in progress)
            assert (progress[-1].done, progress[-1].failed, progress[-1].total) == (10, 1, 10)

    def test_events_come_in_the_order_in_which_they_happened(self, make_pool: Callable[..., Pool]) -> None:
        """Whichever thread tells them: of a map its begin first and its end last, known once the map is read."""
        told: list[Any] = []
        with make_pool(observers=[told.append]) as pool:
            for _ in range(20):
                assert pool.map(tasks.refuse_sevens, range(30), on_error="skip")
                assert isinstance(told[-1], events.WorkReported | events.MapEnded)
        for number in range(1, 21):
            of_map = [each for each in told if getattr(each, "map_number", None) == number]
            names = [type(each).__name__ for each in of_map if not isinstance(each, events.WorkReported)]
            assert (names[0], names[-1], names.count("MapEnded")) == ("MapStarted", "MapEnded", 1)
            assert "TaskFailed" in names
            done = [each.done for each in of_map if isinstance(each, events.Progress)]
            assert done == sorted(done)
        assert isinstance(told[0], events.PoolOpened)
        assert isinstance(told[-1], events.PoolEnded)

    def test_a_map_that_the_end_of_its_pool_ends_is_told_of_once(self, make_pool: Callable[..., Pool]) -> None:
        told: list[Any] = []
        with make_pool(1, observers=[told.append]) as pool:
            stream = pool.imap(tasks.double, itertools.count())
            next(stream)
        stream.close()
        of_map = [each for each in told if isinstance(each, events.Progress | events.MapStarted | events.MapEnded)]
        assert [type(each).__name__ for each in of_map if not isinstance(each, events.Progress)] == [
            "MapStarted",
            "MapEnded",
        ]
        assert isinstance(of_map[-1], events.MapEnded)

    def test_one_may_use_its_pool(self, make_pool: Callable[..., Pool]) -> None:
        """It gets the events of what it does there, and does not wait for itself."""
        told: list[Any] = []

        def observe(event: Any) -> None:
            told.append(event)
            if isinstance(event, events.MapEnded) and event.map_number == 1:
                assert pool.statistics().ok >= 3
                pool.close()

        with make_pool(1, observers=[observe]) as pool:
            assert pool.map(tasks.double, range(3)) == [0, 2, 4]
        assert pool.closed
        assert [type(each).__name__ for each in told if isinstance(each, events.MapEnded | events.PoolEnded)] == [
            "MapEnded",
            "PoolEnded",
        ]

    def test_the_length_of_a_generator_is_unknown(self, make_pool: Callable[..., Pool]) -> None:
        watcher = Watcher()
        with make_pool(1, observers=[watcher]) as pool:
            next(pool.imap(tasks.double, itertools.count()))
        assert watcher.of(events.MapStarted)[0].total is None

    def test_a_cancelled_map_says_so(self, make_pool: Callable[..., Pool]) -> None:
        watcher = Watcher()
        with make_pool(1, observers=[watcher]) as pool:
            stream = pool.imap(tasks.double, itertools.count())
            next(stream)
            stream.close()
            (ended,) = watcher.wait_for(events.MapEnded)
            assert ended.cancelled

    @each_start_method
    def test_workers_are_announced(self, make_pool: Callable[..., Pool], place: str) -> None:
        watcher = Watcher()
        number = 1 if place == "serial" else 2
        with make_pool(observers=[watcher]) as pool:
            assert pool.map(tasks.double, [1]) == [2]
            started = watcher.wait_for(events.WorkerStarted, number)
        assert len({event.worker for event in started}) == number
        if place in PROCESSES:
            assert all(event.pid for event in started)
            assert os.getpid() not in {event.pid for event in started}

    def test_one_that_fails_is_dropped_with_a_warning(self, make_pool: Callable[..., Pool]) -> None:
        told: list[Any] = []

        def fails(event: Any) -> None:
            told.append(event)
            raise RuntimeError("the screen is gone")

        watcher = Watcher()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with make_pool(1, observers=[fails, watcher]) as pool:
                assert pool.map(tasks.double, range(10)) == [number * 2 for number in range(10)]
        assert len(told) == 1
        assert watcher.of(events.MapEnded)
        shown = [str(warning.message) for warning in caught if "observer" in str(warning.message)]
        assert len(shown) == 1
        assert "the screen is gone" in shown[0]

    def test_one_that_fails_does_no_harm_where_warnings_are_errors(self, make_pool: Callable[..., Pool]) -> None:
        def fails(event: Any) -> None:
            raise RuntimeError("the screen is gone")

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "start_method='fork'")
            with make_pool(1, observers=[fails]) as pool:
                try:
                    assert pool.map(tasks.double, [1]) == [2]
                except RuntimeWarning:  # on the caller's thread it may be raised, as asked for
                    pass
                assert pool.map(tasks.double, [1]) == [2]


class TestLogs:
    def test_what_an_item_logs_is_handled_here_before_its_result(self, pool: Pool) -> None:
        with listening("contract.part") as notebook:
            for number in pool.imap(tasks.speak, range(5), chunk=1):
                assert f"item {number}" in [record.getMessage() for record in notebook.records]
            assert pool.submit(tasks.speak, 7).result() == 7
            said = [record.getMessage() for record in notebook.records]
        assert sorted(said) == [*(f"item {number}" for number in range(5)), "item 7"]

    def test_what_a_long_item_logs_is_handled_while_it_runs(self, pool: Pool, place: str, tmp_path: Path) -> None:
        with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate, listening("contract.part") as notebook:
            if place == "serial":  # the call is over when submit returns
                gate.open()
            future = pool.submit(tasks.speak_and_wait, (bell.path, gate.path))
            assert notebook.wait_for(1)[0].getMessage() == f"item of {gate.path}"
            gate.open()
            future.result()
