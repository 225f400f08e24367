"""Many threads and maps at once, on every backend."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
from tests.contract import tasks
from tests.contract.backends.support import START_METHOD_WARNINGS, each_start_method

import allcores
from allcores import Pool

pytestmark = START_METHOD_WARNINGS


class TestManyAtOnce:
    @each_start_method
    def test_threads_share_a_pool(self, pool: Pool) -> None:
        def work(start: int) -> None:
            if start % 3 == 0:
                results[start] = pool.map(tasks.double, range(start, start + 100))
            elif start % 3 == 1:
                results[start] = sorted(pool.imap_unordered(tasks.double, range(start, start + 100)))
            else:
                futures = [pool.submit(tasks.double, number) for number in range(start, start + 100)]
                results[start] = [future.result() for future in futures]

        results: dict[int, list[int]] = {}
        threads = [threading.Thread(target=work, args=(start,)) for start in range(9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {start: [number * 2 for number in range(start, start + 100)] for start in range(9)}

    def test_first_calls_from_many_threads_are_one_map(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool() as pool:
            together = threading.Barrier(8)
            futures: list[Future[int]] = []

            def work(number: int) -> None:
                together.wait()
                futures.append(pool.submit(tasks.double, number))

            threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(future.result() for future in futures) == [number * 2 for number in range(8)]
            assert pool.statistics().items_in_flight == 0

    @each_start_method
    def test_pools_live_side_by_side(self, make_pool: Callable[..., Pool]) -> None:
        pools = [make_pool(1) for _ in range(3)]
        streams = [pool.imap(tasks.double, range(start, start + 100)) for start, pool in enumerate(pools)]
        assert [sum(results) for results in zip(*streams, strict=True)] == [2 * (3 * n + 3) for n in range(100)]
        for pool in pools:
            pool.close()

    @each_start_method
    @pytest.mark.parametrize("inner", ["processes", "threads", "serial"])
    def test_a_task_has_a_pool_of_its_own(self, pool: Pool, inner: str, place: str) -> None:
        if place == "interpreters" and inner != "serial":
            with pytest.raises(allcores.NotSupported, match=f"cannot have a pool of backend='{inner}'"):
                pool.map(tasks.sum_by_pool, [(inner, 20)])
            return
        assert pool.map(tasks.sum_by_pool, [(inner, 20), (inner, 30)]) == [20 * 19, 30 * 29]


class TestSharedPool:
    """The verbs at module level; only on processes, by the template."""

    @pytest.fixture(autouse=True)
    def only_once(self, place: str) -> None:
        if place != "template":
            pytest.skip("one kind of pool only")

    def test_all_verbs_work_on_one_warm_pool(self, tmp_path: Path) -> None:
        from allcores.pool.default_pool import shared

        assert allcores.map(tasks.double, range(10)) == [number * 2 for number in range(10)]
        warm = shared()
        assert list(allcores.imap(tasks.double, [1, 2])) == [2, 4]
        assert sorted(allcores.imap_unordered(tasks.double, [1, 2])) == [2, 4]
        assert allcores.starmap(tasks.add, [(1, 2)]) == [3]
        assert [outcome.value for outcome in allcores.outcomes(tasks.double, [1], timeout=10)] == [2]
        assert allcores.submit(tasks.double, 1).result() == 2
        assert allcores.run(tasks.double, [1, 2], tmp_path / "out.jsonl", journal=False).ok == 2
        assert (tmp_path / "out.jsonl").read_text() == "2\n4\n"

        async def main() -> list[int]:
            return [value async for value in allcores.aimap(tasks.double, [1, 2])]

        assert asyncio.run(main()) == [2, 4]
        assert shared() is warm
        assert warm.workers == allcores.core_budget().workers

    def test_a_task_uses_the_shared_pool_of_its_own_process(self) -> None:
        assert allcores.map(tasks.sum_by_shared_pool, [10, 20]) == [90, 380]
