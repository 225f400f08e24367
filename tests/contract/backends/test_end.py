"""Mistakes, and how a pool ends, on every backend."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from tests.contract import tasks
from tests.contract.backends.support import CLUSTERS, START_METHOD_WARNINGS, each_start_method
from tests.process.waiting import Bell, Gate, wait_until

from allcores import Limits, Pool, PoolClosed, UsageError

pytestmark = START_METHOD_WARNINGS


class TestMistakes:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"chunk": 0},
            {"chunk": 1.5},
            {"chunk": True},
            {"retries": -1},
            {"retries": "two"},
            {"timeout": 0},
            {"timeout": -1},
            {"timeout": "1"},
            {"timeout": float("nan")},
            {"on_error": "ignore"},
        ],
        ids=str,
    )
    def test_an_option_that_makes_no_sense_is_named(self, pool: Pool, wrong: dict[str, Any]) -> None:
        (name,) = wrong
        with pytest.raises(UsageError, match="times" if name == "retries" else name):
            pool.map(tasks.double, [1], **wrong)
        assert pool.statistics().items_in_flight == 0

    @pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
    def test_a_number_of_workers_that_makes_no_sense(self, make_pool: Callable[..., Pool], workers: Any) -> None:
        with pytest.raises(UsageError, match="workers"):
            make_pool(workers)

    def test_something_that_cannot_be_called(self, pool: Pool) -> None:
        with pytest.raises(UsageError, match="5 cannot be called"):
            pool.map(5, [1])  # type: ignore[call-overload]
        with pytest.raises(UsageError, match="5 cannot be called"):
            pool.submit(5)  # type: ignore[call-overload]

    def test_something_that_cannot_be_iterated(self, pool: Pool) -> None:
        with pytest.raises(TypeError, match="not iterable"):
            pool.map(tasks.double, 5)  # type: ignore[call-overload]
        assert pool.map(tasks.double, [1]) == [2]

    def test_starmap_of_items_that_cannot_be_spread(self, pool: Pool) -> None:
        with pytest.raises(TypeError):
            pool.starmap(tasks.double, [5])  # type: ignore[list-item]

    def test_a_wrong_number_of_arguments(self, pool: Pool) -> None:
        with pytest.raises(TypeError, match="add"):
            pool.map(tasks.add, [1])


@each_start_method
class TestEnd:
    def test_a_closed_pool_refuses_every_verb(self, make_pool: Callable[..., Pool]) -> None:
        pool = make_pool()
        pool.close()
        pool.close()
        for verb in (
            lambda: pool.map(abs, [1]),
            lambda: pool.imap(abs, [1]),
            lambda: pool.imap_unordered(abs, [1]),
            lambda: pool.starmap(abs, [(1,)]),
            lambda: pool.outcomes(abs, [1]),
            lambda: pool.submit(abs, 1),
            lambda: pool.call(abs, [1]),
        ):
            with pytest.raises(PoolClosed, match="closed"):
                verb()
        assert "closed" in repr(pool)

    def test_a_pool_that_was_never_used_closes_at_once(self, make_pool: Callable[..., Pool]) -> None:
        make_pool().close()

    def test_closing_in_the_middle_of_a_stream(self, make_pool: Callable[..., Pool]) -> None:
        pool = make_pool()
        stream = pool.imap(tasks.double, itertools.count())
        assert [next(stream) for _ in range(10)] == [number * 2 for number in range(10)]
        pool.close()
        with pytest.raises(PoolClosed):
            # What was finished may still come; then it says so.
            for _ in stream:
                pass

    def test_closing_gives_up_what_waits(self, make_pool: Callable[..., Pool], place: str, tmp_path: Path) -> None:
        if place == "serial":
            pytest.skip("a call is done when submit returns")
        with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
            pool = make_pool(limits=Limits(grace_s=0, terminate_s=0.05))
            futures = [pool.submit(tasks.hold, (bell.path, gate.path)) for _ in range(6)]
            bell.hear(2)
            if place == "threads":
                # A thread cannot be ended: closing waits a little for it.
                def open_gate() -> None:
                    wait_until(futures[-1].done)
                    gate.open()

                threading.Thread(target=open_gate).start()
            pool.close()
            assert all(future.done() for future in futures)
            for future in futures[2:]:
                assert future.cancelled()
                with pytest.raises(CancelledError):
                    future.result()

    def test_a_waiting_call_can_be_cancelled(self, make_pool: Callable[..., Pool], place: str, tmp_path: Path) -> None:
        if place == "serial":
            pytest.skip("a call is done when submit returns")
        with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate, make_pool(1) as pool:
            first = pool.submit(tasks.hold, (bell.path, gate.path))
            bell.hear()
            assert first.running()
            waiting = [pool.submit(tasks.double, number) for number in range(5)]
            assert waiting[0].cancel()
            assert waiting[3].cancel()
            assert waiting[3].cancel()
            if place not in CLUSTERS:  # where it waits on a node that has it
                assert not waiting[4].running()
            gate.open()
            assert first.result() > 0
            assert [future.result() for future in (waiting[1], waiting[2], waiting[4])] == [2, 4, 8]
            assert waiting[0].cancelled()
            assert waiting[3].cancelled()
            assert not first.cancel()
            assert pool.map(tasks.double, [21]) == [42]

    def test_a_finished_call_cannot_be_cancelled(self, pool: Pool) -> None:
        future = pool.submit(tasks.double, 1)
        assert future.result() == 2
        assert not future.cancel()
        assert not future.cancelled()
