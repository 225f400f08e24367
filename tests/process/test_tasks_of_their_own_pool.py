"""Tasks of threads that use the very pool which runs them."""

from __future__ import annotations

import threading

import pytest
from tests.process.waiting import PATIENCE_S, wait_until

from allcores import Pool, UsageError

OWN_POOL = "All 1 threads of the pool run tasks that wait for items of this very pool"


def double(number: int) -> int:
    return 2 * number


@pytest.fixture
def pool() -> Pool:
    return Pool(1, backend="threads")


def test_a_map_that_nobody_would_begin_is_an_error(pool: Pool) -> None:
    """Of the task whose wait leaves no thread; the pool goes on."""
    with pool:
        with pytest.raises(UsageError, match=OWN_POOL):
            pool.map(lambda number: sum(pool.map(double, range(number))), [3])
        with pytest.raises(UsageError, match=OWN_POOL):
            pool.submit(lambda: list(pool.imap(double, range(100_000)))).result(PATIENCE_S)
        assert pool.map(double, range(3)) == [0, 2, 4]


def test_a_call_that_nobody_would_begin_is_an_error(pool: Pool) -> None:
    with pool:
        with pytest.raises(UsageError, match=OWN_POOL):
            pool.submit(lambda: pool.submit(double, 2).result()).result(PATIENCE_S)
        assert pool.submit(double, 2).result(PATIENCE_S) == 4


def test_a_wait_that_ends_by_itself_is_none(pool: Pool) -> None:
    def wait_briefly() -> str:
        try:
            pool.submit(double, 2).result(0.01)
        except TimeoutError:
            return "over"
        return "done"

    with pool:
        assert pool.submit(wait_briefly).result(PATIENCE_S) == "over"


def test_all_that_wait_are_told_but_those_whose_items_run(pool: Pool) -> None:
    """With more tasks than threads some get through: each error leaves its thread to the items of others."""
    with pool, Pool(3, backend="threads") as other:
        found = list(other.outcomes(lambda number: sum(other.map(double, range(number))), [3] * 30, chunk=1))
    for each in found:
        if each.ok:
            assert each.value == 6
        else:
            assert "All 3 threads" in str(each.error)


def test_who_waits_for_what_runs_is_not_stuck() -> None:
    """Neither while another thread runs it, nor in the moment in which it is done and nobody has looked."""
    begun, may = threading.Event(), threading.Event()

    def held(number: int) -> int:
        begun.set()
        assert may.wait(PATIENCE_S)
        return number

    with Pool(2, backend="threads") as pool:
        outer = pool.submit(lambda: pool.map(held, [1]))
        assert begun.wait(PATIENCE_S)
        may.set()
        assert outer.result(PATIENCE_S) == [1]
        for _ in range(200):
            assert pool.map(lambda number: sum(pool.map(double, range(number))), [3]) == [6]


def test_an_item_that_was_waited_for_is_forgotten() -> None:
    """A thread whose call is done, or which has gone on to another task, waits for nothing."""
    with Pool(2, backend="threads") as pool:
        for _ in range(50):
            assert pool.submit(lambda: pool.submit(double, 4).result()).result(PATIENCE_S) == 8
        # In the moment after its result was told.
        wait_until(lambda: not pool._driver.backend._awaited)  # type: ignore[attr-defined]
