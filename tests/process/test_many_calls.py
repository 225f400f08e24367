"""Calls that are begun in one turn are calls of their own: each has its deadline, its crash, its end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.process.waiting import PATIENCE_S

from allcores import Pool
from allcores.errors import NotPicklable, PoolClosed, TaskTimeout, WorkerLost
from allcores.pool.many_calls import begin_calls
from allcores.pool.pool import driver_of


def work(what: object) -> object:
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        time.sleep(1_000)
    if what == "raise":
        raise ValueError("it went wrong")
    return what


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(2) as made:
        yield made


def test_each_has_its_own_outcome(pool: Pool) -> None:
    """Among those that die, hang, raise and cannot travel the others get theirs."""
    lock = threading.Lock()
    given = [*range(20), "die", *range(20, 40), "raise", lock, *range(40, 60)]
    futures = begin_calls(pool, work, [((each,), 30.0 if isinstance(each, int) else None) for each in given])
    late = begin_calls(pool, work, [(("hang",), 0.3), (("fine",), 30.0)])
    assert len(futures) == len(given)
    for each, future in zip(given, futures, strict=True):
        if isinstance(each, int):
            assert future.result(PATIENCE_S) == each
    for each, kind in (("die", WorkerLost), ("raise", ValueError), (lock, NotPicklable)):
        assert isinstance(futures[given.index(each)].exception(PATIENCE_S), kind)
    assert isinstance(late[0].exception(PATIENCE_S), TaskTimeout) and late[1].result(PATIENCE_S) == "fine"


def test_one_is_cancelled_and_no_other(pool: Pool) -> None:
    """Whether it runs or waits."""
    futures = begin_calls(pool, work, [((each,), None) for each in ["hang", "hang", "hang", *range(10)]])
    until = time.monotonic() + PATIENCE_S
    while sum(future.running() for future in futures) < 2:
        assert time.monotonic() < until
        time.sleep(0.002)
    assert all(future.cancel() for future in futures[:3])
    assert [future.result(PATIENCE_S) for future in futures[3:]] == list(range(10))


def test_none_is_begun_in_a_pool_that_is_closed(tmp_path: Path) -> None:
    with Pool(1) as closed:
        pass
    with pytest.raises(PoolClosed):
        begin_calls(closed, work, [((1,), None)])


def test_on_backends_without_processes() -> None:
    """Threads and serial, too."""
    for backend in ("threads", "serial"):
        with Pool(1, backend=backend) as pool:
            futures = begin_calls(pool, work, [((each,), None) for each in (1, "raise", 2)])
            assert [futures[0].result(PATIENCE_S), futures[2].result(PATIENCE_S)] == [1, 2]
            assert isinstance(futures[1].exception(PATIENCE_S), ValueError)


def test_each_call_may_have_a_deadline_of_its_own() -> None:
    """Nothing is kept of it: what is left of somebody's time, say, is another one in each call."""
    with Pool(1) as pool:
        many = begin_calls(pool, str, [((number,), 100.0 + number / 1000) for number in range(20)])
        single = [pool.call(str, [number], timeout=200.0 + number / 1000) for number in range(20)]
        futures = [*many, *single]
        assert [each.result(PATIENCE_S) for each in futures] == [str(number) for number in range(20)] * 2
        assert len(driver_of(pool).maps()) == 1
        ends, stays = begin_calls(pool, time.sleep, [((1_000,), 0.2), ((0,), None)])
        with pytest.raises(TaskTimeout, match=r"0\.2 s"):
            ends.result(PATIENCE_S)
        assert stays.result(PATIENCE_S) is None
