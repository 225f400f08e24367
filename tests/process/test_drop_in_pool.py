"""The `multiprocessing` drop-in: what of it CPython's own tests do not ask."""

from __future__ import annotations

import functools
import multiprocessing
import threading
from collections.abc import Iterator
from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]

import pytest
from tests.process.pool_tasks import a_lambda, add, end_if_odd, fail_if_odd, for_ever, square

import allcores
from allcores.adapters.multiprocessing import Pool

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(params=METHODS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(2, context=multiprocessing.get_context(request.param)) as made:
        yield made
    made.join()


def test_methods_give_what_the_originals_do(pool: Pool) -> None:
    numbers = range(50)
    squares = [square(number) for number in numbers]
    pairs = [(number, 1) for number in numbers]
    assert pool.map(square, numbers) == squares
    assert pool.map_async(square, iter(numbers)).get(60) == squares
    assert pool.starmap(add, pairs) == pool.starmap_async(add, pairs).get(60) == [number + 1 for number in numbers]
    assert pool.apply(add, (1,), {"right": 2}) == pool.apply_async(add, (1, 2)).get(60) == 3
    for chunksize in (1, 7):
        assert list(pool.imap(square, numbers, chunksize)) == squares
        assert sorted(pool.imap_unordered(square, iter(numbers), chunksize)) == squares


def test_a_worker_that_dies_costs_its_own_item(pool: Pool) -> None:
    got: list[object] = []
    results = pool.imap(end_if_odd, range(6))
    while True:
        try:
            got.append(results.next(60))
        except StopIteration:
            break
        except allcores.WorkerLost as error:
            got.append(type(error))
    lost = allcores.WorkerLost
    assert got == [0, lost, 2, lost, 4, lost]
    with pytest.raises(allcores.WorkerLost):
        pool.apply(end_if_odd, (1,))
    with pytest.raises(allcores.WorkerLost):
        pool.map(end_if_odd, range(3))
    assert pool.map(square, range(3)) == [0, 1, 4]


def test_after_an_item_that_failed_the_iterator_goes_on(pool: Pool) -> None:
    results = pool.imap(fail_if_odd, range(4))
    assert next(results) == 0
    with pytest.raises(ValueError):
        next(results)
    assert next(results) == 2


def test_a_result_that_plain_pickle_refuses_is_refused(pool: Pool) -> None:
    with pytest.raises(MaybeEncodingError) as caught:
        pool.apply(a_lambda)
    assert "lambda" in caught.value.value
    with pytest.raises(MaybeEncodingError):
        list(pool.imap(a_lambda, range(2)))


def test_callbacks_come_before_the_result_is_ready(pool: Pool) -> None:
    told: list[object] = []
    done = pool.apply_async(square, (3,), callback=told.append)
    assert done.get(60) == 9 and told == [9]
    failing = pool.map_async(functools.partial(divmod, 1), [1, 0], error_callback=told.append)
    failing.wait(60)
    assert isinstance(told[1], ZeroDivisionError) and not failing.successful()


def test_time_is_up(pool: Pool) -> None:
    call = pool.apply_async(for_ever)
    with pytest.raises(multiprocessing.TimeoutError):
        call.get(0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        pool.imap(for_ever, [1]).next(0.01)
    with pytest.raises(ValueError, match="not ready"):
        call.successful()


def test_what_a_terminated_pool_did_not_finish_raises(pool: Pool) -> None:
    call, results, whole = pool.apply_async(for_ever), pool.imap(for_ever, [1]), pool.map_async(for_ever, [1, 2])
    pool.terminate()
    for waiting in (call.get, results.next, whole.get):
        with pytest.raises(allcores.PoolClosed):
            waiting(60)
    with pytest.raises(ValueError, match="not running"):
        pool.apply(square, (1,))


def test_results_may_be_read_after_the_pool_has_ended(pool: Pool) -> None:
    results = pool.imap(square, (number for number in range(100_000)))
    pool.close()
    pool.join()
    assert sum(results) == sum(square(number) for number in range(100_000))


def test_an_input_may_wait_for_results_of_its_own_items(pool: Pool) -> None:
    """What a generator has given is on its way while it waits: the usual way to bound `imap` of the original."""
    room = threading.Semaphore(10)

    def throttled() -> Iterator[int]:
        for number in range(300):
            assert room.acquire(timeout=60)
            yield number

    seen = 0
    for _ in pool.imap_unordered(square, throttled()):
        seen += 1
        if seen % 10 == 0:
            room.release(10)
    assert seen == 300
