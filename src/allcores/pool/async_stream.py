"""The lazy iterator of `Pool.aimap`, for `async for`. Apart, because asyncio takes 50 ms to import."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from allcores.errors import UsageError, again
from allcores.pool.driver import Driver
from allcores.pool.input_reader import InputReader
from allcores.pool.loop_turns import LoopTurns
from allcores.pool.result_stream import LOGS_ASIDE_S, Reading, iterator_of, length_of
from allcores.scheduler.function import Function
from allcores.scheduler.map_state import MapState
from allcores.scheduler.segment import Segment
from allcores.system.clock import monotonic_ns

if TYPE_CHECKING:
    from allcores.pool.async_batches import Gatherer
from allcores.system.tracebacks import hide, only_hiding

R_co = TypeVar("R_co", covariant=True)


class _Bell:
    """Wakes an event loop from the driver's thread."""

    def __init__(self) -> None:
        __tracebackhide__ = True
        self._loop = asyncio.get_running_loop()
        #: there is something to read
        self.event = asyncio.Event()
        #: there may be room for more of an async input
        self.room = asyncio.Event()

    def ring(self) -> None:
        """There is something to read, or to pull input for."""
        self.call(self._rung)

    def _rung(self) -> None:
        self.event.set()
        self.room.set()

    def call(self, function: Callable[[], object]) -> None:
        """Have the loop call something. One that is closed takes no calls."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def check_loop(self) -> None:
        """Raise UsageError in another loop than the one that it wakes: whoever waits there would wait for ever."""
        if asyncio.get_running_loop() is not self._loop:
            __tracebackhide__ = True
            raise UsageError(
                "This stream of aimap() belongs to the event loop in which it was made, and is read in another one: "
                "call aimap() in the coroutine, or at least in the asyncio.run(), that reads it."
            )


class AsyncStream(Reading[R_co], AsyncIterator[R_co]):
    """The same for `async for`. Leaving the loop, or cancelling its task, ends what runs once the stream is dropped.

    A wait that is cancelled (a time limit on `__anext__()`) takes nothing: the next one goes on where it was.
    """

    def __init__(
        self,
        driver: Driver,
        make_map: Callable[[int], MapState],
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
            source = iterator_of(items)
        # The driver holds the bell and not the stream: a stream that nobody holds must be able to end.
        map_state = driver.open(make_map, self._bell.ring)
        super().__init__(driver, map_state, on_error)
        self._input_reader = InputReader(driver, map_state, function, source)
        self._open: Iterator[R_co] = iter(())
        self._over = False

    @only_hiding
    def __len__(self) -> int:
        """Items of the input, where that has a length."""
        return length_of(self._map_state)

    def __bool__(self) -> bool:
        return True

    def __aiter__(self) -> AsyncStream[R_co]:
        return self

    async def __anext__(self) -> R_co:
        try:
            return await self._next()
        except StopAsyncIteration:
            raise
        except BaseException as error:
            hide(error)
            raise

    async def _next(self) -> R_co:
        segment: Segment | None = None
        while not self._over:
            self._bell.check_loop()
            try:
                for value in self._open:
                    return value
                self._bell.event.clear()
                segment = self._look()
                if segment is not None:
                    self._open = iter(self._unfold(segment))
                    continue
                finished = self._map_state.finished
                pumped = not finished and self._driver.backend.pump()
            except BaseException:
                self._end()
                # Where tasks run on this thread, the traceback of one that failed leads here, and these to the failure.
                segment, self._open = None, iter(())
                raise
            if finished:
                self._end()
                if self._driver.lost_changes.untold:
                    self._driver.lost_changes.tell()
                self._input_reader.raise_error()
            # Nothing was taken by who waits: if this is cancelled, the next one goes on.
            elif pumped:
                await asyncio.sleep(0)
            else:
                await self._wait()
        raise StopAsyncIteration

    async def _wait(self) -> None:
        """Until there is something to read, or to run here."""
        due_ns = self._driver.backend.pump_due_ns()
        if due_ns is None:
            await self._bell.event.wait()
            return
        left_s = max(0.0, (due_ns - monotonic_ns()) / 1e9)
        timer = asyncio.get_running_loop().call_later(left_s, self._bell.event.set)
        try:
            await self._bell.event.wait()
        finally:
            timer.cancel()

    def _look(self) -> Segment | None:
        """The next segment, if it is there; first what is wanted of the input is pulled."""
        map_state = self._map_state
        if self._source is None:
            if not map_state.exhausted:
                self._input_reader.feed()
        elif self._puller is None:
            # It does not hold the stream, which must be able to end when nobody else does.
            pulling = _pull(self._source, self._driver, map_state, self._input_reader, self._bell)
            self._puller = asyncio.create_task(pulling)
        with self._driver.lock:
            segment = map_state.take()
            broken = map_state.broken
        if segment is not None:
            self._bell.room.set()
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
            self._driver.end(self._map_state)
            if self._puller is not None and not self._puller.done():
                self._bell.call(self._puller.cancel)

    def __del__(self) -> None:
        if not getattr(self, "_over", True):
            self._end()


async def _pull(
    source: AsyncIterator[Any], driver: Driver, map_state: MapState, input_reader: InputReader, bell: _Bell
) -> None:
    """Feed from an async input, one item at a time: such inputs are slow by nature."""
    asked_ns = monotonic_ns()
    gatherer: Gatherer | None = None
    try:
        if map_state.chunker.batch:
            from allcores.pool.async_batches import Gatherer

            gatherer = Gatherer(driver, map_state, input_reader, bell.event.set, bell.room)
            await gatherer.pull(source)
            return
        turns = LoopTurns()
        async for item in source:
            input_reader.send([item], asked_ns)
            # Where reading is what runs tasks (backend="serial"), the reader has to know.
            bell.event.set()
            while not map_state.exhausted and not map_state.cancelled:
                bell.room.clear()
                with driver.lock:
                    if driver.scheduler.demand.room(map_state) > 0 and map_state.credit > 0:
                        break
                await bell.room.wait()
            await turns.pause()
            asked_ns = monotonic_ns()
    except BaseException as error:
        # Whatever it is, CancelledError too: the input has not come to its end. Raised after the outcomes before it.
        if not map_state.cancelled:
            # Else nobody asks, and its traceback, which has this frame, would keep the input open.
            input_reader.error = error
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise  # of a task, these end the loop
    finally:
        if gatherer is not None:
            gatherer.hand_over()
        if not map_state.cancelled:
            input_reader.stop()
