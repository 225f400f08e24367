"""What the verbs return: a lazy iterator that pulls its input on the thread that reads it.

Reading the next value does three things, in this order: pull input while workers want some and
there is credit, wait for the next outcome, hand it over. Nothing here runs when nobody reads: the
pool goes on with what it has, and its driver keeps watch over deadlines and deaths.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from allcores.clock import monotonic_ns
from allcores.engine.driver import Driver, encode
from allcores.engine.events import Failure
from allcores.engine.flow import Chunk, Flow, Function, Segment
from allcores.outcome import Kind, Outcome
from allcores.transport import pickling

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

R = TypeVar("R")

#: A pull that takes longer than this is handed over at once: a slow input must not be waited for, ns.
SLOW_PULL_NS = 2_000_000
#: Longest wait without a look around, seconds. Every wake-up is announced; this bounds our mistakes.
WAIT_S = 5.0


class Feeder:
    """Pulls items for one flow, in chunks that the flow asks for, without waiting long for any."""

    def __init__(self, driver: Driver, flow: Flow, function: Function, items: Iterable[Any]) -> None:
        self._driver = driver
        self._flow = flow
        self._function = function
        self._iterator: Iterator[Any] | None = iter(items)
        #: items that one pull may take at first; grows while the input is quick
        self._stride = 1
        self.slow = False
        #: what the input raised, if it did
        self.error: BaseException | None = None

    def feed(self) -> None:
        """Pull as much as is wanted now."""
        flow, driver = self._flow, self._driver
        while not flow.exhausted:
            with driver.lock:
                room = driver.dispatcher.room(flow)
                wanted = flow.want(driver.workers) if room > 0 else 0
                if self.slow and not driver.dispatcher.hungry:
                    wanted = 0
            if not wanted:
                return
            self._pull(wanted)
            if self.slow and flow.ready:
                return

    def _pull(self, wanted: int) -> None:
        iterator = self._iterator
        assert iterator is not None
        items: list[Any] = []
        begun = then = monotonic_ns()
        try:
            while len(items) < wanted:
                stride = min(self._stride, wanted - len(items))
                before = len(items)
                # extend keeps what came before an exception of the iterator
                items.extend(islice(iterator, stride))
                if len(items) - before < stride:
                    self._ended(None)
                    break
                now = monotonic_ns()
                if now - then < SLOW_PULL_NS // 4:
                    self._stride = min(self._stride * 4, 1 << 16)
                else:
                    self._stride = max(1, self._stride // 4)
                then = now
                if now - begun > SLOW_PULL_NS:
                    break
        except KeyboardInterrupt:
            # Not the input's own failure: what was pulled is handed over, then the stream stops.
            if items:
                self.send(items)
            raise
        except BaseException as error:
            self._ended(error)
        self.slow = monotonic_ns() - begun > SLOW_PULL_NS
        if items:
            self.send(items)
        if self._iterator is None:
            self._driver.turn(lambda dispatcher, now: self._close_input())

    def _close_input(self) -> None:
        self._flow.exhausted = True
        self._driver.dispatcher.touched.add(self._flow)

    def _ended(self, error: BaseException | None) -> None:
        self._iterator = None
        self.error = error

    def stop(self) -> None:
        """Pull nothing more."""
        self._iterator = None
        self._driver.turn(lambda dispatcher, now: self._close_input())

    def send(self, items: list[Any]) -> None:
        """Hand over a chunk of pulled items."""
        flow = self._flow
        chunk = Chunk(flow, self._function, flow.pulled, items)
        if not self._driver.backend.needs_bytes:
            self._driver.add(chunk)
            return
        payload, bad = encode(items, flow.pulled)
        if payload is not None:
            chunk.payload = payload
            chunk.size_bytes = len(payload)
            self._driver.add(chunk)
            return
        refused = dict(bad)
        start = 0
        for position, error in [*bad, (len(items), None)]:
            if items[start:position]:
                self.send(items[start:position])
            if error is not None:
                self._refuse(items[position], refused[position])
            start = position + 1

    def _refuse(self, item: Any, error: BaseException) -> None:
        """Settle an item that cannot travel: it was never tried."""
        flow = self._flow

        def settle(dispatcher: Any, now: int) -> None:
            index = flow.pulled
            flow.pulled += 1
            dispatcher.by_kind[Kind.FAILED] += 1
            dispatcher.items_done += 1
            failure = Failure(0, Kind.FAILED, error)
            flow.settle(Segment(index, 1, [item], values=[], failures=[failure], attempt=0))
            dispatcher.touched.add(flow)

        self._driver.turn(settle)


def open_segment(segment: Segment) -> list[Any]:
    """The values of a segment, one per item that returned."""
    if segment.values is None:
        assert segment.payload is not None
        segment.values = pickling.loads(segment.payload)
        segment.payload = None
    return segment.values


def outcomes_of(segment: Segment) -> Iterator[Outcome[Any]]:
    """A segment's outcomes in input order."""
    values = iter(open_segment(segment))
    failed = {failure.offset: failure for failure in segment.failures or ()}
    durations = segment.durations
    for offset in range(segment.count):
        failure = failed.get(offset)
        seconds = durations[offset] / 1e9 if durations is not None else 0.0
        if failure is None:
            yield Outcome(
                segment.start + offset,
                Kind.OK,
                next(values),
                None,
                segment.items[offset],
                segment.attempt,
                seconds,
                segment.worker,
            )
        else:
            yield Outcome(
                segment.start + offset,
                failure.kind,
                None,
                failure.error,
                segment.items[offset],
                segment.attempt,
                seconds,
                segment.worker,
            )


