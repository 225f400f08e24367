"""What the verbs return: a lazy iterator that pulls its input on the thread that reads it.

Reading the next value does three things, in this order: pull input while workers want some and
there is credit, wait for the next outcome, hand it over. Nothing here runs when nobody reads: the
pool goes on with what it has, and its driver keeps watch over deadlines and deaths.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from allcores.clock import monotonic_ns
from allcores.engine.chronicle import InputChronicle
from allcores.engine.driver import Driver, encode
from allcores.engine.events import Failure
from allcores.engine.flow import Chunk, Flow, Function, Segment
from allcores.outcome import Kind, Outcome
from allcores.transport import pickling

R = TypeVar("R")

#: A pull that takes longer than this is handed over at once: a slow input must not be waited for, ns.
SLOW_PULL_NS = 2_000_000
#: Chunks that are handed over in one turn, at most.
MOST_CHUNKS = 64
#: Small segments are handed over without another look at input and pool for so long, ns. Longer: workers may wait for
#: input. Shorter: each costs a turn of the lock.
LOOK_NS = 200_000
#: Longest wait without a look around, seconds. Every wake-up is announced; this bounds our mistakes.
WAIT_S = 5.0


@runtime_checkable
class Numbered(Protocol):
    """An input that numbers its items itself, for it leaves some out. For streams that need no order."""

    def __iter__(self) -> Iterator[Any]: ...

    def upcoming(self) -> tuple[int, int]:
        """The next item's index, and how many items from there on follow each other without a gap."""


