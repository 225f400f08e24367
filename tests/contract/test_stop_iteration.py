"""A function that raises StopIteration: what a library does with it, our way to do the same does, too.

Raised into a loop over results it would end that as if there were no more, and nobody would be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

import allcores
from allcores import Pool, TaskExited, compat

#: the pools of the module, and that of joblib's backend, live through its tests
pytestmark = pytest.mark.leaks_allowed

Door = Callable[[Any], Any]


def stop_at_two(number: int, *_: int) -> int:
    if number == 2:
        raise StopIteration(number)
    return number


def stop_at_two_of(rows: Any) -> Any:
    """Of a row, a column, a group or a batch."""
    if max(rows["a"]) == 2:
        raise StopIteration(2)
    return rows


def stop(_: Any) -> None:
    raise StopIteration(2)


def caught(door: Door, given: Any) -> BaseException:
    try:
        door(given)
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(2) as pool:
        yield pool


PAIRS = [(number, number) for number in range(5)]
FIVE = range(5)

OURS: dict[str, Door] = {
    "map": lambda pool: pool.map(stop_at_two, FIVE),
    "imap": lambda pool: list(pool.imap(stop_at_two, FIVE)),
    "imap_unordered": lambda pool: list(pool.imap_unordered(stop_at_two, FIVE)),
    "starmap": lambda pool: pool.starmap(stop_at_two, PAIRS),
    "submit": lambda pool: pool.submit(stop_at_two, 2).result(),
    "reduce": lambda pool: pool.reduce(stop_at_two, FIVE, max),
}


@pytest.mark.parametrize("door", OURS.values(), ids=OURS)
def test_a_pool_says_that_it_would_end_its_caller(pool: Pool, door: Door) -> None:
    error = caught(door, pool)
    assert isinstance(error, TaskExited) and "StopIteration(2)" in str(error)
    assert isinstance(error.__cause__, StopIteration)


@pytest.mark.parametrize("kind", [ProcessPoolExecutor, allcores.Executor])
def test_an_executor_lets_it_through_and_its_map_says_what_a_generator_does(kind: Any) -> None:
    with kind(1) as executor:
        error = caught(lambda executor: executor.submit(stop_at_two, 2).result(), executor)
        # Not its value: tblib, once that is loaded, makes exceptions without calling them.
        assert type(error) is StopIteration and error.args == (2,)
        for chunksize in (1, 2):
            error = caught(lambda executor: list(executor.map(stop_at_two, FIVE, chunksize=chunksize)), executor)  # noqa: B023
            assert type(error) is RuntimeError and isinstance(error.__cause__, StopIteration)


AT_ONCE: dict[str, Door] = {
    "apply": lambda pool: pool.apply(stop_at_two, (2,)),
    "apply_async": lambda pool: pool.apply_async(stop_at_two, (2,)).get(),
    "map": lambda pool: pool.map(stop_at_two, FIVE),
    "map in chunks": lambda pool: pool.map(stop_at_two, FIVE, 3),
    "map of an iterator": lambda pool: pool.map(stop_at_two, iter(FIVE)),
    "map_async": lambda pool: pool.map_async(stop_at_two, FIVE).get(),
    "map_async of an iterator": lambda pool: pool.map_async(stop_at_two, iter(FIVE)).get(),
    "starmap": lambda pool: pool.starmap(stop_at_two, PAIRS),
    "starmap_async": lambda pool: pool.starmap_async(stop_at_two, PAIRS, 2).get(),
}


@pytest.mark.parametrize("options", [{}, {"maxtasksperchild": 2}], ids=["plain", "maxtasksperchild"])
def test_the_drop_in_pool_lets_it_through_where_results_come_at_once(options: Any) -> None:
    """Which the original does for `apply`; its `map` leaves results out."""
    with compat.Pool(1, **options) as pool:
        for name, door in AT_ONCE.items():
            error = caught(door, pool)
            assert type(error) is StopIteration and error.args == (2,), (name, error)
            assert any("failed in worker" in note for note in error.__notes__), name
        told: list[BaseException] = []
        pool.apply_async(stop_at_two, (2,), error_callback=told.append).wait()
        pool.close()
        pool.join()
    assert [type(each) for each in told] == [StopIteration]


def test_the_drop_in_pool_ends_no_loop_by_it() -> None:
    with compat.Pool(1) as pool:
        for results in (pool.imap(stop_at_two, FIVE), pool.imap(stop_at_two, FIVE, 2)):
            assert [next(results), next(results)] == [0, 1]
            with pytest.raises(TaskExited, match=r"StopIteration\(2\)"):
                next(results)
            assert list(results) == [3, 4]


def test_joblib_says_what_a_generator_does() -> None:
    joblib = pytest.importorskip("joblib")
    from allcores.adapters import joblib as adapter

    adapter.register()
    try:
        for backend in ("loky", "allcores"):
            calls = [joblib.delayed(stop_at_two)(number) for number in FIVE]
            error = caught(joblib.Parallel(2, backend=backend), calls)
            assert type(error) is RuntimeError and isinstance(error.__cause__, StopIteration), backend
    finally:
        adapter.close()
        joblib.externals.loky.get_reusable_executor().shutdown()


@pytest.mark.parametrize("options", [{}, {"timeout": 60}, {"retries": 1}], ids=["plain", "timeout", "retries"])
def test_rows_columns_values_and_groups_of_pandas_let_it_through(pool: Pool, options: Any) -> None:
    pandas = pytest.importorskip("pandas")
    from allcores import frames
    from allcores.adapters.pandas import apply

    frame = pandas.DataFrame({"k": [0, 0, 1, 1, 2], "a": [0, 1, 2, 0, 4]})
    doors: dict[str, tuple[Door, Door]] = {
        "rows": (
            lambda f: f.apply(lambda row: stop_at_two(row["a"]), axis=1),
            lambda f: apply(f, lambda row: stop_at_two(row["a"]), axis=1, pool=pool, **options),
        ),
        "columns": (lambda f: f.apply(stop), lambda f: apply(f, stop, pool=pool, **options)),
        "values": (lambda f: f["a"].apply(stop_at_two), lambda f: apply(f["a"], stop_at_two, pool=pool, **options)),
        "groupby": (
            lambda f: f.groupby("k").apply(stop_at_two_of),
            lambda f: apply(f.groupby("k"), stop_at_two_of, pool=pool, **options),
        ),
        "groups": (
            lambda f: f.groupby("k").apply(stop_at_two_of),
            lambda f: frames.apply_groups(f, "k", stop_at_two_of, pool=pool, **options),
        ),
    }
    for name, (original, ours) in doors.items():
        for error in (caught(original, frame), caught(ours, frame)):
            assert type(error) is StopIteration and error.args == (2,), (name, error)
        assert any("failed in worker" in note for note in error.__notes__), name
    told: list[BaseException] = []
    found = apply(frame["a"], stop_at_two, pool=pool, on_error=lambda row, error: told.append(error) or 7, **options)  # type: ignore[func-returns-value]
    assert list(found) == [0, 1, 7, 0, 4] and [type(each) for each in told] == [StopIteration]


def test_batches_and_groups_of_polars_let_it_through(pool: Pool) -> None:
    polars = pytest.importorskip("polars")
    from allcores import frames
    from allcores.adapters.polars import map_batches

    frame = polars.DataFrame({"k": [0, 0, 1, 1, 2], "a": [0, 1, 2, 0, 4]})
    doors: list[Door] = [
        lambda f: map_batches(f, stop_at_two_of, rows=2, pool=pool),
        lambda f: frames.apply_groups(f, "k", stop_at_two_of, pool=pool),
    ]
    for door in doors:
        error = caught(door, frame)
        assert type(error) is StopIteration and error.args == (2,)


def test_datasets_say_what_a_generator_does(pool: Pool) -> None:
    datasets = pytest.importorskip("datasets")
    from allcores.adapters.datasets import map_dataset

    dataset = datasets.Dataset.from_dict({"a": list(FIVE)})
    for batched in (False, True):
        for door in (
            lambda d: d.map(stop, batched=batched),  # noqa: B023
            lambda d: map_dataset(d, stop, batched=batched, pool=pool),  # noqa: B023
        ):
            error = caught(door, dataset)
            assert type(error) is RuntimeError and isinstance(error.__cause__, StopIteration)
