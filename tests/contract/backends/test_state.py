"""Setup and what it leaves, on every backend."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.contract import tasks
from tests.contract.backends.support import CLUSTERS, PROCESSES, START_METHOD_WARNINGS, each_start_method
from tests.process.waiting import Watcher, lines, wait_full_strength

from allcores import Limits, NotSupported, Pool, SetupError

pytestmark = START_METHOD_WARNINGS


@each_start_method
class TestState:
    def test_what_setup_returns_comes_first(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool(1, setup=tasks.open_breakdown, setup_args=(5,)) as pool:
            assert pool.map(tasks.balance_plus, [1, 2]) == [6, 7]
            assert list(pool.imap_unordered(tasks.balance_plus, [1])) == [6]
            assert pool.starmap(tasks.balance_plus_two, [(1, 2)]) == [8]
            assert [outcome.value for outcome in pool.outcomes(tasks.balance_plus, [1])] == [6]
            assert pool.submit(tasks.balance_plus, amount=4).result() == 9

            async def main() -> list[int]:
                return [value async for value in pool.aimap(tasks.balance_plus, [1, 2])]

            assert asyncio.run(main()) == [6, 7]

    def test_none_is_no_state_but_zero_is(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool(1, setup=tasks.no_state) as pool:
            assert pool.map(tasks.describe_call, [1]) == [((1,), {})]
        with make_pool(1, setup=tasks.falsy_state) as pool:
            assert pool.map(tasks.describe_call, [1]) == [((0, 1), {})]

    def test_what_preload_returns_comes_first(self, make_pool: Callable[..., Pool], place: str, tmp_path: Path) -> None:
        path = str(tmp_path / "book")
        with make_pool(preload=tasks.open_breakdown, preload_args=(5, path)) as pool:
            assert pool.map(tasks.balance_plus, range(100)) == list(range(5, 105))
            assert pool.starmap(tasks.balance_plus_two, [(1, 2)]) == [8]
            assert pool.submit(tasks.balance_plus, amount=4).result() == 9
        if place not in ("spawn", "interpreters"):
            assert lines(path) == ["opened"] * (2 if place in CLUSTERS else 1)  # once on each node

    def test_setup_gets_what_preload_returns_and_has_the_last_word(
        self, make_pool: Callable[..., Pool], tmp_path: Path
    ) -> None:
        path = str(tmp_path / "book")
        breakdown = {"preload": tasks.open_breakdown, "preload_args": (5, path)}
        with make_pool(1, **breakdown, setup=tasks.pay_in, setup_args=(2,), teardown=tasks.close_breakdown) as pool:
            assert pool.map(tasks.balance_plus, [1, 2]) == [8, 9]
        assert "closed" in lines(path)
        with make_pool(1, **breakdown, setup=tasks.look_at, teardown=tasks.close_breakdown) as pool:
            assert pool.map(tasks.balance_plus, [1, 2]) == [6, 7]

    def test_none_of_preload_is_no_argument_but_zero_is(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool(1, preload=tasks.no_state, setup=tasks.open_breakdown, setup_args=(1,)) as pool:
            assert pool.map(tasks.balance_plus, [1]) == [2]
        with make_pool(1, preload=tasks.falsy_state) as pool:
            assert pool.map(tasks.describe_call, [1]) == [((0, 1), {})]

    def test_a_preload_that_raises(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool(1, preload=tasks.refuse_sevens, preload_args=(7,)) as pool:
            for _ in range(2):
                with pytest.raises(SetupError, match="The preload function raised ValueError: no 7") as caught:
                    pool.map(tasks.double, [1])
                assert isinstance(caught.value.__cause__, ValueError)

    def test_setup_and_teardown_run_once_per_worker(
        self, make_pool: Callable[..., Pool], place: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "book"
        watcher = Watcher()
        with make_pool(
            setup=tasks.open_breakdown, setup_args=(1, str(path)), teardown=tasks.close_breakdown, observers=[watcher]
        ) as pool:
            if place != "serial":
                wait_full_strength(pool, watcher)
            assert pool.map(tasks.balance_plus, range(100)) == list(range(1, 101))
            workers = pool.workers
        assert sorted(lines(path)) == ["closed"] * workers + ["opened"] * workers

    def test_setup_may_be_a_closure(self, make_pool: Callable[..., Pool]) -> None:
        start = 7
        with make_pool(1, setup=lambda: {"balance": start}) as pool:
            assert pool.map(tasks.balance_plus, [1]) == [8]

    def test_teardown_works_without_setup(self, make_pool: Callable[..., Pool], tmp_path: Path) -> None:
        path = str(tmp_path / "book")
        watcher = Watcher()
        with make_pool(1, teardown=functools.partial(tasks.touch, path), observers=[watcher]) as pool:
            assert pool.map(tasks.double, [1]) == [2]
        assert lines(path) == ["set up"]


class TestPromisesThatAreRefused:
    @pytest.fixture(autouse=True)
    def only_without_processes(self, place: str) -> None:
        if place in PROCESSES or place in CLUSTERS:
            pytest.skip("processes keep these")

    def test_deadlines(self, pool: Pool) -> None:
        for ask in (
            lambda: pool.map(abs, [1], timeout=1),
            lambda: pool.imap(abs, [1], timeout=1),
            lambda: pool.imap_unordered(abs, [1], timeout=1),
            lambda: pool.starmap(abs, [(1,)], timeout=1),
            lambda: pool.outcomes(abs, [1], timeout=1),
            lambda: pool.call(abs, [1], timeout=1),
        ):
            with pytest.raises(NotSupported, match=r"timeout=1 .*processes"):
                ask()

        async def main() -> None:
            with pytest.raises(NotSupported):
                pool.aimap(abs, [1], timeout=1)

        asyncio.run(main())

    @pytest.mark.parametrize("limit", ["memory_per_worker", "memory_reserve", "items_per_worker", "growth_per_worker"])
    def test_limits_on_a_worker(self, make_pool: Callable[..., Pool], limit: str) -> None:
        with pytest.raises(NotSupported, match=limit):
            make_pool(limits=Limits(**{limit: 1_000_000}))

    def test_start_methods(self, make_pool: Callable[..., Pool]) -> None:
        with pytest.raises(NotSupported, match="start_method"):
            make_pool(start_method="spawn")
