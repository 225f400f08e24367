"""What `imap` and its like return: a lazy iterator that pulls its input on the thread that reads it.

Reading the next value does three things, in this order: pull input while workers want some and
there is credit, wait for the next outcome, hand it over. Nothing here runs when nobody reads: the
pool goes on with what it has, and its driver keeps watch over deadlines and deaths.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Generic, TypeVar

from allcores.backends.base import is_in_task_of
from allcores.errors import BatchError, again
from allcores.pool.driver import Driver
from allcores.pool.input_reader import InputReader
from allcores.pool.lost_changes import LostChanges
from allcores.pool.segment_values import never_started, open_segment, outcomes_of
from allcores.scheduler.function import Function
from allcores.scheduler.map_state import MapState
from allcores.scheduler.segment import Segment
from allcores.shared_memory.buffers import unchanging
from allcores.system.bell import Bell
from allcores.system.clock import monotonic_ns
from allcores.system.interrupt_hold import InterruptHold
from allcores.system.tracebacks import hide, hiding, only_hiding

R_co = TypeVar("R_co", covariant=True)

#: Small segments are handed over without another look at input and pool for so long, ns. Longer: workers may wait for
#: input. Shorter: each costs a turn of the lock.
LOOK_NS = 200_000
#: Longest wait until what was logged on the way to results is handled, before these are handed out, seconds.
LOGS_S = 1.0
#: The same on a thread that others wait for: the pool's own, or an event loop's.
LOGS_ASIDE_S = 0.2
#: After a wait that was shorter than this, ns, the pool's own thread reads: it does so while this one is busy with
#: results and input, and threads that are awake anyway need not be woken. Larger: two threads wake for a report.
BRIEF_NS = 5_000_000
#: Longest wait without a look around, seconds. Every wake-up is announced; this bounds our mistakes.
WAIT_S = 5.0


def wait_s(*drivers: Driver) -> float:
    """How long a thread that is to pump for these may wait, seconds."""
    dues_ns = [due_ns for driver in drivers if (due_ns := driver.backend.pump_due_ns()) is not None]
    return min(WAIT_S, max(0.0, (min(dues_ns) - monotonic_ns()) / 1e9)) if dues_ns else WAIT_S


def length_of(map_state: MapState) -> int:
    """How many items a map has.

    Raises:
        TypeError: Its input has no length.
    """
    __tracebackhide__ = True
    if map_state.total is None:
        raise TypeError("the input of this stream has no length, so the stream has none")
    return map_state.total


class Reading(Generic[R_co]):
    """What the sync and the async stream share: how a segment becomes what the consumer gets."""

    def __init__(self, driver: Driver, map_state: MapState, on_error: str | None) -> None:
        self._driver = driver
        self._map_state = map_state
        #: "raise", "skip", or None for outcomes
        self._on_error = on_error

    def _unfold(self, segment: Segment) -> Iterable[Any]:
        """The results of a segment in order; raises a failure where it stands, if so asked."""
        if segment.failures and self._driver.observed:
            for outcome in outcomes_of(segment):
                if not outcome.ok:
                    self._driver.report_failure(self._map_state, outcome)
        if self._on_error is None:
            return outcomes_of(segment)
        values = open_segment(segment)
        if not segment.failures:
            return values
        if self._on_error != "skip":
            return self._until_failure(segment, values, 0)
        # Skipped are items that fail, not all results of a function that breaks its contract.
        for number, failure in enumerate(segment.failures):
            if isinstance(failure.error, BatchError):
                return self._until_failure(segment, values, number)
        return values

    @staticmethod
    def _until_failure(segment: Segment, values: list[Any], number: int) -> Iterator[Any]:
        """The values before a segment's failure of this number, which is raised then."""
        assert segment.failures
        failure = segment.failures[number]
        yield from values[: failure.offset - number]
        raise failure.error


def iterator_of(items: Iterable[Any]) -> Iterator[Any]:
    """Of an input. Whatever it raises is the program's affair."""
    __tracebackhide__ = True
    return iter(items)


