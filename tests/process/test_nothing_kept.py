"""What a long life leaves in the program: nothing of streams that were left, workers that are gone, failed calls."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import signal
import time
import traceback
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process import crimes
from tests.process.waiting import Bell, ring

from allcores import BrokenPool, Pool, Retry, SetupError, TaskExited


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(2) as pool:
        yield pool


class Item:
    """An item, and a result, that can be followed."""


def followed_items(known: list[weakref.ref[Item]]) -> Iterator[Item]:
    """Three, which nobody but who takes them holds."""
    for _ in range(3):
        item = Item()
        known.append(weakref.ref(item))
        yield item


def echo(item: Any) -> Any:
    return item


@pytest.mark.parametrize("way", ["close", "break", "drop"])
def test_streams_left_midway(pool: Pool, way: str) -> None:
    driver = pool._driver
    for _ in range(30):
        stream = pool.imap(crimes.run, range(1000))
        if way == "break":
            for _ in stream:
                break
        else:
            next(stream)
        if way == "close":
            stream.close()
        del stream
    assert pool.map(crimes.run, range(100)) == [item * 2 for item in range(100)]
    while pool.statistics().items_in_flight:
        pool.map(crimes.run, [1])
    with driver.lock:
        assert not (driver._wakers or driver._told_ns or driver._given_up or driver.scheduler.state.maps)
        assert not driver.scheduler.state.dirty_maps


def fails(*_: object) -> None:
    raise ValueError("no")


@pytest.mark.parametrize("verb", ["submit", "map", "imap"])
def test_the_error_of_a_broken_pool_gathers_nothing(verb: str) -> None:
    with Pool(1, setup=fails) as pool:
        depths = set()
        for _ in range(5):
            with pytest.raises((SetupError, BrokenPool)) as raised:
                if verb == "submit":
                    pool.submit(crimes.run, 1).result()
                else:
                    list(getattr(pool, verb)(crimes.run, [1]))
            depths.add(len(traceback.extract_tb(raised.value.__traceback__)))
            assert raised.value.__cause__ is not None
        # Before the pool knows it, and after.
        assert len(depths) <= 2
        broken = pool._driver.scheduler.state.broken
        assert broken is not None
        assert broken.__traceback__ is None


@pytest.mark.parametrize("backend", ["processes", "threads"])
def test_items_and_results(backend: str) -> None:
    with Pool(1, backend=backend) as pool:
        item = Item()
        known = [weakref.ref(item)]
        future = pool.submit(echo, item)
        known.append(weakref.ref(future.result()))
        del future
        known += [weakref.ref(value) for value in pool.map(echo, [item])]
        stream = pool.imap(echo, iter([item, item]))
        known.append(weakref.ref(next(stream)))
        stream.close()
        value: Any = next(iter(pool.outcomes(echo, [item]))).value
        known.append(weakref.ref(value))
        del stream, item, value
        # The one call after the last, for whoever still has the last in its hands.
        assert pool.submit(crimes.run, 1).result() == 2
        gc.collect()
        assert [ref() for ref in known] == [None] * len(known)


def refuse(item: Any) -> Any:
    raise ValueError("no")


def refuse_all(items: list[Any]) -> Any:
    raise ValueError("no")


@pytest.mark.parametrize("backend", ["processes", "threads", "serial"])
@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("way", ["skip", "raise", "outcomes"])
def test_items_of_a_map_that_failed_go_without_the_garbage_collector(backend: str, batch: Any, way: str) -> None:
    """The traceback of a task that ran in the program has frames with all items of its chunk; none leads back to it."""
    known: list[weakref.ref[Item]] = []
    with Pool(1, backend=backend) as pool:
        verbs: Any = pool
        function: Any = refuse_all if batch else refuse
        gc.disable()
        try:
            if way == "outcomes":
                for outcome in verbs.outcomes(function, followed_items(known), batch=batch, chunk=4):
                    assert not outcome.ok
                    # Where tasks run in the program, this frame is above the task's, and would have its error.
                    del outcome
            elif way == "skip":
                assert verbs.map(function, followed_items(known), batch=batch, chunk=4, on_error="skip") == []
            else:
                with pytest.raises(ValueError, match="no") as raised:
                    verbs.map(function, followed_items(known), batch=batch, chunk=4)
                del raised
            # The one call after the last, for whoever still has the last in its hands.
            assert pool.submit(crimes.run, 1).result() == 2
            assert [ref() for ref in known] == [None] * len(known)
        finally:
            gc.enable()


def leaves(item: Any) -> Any:
    raise SystemExit(3)


@pytest.mark.parametrize("backend", ["processes", "threads", "serial"])
@pytest.mark.parametrize("function", [refuse, leaves])
@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("way", ["result", "exception", "actor"])
def test_the_item_of_a_call_that_failed_goes_with_its_future(
    backend: str, function: Any, retries: int, way: str
) -> None:
    """Without the garbage collector: nothing that the traceback leads to refers to the future."""

    def failed(pool: Pool) -> weakref.ref[Item]:
        item = Item()
        # Names of an exception, or of what has it, would be a cycle of this frame's own.
        if way == "actor":
            with pool.actor(Refusing) as actor:
                assert actor.refuse(item).exception() is not None
            del actor
            return weakref.ref(item)
        future = pool.call(function, (item,), retries=Retry(times=retries, wait_s=0))
        assert future.exception() is not None
        if way == "result":
            try:
                future.result()
            except (ValueError, TaskExited):
                pass
        del future
        return weakref.ref(item)

    with Pool(1, backend=backend) as pool:
        gc.disable()
        try:
            known = failed(pool)
            # The one call after the last, for whoever still has the last in its hands.
            assert pool.submit(crimes.run, 1).result() == 2
            assert known() is None
        finally:
            gc.enable()


class Refusing:
    """An actor whose calls fail."""

    def refuse(self, item: Any) -> None:
        raise ValueError("no")


@pytest.mark.parametrize("backend", ["processes", "threads", "serial"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_items_of_an_aimap_that_failed_go_without_the_garbage_collector(backend: str, asynchronous: bool) -> None:
    known: list[weakref.ref[Item]] = []

    async def as_they_come() -> AsyncIterator[Item]:
        for item in followed_items(known):
            yield item

    async def read(pool: Pool) -> None:
        with pytest.raises(ValueError, match="no") as raised:
            async for _ in pool.aimap(refuse, as_they_come() if asynchronous else followed_items(known)):
                raise AssertionError("it gives nothing")
        del raised

    with Pool(1, backend=backend) as pool:
        gc.disable()
        try:
            asyncio.run(read(pool))
            # The one call after the last, for whoever still has the last in its hands.
            assert pool.submit(crimes.run, 1).result() == 2
            assert [ref() for ref in known] == [None] * len(known)
        finally:
            gc.enable()


class Rows:
    """An input that fails, and has something open."""

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        raise KeyError("no")


@pytest.mark.parametrize("backend", ["processes", "threads", "serial"])
@pytest.mark.parametrize("verb", ["map", "imap", "outcomes"])
def test_an_input_that_failed_goes_without_the_garbage_collector(backend: str, verb: str) -> None:
    known: list[weakref.ref[Rows]] = []

    def rows() -> Rows:
        made = Rows()
        known.append(weakref.ref(made))
        return made

    with Pool(1, backend=backend) as pool:
        gc.disable()
        try:
            with pytest.raises(KeyError) as raised:
                list(getattr(pool, verb)(echo, rows()))
            del raised
            assert [ref() for ref in known] == [None]
        finally:
            gc.enable()


def test_a_stopped_idle_worker_delays_nothing() -> None:
    pool = Pool(1)
    pid = pool.submit(os.getpid).result()
    os.kill(pid, signal.SIGSTOP)
    assert pool.submit(crimes.run, 1).result(120) == 2, "its item was given to another"
    os.kill(pool.submit(os.getpid).result(), signal.SIGSTOP)
    with pool._driver.lock:
        (link,) = pool._driver.backend._worker_table.connections.values()  # type: ignore[attr-defined]
    pool.close()
    # Not by the time that a teardown has.
    assert link.reason == "it was stopped"


def load(*_: object) -> Item:
    return Item()


def slow(*arguments: Any) -> Any:
    time.sleep(0.005)
    return arguments[-1]


@pytest.mark.parametrize("backend", ["processes", "threads", "serial"])
@pytest.mark.parametrize("way", ["quiet", "stream", "calls"])
def test_a_closed_pool_keeps_nothing(backend: str, way: str) -> None:
    known: list[weakref.ref[Item]] = []

    def followed() -> Item:
        item = Item()
        known.append(weakref.ref(item))
        return item

    pool = Pool(1, backend=backend, preload=load, preload_args=(followed(),), setup=load, setup_args=(followed(),))
    function = functools.partial(slow, followed())
    left: Any = None
    if way == "quiet":
        pool.map(function, [followed()])
    elif way == "stream":
        left = pool.imap(function, [followed() for _ in range(20)])
        next(left)
    else:
        left = [pool.submit(function, followed()) for _ in range(20)]
        left[-1].cancel()
        left[0].result()
    gc.disable()
    try:
        pool.close()
        del pool, left, function
        # At once, and not with the next collection of cycles: what is shared by name is waited for.
        assert [ref() for ref in known] == [None] * len(known)
    finally:
        gc.enable()


def test_a_closed_pool_that_broke_keeps_nothing() -> None:
    item = Item()
    known = weakref.ref(item)
    pool = Pool(1, setup=fails, setup_args=(item,))
    with pytest.raises(SetupError):
        pool.submit(crimes.run, 1).result()
    gc.disable()
    try:
        pool.close()
        del pool, item
        assert known() is None
    finally:
        gc.enable()


def test_a_cancelled_call_keeps_nothing(pool: Pool) -> None:
    item = Item()
    known = weakref.ref(item)
    future = pool.submit(echo, item)
    cancelled = future.cancel()
    del item
    assert pool.map(crimes.run, [1]) == [2]
    gc.collect()
    assert not cancelled or known() is None


class Followed:
    """Tells the test of its end in a worker; it can be made to refuse to travel."""

    def __init__(self, path: str, home: int, fault: str = "") -> None:
        self.path, self.home, self.fault = path, home, fault

    def __reduce__(self) -> Any:
        if self.fault == "pickle":
            raise ValueError("it stays")
        return (Followed, (self.path, self.home, self.fault)) if self.fault != "unpickle" else (fails, (self.path,))

    def __del__(self) -> None:
        if os.getpid() != self.home:
            ring(self.path, self.fault)


def answer(fault: str, item: Followed) -> Any:
    if fault == "raise":
        raise ValueError("no")
    return [1, {"in": Followed(item.path, item.home, fault)}, [2]]


def collect_no_cycles() -> None:
    gc.disable()


@pytest.mark.parametrize("fault", ["", "raise", "pickle", "unpickle"])
@pytest.mark.parametrize("verb", ["submit", "map"])
def test_an_idle_worker_keeps_nothing(verb: str, fault: str, tmp_path: Path) -> None:
    """Neither its last item nor what became of it, however that went, and without a collection of cycles."""
    with Bell(tmp_path / "bell") as bell, Pool(1, setup=collect_no_cycles) as pool:
        item = Followed(bell.path, os.getpid())
        function = functools.partial(answer, fault)
        if verb == "submit":
            pool.submit(function, item).exception()
        else:
            pool.map(function, [item], on_error="skip")
        # The item and its result, if there was one: before the worker gets anything else to do.
        bell.hear(1 if fault == "raise" else 2)
