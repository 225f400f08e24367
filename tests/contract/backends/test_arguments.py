"""Several inputs, and constants, on every backend; words that are no options."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract import tasks
from tests.contract.backends.support import START_METHOD_WARNINGS, each_start_method

import allcores
from allcores import Pool, UnknownOption, UsageError

pytestmark = START_METHOD_WARNINGS


def weigh(number: int, factor: int = 1, *, bonus: int = 0) -> int:
    return number * factor + bonus


def take_all(*numbers: int, **words: int) -> tuple[tuple[int, ...], dict[str, int]]:
    return numbers, words


def refuse_odd_sums(first: int, second: int) -> int:
    if (first + second) % 2:
        raise ValueError("odd")
    return first + second


def total_of(table: bytes, number: int = 0) -> int:
    return len(table) + number


def plus(number: int, table: bytes) -> int:
    return len(table) + number


class Counted:
    """Says each time it is pickled."""

    pickled = 0

    def __reduce__(self) -> tuple[Any, ...]:
        Counted.pickled += 1
        return Counted, ()


def name_of(number: int, thing: Counted) -> str:
    return f"{type(thing).__name__} {number}"


class TestSeveralInputs:
    @each_start_method
    def test_functions_get_an_item_of_each(self, pool: Pool) -> None:
        assert pool.map(tasks.add, [1, 2, 3], (10, 20, 30)) == [11, 22, 33]

    def test_the_shortest_input_ends_it(self, pool: Any) -> None:
        assert pool.map(take_all, range(5), "ab", iter([1.5, 2.5, 3.5])) == [((0, "a", 1.5), {}), ((1, "b", 2.5), {})]

    def test_streams_take_endless_inputs(self, pool: Pool) -> None:
        numbers = iter(lambda: 1, 0)
        assert list(pool.imap(tasks.add, numbers, range(100))) == list(range(1, 101))
        assert sorted(pool.imap_unordered(tasks.add, numbers, range(100))) == list(range(1, 101))

    def test_an_item_is_a_tuple_in_outcomes_and_messages(self, pool: Pool) -> None:
        found = list(pool.outcomes(refuse_odd_sums, [1, 2], [1, 1]))
        assert [(outcome.item, outcome.ok) for outcome in found] == [((1, 1), True), ((2, 1), False)]
        with pytest.raises(ValueError, match="odd") as caught:
            pool.map(refuse_odd_sums, [1, 2], [1, 1])
        assert any("items[1] ((2, 1))" in note for note in caught.value.__notes__)

    def test_async_and_sync_inputs_are_read_together(self, pool: Pool) -> None:
        async def numbers() -> AsyncIterator[int]:
            for number in range(3):
                yield number

        async def read() -> list[int]:
            both = [value async for value in pool.aimap(tasks.add, numbers(), iter([10, 20, 30, 40]))]
            return both + [value async for value in pool.aimap(tasks.add, [1], [2])]

        assert asyncio.run(read()) == [10, 21, 32, 3]

    def test_with_constants(self, pool: Any) -> None:
        assert pool.map(weigh, [1, 2], [3, 4], bonus=100) == [103, 108]


class TestConstants:
    @each_start_method
    def test_functions_get_them_by_name(self, pool: Pool) -> None:
        assert pool.map(weigh, [1, 2], factor=10, bonus=1) == [11, 21]

    def test_on_every_method(self, pool: Any, tmp_path: Path) -> None:
        assert list(pool.imap(weigh, [1, 2], factor=3)) == [3, 6]
        assert sorted(pool.imap_unordered(weigh, [1, 2], factor=3)) == [3, 6]
        assert pool.starmap(weigh, [(1, 2), (3, 4)], bonus=5) == [7, 17]
        assert [outcome.value for outcome in pool.outcomes(weigh, [1, 2], factor=3)] == [3, 6]
        output = tmp_path / "out.jsonl"
        pool.run(weigh, [1, 2], output, journal=False, factor=3)
        assert output.read_text() == "3\n6\n"

        async def read() -> list[int]:
            return [value async for value in pool.aimap(weigh, [1, 2], factor=3)]

        assert asyncio.run(read()) == [3, 6]

    def test_options_keep_their_names(self, pool: Any) -> None:
        """A function's argument that is called like an option is given with functools.partial."""
        call = functools.partial(take_all, chunk=5)
        assert pool.map(call, [1], chunk=2, word=3) == [((1,), {"chunk": 5, "word": 3})]

    def test_setup_still_gives_the_first_argument(self, make_pool: Callable[..., Any]) -> None:
        with make_pool(setup=tasks.open_breakdown) as pool:
            assert pool.map(tasks.balance_plus, [1, 2]) == [101, 102]
            assert pool.map(take_all, [1], word=2)[0][1] == {"word": 2}
            assert pool.map(take_all, [1], [2])[0][0][1:] == (1, 2)

    def test_one_that_the_items_are_given_to_is_refused(self, pool: Any) -> None:
        with pytest.raises(UsageError, match=r"number=\.\.\. is a constant for weigh\(\), whose argument 'number'"):
            pool.map(weigh, [1], number=3)
        with pytest.raises(UsageError, match=r"factor=\.\.\. is a constant"):
            pool.map(weigh, [1], [2], factor=3)
        assert pool.map(weigh, [1], factor=3) == [3]


