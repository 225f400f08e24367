"""`Executor.map` on a stream: all is handed over at once, and results gather until they are read.

A stream works for as long as it is read. What `map` of an executor was given has to be done also if nobody reads the
results, so a thread of its own reads the stream, and the iterator takes from that. The thread ends with the map. It
refers to the pool but not to the executor: one that nobody has any more ends once its maps are done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from queue import Empty, SimpleQueue
from typing import Any

from allcores.pool.driver import Driver
from allcores.pool.executor_errors import as_broken, translated
from allcores.pool.segment_reader import SegmentReader
from allcores.pool.segment_values import open_segment
from allcores.scheduler.function import Function
from allcores.scheduler.map_state import MapState
from allcores.scheduler.segment import Segment
from allcores.system.clock import monotonic_ns
from allcores.system.tracebacks import hide
from allcores.transport.refilled_items import as_pulled


class ExecutorMap:
    """One map, and the thread that reads it.

    Args:
        driver: Of the pool.
        make_map: Makes the map of a number.
        function: What is called.
        items: All of the input.
        owner: The pool.
        ended: Called, on the thread, when all items have an outcome.
    """

    def __init__(
        self,
        driver: Driver,
        make_map: Callable[[int], MapState],
        function: Function,
        items: list[Any],
        owner: object,
        ended: Callable[[ExecutorMap], object],
    ) -> None:
        self._count = len(items)
        self._reader = SegmentReader(driver, make_map, function, items, "raise", owner)
        #: segments, what ended the map, or None for its end
        self._read: SimpleQueue[Segment | BaseException | None] = SimpleQueue()
        #: set once its thread has begun, or will not; who begins it does not wait for that
        self._entered = threading.Event()
        self._beginner = threading.get_ident()
        self._thread = threading.Thread(
            target=_read_all, args=(self._reader, self._read, ended, self), name="allcores-executor-map", daemon=True
        )

    def start(self) -> None:
        """Begin. Raises RuntimeError where the system refuses a thread."""
        self._thread.start()
        self._entered.set()

    def give_up(self) -> None:
        """It will not begin."""
        self._entered.set()

    def stop(self) -> None:
        """Start no more items; what runs is finished."""
        self._reader.stop()

    def fail(self, error: BaseException) -> None:
        """No more outcomes will come: whoever reads gets the error."""
        self._read.put(error)
        self._reader.end()

    def wait(self) -> None:
        """Until all items have an outcome, save where this very thread is in the middle of beginning it."""
        if not self._entered.is_set():
            if self._beginner == threading.get_ident():
                return
            self._entered.wait()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def results(self, end_ns: int | None) -> Iterator[Any]:
        """The values in order, as `concurrent.futures` has them. Leaving it cancels what waits.

        Args:
            end_ns: When to give up waiting.
        """
        return _results(self._reader, self._read, self._count, end_ns)


def _read_all(
    reader: SegmentReader,
    read: SimpleQueue[Segment | BaseException | None],
    ended: Callable[[ExecutorMap], object],
    itself: ExecutorMap,
) -> None:
    try:
        for segment in reader.segments():
            read.put(segment)
    except BaseException as error:
        read.put(error)
    finally:
        read.put(None)
        ended(itself)


def _results(
    reader: SegmentReader,
    read: SimpleQueue[Segment | BaseException | None],
    count: int,
    end_ns: int | None,
) -> Iterator[Any]:
    try:
        while (segment := _next(reader, read, end_ns)) is not None:
            if isinstance(segment, BaseException):
                raise as_broken(segment) from segment.__cause__
            count -= segment.count
            failure = segment.failures[0] if segment.failures else None
            values = open_segment(segment)
            if failure is not None:
                del values[failure.offset :]
            # None is kept once it is given away.
            segment.values = None
            values.reverse()
            while values:
                yield values.pop()
            if reader.lost_changes.untold:
                reader.lost_changes.tell()
            if failure is not None:
                raise translated(failure.error, unpickling=failure.unpickling)
        if count:
            raise CancelledError
    except BaseException as error:
        hide(error, by_design=True)
        raise
    finally:
        reader.end()
        # The exception's traceback may be kept, and has this frame.
        segment = failure = None


def _next(
    reader: SegmentReader, read: SimpleQueue[Segment | BaseException | None], end_ns: int | None
) -> Segment | BaseException | None:
    try:
        return read.get_nowait()
    except Empty:
        pass
    # In a fork of the process there is no thread that reads.
    reader.check_process()
    try:
        return read.get(timeout=None if end_ns is None else max(0.0, (end_ns - monotonic_ns()) / 1e9))
    except Empty:
        raise TimeoutError from None


def all_of(iterables: tuple[Iterable[Any], ...]) -> tuple[str, list[Any]]:
    """How a worker calls the function, and what with: the input, read to the end of the shortest iterable."""
    if len(iterables) == 1:
        return "one", list(as_pulled(iterables[0]))
    return "star", list(zip(*map(as_pulled, iterables), strict=False))
