"""The `multiprocessing` drop-in where something comes in between: its end, a signal's handler, Ctrl-C."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.process.pool_tasks import square
from tests.process.waiting import PATIENCE_S, wait_until

import allcores
from allcores.adapters import pool_maps
from allcores.adapters.multiprocessing import Pool
from allcores.adapters.pool_work import Work, Workers
from allcores.pool.pool import driver_of
from allcores.system.bell import Bell

FORK = multiprocessing.get_context("fork")


class EndsThePool:
    """An input that cannot be read, since the pool is terminated meanwhile: a cursor of a program that ends, say."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[int]:
        self.pool.terminate()
        raise ValueError("the input is gone")


@pytest.mark.parametrize("called_before", [False, True])
def test_callbacks_that_come_after_the_end_of_the_pool_are_called(called_before: bool) -> None:
    """The thread that calls them has ended, or there was none; who waits for the outcome would wait for ever."""
    told: list[BaseException] = []
    pool = Pool(1, context=FORK)
    if called_before:
        pool.apply_async(square, (1,), callback=lambda _: None).wait(PATIENCE_S)
    result = pool.map_async(square, EndsThePool(pool), error_callback=told.append)
    with pytest.raises(ValueError, match="the input is gone"):
        result.get(PATIENCE_S)
    assert [str(error) for error in told] == ["the input is gone"]
    pool.terminate()
    pool.join()


def test_an_input_whose_map_ends_as_it_begins_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread terminates the pool: the thread that reads the input ends, too."""
    begin = Work.open

    def open_and_terminate(self: Work, made: Any, start: Any) -> Any:
        feeder = begin(self, made, start)
        self.terminate()
        return feeder

    monkeypatch.setattr(Work, "open", open_and_terminate)
    pool = Pool(1, context=FORK)
    found = pool.imap(square, iter([1, 2, 3]))
    with pytest.raises(allcores.PoolClosed):
        list(found)
    pool.terminate()
    wait_until(lambda: all(each.name != "allcores-pool-input" for each in threading.enumerate()))


def test_a_handler_may_terminate_the_pool_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM comes in the moment in which the first map begins."""
    pool = Pool(1, context=FORK)
    begin = pool_maps.Feeder.__init__

    def interrupted(self: pool_maps.Feeder, work: Work) -> None:
        signal.raise_signal(signal.SIGTERM)
        begin(self, work)

    monkeypatch.setattr(pool_maps.Feeder, "__init__", interrupted)
    before = signal.signal(signal.SIGTERM, lambda *_: pool.terminate())
    try:
        result = pool.map_async(square, [1, 2])
        with pytest.raises(allcores.PoolClosed):
            result.get(PATIENCE_S)
    finally:
        signal.signal(signal.SIGTERM, before)
    pool.join()


def test_items_that_arrive_while_the_feeder_looks_end_its_wait() -> None:
    """The thread that pulls them takes no lock, and tells of them only where they are expected."""

    class Arriving(pool_maps.PoolMap):
        def __init__(self) -> None:
            self.expected: list[bool] = []

        def has_work(self) -> bool:
            self.expected.append(feeder.bell.expected)
            return True

    with allcores.Pool(1, backend="threads") as engine:
        work, arriving = Work(engine, Workers(), initializes=False), Arriving()
        work.maps[arriving] = None
        feeder = pool_maps.Feeder.__new__(pool_maps.Feeder)
        feeder._driver, feeder.bell, feeder._asked = driver_of(engine), Bell(), False
        assert feeder.rest(work)
        assert arriving.expected == [True] and not feeder.bell.expected


class Interrupts:
    """Ctrl-C, or another signal, comes while it is pickled."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self.interrupt = interrupt

    def __reduce__(self) -> Any:
        self.interrupt()
        return int, ()


class Cursor:
    """An input of which the handler of a signal has enough."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[int]:
        signal.raise_signal(signal.SIGALRM)
        return iter([1])


def joined(pool: Pool) -> bool:
    """Whether a pool that is closed comes to its end."""
    pool.close()
    thread = threading.Thread(target=pool.join, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    is_over = not thread.is_alive()
    pool.terminate()
    thread.join(PATIENCE_S)
    return is_over


def alarm(*_: Any) -> None:
    raise TimeoutError("the program's own alarm")


def ring_alarm() -> None:
    signal.raise_signal(signal.SIGALRM)


def ctrl_c() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("callback", [None, print])
@pytest.mark.parametrize(("interrupt", "raised"), [(ctrl_c, KeyboardInterrupt), (ring_alarm, TimeoutError)])
def test_a_call_that_is_interrupted_as_it_begins_is_nobodys(
    interrupt: Callable[[], None], raised: type[BaseException], callback: Any
) -> None:
    """The interrupt is raised, and is no outcome; the end of the pool does not wait for one."""
    before = signal.signal(signal.SIGALRM, alarm)
    pool = Pool(1, context=FORK)
    try:
        with pytest.raises(raised):
            pool.apply_async(square, (Interrupts(interrupt),), callback=callback, error_callback=callback)
        assert pool.apply(square, (3,)) == 9
    finally:
        signal.signal(signal.SIGALRM, before)
        assert joined(pool)


def test_an_interrupt_of_the_reading_of_an_input_is_no_outcome() -> None:
    before = signal.signal(signal.SIGALRM, alarm)
    pool = Pool(1, context=FORK)
    try:
        with pytest.raises(TimeoutError, match="the program's own alarm"):
            pool.map_async(square, Cursor())
    finally:
        signal.signal(signal.SIGALRM, before)
        assert joined(pool)