class _Reading(Generic[R]):
    """What the sync and the async stream share: how a segment becomes what the consumer gets."""

    def __init__(self, driver: Driver, flow: Flow, on_error: str | None) -> None:
        self._driver = driver
        self._flow = flow
        #: "raise", "skip", or None for outcomes
        self._on_error = on_error

    def _unfold(self, segment: Segment) -> Iterable[Any]:
        """The results of a segment in order; raises a failure where it stands, if so asked."""
        if segment.failures and self._driver.observed:
            for outcome in outcomes_of(segment):
                if not outcome.ok:
                    self._driver.report_failure(self._flow, outcome)
        if self._on_error is None:
            return outcomes_of(segment)
        values = open_segment(segment)
        if not segment.failures or self._on_error == "skip":
            return values
        return self._until_failure(segment, values)

    @staticmethod
    def _until_failure(segment: Segment, values: list[Any]) -> Iterator[Any]:
        assert segment.failures
        failure = segment.failures[0]
        yield from values[: failure.offset]
        raise failure.error


class _Reader(_Reading[R]):
    """What a stream's generator works on. The generator holds this and not the stream, so that leaving a
    `for` loop, which drops the generator, ends the flow at once."""

    def __init__(
        self,
        driver: Driver,
        make_flow: Callable[[int], Flow],
        function: Function,
        items: Iterable[Any],
        on_error: str | None,
        owner: object,
    ) -> None:
        self.condition = threading.Condition(driver.lock)
        # Asked before the flow is opened: what is not iterable must leave nothing behind.
        iterator = iter(items)
        super().__init__(driver, driver.open(make_flow, self.condition.notify_all), on_error)
        self.feeder = Feeder(driver, self._flow, function, iterator)
        #: the pool, which must not close itself while it is read
        self._owner = owner
        self._interrupted: KeyboardInterrupt | None = None
        self._stopped = False

    def __del__(self) -> None:
        # A generator that was never started has no end that would tell.
        if hasattr(self, "_flow"):
            self.end()

    def end(self) -> None:
        """The flow is not read any more."""
        self._driver.end(self._flow)

    def stop(self) -> None:
        """See Stream.stop."""
        self._stopped = True
        self.feeder.stop()
        self._driver.turn(lambda dispatcher, now: dispatcher.stop(self._flow, now))

    def read(self) -> Generator[R, None, None]:
        """The results, one by one."""
        try:
            while True:
                segment = self._next_segment()
                if segment is None:
                    break
                if self._stopped and segment.attempt == 0 and segment.failures:
                    if segment.failures[0].kind is Kind.CANCELLED:
                        # Given up unstarted, because of stop().
                        continue
                yield from self._unfold(segment)
            if self._interrupted is not None:
                raise self._interrupted
            if self.feeder.error is not None:
                raise self.feeder.error
        finally:
            self.end()

    def _next_segment(self) -> Segment | None:
        flow, lock = self._flow, self._driver.lock
        pump = self._driver.backend.pump
        while True:
            try:
                # With a slow input, what is ready goes first.
                if not flow.exhausted and not (self.feeder.slow and flow.ready):
                    self.feeder.feed()
                with lock:
                    segment = flow.take()
                    if segment is not None:
                        return segment
                    if flow.broken is not None:
                        raise flow.broken
                    if flow.finished:
                        return None
                if pump():
                    continue
                with lock:
                    if not flow.ready and not flow.finished:
                        self.condition.wait(WAIT_S)
            except KeyboardInterrupt as interrupt:
                if self._interrupted is not None:
                    raise
                self._interrupted = interrupt
                self.stop()