class Feeder:
    """Pulls items for one flow, in chunks that the flow asks for, without waiting long for any."""

    def __init__(self, driver: Driver, flow: Flow, function: Function, items: Iterable[Any]) -> None:
        self._driver = driver
        self._flow = flow
        self._function = function
        self._numbered = items if isinstance(items, Numbered) else None
        self._iterator: Iterator[Any] | None = iter(items)
        #: items that one pull may take at first; grows while the input is quick
        self._stride = 1
        #: index of the next item
        self._index = 0
        self.slow = False
        #: what observers are told
        self._notes = InputChronicle(flow.number)
        #: what the input raised, if it did
        self.error: BaseException | None = None

    def feed(self) -> None:
        """Pull as much as is wanted now."""
        flow, driver = self._flow, self._driver
        while not flow.exhausted:
            with driver.guard:
                room = driver.dispatcher.room(flow)
                wanted = flow.want(driver.workers) if room > 0 else 0
                if self.slow and not driver.dispatcher.hungry:
                    wanted = 0
                starved = room > 0 and not wanted and flow.credit <= 0
                bytes_left = flow.bytes_left
                if wanted:
                    room = min(room, MOST_CHUNKS, max(1, flow.credit // wanted))
            if not wanted:
                if starved:
                    self._notes.held_since_ns = self._notes.held_since_ns or monotonic_ns()
                    driver.turn(lambda dispatcher, now: dispatcher.starved(now))
                return
            self._pull_chunks(room, wanted, bytes_left)
            if self.slow and flow.ready:
                return

    def _pull_chunks(self, count: int, size: int, bytes_left: int) -> None:
        """Pull up to `count` chunks of `size` items and hand them over in one turn.

        No more once they have taken `bytes_left`: how large items are is known only when they are pickled.
        """
        parts: list[Chunk | Segment] = []
        if self._driver.tells_work:
            self._note_begin(monotonic_ns())
        try:
            for _ in range(count):
                items: list[Any] = []
                wanted = size
                if self._numbered is not None:
                    self._index, row = self._numbered.upcoming()
                    wanted = min(size, row)
                try:
                    self._pull(wanted, items)
                finally:
                    # Ctrl-C may come while the input is asked: what was pulled is handed over all the same.
                    if items:
                        then = monotonic_ns()
                        packed = self._pack(items)
                        parts += packed
                        self._notes.pack_ns += monotonic_ns() - then
                        bytes_left -= sum(part.size_bytes for part in packed)
                if self._iterator is None or self.slow or bytes_left <= 0:
                    break
        finally:
            if parts:
                then = monotonic_ns()
                self._driver.add_all(self._flow, parts)
                self._notes.pack_ns += monotonic_ns() - then
        if self._iterator is None:
            self._driver.turn(lambda dispatcher, now: dispatcher.input_ended(self._flow, now))
        if self._driver.tells_work:
            self._note_end()

    def _note_begin(self, now: int) -> None:
        """Somebody observes, and a pull begins."""
        news = self._notes.begin(now, self._index)
        if news is not None:
            self._driver.notify(news)

    def _note_end(self) -> None:
        news = self._notes.end(monotonic_ns(), self._index, ended=self._iterator is None)
        if news is not None:
            self._driver.notify(news)

    def _pull(self, wanted: int, items: list[Any]) -> None:
        """Append up to `wanted` items; fewer if the input is slow or ends."""
        iterator = self._iterator
        assert iterator is not None
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
            # Not the input's own failure: the stream stops.
            raise
        except BaseException as error:
            self._ended(error)
        taken = monotonic_ns() - begun
        self._notes.pull_ns += taken
        self.slow = taken > SLOW_PULL_NS

    def _ended(self, error: BaseException | None) -> None:
        self._iterator = None
        self.error = error

    def stop(self) -> None:
        """Pull nothing more."""
        self._iterator = None
        self._driver.turn(lambda dispatcher, now: dispatcher.input_ended(self._flow, now))
        if self._driver.tells_work:
            self._note_begin(monotonic_ns())
            self._note_end()

    def send(self, items: list[Any], asked_ns: int) -> None:
        """Hand over a chunk of pulled items, for which the input was asked at `asked_ns`."""
        observed, then = self._driver.tells_work, monotonic_ns()
        if observed:
            self._note_begin(asked_ns)
            self._notes.pull_ns += then - asked_ns
        self._driver.add_all(self._flow, self._pack(items))
        if observed:
            self._notes.pack_ns += monotonic_ns() - then
            self._note_end()

    def _pack(self, items: list[Any]) -> list[Chunk | Segment]:
        """Items as chunks with their bytes; those that will not pickle are settled already."""
        first = self._index
        if not self._driver.backend.needs_bytes:
            self._index += len(items)
            return [Chunk(self._flow, self._function, first, items)]
        payload, bad = encode(items, first, self._driver.backend.pack)
        if payload is not None:
            self._index += len(items)
            return [Chunk(self._flow, self._function, first, items, payload=payload)]
        parts: list[Chunk | Segment] = []
        start = 0
        for position, error in bad:
            if items[start:position]:
                parts += self._pack(items[start:position])
            failure = Failure(0, Kind.FAILED, error)
            parts.append(Segment(self._index, 1, [items[position]], values=[], failures=[failure], attempt=0))
            self._index += 1
            start = position + 1
        if items[start:]:
            parts += self._pack(items[start:])
        return parts


def open_segment(segment: Segment) -> list[Any]:
    """The values of a segment, one per item that returned."""
    if segment.values is None:
        values: list[Any] = []
        for payload in segment.payloads:
            values = values + pickling.loads(payload) if values else pickling.loads(payload)
        segment.values = values
        segment.payloads = ()
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


class Reading(Generic[R]):
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


class _Reader(Reading[R]):
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
        #: segments whose turn comes next
        self._taken: deque[Segment] = deque()
        #: when the input and the pool were looked at last, ns
        self._looked_ns = 0

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
        for part in self.parts():
            yield from part

    def parts(self) -> Generator[Iterable[R], None, None]:
        """The results as they came, many at a time; a part may raise where a failure stands."""
        try:
            while True:
                segment = self._next_segment()
                if segment is None:
                    break
                if self._stopped and _unstarted(segment):
                    if self._flow.ordered and self._on_error is not None:
                        # Values have no index of their own: none may follow a gap.
                        break
                    continue
                yield self._unfold(segment)
            if self._interrupted is not None:
                raise self._interrupted
            if self.feeder.error is not None:
                raise self.feeder.error
        finally:
            self.end()

    def _next_segment(self) -> Segment | None:
        taken, flow, driver = self._taken, self._flow, self._driver
        if taken and not flow.cancelled and monotonic_ns() - self._looked_ns < LOOK_NS:
            return self._hand_over()
        pump = driver.backend.pump
        while True:
            try:
                with driver.guard:
                    flow.return_handed()
                    # Kept on self: Ctrl-C is raised where the guard ends, and must not lose any.
                    if not taken:
                        taken.extend(flow.take_some())
                    elif flow.cancelled:
                        taken.clear()
                    broken, finished = flow.broken, flow.finished
                if broken is not None and not taken:
                    raise broken
                # With a slow input, what is ready goes first.
                if not flow.exhausted and not (self.feeder.slow and taken):
                    self.feeder.feed()
                if taken:
                    self._looked_ns = monotonic_ns()
                    return self._hand_over()
                if finished:
                    return None
                if pump():
                    continue
                with driver.lock:
                    if not (flow.ready or flow.finished or driver.dispatcher.starving(flow)):
                        self.condition.wait(WAIT_S)
            except KeyboardInterrupt as interrupt:
                if self._interrupted is not None:
                    raise
                self._interrupted = interrupt
                self.stop()

    def _hand_over(self) -> Segment:
        segment = self._taken.popleft()
        self._flow.hand_over(segment)
        return segment


def _unstarted(segment: Segment) -> bool:
    """Given up before it was tried, because of stop()."""
    return segment.attempt == 0 and segment.failures is not None and segment.failures[0].kind is Kind.CANCELLED


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

    def collect(self, results: list[R]) -> None:
        """Append all results; those that came before an exception are there all the same."""
        for part in self._reader.parts():
            results.extend(part)

    def close(self) -> None:
        """Cancel what is left: unstarted items are dropped, running ones end after the grace period."""
        self._reader._driver.end(self._reader._flow, wait=True)

    def stop(self) -> None:
        """Pull no more input and start nothing more; the iteration ends with what runs. Safe from any thread."""
        self._reader.stop()

    @property
    def done(self) -> int:
        """Items settled so far."""
        return self._reader._flow.settled
