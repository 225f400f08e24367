"""One behaviour, whatever runs the tasks: processes by each start method, threads, the caller itself."""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
import os
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import aclosing
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from tests.contract import tasks
from tests.process.waiting import Bell, Gate, Watcher, begin_records, lines, wait_full_strength

import allcores
from allcores import (
    Kind,
    Limits,
    NotSupported,
    Outcome,
    Pool,
    PoolClosed,
    Retry,
    SetupError,
    TaskExited,
    UsageError,
    events,
)

PROCESSES = ("template", "fork", "spawn", "forkserver")
PLACES = (pytest.param("template", marks=pytest.mark.quick), "threads", "serial")

#: for what may depend on how a worker was started: what it finds there, what it is given and sends, and its end. All
#: else is the same for each worker that has started. "forkserver" is another name of "template": it is tried here only.
each_start_method = pytest.mark.parametrize("place", [*PLACES, *PROCESSES[1:]], indirect=True, scope="module")

pytestmark = [
    pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:start_method='spawn':RuntimeWarning"),
]


def options(place: str) -> dict[str, Any]:
    return {"start_method": place} if place in PROCESSES else {"backend": place}


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pool(place: str) -> Iterator[Pool]:
    """One pool for all tests that leave its workers as they are."""
    watcher = Watcher()
    # Much grace: on a busy machine, work that a test leaves must not cost a worker.
    with Pool(2, **options(place), observers=[watcher], limits=Limits(grace_s=10)) as pool:
        if place == "serial":
            pool.map(abs, [1])
        else:
            wait_full_strength(pool, watcher)
        begin_records(pool)
        yield pool


@pytest.fixture
def make_pool(place: str) -> Callable[..., Pool]:
    """Pools of the place under test, for tests that need options or end workers."""

    def make(workers: int = 2, **more: Any) -> Pool:
        return Pool(workers, **options(place), **more)

    return make


def endless(pulled: list[int]) -> Iterator[int]:
    """0, 1, 2 … and a note of what was asked for."""
    for number in itertools.count():
        pulled.append(number)
        yield number


class TestVerbs:
    @each_start_method
    def test_map_gives_a_list_in_input_order(self, pool: Pool) -> None:
        assert pool.map(tasks.double, range(1000)) == [number * 2 for number in range(1000)]

    @pytest.mark.parametrize("items", [[], (), range(0), iter(())], ids=["list", "tuple", "range", "iterator"])
    def test_no_items_no_results(self, pool: Pool, items: Any) -> None:
        assert pool.map(tasks.double, items) == []

    @pytest.mark.parametrize("chunk", [None, 1, 7, 5000])
    def test_results_do_not_depend_on_chunks(self, pool: Pool, chunk: int | None) -> None:
        assert pool.map(tasks.double, iter(range(500)), chunk=chunk) == [number * 2 for number in range(500)]

    def test_imap_gives_results_in_input_order(self, pool: Pool) -> None:
        assert list(pool.imap(tasks.double, iter(range(1000)))) == [number * 2 for number in range(1000)]

    def test_imap_unordered_gives_each_result_once(self, pool: Pool) -> None:
        assert sorted(pool.imap_unordered(tasks.double, range(1000))) == [number * 2 for number in range(1000)]

    def test_next_gives_one_result_at_a_time(self, pool: Pool) -> None:
        with pool.imap(tasks.double, [1, 2]) as stream:
            assert [next(stream), next(stream), next(stream, "end")] == [2, 4, "end"]

    def test_starmap_spreads_each_item(self, pool: Pool) -> None:
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
        futures = [pool.submit(tasks.double, number) for number in range(300)]
        assert [future.result() for future in futures] == [number * 2 for number in range(300)]

    def test_a_future_calls_back(self, pool: Pool) -> None:
        called = threading.Event()
        pool.submit(tasks.double, 1).add_done_callback(lambda future: called.set())
        assert called.wait(120)

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