def test_constants_travel_once_per_map_and_not_with_each_item() -> None:
    """However many items and chunks there are."""
    pool: Any  # constants and options in one call are more than type checkers can say
    with Pool(2) as pool:
        Counted.pickled = 0
        assert len(pool.map(name_of, range(500), thing=Counted(), chunk=1)) == 500
        # Once for all workers; the search for what cannot be pickled may add one.
        assert 1 <= Counted.pickled <= 2
        # A script's function travels by value, which is tried first: with items it would be 500.
        table = bytes(1_000_000)
        assert pool.map(plus, range(3), table=table) == [1_000_000, 1_000_001, 1_000_002]


class TestWordsThatAreNoOptions:
    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"timout": 5}, "did you mean timeout"),
            ({"retry": 1}, "did you mean retries"),
            ({"on_errors": "skip"}, "did you mean on_error"),
            ({"chunksize": 10}, "the word is chunk"),
            ({"n_jobs": 4}, "the word is workers"),
            ({"num_proc": 4}, "the word is workers"),
            ({"threads": 4}, "the words are workers and backend"),
            ({"n_jobs": -1}, "n_jobs=-1 asks for is workers=None"),
            ({"max_workers": 4}, "the word is workers"),
            ({"elephants": 4}, "options are timeout, retries"),
            ({"backend": "threads"}, r"an option of the pool: allcores.Pool\(backend=...\)"),
            ({"ordered": False}, "imap_unordered"),
        ],
    )
    @pytest.mark.parametrize("method", ["map", "imap", "imap_unordered", "outcomes", "starmap"])
    def test_methods_refuse_them_at_once(self, pool: Pool, method: str, wrong: dict[str, Any], said: str) -> None:
        items: Iterator[Any] = iter([(1,)])
        if method == "outcomes" and "ordered" in wrong:
            pytest.skip("it has this one")
        if method == "outcomes" and "on_errors" in wrong:
            said = "no option 'on_errors'"
        with pytest.raises(UnknownOption, match=said) as caught:
            getattr(pool, method)(weigh, items, **wrong)
        assert isinstance(caught.value, TypeError)
        assert f"{method}() has no option" in str(caught.value)
        assert "weigh() takes no argument of that name" in str(caught.value)
        assert next(items) == (1,), "the input was not touched"

    def test_a_function_that_takes_such_an_argument_gets_it(self, pool: Pool) -> None:
        assert pool.map(take_all, [1], max_workers=3) == [((1,), {"max_workers": 3})]

    def test_functions_that_tell_nothing_of_themselves(self, pool: Any) -> None:
        """Built-in ones: what looks like an option is taken for one, and partial is the way to give it."""
        with pytest.raises(UnknownOption, match=r"the word is timeout.*functools.partial\(max, time_limit=...\)"):
            pool.map(max, [[1, 2]], time_limit=3)
        assert pool.map(max, [[], [1]], default=7) == [7, 1]

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"n_jobs": 4}, "the word is workers"),
            ({"num_proc": 4}, "the word is workers"),
            ({"threads": 4}, "the words are workers and backend"),
            ({"n_jobs": -1}, "n_jobs=-1 asks for is workers=None"),
            ({"n_jobs": -2}, r"workers=allcores.core_budget\(\).workers - 1"),
            ({"max_workers": 4}, "the word is workers"),
            ({"processes": 4}, "the word is workers"),
            ({"num_workers": 4}, "the word is workers"),
            ({"initializer": print}, r"Pool\(setup=f\)"),
            ({"initargs": (1,)}, "the word is setup_args"),
            ({"mp_context": None}, "the word is start_method"),
            ({"maxtasksperchild": 1}, "the word is items_per_worker"),
            ({"chunksize": 1}, "the word is chunk"),
            ({"batch_size": 1}, "the words are batch"),
            ({"prefer": "threads"}, "the word is backend"),
            ({"verbose": 10}, "the word is progress"),
            ({"desc": "x"}, "the word is progress"),
            ({"total": 3}, "nothing is needed"),
            ({"worker": 3}, "did you mean workers"),
            ({"timeout": 3}, r"an option of each map: pool.map\(..., timeout=...\)"),
            ({"max_retries": 3}, "the word is retries, an option of each map"),
            ({"ordered": True}, "imap_unordered"),
            ({"elephants": 4}, "options are preload, preload_args"),
        ],
    )
    def test_pools_refuse_them(self, wrong: dict[str, Any], said: str) -> None:
        with pytest.raises(UnknownOption, match=said):
            Pool(**wrong)

    def test_negative_workers(self) -> None:
        with pytest.raises(UsageError, match=r"workers=-1 must be a whole number, 1 or more, or None for all cores"):
            Pool(-1)


def test_methods_of_the_module_take_the_same() -> None:
    module: Any = allcores
    assert module.map(weigh, [1, 2], [3, 4], bonus=1) == [4, 9]
    assert module.starmap(weigh, [(1, 2)], bonus=1) == [3]
    assert list(allcores.imap(weigh, [1, 2], factor=2)) == [2, 4]
    assert sorted(allcores.imap_unordered(weigh, [1, 2], [2, 2])) == [2, 4]
    assert [outcome.value for outcome in allcores.outcomes(weigh, [1, 2], factor=2)] == [2, 4]
    with pytest.raises(UnknownOption, match="did you mean timeout"):
        module.map(weigh, [1], timout=2)

    async def read() -> list[int]:
        return [value async for value in allcores.aimap(weigh, [1, 2], [3, 4])]

    assert asyncio.run(read()) == [3, 8]
