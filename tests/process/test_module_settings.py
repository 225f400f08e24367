"""The pool behind the functions of the module: settings, numbers of workers, its end."""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable, Iterator
from typing import Any

import pytest

import allcores
from allcores import Limits, UnknownOption, UsageError
from allcores.events import MapStarted, OfSeveral, PoolEvent
from allcores.pool.default_pool import shared


@pytest.fixture(autouse=True)
def settings_as_at_first() -> Iterator[None]:
    yield
    allcores.close()
    allcores.configure()


def double(number: int) -> int:
    return 2 * number


def pid(_: object) -> int:
    return os.getpid()


def loaded() -> dict[str, int]:
    return {"a": 1}


@pytest.mark.quick
def test_settings_hold_for_all_functions_until_there_are_others() -> None:
    allcores.configure(workers=1, limits=Limits(items_in_flight=50), backend="threads")
    assert allcores.map(double, [1, 2]) == [2, 4]
    first = shared()
    assert (first.workers, first.limits.items_in_flight) == (1, 50)
    assert allcores.map(pid, [1]) == [os.getpid()]
    allcores.configure(workers=2)
    assert first.closed
    assert allcores.map(pid, [1]) != [os.getpid()]
    assert (shared().workers, shared().limits) == (2, Limits())
    allcores.close()
    assert shared().workers == 2, "settings outlive the pool"


def test_what_preload_returns_is_the_first_argument() -> None:
    module: Any = allcores
    module.configure(workers=1, preload=loaded)
    assert module.map(dict.get, ["a", "b"]) == [1, None]


def test_wrong_settings_change_nothing() -> None:
    allcores.configure(workers=1)
    module: Any = allcores
    with pytest.raises(UnknownOption, match="the word is workers"):
        module.configure(max_workers=3)
    with pytest.raises(UsageError, match=r"workers=0 must be"):
        module.configure(workers=0)
    with pytest.raises(UsageError, match=r"workers=-1 must be"):
        module.map(double, [1], workers=-1)
    assert shared().workers == 1


def test_a_pool_in_use_is_not_configured() -> None:
    stream = allcores.imap(double, iter([1, 2, 3]), workers=1)
    assert next(stream) == 2
    with pytest.raises(UsageError, match="is in use"):
        allcores.configure(workers=2)
    assert list(stream) == [4, 6]
    allcores.configure(workers=2)
    assert allcores.map(double, [1]) == [2]


def test_close_ends_what_runs_and_the_next_call_starts_anew() -> None:
    stream = allcores.imap(double, iter(range(100_000)))
    assert next(stream) == 0
    allcores.close()
    with pytest.raises(allcores.PoolClosed):
        list(stream)
    allcores.close()
    assert allcores.map(double, [4]) == [8]


def test_workers_of_a_call() -> None:
    """Its pool stays warm; one of another number is closed when the next number is asked for, unless it is in use."""
    allcores.configure(workers=2)
    main = shared()
    assert allcores.map(pid, [1], workers=1) == allcores.map(pid, [1], workers=1)
    one = shared(1)
    assert one is not main
    assert (one.workers, main.closed) == (1, False)
    assert shared(2) is main, "the pool of the module has as many"
    three = shared(3)
    assert (one.closed, three.closed) == (True, False)
    with allcores.imap(double, iter([1, 2]), workers=3) as stream:
        next(stream)
        assert allcores.map(double, [1], workers=1) == [2]
        assert not three.closed
        assert list(stream) == [4]


def test_many_threads_with_many_numbers() -> None:
    found: list[list[int]] = []

    def work(workers: int) -> None:
        for _ in range(3):
            found.append(allcores.map(double, range(20), workers=workers))

    threads = [threading.Thread(target=work, args=(1 + number % 3,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[2 * number for number in range(20)]] * 18


class Whose(OfSeveral):
    """Which pools tell it of their maps."""

    def __init__(self) -> None:
        self.pools: list[Hashable] = []

    def take(self, event: PoolEvent, pool: Hashable) -> None:
        if isinstance(event, MapStarted):
            self.pools.append(pool)


def test_an_observer_of_all_these_pools_is_told_which_of_them_it_is() -> None:
    """Each of them numbers its maps from 1: lines of a bar would be one, and seconds those of another map."""
    whose = Whose()
    allcores.configure(backend="threads", observers=iter([whose]))
    for workers in (1, 2, None):
        assert allcores.map(double, [1, 2], workers=workers) == [2, 4]
    allcores.close()
    assert allcores.map(double, [1, 2]) == [2, 4]
    assert len(set(whose.pools)) == len(whose.pools) == 4


def test_methods_of_pools_have_no_such_option() -> None:
    pool: Any
    with allcores.Pool(1) as pool, pytest.raises(UnknownOption, match=r"no option 'workers'.*Pool\(workers=n\)"):
        pool.map(double, [1], workers=2)


class TestLength:
    def test_of_a_stream_is_that_of_its_input(self) -> None:
        with allcores.Pool(1, backend="threads") as pool:
            stream = pool.imap(double, range(5))
            assert len(stream) == 5
            assert list(stream) == [0, 2, 4, 6, 8]
            assert len(pool.outcomes(double, [1, 2])) == 2
            assert len(pool.imap(max, [1, 2, 3], (4, 5))) == 2
            assert bool(pool.imap(double, []))
            assert list(pool.imap(double, [])) == []

    def test_there_is_none_where_the_input_has_none(self) -> None:
        with allcores.Pool(1, backend="threads") as pool:
            stream = pool.imap(double, iter([1, 2]))
            with pytest.raises(TypeError, match="has no length"):
                len(stream)
            assert stream
            assert list(stream) == [2, 4]

    def test_streams_are_inputs(self) -> None:
        """Of sized and of unsized ones."""
        with allcores.Pool(1, backend="threads") as pool:
            assert len(pool.imap(double, pool.imap(double, [1, 2]))) == 2
            assert pool.map(double, pool.imap(double, [1, 2])) == [4, 8]
            assert pool.map(double, pool.imap(double, iter([1, 2]))) == [4, 8]
