"""Cancelling ends running work at once, not when it happens to finish."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from concurrent.futures import CancelledError

import pytest

import allcores
from allcores import Limits, Pool


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def settled(pool: Pool) -> bool:
    """Whether nothing runs, within some seconds."""
    until = time.monotonic() + 10
    pause = threading.Event()
    while pool.statistics().busy:
        if time.monotonic() > until:
            return False
        pause.wait(0.01)
    return True


def busy(pool: Pool, count: int) -> bool:
    until = time.monotonic() + 10
    pause = threading.Event()
    while pool.statistics().busy < count:
        if time.monotonic() > until:
            return False
        pause.wait(0.01)
    return True


def test_cancelling_a_future_ends_its_call() -> None:
    """A call that runs is ended, its worker replaced; others are not touched."""
    with Pool(2) as pool:
        slow, quick = pool.submit(nap, 300), pool.submit(nap, 0.0)
        assert quick.result(20) == 0.0
        assert busy(pool, 1)
        assert slow.cancel()
        assert slow.cancelled()
        with pytest.raises(CancelledError):
            slow.result(1)
        assert settled(pool)
        assert pool.map(abs, range(-20, 0)) == list(range(20, 0, -1))


def test_a_call_that_waits_is_taken_back() -> None:
    """It never starts."""
    with Pool(1) as pool:
        first = pool.submit(nap, 0.2)
        others = [pool.submit(nap, 300) for _ in range(5)]
        assert all(other.cancel() for other in others)
        assert first.result(20) == 0.2
        assert pool.submit(nap, 0.0).result(20) == 0.0


def test_a_finished_call_is_not_cancelled() -> None:
    """As concurrent.futures has it: False, and the result stays."""
    with Pool(1) as pool:
        future = pool.submit(nap, 0.0)
        assert future.result(20) == 0.0
        assert not future.cancel()
        assert future.result() == 0.0


def test_closing_ends_what_runs() -> None:
    """close() does not wait for items that take minutes; their futures are cancelled."""
    pool = Pool(2)
    futures = [pool.submit(nap, 300) for _ in range(4)]
    assert busy(pool, 2)
    pool.close()
    assert all(future.cancelled() for future in futures)


def test_leaving_a_loop_ends_what_runs() -> None:
    """break out of a stream: running items end after the grace period."""
    with Pool(2, limits=Limits(grace_s=0.05)) as pool:
        for value in pool.imap(nap, itertools.chain([0.0], itertools.repeat(300.0))):
            assert value == 0.0
            break
        assert settled(pool)
        assert pool.map(nap, [0.0, 0.0]) == [0.0, 0.0]


def test_the_grace_period_lets_short_work_finish() -> None:
    """Work that ends within Limits(grace_s=...) keeps its worker."""
    with Pool(1, limits=Limits(grace_s=20.0)) as pool:
        (before,) = pool.map(worker_pid, [0])
        stream = pool.imap(nap, [0.0, 0.3, 0.3])
        assert next(stream) == 0.0
        stream.close()
        assert settled(pool)
        assert pool.map(worker_pid, [0]) == [before]


def worker_pid(_: int) -> int:
    import os

    return os.getpid()


def test_leaving_an_async_loop_ends_what_runs() -> None:
    """break, aclose() and cancelling the task all do."""

    async def main(pool: Pool) -> None:
        stream = pool.aimap(nap, [0.0, 300.0, 300.0])
        async for value in stream:
            assert value == 0.0
            break
        await stream.aclose()

        async def consume() -> None:
            async for _ in pool.aimap(nap, [300.0, 300.0]):
                pass

        task = asyncio.create_task(consume())
        while pool.statistics().busy < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Pool(2, limits=Limits(grace_s=0.05)) as pool:
        asyncio.run(main(pool))
        assert settled(pool)


def test_a_failure_that_is_raised_ends_the_others() -> None:
    """map raises the first failure; what still runs for it is ended."""
    with Pool(2, limits=Limits(grace_s=0.05)) as pool:
        with pytest.raises(ZeroDivisionError):
            pool.map(divide_or_nap, [1, 0, 300, 300], chunk=1)
        assert settled(pool)
        assert allcores.Kind.OK.value == "ok"


def divide_or_nap(number: int) -> float:
    if number >= 300:
        time.sleep(number)
    return 1 / number
