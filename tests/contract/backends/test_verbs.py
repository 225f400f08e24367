"""Every verb, on every backend."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import aclosing
from typing import Any

import pytest
from tests.contract import tasks
from tests.contract.backends.support import START_METHOD_WARNINGS, each_start_method

from allcores import Kind, Pool

pytestmark = START_METHOD_WARNINGS


class TestVerbs:
    @each_start_method
    def test_map_gives_a_list_in_input_order(self, pool: Pool) -> None:
        assert pool.map(tasks.double, range(1000)) == [number * 2 for number in range(1000)]

    @pytest.mark.parametrize("items", [[], (), range(0), iter(())], ids=["list", "tuple", "range", "iterator"])
    def test_no_items_no_results(self, pool: Pool, items: Any) -> None:
        assert pool.map(tasks.double, items) == []

    @pytest.mark.parametrize("chunk", [None, 1, 7, 5000])
    def test_results_do_not_depend_on_chunks(self, pool: Pool, chunk: int | None) -> None:
        assert pool.map(tasks.double, iter(range(150)), chunk=chunk) == [number * 2 for number in range(150)]

    def test_imap_gives_results_in_input_order(self, pool: Pool) -> None:
        assert list(pool.imap(tasks.double, iter(range(1000)))) == [number * 2 for number in range(1000)]

    def test_imap_unordered_gives_each_result_once(self, pool: Pool) -> None:
        assert sorted(pool.imap_unordered(tasks.double, range(1000))) == [number * 2 for number in range(1000)]

    def test_next_gives_one_result_at_a_time(self, pool: Pool) -> None:
        with pool.imap(tasks.double, [1, 2]) as stream:
            assert [next(stream), next(stream), next(stream, "end")] == [2, 4, "end"]

    def test_starmap_spreads_each_item(self, pool: Any) -> None:
        assert pool.starmap(tasks.add, [(1, 2), [3, 4], ["a", "b"]]) == [3, 7, "ab"]

    @each_start_method
    @pytest.mark.parametrize("ordered", [True, False])
    def test_outcomes_tell_all_about_each_item(self, pool: Pool, ordered: bool) -> None:
        found = list(pool.outcomes(tasks.refuse_sevens, range(100, 120), ordered=ordered))
        if not ordered:
            found.sort(key=lambda outcome: outcome.index)
        assert [outcome.index for outcome in found] == list(range(20))
        assert [outcome.item for outcome in found] == list(range(100, 120))
        assert [outcome.index for outcome in found if not outcome.ok] == [7, 17]
        assert [outcome.value for outcome in found if outcome.ok] == [n for n in range(100, 120) if n % 10 != 7]
        assert {outcome.kind for outcome in found} == {Kind.OK, Kind.FAILED}
        assert all(outcome.attempts == 1 and outcome.worker is not None for outcome in found)
        assert all(0 <= outcome.seconds < 60 for outcome in found)
        assert isinstance(found[7].error, ValueError)
        assert found[7].value is None
        with pytest.raises(ValueError, match="no 107"):
            found[7].result()

    @each_start_method
    def test_submit_passes_positions_and_keywords(self, pool: Pool) -> None:
        future = pool.submit(tasks.describe_call, 1, "two", fn=3, self=4)
        assert isinstance(future, Future)
        assert future.result() == ((1, "two"), {"fn": 3, "self": 4})
        assert future.done()
        assert not future.cancelled()

    def test_submit_gives_the_original_exception(self, pool: Pool) -> None:
        future = pool.submit(tasks.refuse_sevens, 7)
        assert isinstance(future.exception(), ValueError)
        with pytest.raises(ValueError, match="no 7"):
            future.result()

    def test_many_futures_get_each_their_own_result(self, pool: Pool) -> None:
        futures = [pool.submit(tasks.double, number) for number in range(150)]
        assert [future.result() for future in futures] == [number * 2 for number in range(150)]

    def test_a_future_calls_back(self, pool: Pool) -> None:
        called = threading.Event()
        pool.submit(tasks.double, 1).add_done_callback(lambda future: called.set())
        assert called.wait(120)

    def test_callbacks_that_submit_are_not_called_within_each_other(self, pool: Pool) -> None:
        """One may hold a lock while it uses the pool; many would be more calls than Python has room for."""
        done, number = threading.Event(), 400
        #: threads that are in the midst of one: who adds one to a call that is done calls it on its own
        here: set[int] = set()
        within: list[bool] = []
        following: list[Future[int]] = []

        def go_on(future: Future[int]) -> None:
            this = threading.get_ident()
            nested = this in here
            here.add(this)
            try:
                following.append(pool.submit(tasks.double, future.result()))
            finally:
                if not nested:
                    here.discard(this)
                within.append(nested)
                if len(within) == number:
                    done.set()

        for item in range(number):
            pool.submit(tasks.double, item).add_done_callback(go_on)
        assert done.wait(60)
        assert not any(within)
        assert sorted(future.result() for future in following) == [4 * item for item in range(number)]

    def test_call_takes_arguments_as_a_tuple_and_a_dictionary(self, pool: Pool) -> None:
        assert pool.call(tasks.describe_call, (1,), {"a": 2}).result() == ((1,), {"a": 2})

    @each_start_method
    def test_large_items_and_results_pass(self, pool: Pool) -> None:
        # Larger than any pipe or buffer in between.
        items = [bytes([number]) * 3_000_000 for number in range(6)]
        assert pool.map(bytes.upper, items) == [item.upper() for item in items]

    @each_start_method
    def test_items_of_any_type_pass(self, pool: Pool) -> None:
        items = [None, 1.5, "ä", b"\0", (1, [2, {3: {4}}]), Ellipsis, int, tasks.double, tasks.Scale(4), 1 << 100]
        assert pool.map(tasks.describe_call, items) == [((item,), {}) for item in items]

    def test_several_streams_of_one_pool_go_on_side_by_side(self, pool: Pool) -> None:
        pairs = zip(pool.imap(tasks.double, range(300)), pool.imap(abs, range(0, -300, -1)), strict=True)
        assert list(pairs) == [(number * 2, number) for number in range(300)]


class TestAsync:
    def test_results_come_in_order(self, pool: Pool) -> None:
        async def main() -> list[int]:
            return [value async for value in pool.aimap(tasks.double, range(500))]

        assert asyncio.run(main()) == [number * 2 for number in range(500)]

    def test_the_input_may_be_async(self, pool: Pool) -> None:
        async def items() -> AsyncIterator[int]:
            for number in range(50):
                await asyncio.sleep(0)
                yield number

        async def main() -> list[int]:
            return [value async for value in pool.aimap(tasks.double, items())]

        assert asyncio.run(main()) == [number * 2 for number in range(50)]

    def test_unordered(self, pool: Pool) -> None:
        async def main() -> list[int]:
            return [value async for value in pool.aimap(tasks.double, range(200), ordered=False)]

        assert sorted(asyncio.run(main())) == [number * 2 for number in range(200)]

    def test_a_failure_arrives_as_the_original_exception(self, pool: Pool) -> None:
        async def main() -> list[int]:
            values = []
            with pytest.raises(ValueError, match="no 7"):
                async for value in pool.aimap(tasks.refuse_sevens, range(20)):
                    values.append(value)
            return values

        assert asyncio.run(main()) == list(range(7))

    def test_failures_may_be_skipped(self, pool: Pool) -> None:
        async def main() -> list[int]:
            return [value async for value in pool.aimap(tasks.refuse_sevens, range(20), on_error="skip")]

        assert asyncio.run(main()) == [number for number in range(20) if number % 10 != 7]

    @pytest.mark.parametrize("is_async", [True, False])
    def test_an_exception_of_the_input_comes_after_the_results(self, pool: Pool, is_async: bool) -> None:
        def items() -> Iterator[int]:
            yield from range(30)
            raise OSError("the disk is gone")

        async def async_items() -> AsyncIterator[int]:
            for number in items():
                yield number

        async def main() -> list[int]:
            values = []
            with pytest.raises(OSError, match="the disk is gone"):
                async for value in pool.aimap(tasks.double, async_items() if is_async else items()):
                    values.append(value)
            return values

        assert asyncio.run(main()) == [number * 2 for number in range(30)]

    @each_start_method
    def test_leaving_the_loop_of_an_endless_input(self, pool: Pool) -> None:
        async def main() -> list[int]:
            values = []
            async with aclosing(pool.aimap(tasks.double, itertools.count())) as stream:
                async for value in stream:
                    values.append(value)
                    if len(values) == 100:
                        break
            return values

        assert asyncio.run(main()) == [number * 2 for number in range(100)]
        assert pool.map(tasks.double, [21]) == [42]

    def test_many_at_a_time(self, pool: Pool) -> None:
        async def one(start: int) -> int:
            return sum([value async for value in pool.aimap(tasks.double, range(start, start + 100))])

        async def main() -> list[int]:
            return list(await asyncio.gather(*map(one, range(8))))

        assert asyncio.run(main()) == [2 * sum(range(start, start + 100)) for start in range(8)]

    def test_a_future_can_be_awaited(self, pool: Pool) -> None:
        async def main() -> int:
            return await asyncio.wrap_future(pool.submit(tasks.double, 4))

        assert asyncio.run(main()) == 8
