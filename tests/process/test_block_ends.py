"""Shared memory of results goes back with the worker that made them, however the worker and its results end."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from time import monotonic

import pytest
from tests.process.waiting import PATIENCE_S

from allcores import Limits, Pool

#: more than the status board, of which not all pages are touched, could hide
LARGE = 2_000_000


class Failure(Exception):
    """A large one."""


def plain(number: int) -> bytes:
    return bytes(LARGE)


def mixed(number: int) -> object:
    """Some are plain, some have code of their own, some fail."""
    if number % 3 == 0:
        raise Failure(bytes(LARGE))
    return bytes(LARGE) if number % 3 == 1 else Failure(bytes(LARGE))


def crash(number: int) -> bytes:
    if number % 3 == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return bytes(LARGE)


def linger(number: int) -> bytes:
    if number == 2:
        time.sleep(600)
    return bytes(LARGE)


def taken(pool: Pool) -> int:
    """Bytes of blocks, once all workers so far are gone, and so is what they kept for themselves."""
    gc.collect()
    until = monotonic() + PATIENCE_S
    while (size := pool.statistics().block_bytes) and monotonic() < until:
        pool.map(abs, [1])
    return size


def map_all(pool: Pool) -> None:
    assert pool.map(plain, range(3)) == [bytes(LARGE)] * 3


def submit_all(pool: Pool) -> None:
    for future in [pool.submit(plain, number) for number in range(3)]:
        assert len(future.result()) == LARGE


def outcomes_of(function: Callable[[int], object], timeout: float | None = None) -> Callable[[Pool], None]:
    def run(pool: Pool) -> None:
        assert 0 < sum(outcome.ok for outcome in pool.outcomes(function, range(3), timeout=timeout)) < 3

    return run


def leave(pool: Pool) -> None:
    with pool.imap(plain, range(6)) as stream:
        next(stream)


def cancel(pool: Pool) -> None:
    futures = [pool.submit(linger, number) for number in range(3)]
    futures[0].result()
    for future in futures:
        future.cancel()


def forget(pool: Pool) -> None:
    """Nobody takes the results."""
    for number in range(3):
        pool.submit(plain, number)


ENDS = {
    "map": map_all,
    "submit": submit_all,
    "mixed": outcomes_of(mixed),
    "crash": outcomes_of(crash),
    "timeout": outcomes_of(linger, timeout=1.0),
    "left": leave,
    "cancel": cancel,
    "forgotten": forget,
}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_stays_of_workers_that_are_gone(end: str) -> None:
    with Pool(1, limits=Limits(items_per_worker=2, grace_s=0)) as pool:
        ENDS[end](pool)
        assert taken(pool) == 0


def test_a_result_that_is_kept_keeps_its_own_memory_only() -> None:
    """Not what else its worker had, neither while the pool goes on nor when it is closed."""
    numpy = pytest.importorskip("numpy")
    with Pool(1, limits=Limits(items_per_worker=4)) as pool:
        first, *others = pool.starmap(numpy.full, [(LARGE // 8, 1.0), *[(LARGE // 4, 1.0)] * 3])
        del others
        gc.collect()
        until = monotonic() + PATIENCE_S
        while pool.statistics().block_bytes > 2 * first.nbytes and monotonic() < until:
            pool.map(abs, range(4))
        assert 0 < pool.statistics().block_bytes < 2 * first.nbytes
        descriptor = os.dup(pool._driver.backend.parent_memory().arena.descriptor)  # type: ignore[union-attr]
        others = pool.starmap(numpy.full, [(LARGE // 8, 1.0), (LARGE // 4, 1.0)])
        del others
        gc.collect()
    try:
        assert os.fstat(descriptor).st_blocks * 512 < 2 * first.nbytes
    finally:
        os.close(descriptor)
    assert (first == 1.0).all()
