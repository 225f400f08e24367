"""The lazy iterator of `Pool.aimap`, for `async for`. Apart, because asyncio takes 50 ms to import."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeVar

from allcores.clock import monotonic_ns
from allcores.engine.driver import Driver
from allcores.engine.flow import Flow, Function, Segment
from allcores.errors import again
from allcores.feeder import Feeder
from allcores.stream import LOGS_ASIDE_S, Reading

R = TypeVar("R")


class _Bell:
    """Wakes an event loop from the driver's thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.event = asyncio.Event()

    def ring(self) -> None:
        """There is something to read."""
        self.call(self.event.set)

    def call(self, function: Callable[[], object]) -> None:
        """Have the loop call something. One that is closed wants no news."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)


class AsyncStream(Reading[R], AsyncIterator[R]):
    """The same for `async for`. Leaving the loop, or cancelling its task, ends what runs once the stream is dropped.

    A wait that is cancelled (a time limit on `__anext__()`) takes nothing: the next one goes on where it was.
    """

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
        while not self._over:
            try:
                for value in self._open:
                    return value
                self._bell.event.clear()
                segment = self._look()
                if segment is not None:
                    self._open = iter(self._unfold(segment))
                    continue
                finished = self._flow.finished
                pumped = not finished and self._driver.backend.pump()
            except BaseException:
                self._end()
                raise
            if finished:
                self._end()
                if self._feeder.error is not None:
                    raise self._feeder.error
            # Nothing was taken by who waits: if this is cancelled, the next one goes on.
            elif pumped:
                await asyncio.sleep(0)
            else:
                await self._bell.event.wait()
        raise StopAsyncIteration

    def _look(self) -> Segment | None:
        """The next segment, if it is there; first what is wanted of the input is pulled."""
        flow = self._flow
        if self._source is None:
            if not flow.exhausted:
                self._feeder.feed()
        elif self._puller is None:
            # It does not hold the stream, which must be able to end when nobody else does.
            pulling = _pull(self._source, self._driver, flow, self._feeder, self._bell)
            self._puller = asyncio.create_task(pulling)
        with self._driver.guard:
            segment = flow.take()
            broken = flow.broken
        if segment is not None or broken is not None:
            self._driver.backend.settle_logs(LOGS_ASIDE_S)
        if segment is None and broken is not None:
            raise again(broken)
        return segment

    async def aclose(self) -> None:
        """Cancel what is left; running tasks end after the grace period."""
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._driver.end(self._flow)
            if self._puller is not None and not self._puller.done():
                self._bell.call(self._puller.cancel)

    def __del__(self) -> None:
        if not getattr(self, "_over", True):
            self._end()


async def _pull(source: AsyncIterator[Any], driver: Driver, flow: Flow, feeder: Feeder, bell: _Bell) -> None:
    """Feed from an async input, one item at a time: such inputs are slow by nature."""
    asked_ns = monotonic_ns()
    try:
        async for item in source:
            feeder.send([item], asked_ns)
            # Where reading is what runs tasks (backend="serial"), the reader has to know.
            bell.event.set()
            while not flow.exhausted and not flow.cancelled:
                with driver.guard:
                    if driver.dispatcher.room(flow) > 0 and flow.credit > 0:
                        break
                await asyncio.sleep(0.001)
            asked_ns = monotonic_ns()
    except BaseException as error:
        # Whatever it is, CancelledError too: the input has not come to its end. Raised after the outcomes before it.
        feeder.error = error
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise  # of a task, these end the loop
    finally:
        if not flow.cancelled:
            feeder.stop()
