"""The lazy iterator of `Pool.aimap`, for `async for`. Apart, because asyncio takes 50 ms to import."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeVar

from allcores.clock import monotonic_ns
from allcores.engine.driver import Driver
from allcores.engine.flow import Flow, Function, Segment
from allcores.feeder import Feeder
from allcores.stream import LOGS_ASIDE_S, Reading

R = TypeVar("R")


class _Bell:
    """Wakes an event loop from the driver's thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.event = asyncio.Event()

    def ring(self) -> None:
        """There is something to read. A loop that is closed wants no news."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.event.set)


class AsyncStream(Reading[R], AsyncIterator[R]):
    """The same for `async for`. Leaving the loop, or cancelling its task, ends what runs."""

    def __init__(
        self,
        driver: Driver,
        make_flow: Callable[[int], Flow],
        function: Function,
        items: Iterable[Any] | AsyncIterable[Any],
        on_error: str | None,
        owner: object = None,
    ) -> None:
        self._owner = owner
        self._bell = _Bell()
        self._source: AsyncIterator[Any] | None = None
        self._puller: asyncio.Task[None] | None = None
        if hasattr(items, "__aiter__"):
            self._source = items.__aiter__()
            source: Iterable[Any] = ()
        else:
            source = iter(items)
        # The driver holds the bell and not the stream: a stream that nobody holds must be able to end.
        flow = driver.open(make_flow, self._bell.ring)
        super().__init__(driver, flow, on_error)
        self._feeder = Feeder(driver, flow, function, source)
        self._open: Iterator[R] = iter(())
        self._over = False

    def __aiter__(self) -> AsyncStream[R]:
        return self

    async def __anext__(self) -> R:
        if self._over:
            raise StopAsyncIteration
        try:
            for value in self._open:
                return value
            while True:
                segment = await self._next_segment()
                if segment is None:
                    await self.aclose()
                    if self._feeder.error is not None:
                        raise self._feeder.error
                    raise StopAsyncIteration
                self._open = iter(self._unfold(segment))
                for value in self._open:
                    return value
        except StopAsyncIteration:
            raise
        except BaseException:
            await self.aclose()
            raise

    async def _next_segment(self) -> Segment | None:
        flow, guard = self._flow, self._driver.guard
        if self._source is not None and self._puller is None:
            self._puller = asyncio.create_task(self._pull_async())
        while True:
            self._bell.event.clear()
            if self._source is None and not flow.exhausted:
                self._feeder.feed()
            with guard:
                segment = flow.take()
                broken, finished = flow.broken, flow.finished
            if segment is not None or broken is not None:
                self._driver.backend.settle_logs(LOGS_ASIDE_S)
                if segment is None and broken is not None:
                    raise broken
                return segment
            if finished:
                return None
            if self._driver.backend.pump():
                await asyncio.sleep(0)
                continue
            await self._bell.event.wait()

    async def _pull_async(self) -> None:
        """Feed from an async input, one item at a time: such inputs are slow by nature."""
        flow = self._flow
        assert self._source is not None
        asked_ns = monotonic_ns()
        try:
            async for item in self._source:
                self._feeder.send([item], asked_ns)
                # Where reading is what runs tasks (backend="serial"), the reader has to know.
                self._bell.event.set()
                while not flow.exhausted and not flow.cancelled:
                    with self._driver.guard:
                        if self._driver.dispatcher.room(flow) > 0 and flow.credit > 0:
                            break
                    await asyncio.sleep(0.001)
                asked_ns = monotonic_ns()
        except Exception as error:
            self._feeder.error = error
        finally:
            if not flow.cancelled:
                self._feeder.stop()

    async def aclose(self) -> None:
        """Cancel what is left; running tasks end after the grace period."""
        if not self._over:
            self._over = True
            if self._puller is not None:
                self._puller.cancel()
            self._driver.end(self._flow)

    def __del__(self) -> None:
        if not getattr(self, "_over", True):
            self._over = True
            self._driver.end(self._flow)
