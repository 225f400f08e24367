"""Pool.reduce, on every backend: what functools.reduce over map would give, and always the same."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.contract import reduce_tasks as tasks
from tests.contract.backends.support import START_METHOD_WARNINGS, each_start_method
from tests.contract.tasks import breaking_for

import allcores
from allcores import BatchError, Interrupted, Pool, Retry, TaskExited, UsageError

pytestmark = START_METHOD_WARNINGS


@each_start_method
@pytest.mark.parametrize("merge", [tasks.concat, tasks.extend, operator.add, operator.iadd])
def test_order_holds_for_what_is_not_commutative(pool: Pool, merge: Any) -> None:
    assert pool.reduce(tasks.one, range(3000), merge) == list(range(3000))


@pytest.mark.parametrize("chunk", [None, 1, 7, 5000])
def test_the_result_does_not_depend_on_chunks(pool: Pool, chunk: int | None) -> None:
    assert pool.reduce(tasks.one, iter(range(150)), tasks.concat, chunk=chunk) == list(range(150))


def test_counters(pool: Pool) -> None:
    words = ["one", "two", "three"] * 200
    assert pool.reduce(tasks.letters, words, operator.iadd) == functools.reduce(operator.add, map(Counter, words))


def test_initial_is_merged_once_and_first(pool: Any) -> None:
    assert pool.reduce(tasks.one, range(300), tasks.concat, initial=[-1]) == list(range(-1, 300))
    assert pool.reduce(tasks.one, range(300), tasks.concat, [-1]) == list(range(-1, 300))
    assert pool.reduce(tasks.times, [1, 2, 3], operator.add, initial=10, factor=2) == 22


def test_no_items(pool: Any) -> None:
    assert pool.reduce(tasks.one, [], tasks.concat, initial=[]) == []
    assert pool.reduce(tasks.one, [], tasks.concat, initial=None) is None
    with pytest.raises(TypeError, match=r"reduce\(\) of no values, with no initial value"):
        pool.reduce(tasks.one, [], tasks.concat)


def test_one_item_is_not_merged(pool: Pool) -> None:
    assert pool.reduce(tasks.one, [5], tasks.refuse) == [5]


def test_the_first_failure_is_raised(pool: Pool) -> None:
    with pytest.raises(ValueError, match="no 107") as caught:
        pool.reduce(tasks.one_unless_seven, range(100, 200), tasks.concat)
    assert any("items[7] (107)" in note for note in caught.value.__notes__)


def test_skipped_items_are_not_merged(pool: Pool) -> None:
    found = pool.reduce(tasks.one_unless_seven, range(1000), tasks.extend, on_error="skip")
    assert found == [number for number in range(1000) if number % 10 != 7]
    with pytest.raises(TypeError, match="no values"):
        pool.reduce(tasks.one_unless_seven, [7, 17], tasks.concat, on_error="skip")


def test_one_that_fails_among_very_many(pool: Pool) -> None:
    """What is merged near it is one value for many items; those beside it have one each."""
    rest = [number for number in range(20_000) if number % 997 != 5]
    assert pool.reduce(tasks.one_unless_rare, range(20_000), tasks.extend, on_error="skip") == rest
    with pytest.raises(ValueError, match="no 10972") as caught:
        pool.reduce(tasks.one_unless_rare, range(10_000, 20_000), tasks.extend)
    assert any("items[972] (10972)" in note for note in caught.value.__notes__)


def test_items_that_are_tried_again_stand_in_their_place(pool: Pool, tmp_path: Path) -> None:
    jobs = [(str(tmp_path / "item"), number) for number in range(60)]
    found = pool.reduce(tasks.one_at_third_try, jobs, tasks.extend, retries=Retry(2, wait_s=0))
    assert found == list(range(60))


def test_what_merge_raises_ends_it_even_if_failures_are_skipped(pool: Pool) -> None:
    with pytest.raises(RuntimeError, match="these do not go together"):
        pool.reduce(tasks.one, range(100), tasks.refuse, on_error="skip", retries=3)
    assert pool.reduce(tasks.one, range(5), tasks.concat) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [2, 3000])
def test_a_merge_that_returns_none_is_told_how(pool: Pool, count: int) -> None:
    with pytest.raises(UsageError, match=r"forget\(\) merged list and list and returned None; it must return"):
        pool.reduce(tasks.one, range(count), tasks.forget)


def test_none_is_a_value(pool: Pool) -> None:
    assert pool.reduce(print, [], tasks.keep_left, initial=None) is None
    assert pool.reduce({1: None}.get, [1, 1, 1], tasks.keep_left) is None


def test_wrong_arguments(pool: Any) -> None:
    with pytest.raises(UsageError, match="merge=3 cannot be called"):
        pool.reduce(tasks.one, [1], 3)
    with pytest.raises(UsageError, match="3 cannot be called"):
        pool.reduce(3, [1], tasks.concat)
    with pytest.raises(allcores.UnknownOption, match="did you mean initial"):
        pool.reduce(tasks.one, [1], tasks.concat, intial=[])


def test_setup_gives_the_first_argument(make_pool: Any) -> None:
    with make_pool(setup=functools.partial(int, 100)) as pool:
        assert pool.reduce(operator.add, [1, 2], operator.add) == 203


def test_on_the_module() -> None:
    assert allcores.reduce(tasks.one, range(100), tasks.concat) == list(range(100))
    assert allcores.reduce(lambda word: {word: len(word)}, ["a", "bb"], lambda left, right: left | right) == {
        "a": 1,
        "bb": 2,
    }


def test_interrupted_input_gives_what_was_merged(pool: Pool) -> None:
    def numbers() -> Any:
        yield from range(10)
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        pool.reduce(tasks.one, numbers(), tasks.concat)
    for merged in caught.value.done:
        assert merged == list(range(len(merged)))


@pytest.mark.parametrize("batch", [1, 7, 5000, "auto"])
def test_a_function_of_batches(pool: Any, batch: Any) -> None:
    """One value for each item, merged in input order."""
    good = [number for number in range(600) if number % 10 != 7]
    assert pool.reduce(tasks.ones_unless_seven, good, tasks.extend, batch=batch) == good
    assert pool.reduce(tasks.ones_unless_seven, good, tasks.concat, [-1], batch=batch) == [-1, *good]
    skipped = pool.reduce(tasks.ones_unless_seven, range(600), tasks.concat, batch=batch, on_error="skip")
    assert skipped == good, "a batch that fails is halved until the item at fault is alone"


def test_what_goes_wrong_with_batches(pool: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no 107") as caught:
        pool.reduce(tasks.ones_unless_seven, range(100, 200), tasks.concat, batch=16)
    assert any("items[7] (107)" in note for note in caught.value.__notes__)
    with pytest.raises(BatchError, match=r"too_few\(\) was given a batch of .* and returned list of"):
        pool.reduce(tasks.too_few, range(100), tasks.concat, batch=16)
    with pytest.raises(UsageError, match="returned None; it must return the merged value"):
        pool.reduce(tasks.ones_unless_seven, range(5), lambda left, right: None, batch=4, on_error="skip")


def test_batches_from_a_cache(pool: Any, tmp_path: Path) -> None:
    numbers = [1, 2, 3, 4, 5]
    for _ in range(2):
        found = pool.reduce(tasks.ones_unless_seven, numbers, tasks.concat, batch=2, cache=str(tmp_path / "cache"))
        assert found == numbers


@pytest.mark.parametrize("kind", [LookupError, StopIteration, SystemExit, GeneratorExit])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_merged_value_that_cannot_be_unpickled_ends_the_call_and_not_the_program(
    pool: Pool, place: str, kind: type[BaseException], on_error: Any
) -> None:
    if place in ("threads", "serial"):
        pytest.skip("nothing is pickled")
    with pytest.raises(LookupError if kind is LookupError else TaskExited) as caught:
        pool.reduce(breaking_for, [kind] * 3, tasks.keep_left, on_error=on_error)
    error = caught.value if kind is LookupError else caught.value.__cause__
    assert type(error) is kind
    assert error.__notes__ == ["allcores: a value that was merged in a worker could not be unpickled"]
    assert pool.reduce(tasks.one, range(3), tasks.concat) == [0, 1, 2]
