"""What the drop-ins are given and return, and what is wrong before anything can run, is as with the originals."""

from __future__ import annotations

import functools
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from multiprocessing import pool as original
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from tests.process.pool_tasks import fail_on, for_ever, square
from tests.process.scripts import run
from tests.process.waiting import PATIENCE_S

import allcores
from allcores.adapters.multiprocessing import Pool

NOT_WHOLE = "'float' object cannot be interpreted as an integer"


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(1, context=multiprocessing.get_context("spawn")) as made:
        yield made
    made.join()


@pytest.mark.parametrize("method", ["map", "starmap", "map_async", "starmap_async", "imap", "imap_unordered"])
def test_a_chunk_size_that_makes_no_sense_is_refused_by_its_name(pool: Pool, method: str) -> None:
    """The words are those of the program's own call, which knows no `chunk`."""
    call: Callable[..., Any] = getattr(pool, method)
    with pytest.raises(TypeError, match=f"chunksize: {NOT_WHOLE}"):
        call(square, [1], chunksize=1.5)
    with pytest.raises(ValueError, match=r"Chunksize must be 1\+, not 0"):
        call(square, [1], chunksize=0)


def test_a_number_of_workers_that_makes_no_sense_is_refused_by_its_name() -> None:
    """Neither has an option `workers`."""
    wrong: Any = 1.5
    with pytest.raises(TypeError, match=f"processes: {NOT_WHOLE}"):
        Pool(wrong)
    with pytest.raises(TypeError, match=f"max_workers: {NOT_WHOLE}"):
        allcores.Executor(wrong)
    with allcores.Executor(1) as executor, pytest.raises(TypeError, match=f"chunksize: {NOT_WHOLE}"):
        executor.map(square, [1], chunksize=wrong)


def test_what_is_true_counts_as_one() -> None:
    """As it does for the originals."""
    with Pool(True, maxtasksperchild=True) as pool, allcores.Executor(True, max_tasks_per_child=True) as executor:
        assert pool.apply(square, (2,)) == executor.submit(square, 2).result(PATIENCE_S) == 4


def test_without_an_initializer_its_arguments_may_be_anything() -> None:
    """Programs give `initargs=None` beside `initializer=None`."""
    nothing: Any = None
    with Pool(1, initializer=None, initargs=nothing) as pool:
        assert pool.apply(square, (2,)) == 4


def test_that_an_initializer_has_raised_is_told_by_what_is_asked_for_later() -> None:
    """Calls that wait for nothing do not raise it: who has the result, or its callback, is told."""
    with Pool(1, fail_on, (1, 1)) as pool:
        with pytest.raises(allcores.SetupError):
            pool.apply(square, (1,))
        told: SimpleQueue[BaseException] = SimpleQueue()
        waiting = pool.map_async(square, [1], error_callback=told.put)
        with pytest.raises(allcores.SetupError):
            waiting.get(PATIENCE_S)
        assert isinstance(told.get(timeout=PATIENCE_S), allcores.SetupError)
        results = pool.imap(square, [1])
        with pytest.raises(allcores.SetupError):
            results.next(PATIENCE_S)


def test_results_are_instances_of_what_the_original_returns(pool: Pool) -> None:
    """Programs ask with `isinstance`, and with `python -m allcores.patch` they are not to be changed for that."""
    assert isinstance(pool.apply_async(square, (1,)), original.AsyncResult)
    assert isinstance(pool.map_async(square, [1]), original.MapResult)
    assert isinstance(pool.imap(square, [1]), original.IMapIterator)


def test_how_much_of_a_map_is_left_can_be_read(pool: Pool) -> None:
    """It is not public, and in each answer to how a progress bar of `map_async` is made."""
    results = [pool.map_async(for_ever, [1] * 7), pool.map_async(for_ever, [1] * 7, 3)]
    assert [(each._number_left, each._chunksize) for each in results] == [(7, 1), (3, 3)]
    pool.terminate()
    assert [each._number_left for each in results] == [0, 0]
    with Pool(1) as another:
        done = another.map_async(square, [1, 2])
        assert (done.get(PATIENCE_S), done._number_left) == ([1, 4], 0)


def hold(lock: Any, change: Callable[[int], int], table: object) -> None:
    global _held
    _held = lock, change, table


_held: tuple[Any, Callable[[int], int], object]
TABLE = object()


def use(number: int) -> tuple[int, bool]:
    with _held[0]:
        return _held[1](number), _held[2] is TABLE


def test_an_initializer_in_a_process_that_is_forked_has_what_it_is_given() -> None:
    """It is not pickled: a lock of threads, a lambda, and a table that is not to be copied, are there as they are."""
    context = multiprocessing.get_context("fork")
    given = threading.Lock(), lambda number: number + 1, TABLE
    with Pool(1, hold, given, maxtasksperchild=1, context=context) as pool:
        assert [pool.apply(use, (number,)) for number in (1, 2)] == [(2, True), (3, True)]
    with pytest.warns(RuntimeWarning, match="start_method='fork'"):
        executor = allcores.Executor(1, context, functools.partial(hold, given[0]), given[1:])
    with executor:
        assert list(executor.map(use, [1, 2])) == [(2, True), (3, True)]


FORKED = """
import multiprocessing, threading
import allcores

def hold(lock):
    global held
    held = lock

def use(number):
    with held:
        return number

executor = allcores.Executor(1, multiprocessing.get_context("fork"), hold, (threading.Lock(),))
with executor:
    print(list(executor.map(use, [1, 2])))
"""


def test_functions_of_a_script_see_what_an_initializer_binds_in_a_forked_process(tmp_path: Path) -> None:
    """They are copies, and it is the script's own."""
    ended = run(FORKED, tmp_path)
    assert (ended.code, ended.out) == (0, "[1, 2]\n"), ended.err


def start_method() -> str:
    return multiprocessing.get_start_method()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_what_a_worker_starts_is_started_as_it_was(method: str) -> None:
    """A task that needs "spawn" for its own processes has it, as in the original."""
    with Pool(1, context=multiprocessing.get_context(method)) as pool:
        assert pool.apply(start_method) == method
