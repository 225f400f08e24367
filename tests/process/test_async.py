"""`async for` over results: waits that are cancelled, inputs that end in other ways than by their end, streams left."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.process.waiting import PATIENCE_S

from allcores import Limits, Pool, Retry, UsageError


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(2, backend="threads") as pool:
        yield pool


def double(item: int) -> int:
    return item * 2


async def numbers(count: int, *, then: type[BaseException] | None = None) -> AsyncIterator[int]:
    for number in range(count):
        yield number
    if then is not None:
        raise then


@pytest.mark.parametrize("kind", [asyncio.CancelledError, ValueError, GeneratorExit])
def test_what_the_input_raises_comes_after_the_outcomes_before_it(pool: Pool, kind: type[BaseException]) -> None:
    told: list[object] = []

    async def read() -> list[int]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        got: list[int] = []
        with pytest.raises(kind):
            async for value in pool.aimap(double, numbers(10, then=kind)):
                got.append(value)
        return got

    assert asyncio.run(read()) == [number * 2 for number in range(10)]
    gc.collect()
    assert not told, "it is raised once, and not told to the loop as well"


def test_a_task_that_raises_the_same_ends_the_stream(pool: Pool) -> None:
    def cancelled(item: int) -> int:
        raise asyncio.CancelledError

    async def read() -> None:
        stream = pool.aimap(cancelled, [1])
        with pytest.raises(BaseException, match="CancelledError"):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(read())


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("way", ["wait_for", "timeout", "task"])
def test_a_wait_that_is_cancelled_takes_nothing(pool: Pool, way: str, asynchronous: bool) -> None:
    gate = threading.Event()

    def gated(item: int) -> int:
        gate.wait(PATIENCE_S)
        return item * 2

    async def cancelled_wait(stream: Any) -> None:
        if way == "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.001)
        elif way == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await anext(stream)
        else:
            task = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def read() -> list[int]:
        stream = pool.aimap(gated, numbers(5) if asynchronous else range(5))
        for _ in range(3):
            await cancelled_wait(stream)
        gate.set()
        return [value async for value in stream]

    assert asyncio.run(read()) == [number * 2 for number in range(5)]


def test_a_loop_that_is_left_ends_its_input(pool: Pool) -> None:
    """Also where the input waits at that moment, and would hold the stream."""
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def read() -> None:
        stream = pool.aimap(double, endless())
        async for value in stream:
            assert value == 2
            break
        gone = weakref.ref(stream)
        del stream
        gc.collect()
        assert gone() is None
        await asyncio.wait_for(ended.wait(), PATIENCE_S)

    asyncio.run(read())
    assert not pool._driver.maps()


@pytest.mark.parametrize("batch", [None, 4])
def test_the_input_of_a_stream_that_is_closed_ends_without_the_garbage_collector(batch: int | None) -> None:
    """What an input holds open (a transaction, a file) is given back with the stream, and not some time later."""
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.set()

    async def read(few: Pool) -> None:
        made: Any = few.aimap
        stream = made(list if batch else double, endless(), batch=batch)
        await anext(stream)
        await stream.aclose()
        del stream
        gc.disable()
        try:
            await asyncio.wait_for(ended.wait(), PATIENCE_S)
        finally:
            gc.enable()

    # So few that the input, which never waits, soon has to.
    with Pool(1, backend="threads", limits=Limits(items_in_flight=8)) as few:
        asyncio.run(read(few))


@pytest.mark.parametrize("batch", [None, 4])
def test_an_input_that_never_waits_leaves_the_event_loop_its_turns(
    pool: Pool, batch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else no connection is answered, and no time limit comes, until all places for items are full: 65,536."""
    monkeypatch.setattr("allcores.pool.loop_turns.TURN_NS", -1)
    longest = turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def numbers() -> AsyncIterator[int]:
        nonlocal longest
        before, count = turns, 0
        for number in range(5_000):
            yield number
            before, count = (before, count + 1) if turns == before else (turns, 0)
            longest = max(longest, count)

    async def read() -> int:
        other = asyncio.create_task(others())
        made: Any = pool.aimap
        count = 0
        async for _ in made(list if batch else double, numbers(), batch=batch):
            count += 1
        other.cancel()
        return count

    assert asyncio.run(read()) == 5_000
    assert longest <= 1


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("backend", ["processes", "threads", "serial"])
def test_an_async_input_waits_for_room_without_looking(
    backend: Any, batch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told of it, by workers and by who reads: a loop that looks again and again has no rest."""
    sleep = asyncio.sleep

    async def only_turns(seconds: float) -> None:
        if seconds:
            await asyncio.Event().wait()
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", only_turns)

    async def read(pool: Pool) -> int:
        made: Any = pool.aimap
        return len([value async for value in made(sorted if batch else double, numbers(300), batch=batch)])

    with Pool(1 if backend == "serial" else 2, backend=backend, limits=Limits(items_in_flight=8)) as pool:
        assert asyncio.run(read(pool)) == 300


def test_a_stream_is_read_in_the_loop_in_which_it_was_made(pool: Pool) -> None:
    """Nobody would be woken in another one; the error says so, and the stream still is that of its loop."""

    async def make() -> Any:
        return pool.aimap(double, [1])

    async def read(stream: Any) -> Any:
        return await anext(stream)

    stream = asyncio.run(make())
    with pytest.raises(UsageError, match="event loop"):
        asyncio.run(read(stream))


def test_the_loop_goes_on_until_another_attempt_is_due_in_it() -> None:
    """Where tasks run on its thread: what is due later is waited for as anything else is."""
    tried: list[int] = []

    def fails(item: int) -> int:
        tried.append(item)
        raise ValueError(item)

    async def read(wait_s: float) -> None:
        with Pool(backend="serial") as pool:
            stream = pool.aimap(fails, [1], retries=Retry(times=1, wait_s=wait_s, wait_max_s=wait_s))
            if wait_s > 1:
                reading = asyncio.ensure_future(anext(stream))
                for _ in range(100):
                    await asyncio.sleep(0)
                assert not reading.done()
                reading.cancel()
            else:
                with pytest.raises(ValueError, match="1"):
                    await anext(stream)

    asyncio.run(read(3600.0))
    assert tried == [1]
    asyncio.run(read(0.01))
    assert tried == [1, 1, 1]