class Reader(Reading[R_co]):
    """What a stream's generator works on.

    The generator holds this and not the stream, so that leaving a `for` loop over a stream that nobody else holds,
    which drops the generator, ends the map at once.
    """

    #: after Ctrl-C what runs is finished and handed over; False: it is raised at once
    finishes = True

    def __init__(
        self,
        driver: Driver,
        make_map: Callable[[int], MapState],
        function: Function,
        items: Iterable[Any],
        on_error: str | None,
        owner: object,
    ) -> None:
        #: rings when there is something to read, or to pull input for
        self.bell = Bell()
        # Asked before the map is opened: what is not iterable must leave nothing behind.
        iterator = iterator_of(items)
        super().__init__(driver, driver.open(make_map, self.bell.ring), on_error)
        self.input_reader = InputReader(driver, self._map_state, function, iterator)
        #: the pool, which must not close itself while it is read
        self._owner = owner
        self._interrupted: KeyboardInterrupt | None = None
        #: for whoever reads it to the end, and so has Ctrl-C come where it waits, and not with results in hand
        self.hold = InterruptHold()
        self._stopped = False
        #: segments whose turn comes next
        self._taken: deque[Segment] = deque()
        #: what `_collect` has found, and whether that is still to be dealt with
        self._finished = False
        self._collected = False
        #: how long the last wait took, ns
        self._waited_ns = BRIEF_NS
        #: when the input and the pool were looked at last, ns
        self._looked_ns = 0

    def __del__(self) -> None:
        # A generator that was never started has no end that would tell.
        if hasattr(self, "_map_state"):
            self.end()

    @property
    def lost_changes(self) -> LostChanges:
        """What workers have noticed."""
        return self._driver.lost_changes

    def end(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        """The map is not read any more. One that the program holds to its very end was ended with its pool."""
        if not is_finalizing():
            self._driver.end(self._map_state)

    def check_process(self) -> None:
        """See Driver."""
        self._driver.check_process()

    def total(self) -> int:
        """See Stream.__len__."""
        return length_of(self._map_state)

    @property
    def settled(self) -> int:
        """Items that have an outcome."""
        return self._map_state.settled

    def stop(self) -> None:
        """See Stream.stop."""
        self._stopped = True
        self.input_reader.stop()
        self._driver.turn(lambda scheduler, now: scheduler.stop(self._map_state, now))

    def read(self) -> Generator[R_co, None, None]:
        """The results, one by one."""
        try:
            lost_changes = self._driver.lost_changes
            for part in self.parts():
                yield from part
                if lost_changes.untold:
                    lost_changes.tell()
        except GeneratorExit:  # maybe as the interpreter ends, when names of modules are gone
            raise
        except BaseException as error:
            hide(error)
            raise

    def parts(self) -> Generator[Iterable[R_co], None, None]:
        """The results as they came, many at a time; a part may raise where a failure stands."""
        try:
            while True:
                segment = self._next_segment()
                if segment is None:
                    break
                if self._stopped and never_started(segment):
                    if self._map_state.ordered and self._on_error is not None:
                        # Values have no index of their own: none may follow a gap.
                        break
                    continue
                yield self._unfold(segment)
            if self._interrupted is not None:
                raise self._interrupted
            self.input_reader.raise_error()
        finally:
            self.end()
            # Where tasks run on this thread, the traceback of one that failed leads here, and the failure to it.
            segment = None
            self._taken.clear()

    def _next_segment(self) -> Segment | None:
        taken, map_state, driver = self._taken, self._map_state, self._driver
        if taken and not map_state.cancelled and monotonic_ns() - self._looked_ns < LOOK_NS:
            return self._hand_over()
        pump = driver.backend.pump
        self._collected = False
        while True:
            try:
                with self.hold.lifted:
                    if not self._collected:
                        with driver.lock:
                            self._collect()
                    self._collected = False
                    finished = self._finished
                    if map_state.broken is not None and not taken:
                        driver.backend.settle_logs(LOGS_S)
                        raise again(map_state.broken)
                    # With a slow input, what is ready goes first.
                    if not map_state.exhausted and not (self.input_reader.slow and taken):
                        self.input_reader.feed()
                    if taken:
                        if driver.backend.unhandled:
                            driver.backend.settle_logs(LOGS_S)
                        break
                    if finished:
                        return None
                    if pump():
                        continue
                    driver.backend.step_back()
                    self._wait()
            except KeyboardInterrupt as interrupt:
                if self._interrupted is not None or not self.finishes:
                    raise
                self._interrupted = interrupt
                self.stop()
        # From here on Ctrl-C is raised at once if nobody holds it: what it would make us lose is followed by nothing.
        self._looked_ns = monotonic_ns()
        return self._hand_over()

    def _wait(self) -> None:
        """Until there is something to do; meanwhile read what workers send, unless that comes quickly."""
        driver, begun = self._driver, monotonic_ns()
        # What a task waits for may wait for that task: its backend is to know of it. So is one that runs tasks here.
        brief = self._waited_ns < BRIEF_NS and not (driver.backend.runs_on_caller or is_in_task_of(driver))
        if brief or not driver.backend.wait(self.bell, self._collect, WAIT_S):
            with driver.lock:
                if not self._collect():
                    self.bell.expect()
            if not self._collected:
                self.bell.wait(wait_s(driver))
        self._waited_ns = monotonic_ns() - begun
        if self._waited_ns > WAIT_S * 1e9:
            # Nobody has woken us for long: what is due is seen to here, should its own thread have missed it.
            driver.on_timer()

    def _collect(self) -> bool:
        """Take what is ready, and look what is wanted of the input; with the driver's lock held, once per report.

        Returns:
            Whether there is anything to do.
        """
        taken, map_state = self._taken, self._map_state
        map_state.return_handed()
        # Kept on self: Ctrl-C is raised where the lock is released, and must not lose any.
        if not taken:
            taken.extend(map_state.take_some())
        elif map_state.cancelled:
            taken.clear()
        self._finished = map_state.finished
        if not map_state.exhausted:
            self.input_reader.look()
        self._collected = bool(taken) or map_state.finished or self._driver.scheduler.demand.starving(map_state)
        return self._collected

    def _hand_over(self) -> Segment:
        segment = self._taken.popleft()
        self._map_state.hand_over(segment)
        return segment


class Stream(Iterator[R_co]):
    """A lazy iterator over results. Also a context manager; leaving it cancels what is left.

    A loop over it may be left and gone on with, by another loop or by `itertools.islice`. What is left is cancelled as
    soon as nothing refers to the stream any more: at once when the loop over `pool.imap(...)` itself is left.

    Ctrl-C while it waits: no more input is pulled, what runs finishes and is handed over, then
    KeyboardInterrupt is raised. A second Ctrl-C raises at once and ends what runs.
    """

    def __init__(
        self,
        driver: Driver,
        make_map: Callable[[int], MapState],
        function: Function,
        items: Iterable[Any],
        on_error: str | None,
        owner: object = None,
    ) -> None:
        #: the items, if no code of the caller's runs when the input is advanced
        self._still: Sequence[Any] | None = items if type(items) is list or type(items) is tuple else None
        self._reader: Reader[R_co] = Reader(driver, make_map, function, items, on_error, owner)
        #: one for all who iterate: what a loop or `islice` leaves, the next one goes on with
        self._values: Generator[R_co, None, None] | None = None

    def __iter__(self) -> Iterator[R_co]:
        # The generator itself: a loop over it costs no Python call per item.
        if self._values is None:
            self._values = self._reader.read()
        return self._values

    def __next__(self) -> R_co:
        if self._values is None:
            self._values = self._reader.read()
        try:
            return next(self._values)
        except StopIteration:
            raise
        except BaseException as error:
            hide(error)
            raise

    @only_hiding
    def __len__(self) -> int:
        """Items of the input, where that has a length. As many results come, fewer where failed items are skipped."""
        return self._reader.total()

    def __bool__(self) -> bool:
        # Of an object that is there, and not of how many results there will be.
        return True

    def __enter__(self) -> Stream[R_co]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @hiding
    def collect(self, results: list[Any]) -> None:
        """Append all results; those that came before an exception are there all the same."""
        try:
            with self._reader.hold, nullcontext() if self._still is None else unchanging(self._still):
                for part in self._reader.parts():
                    results.extend(part)
        finally:
            self._reader.hold.release()
        if self._reader.lost_changes.untold:
            self._reader.lost_changes.tell()

    def close(self) -> None:
        """Cancel what is left: unstarted items are dropped, running ones end after the grace period."""
        self._reader.end()

    def stop(self) -> None:
        """Pull no more input and start nothing more; the iteration ends with what runs. Safe from any thread."""
        self._reader.stop()

    @property
    def done(self) -> int:
        """Items settled so far."""
        return self._reader.settled
