"""Functions that get lists of items, on every backend: all else still concerns one item."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.contract import batch_tasks
from tests.contract.backends.support import START_METHOD_WARNINGS, each_start_method
from tests.process.waiting import lines

from allcores import BatchError, Kind, Pool, UsageError, slices
from allcores.pool import input_reader

pytestmark = START_METHOD_WARNINGS

BATCHES: list[Any] = [1, 7, 128, "auto"]


class TestResults:
    @each_start_method
    @pytest.mark.parametrize("batch", BATCHES)
    def test_a_function_of_batches_gives_one_result_per_item(self, pool: Any, batch: Any) -> None:
        assert pool.map(batch_tasks.double, range(1000), batch=batch) == [number * 2 for number in range(1000)]

    def test_a_number_is_the_size_of_all_but_the_last(self, pool: Any) -> None:
        assert pool.map(batch_tasks.sizes, range(300), batch=128) == [128] * 256 + [44] * 44

    def test_chunks_hold_whole_batches(self, pool: Any) -> None:
        """One at least; 100 items in a chunk are 3 batches of 32."""
        assert pool.map(batch_tasks.sizes, range(192), batch=32, chunk=100) == [32] * 192
        assert pool.map(batch_tasks.sizes, range(64), batch=32, chunk=5) == [32] * 64

    def test_auto_begins_with_one_and_grows(self, pool: Any) -> None:
        found = pool.map(batch_tasks.sizes, range(20_000), batch="auto")
        assert found[0] == 1
        assert max(found) >= 256

    @pytest.mark.parametrize("batch", BATCHES)
    def test_every_way_to_map_takes_batches(self, pool: Any, batch: Any) -> None:
        items = range(300 if batch == 128 else 60)  # some batches
        doubled = [number * 2 for number in items]
        assert list(pool.imap(batch_tasks.double, iter(items), batch=batch)) == doubled
        assert sorted(pool.imap_unordered(batch_tasks.double, items, batch=batch)) == doubled
        assert pool.starmap(batch_tasks.add, [(n, n) for n in items], batch=batch) == doubled
        assert [outcome.value for outcome in pool.outcomes(batch_tasks.double, items, batch=batch)] == doubled

        async def both() -> tuple[list[int], list[int]]:
            async def source() -> AsyncIterator[int]:
                for number in items:
                    yield number

            return (
                [value async for value in pool.aimap(batch_tasks.double, items, batch=batch)],
                [value async for value in pool.aimap(batch_tasks.double, source(), batch=batch)],
            )

        assert asyncio.run(both()) == (doubled, doubled)

    def test_several_inputs_are_several_lists(self, pool: Any) -> None:
        assert pool.map(batch_tasks.add, range(100), range(100), batch=32) == [number * 2 for number in range(100)]

    def test_constants_come_with_each_batch(self, pool: Any) -> None:
        assert pool.map(batch_tasks.scaled, range(100), batch=32, factor=3) == [number * 3 for number in range(100)]
        with pytest.raises(BatchError, match=r"^scaled\(\) was given a batch of 3 items, and returned list of 2:"):
            pool.map(batch_tasks.scaled, range(3), batch=3, factor=3, left_out=1)

    def test_items_that_do_not_spread_alike_fail_by_themselves(self, pool: Any) -> None:
        """One of two arguments among 16 of two: its call says what is missing, and the others have their results."""
        items: list[tuple[int, ...]] = [(n, n) for n in range(16)]
        items[5] = (5,)
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            pool.starmap(batch_tasks.add, items, batch=16)
        found = pool.starmap(batch_tasks.add, items, batch=16, on_error="skip")
        assert found == [n * 2 for n in range(16) if n != 5]

    def test_slices_of_files_arrive_as_what_they_stand_for(self, pool: Any, tmp_path: Path) -> None:
        path = tmp_path / "lines.txt"
        path.write_text("one\ntwo\nthree\n" * 50)
        source = slices.lines(path, slice_bytes=50)
        alone = pool.map(batch_tasks.first_line, source)
        assert len(alone) > 3
        assert pool.map(batch_tasks.first_lines, source, batch=4) == alone

    def test_an_input_that_is_slow_fills_what_it_can(self, pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each look at the clock is a long time after the one before: a worker that is idle gets what there is."""
        ticks = itertools.count(0, input_reader.SLOW_FILL_NS + 1)
        monkeypatch.setattr(input_reader, "monotonic_ns", ticks.__next__)
        found = pool.map(batch_tasks.sizes, iter([*range(100)]), batch=64)
        assert found[0] == 64  # a list's iterator is never waited for
        found = pool.map(batch_tasks.sizes, (number for number in range(100)), batch=64)
        assert (found[0], len(found)) == (1, 100)

    def test_an_async_input_is_gathered(self, pool: Any) -> None:
        """Its items come one by one, and would else be batches of one."""

        async def sizes() -> list[int]:
            async def source() -> AsyncIterator[int]:
                for number in range(150):
                    yield number

            return [size async for size in pool.aimap(batch_tasks.sizes, source(), batch=64)]

        assert asyncio.run(sizes()) == [64] * 128 + [22] * 22

    def test_an_async_input_that_waits_is_not_waited_for(self, pool: Any) -> None:
        """It gives its second item once the first has its result: a whole batch would never come together."""

        async def talk() -> list[int]:
            answered = asyncio.Event()

            async def source() -> AsyncIterator[int]:
                for number in range(3):
                    yield number
                    await answered.wait()
                    answered.clear()

            found = []
            async for value in pool.aimap(batch_tasks.double, source(), batch=64):
                found.append(value)
                answered.set()
            return found

        assert asyncio.run(talk()) == [0, 2, 4]

    def test_what_an_async_input_raises_comes_after_its_items(self, pool: Any) -> None:
        async def read() -> list[int]:
            async def source() -> AsyncIterator[int]:
                for number in range(10):
                    yield number
                raise OSError("torn")

            found = []
            with pytest.raises(OSError, match="torn"):
                async for value in pool.aimap(batch_tasks.double, source(), batch=64):
                    found.append(value)
            return found

        assert asyncio.run(read()) == [number * 2 for number in range(10)]

    def test_a_run_takes_batches(self, pool: Any, tmp_path: Path) -> None:
        """Each result is a line, also without a journal; what JSON cannot hold fails alone."""
        for journal in (True, False):
            output = tmp_path / f"{journal}.jsonl"
            result = pool.run(batch_tasks.double, range(300), output, journal=journal, batch=64)
            assert (result.ok, result.failed) == (300, 0)
            assert output.read_text().splitlines() == [str(number * 2) for number in range(300)]

    @pytest.mark.parametrize(
        "function", [batch_tasks.as_generator, batch_tasks.as_tuple, batch_tasks.as_array, batch_tasks.as_map]
    )
    def test_whatever_gives_one_result_after_the_other_will_do(
        self, pool: Any, function: Callable[[list[int]], Any]
    ) -> None:
        assert pool.map(function, range(100), batch=32) == [number * 2 for number in range(100)]

    def test_what_was_loaded_comes_first(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool(setup=batch_tasks.load) as made:
            pool: Any = made
            assert pool.map(batch_tasks.prefix, range(3), batch=2) == ["loaded 0", "loaded 1", "loaded 2"]

    def test_outcomes_tell_each_item_its_share(self, pool: Any) -> None:
        found = list(pool.outcomes(batch_tasks.double, range(100, 164), batch=32))
        assert [(each.index, each.item, each.value) for each in found] == [(n, n + 100, n * 2 + 200) for n in range(64)]
        assert all(each.ok and each.attempts == 1 and each.worker and 0 <= each.seconds < 60 for each in found)
        assert all(len({each.seconds for each in found[start : start + 32]}) == 1 for start in (0, 32))

    @pytest.mark.parametrize("batch", [0, -1, True, 1.5, "many", []])
    def test_a_size_that_makes_no_sense_is_refused(self, pool: Any, batch: Any) -> None:
        with pytest.raises(UsageError, match=r"batch=.* must be a whole number, 1 or more, or 'auto'"):
            pool.map(batch_tasks.double, [1], batch=batch)


class TestFailures:
    @each_start_method
    @pytest.mark.parametrize("function", [batch_tasks.refuse_sevens, batch_tasks.refuse_midway])
    @pytest.mark.parametrize("batch", BATCHES)
    def test_a_batch_that_raises_costs_the_item_at_fault(
        self, pool: Any, function: Callable[[list[int]], Any], batch: Any
    ) -> None:
        found = list(pool.outcomes(function, range(300), batch=batch))
        assert [each.index for each in found if not each.ok] == [7, 107, 207]
        assert [each.value for each in found if each.ok] == [number for number in range(300) if number % 100 != 7]
        assert {each.attempts for each in found} == {1}
        for each in found:
            if each.error is not None:
                assert (type(each.error), each.error.args) == (ValueError, (f"no {each.index}",))
                (told,) = each.error.__notes__
                assert f"items[{each.index}] ({each.index})" in told

    def test_the_first_failure_is_raised_after_the_results_before_it(self, pool: Any) -> None:
        values: list[int] = []
        with pytest.raises(ValueError, match="no 7"):
            values.extend(pool.imap(batch_tasks.refuse_sevens, range(300), batch=64))
        assert values == list(range(7))

    def test_failed_items_are_skipped_one_by_one(self, pool: Any) -> None:
        found = pool.map(batch_tasks.refuse_sevens, range(300), batch=64, on_error="skip")
        assert found == [number for number in range(300) if number % 100 != 7]

    def test_batches_that_are_too_large_run_in_smaller_ones(self, pool: Any) -> None:
        assert pool.map(batch_tasks.refuse_together, range(100), batch=50) == list(range(100))

    def test_only_an_item_that_fails_alone_uses_up_attempts(self, pool: Any, tmp_path: Path) -> None:
        path = str(tmp_path / "alone")
        found = list(pool.outcomes(batch_tasks.Flaky(path, 9, times=2), range(32), batch=16, retries=2))
        assert [each.value for each in found] == list(range(32))
        assert [each.attempts for each in found] == [3 if number == 9 else 1 for number in range(32)]
        assert len(lines(path)) == 3

    def test_what_would_end_the_caller_is_one_items(self, pool: Any) -> None:
        found = list(pool.outcomes(batch_tasks.exit_at_seven, range(32), batch=16))
        assert [each.index for each in found if each.kind is Kind.WORKER_LOST] == [7]
        assert sum(each.ok for each in found) == 31


class TestWrongResults:
    @each_start_method
    @pytest.mark.parametrize(
        ("function", "returned", "says"),
        [
            (batch_tasks.one_short, 31, "list of 31"),
            (batch_tasks.one_more, 33, "list of 33"),
            (batch_tasks.without_end, 33, "count of more than 32"),
            (batch_tasks.nothing, None, "None"),
            (batch_tasks.text, None, "str"),
            (batch_tasks.mapping, None, "dict"),
            (batch_tasks.members, None, "set"),
            (batch_tasks.total, None, "int"),
            (batch_tasks.table, None, "Table"),
        ],
    )
    def test_anything_else_is_one_error_that_says_what_came(
        self, pool: Any, function: Callable[[list[int]], Any], returned: int | None, says: str
    ) -> None:
        sentence = rf"^{function.__name__}\(\) was given a batch of 32 items, and returned {says}: "
        with pytest.raises(BatchError, match=sentence) as caught:
            # Of a list: of what is read by and by, a busy machine may give fewer.
            pool.map(function, list(range(64)), batch=32)
        assert (caught.value.expected, caught.value.returned) == (32, returned)

    def test_it_is_not_skipped_and_not_tried_again(self, pool: Any) -> None:
        with pytest.raises(BatchError, match="one_short"):
            pool.map(batch_tasks.one_short, range(64), batch=32, on_error="skip", retries=3)
        found = list(pool.outcomes(batch_tasks.one_short, range(64), batch=32, retries=3))
        assert {(type(each.error), each.attempts) for each in found} == {(BatchError, 1)}
        assert [each.index for each in found] == list(range(64))

    def test_a_run_ends_and_its_items_come_again(self, pool: Any, tmp_path: Path) -> None:
        output = tmp_path / "output.jsonl"
        with pytest.raises(BatchError, match="one_short"):
            pool.run(batch_tasks.one_short, range(64), output, batch=32, on_error="skip")
        assert not output.exists()