class TestLaziness:
    def test_nothing_is_pulled_before_the_first_result_is_asked_for(self, pool: Pool) -> None:
        pulled: list[int] = []
        stream = pool.imap(tasks.double, endless(pulled))
        assert pulled == []
        assert next(stream) == 0
        stream.close()

    def test_an_endless_input_is_never_pulled_further_than_the_limit(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool(limits=Limits(items_in_flight=60)) as pool:
            for verb in ("imap", "imap_unordered", "outcomes"):
                pulled: list[int] = []
                stream = getattr(pool, verb)(tasks.double, endless(pulled))
                for consumed, _ in enumerate(itertools.islice(stream, 1000)):
                    assert len(pulled) - consumed <= 60
                stream.close()

    def test_a_consumer_that_stops_stops_the_input(self, pool: Pool) -> None:
        pulled: list[int] = []
        stream = pool.imap(tasks.double, endless(pulled))
        next(stream)
        before = len(pulled)
        # Other work passes meanwhile: the pool itself is not stopped.
        assert pool.map(tasks.double, range(500)) == [number * 2 for number in range(500)]
        assert len(pulled) == before
        assert [next(stream) for _ in range(10)] == [number * 2 for number in range(1, 11)]
        stream.close()

    def test_the_input_is_advanced_on_the_consumers_thread_only(self, pool: Pool) -> None:
        threads: set[int] = set()

        def items() -> Iterator[int]:
            for number in range(2000):
                threads.add(threading.get_ident())
                yield number

        assert sum(pool.imap_unordered(tasks.double, items())) == 2000 * 1999
        assert threads == {threading.get_ident()}

    def test_break_ends_an_endless_stream(self, pool: Pool) -> None:
        for value in pool.imap(tasks.double, itertools.count()):
            if value == 1000:
                break
        for value in pool.imap_unordered(tasks.double, itertools.count()):
            if value > 1000:
                break
        assert pool.map(tasks.double, [21]) == [42]
        assert pool.statistics().items_in_flight == 0

    def test_a_closed_stream_is_over(self, pool: Pool) -> None:
        stream = pool.imap(tasks.double, itertools.count())
        assert next(stream) == 0
        stream.close()
        stream.close()
        with pytest.raises(StopIteration):
            next(stream)

    def test_a_stream_is_left_like_a_block(self, pool: Pool) -> None:
        with pool.imap(tasks.double, itertools.count()) as stream:
            assert next(stream) == 0
        assert next(stream, None) is None

    def test_a_stopped_stream_ends_with_what_was_pulled(self, pool: Pool) -> None:
        pulled: list[int] = []
        stream = pool.imap(tasks.double, endless(pulled), on_error="skip")
        values = [next(stream)]
        stream.stop()
        before = len(pulled)
        values += stream
        assert len(pulled) == before
        assert values == [number * 2 for number in range(len(values))]

    @pytest.mark.parametrize("ordered", [True, False])
    def test_a_straggler_at_the_front_does_not_let_the_input_run_away(
        self, make_pool: Callable[..., Pool], place: str, tmp_path: Path, ordered: bool
    ) -> None:
        if place == "serial":
            pytest.skip("one item after the other")
        # The first item lasts until item 40 is done; so the others must pass it by, but not too far.
        meeting = str(tmp_path / "meeting")
        os.mkfifo(meeting)
        pulled: list[int] = []
        with make_pool(limits=Limits(items_in_flight=60)) as pool:
            items = (("", meeting, number) for number in endless(pulled))
            verb = pool.imap if ordered else pool.imap_unordered
            stream = verb(tasks.wait_for_later_item, items)
            values: list[int] = []
            for value in stream:
                assert len(pulled) - len(values) <= 60
                values.append(value)
                # Item 40 may have to be stolen from behind the first one: many others may pass meanwhile.
                if len(values) >= 300 and 0 in values:
                    break
            stream.close()
        if ordered:
            assert values == list(range(300))
        else:
            assert len(set(values)) == len(values)
            assert values.index(0) > 0

    @pytest.mark.parametrize("verb", ["imap", "imap_unordered", "outcomes"])
    @pytest.mark.parametrize("count", [0, 1, 1000])
    def test_an_exception_of_the_input_comes_after_the_results_before_it(
        self, pool: Pool, verb: str, count: int
    ) -> None:
        def items() -> Iterator[int]:
            yield from range(count)
            raise OSError("the disk is gone")

        values: list[Any] = []
        with pytest.raises(OSError, match="the disk is gone"):
            values.extend(getattr(pool, verb)(tasks.double, items()))
        if verb == "outcomes":
            values = [outcome.value for outcome in values]
        assert sorted(values) == [number * 2 for number in range(count)]

    def test_map_raises_what_the_input_raised(self, pool: Pool) -> None:
        def items() -> Iterator[int]:
            yield 1
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            pool.map(tasks.double, items())

    def test_an_input_may_use_the_pool_itself(self, pool: Pool) -> None:
        inner = pool.imap(tasks.double, range(200))
        assert list(pool.imap(tasks.double, inner)) == [number * 4 for number in range(200)]

    @each_start_method
    def test_two_items_run_at_the_same_time(self, pool: Pool, place: str, tmp_path: Path) -> None:
        if place == "serial":
            pytest.skip("one item after the other")
        path = str(tmp_path / "meeting")
        os.mkfifo(path)
        assert pool.map(tasks.swap_meeting, [(path, "rb"), (path, "wb")]) == [True, True]


class TestFailures:
    @pytest.mark.parametrize("chunk", [None, 50])
    def test_the_first_failure_in_input_order_is_raised_after_the_results_before_it(
        self, pool: Pool, chunk: int | None
    ) -> None:
        values: list[int] = []
        with pytest.raises(ValueError, match=r"no 7\n"):
            values.extend(pool.imap(tasks.refuse_sevens, range(50), chunk=chunk))
        assert values == list(range(7))

    @each_start_method
    def test_map_raises_the_original_type_with_its_facts(self, pool: Pool) -> None:
        with pytest.raises(tasks.Overdrawn) as caught:
            pool.map(tasks.overdraw, [5])
        assert (caught.value.breakdown, caught.value.cents) == ("savings", 5)

    def test_a_note_names_the_item(self, pool: Pool) -> None:
        (outcome,) = [each for each in pool.outcomes(tasks.refuse_sevens, range(10)) if not each.ok]
        assert outcome.error is not None
        (note,) = outcome.error.__notes__
        assert "items[7] (7)" in note
        assert f"worker {outcome.worker}" in note

    @each_start_method
    def test_the_line_that_failed_is_shown(self, pool: Pool) -> None:
        import traceback

        with pytest.raises(ValueError, match="no 7") as caught:
            pool.map(tasks.refuse_sevens, [7])
        shown = "".join(traceback.format_exception(caught.value))
        assert 'raise ValueError(f"no {number}")' in shown
        assert "in refuse_sevens" in shown

    @pytest.mark.parametrize("chunk", [None, 50])
    def test_skip_leaves_out_what_failed(self, pool: Pool, chunk: int | None) -> None:
        good = [number for number in range(50) if number % 10 != 7]
        assert pool.map(tasks.refuse_sevens, range(50), on_error="skip", chunk=chunk) == good
        assert list(pool.imap(tasks.refuse_sevens, range(50), on_error="skip", chunk=chunk)) == good
        unordered = pool.imap_unordered(tasks.refuse_sevens, range(50), on_error="skip", chunk=chunk)
        assert sorted(unordered) == good
        assert pool.starmap(tasks.refuse_sevens, zip(range(50)), on_error="skip", chunk=chunk) == good

    @each_start_method
    @pytest.mark.parametrize(
        ("fn", "original"),
        [
            (tasks.stop_iteration, StopIteration),
            (tasks.stop_async_iteration, StopAsyncIteration),
            (tasks.exit_politely, SystemExit),
            (tasks.interrupt, KeyboardInterrupt),
            (tasks.leave_generator, GeneratorExit),
        ],
        ids=lambda value: value.__name__ if isinstance(value, FunctionType) else "",
    )
    @pytest.mark.parametrize("chunk", [None, 6])
    def test_what_would_end_the_callers_loop_arrives_wrapped(
        self, pool: Pool, place: str, fn: Callable[[int], int], original: type[BaseException], chunk: int | None
    ) -> None:
        if place == "serial" and original is KeyboardInterrupt:
            pytest.skip("on the caller's own thread it is Ctrl-C")
        found = list(pool.outcomes(fn, range(6), chunk=chunk))
        assert [outcome.index for outcome in found if not outcome.ok] == [3]
        error = found[3].error
        assert isinstance(error, TaskExited)
        assert isinstance(error.__cause__, original)
        assert (error.index, error.attempts, error.worker) == (3, 1, found[3].worker)
        assert original.__name__ in str(error)
        assert "items[3]" in str(error)
        with pytest.raises(TaskExited):
            pool.map(fn, range(6), chunk=chunk)
        assert isinstance(pool.submit(fn, 3).exception(), TaskExited)
        assert pool.map(tasks.double, [21]) == [42]

    def test_system_exit_tells_its_code(self, pool: Pool) -> None:
        (outcome,) = pool.outcomes(tasks.exit_politely, [3])
        assert outcome.kind is Kind.WORKER_LOST
        assert "4" in str(outcome.error)

    def test_no_failure_reaches_another_call(self, pool: Pool) -> None:
        assert pool.map(tasks.refuse_sevens, [7] * 30, on_error="skip") == []
        assert pool.map(tasks.double, range(30)) == [number * 2 for number in range(30)]


class TestRetries:
    @pytest.mark.parametrize("chunk", [None, 4])
    def test_an_item_gets_as_many_attempts_as_allowed(self, pool: Pool, tmp_path: Path, chunk: int | None) -> None:
        jobs = [(str(tmp_path / "tries"), number) for number in range(4)]
        retry = Retry(2, wait_s=0)
        found = list(pool.outcomes(tasks.fail_until_third_try, jobs, retries=retry, chunk=chunk))
        assert [outcome.value for outcome in found] == [0, 1, 2, 3]
        assert [outcome.attempts for outcome in found] == [3, 3, 3, 3]

    def test_the_last_failure_is_kept_when_attempts_run_out(self, pool: Pool, tmp_path: Path) -> None:
        (outcome,) = pool.outcomes(tasks.fail_until_third_try, [(str(tmp_path / "tries"), 0)], retries=1)
        assert isinstance(outcome.error, ValueError)
        assert outcome.attempts == 2
        assert len(lines(tmp_path / "tries-0")) == 2

    def test_only_chosen_exceptions_get_another_attempt(self, pool: Pool, tmp_path: Path) -> None:
        jobs = [(str(tmp_path / "tries"), kind) for kind in ("value", "key", "system")]
        retry = Retry(2, on=(LookupError, OSError), wait_s=0)
        found = list(pool.outcomes(tasks.fail_by_kind, jobs, retries=retry))
        assert [outcome.attempts for outcome in found] == [1, 3, 3]
        assert [len(lines(tmp_path / f"tries-{kind}")) for kind in ("value", "key", "system")] == [1, 3, 3]

    def test_the_wait_doubles_from_attempt_to_attempt(self, make_pool: Callable[..., Pool], tmp_path: Path) -> None:
        watcher = Watcher()
        retry = Retry(2, wait_s=0.01, jitter=0)
        with make_pool(observers=[watcher]) as pool:
            assert pool.map(tasks.fail_until_third_try, [(str(tmp_path / "tries"), 5)], retries=retry) == [5]
            assert pool.statistics().retries == 2
        assert [event.wait_s for event in watcher.of(events.TaskRetried)] == [0.01, 0.02]

    def test_a_call_has_retries_too(self, pool: Pool, tmp_path: Path) -> None:
        future = pool.call(tasks.fail_until_third_try, [(str(tmp_path / "tries"), 5)], retries=Retry(2, wait_s=0))
        assert future.result() == 5

    def test_retried_items_keep_their_place(self, pool: Pool, tmp_path: Path) -> None:
        jobs = [(str(tmp_path / "tries"), number) for number in range(30)]
        assert pool.map(tasks.fail_until_third_try, jobs, retries=Retry(2, wait_s=0)) == list(range(30))


#: as in a notebook or a script: functions of a module `__main__` that no other process can import
MAIN: dict[str, Any] = {"__name__": "__main__"}
exec(
    """
from dataclasses import dataclass

OFFSET = 5

@dataclass
class Point:
    x: int
    def moved(self):
        return Point(shifted(self.x))

def shifted(number):
    return number + OFFSET

def make(number):
    return Point(number)

class Refusal(Exception):
    pass

def refuse(number):
    raise Refusal(number)
""",
    MAIN,
)


@each_start_method
class TestFunctions:
    def test_a_lambda(self, pool: Pool) -> None:
        assert pool.map(lambda number: number + 1, [1, 2]) == [2, 3]

    def test_a_closure(self, pool: Pool) -> None:
        offset = 10

        def shift(number: int) -> int:
            return number + offset

        assert pool.map(shift, [1, 2]) == [11, 12]

    def test_a_closure_that_calls_itself(self, pool: Pool) -> None:
        def factorial(number: int) -> int:
            return 1 if number < 2 else number * factorial(number - 1)

        assert pool.map(factorial, [5, 6]) == [120, 720]

    @pytest.mark.parametrize(
        "fn",
        [
            tasks.Scale(2).times,
            tasks.Scale(2),
            tasks.Scale.doubled,
            functools.partial(tasks.add, 3),
            functools.partial(lambda first, number: first * number, 2),
        ],
        ids=["method", "callable object", "static method", "partial", "partial of a lambda"],
    )
    def test_a_callable_of_whatever_sort(self, pool: Pool, fn: Callable[[int], int]) -> None:
        assert pool.map(fn, [3, 4]) == [fn(3), fn(4)]

    def test_a_class_method_a_class_and_a_builtin(self, pool: Pool) -> None:
        assert pool.map(tasks.Scale.tripled, [3]) == [9]
        assert pool.map(tasks.Scale, [3]) == [tasks.Scale(3)]
        assert pool.map(math.sqrt, [9.0]) == [3.0]

    def test_functions_of_main(self, pool: Pool) -> None:
        assert pool.map(MAIN["shifted"], [1, 2]) == [6, 7]

    def test_classes_of_main_come_back_as_themselves(self, pool: Pool) -> None:
        points = pool.map(MAIN["make"], [1, 2])
        assert all(type(point) is MAIN["Point"] for point in points)
        assert pool.map(MAIN["Point"].moved, points) == [MAIN["Point"](6), MAIN["Point"](7)]
        assert pool.submit(MAIN["Point"](1).moved).result() == MAIN["Point"](6)

    def test_exceptions_of_main_come_back_as_themselves(self, pool: Pool) -> None:
        with pytest.raises(MAIN["Refusal"]):
            pool.map(MAIN["refuse"], [1])

    def test_many_functions_in_turn(self, pool: Pool) -> None:
        # More than are kept: old ones are dropped, and sent again when they are used again.
        functions: list[Callable[[int], int]] = [functools.partial(tasks.add, number) for number in range(300)]
        for _ in range(2):
            futures = [pool.submit(function, 1) for function in functions]
            assert [future.result() for future in futures] == [number + 1 for number in range(300)]

    def test_a_changed_function_object_is_not_mistaken_for_another(self, pool: Pool) -> None:
        for number in range(50):
            assert pool.map(lambda item, number=number: item + number, [1]) == [number + 1]


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
        if place != "spawn":
            assert lines(path) == ["opened"]

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
        if place in PROCESSES:
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
            pool.map(5, [1])  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="5 cannot be called"):
            pool.submit(5)  # type: ignore[arg-type]

    def test_something_that_cannot_be_iterated(self, pool: Pool) -> None:
        with pytest.raises(TypeError, match="not iterable"):
            pool.map(tasks.double, 5)  # type: ignore[arg-type]
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
                threading.Timer(0.05, gate.open).start()
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
            # Which of the threads tells of it is not said, nor that it does so before the others.
            watcher.wait_until(lambda: any(each.done == 10 for each in watcher.of(events.Progress)))
            progress = watcher.of(events.Progress)
            assert [each.done for each in progress] == sorted(each.done for each in progress)
            assert (progress[-1].done, progress[-1].failed, progress[-1].total) == (10, 1, 10)

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
        if place == "serial":
            pytest.skip("its only worker is the caller")
        watcher = Watcher()
        with make_pool(observers=[watcher]):
            started = watcher.wait_for(events.WorkerStarted, 2)
        assert len({event.worker for event in started}) == 2
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


class TestManyAtOnce:
    @each_start_method
    def test_threads_share_a_pool(self, pool: Pool) -> None:
        def work(start: int) -> None:
            if start % 3 == 0:
                results[start] = pool.map(tasks.double, range(start, start + 300))
            elif start % 3 == 1:
                results[start] = sorted(pool.imap_unordered(tasks.double, range(start, start + 300)))
            else:
                futures = [pool.submit(tasks.double, number) for number in range(start, start + 300)]
                results[start] = [future.result() for future in futures]

        results: dict[int, list[int]] = {}
        threads = [threading.Thread(target=work, args=(start,)) for start in range(9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {start: [number * 2 for number in range(start, start + 300)] for start in range(9)}

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
    def test_a_task_has_a_pool_of_its_own(self, pool: Pool, inner: str) -> None:
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