class Stream(Iterator[R]):
    """A lazy iterator over results. Also a context manager; leaving it cancels what is left.

    Ctrl-C while it waits: no more input is pulled, what runs finishes and is handed over, then
    KeyboardInterrupt is raised. A second Ctrl-C raises at once and ends what runs.
    """

    def __init__(
        self,
        driver: Driver,
        make_flow: Callable[[int], Flow],
        function: Function,
        items: Iterable[Any],
        on_error: str | None,
        owner: object = None,
    ) -> None:
        self._reader: _Reader[R] = _Reader(driver, make_flow, function, items, on_error, owner)
        self._given: weakref.ref[Generator[R, None, None]] | None = None
        self._held: Generator[R, None, None] | None = None

    def __iter__(self) -> Iterator[R]:
        # The generator itself: a loop over it costs no Python call per item. Not held here, see _Reader.
        values = self._held or (self._given() if self._given is not None else None)
        if values is None:
            values = self._reader.read()
            self._given = weakref.ref(values)
        return values

    def __next__(self) -> R:
        if self._held is None:
            values = self._given() if self._given is not None else None
            self._held = values if values is not None else self._reader.read()
        return next(self._held)

    def __enter__(self) -> Stream[R]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is left: unstarted items are dropped, running ones end after the grace period."""
        self._reader.end()

    def stop(self) -> None:
        """Pull no more input and start nothing more; the iteration ends with what runs. Safe from any thread."""
        self._reader.stop()

    @property
    def done(self) -> int:
        """Items settled so far."""
        return self._reader._flow.settled


class _Bell:
    """Wakes an event loop from the driver's thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.event = asyncio.Event()

    def ring(self) -> None:
        """There is something to read. A loop that is closed wants no news."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.event.set)


class AsyncStream(_Reading[R], AsyncIterator[R]):
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
        flow, lock = self._flow, self._driver.lock
        if self._source is not None and self._puller is None:
            self._puller = asyncio.create_task(self._pull_async())
        while True:
            self._bell.event.clear()
            if self._source is None and not flow.exhausted:
                self._feeder.feed()
            with lock:
                segment = flow.take()
                if segment is not None:
                    return segment
                if flow.broken is not None:
                    raise flow.broken
                if flow.finished:
                    return None
            if self._driver.backend.pump():
                await asyncio.sleep(0)
                continue
            await self._bell.event.wait()

    async def _pull_async(self) -> None:
        """Feed from an async input, one item at a time: such inputs are slow by nature."""
        flow = self._flow
        assert self._source is not None
        try:
            async for item in self._source:
                self._feeder.send([item])
                while not flow.exhausted and not flow.cancelled:
                    with self._driver.lock:
                        if self._driver.dispatcher.room(flow) > 0 and flow.credit > 0:
                            break
                    await asyncio.sleep(0.001)
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

