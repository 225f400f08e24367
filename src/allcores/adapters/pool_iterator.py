"""What `imap` and `imap_unordered` of the `multiprocessing` drop-in return."""

from __future__ import annotations

import multiprocessing
import threading
import weakref
from collections import deque
from multiprocessing import pool as original
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from allcores.adapters.pool_chunks import flattened
from allcores.adapters.pool_errors import as_in_multiprocessing
from allcores.adapters.pool_maps import PoolMap
from allcores.pool.result_stream import LOGS_S
from allcores.pool.segment_values import open_segment
from allcores.scheduler.segment import Segment
from allcores.system import forks
from allcores.system.tracebacks import hide

T = TypeVar("T")

if TYPE_CHECKING:
    _Results = original.IMapIterator
else:

    class _Results(Generic[T], original.IMapIterator):
        """The original, which takes no type of what it gives while a program runs."""


class IMapIterator(_Results[T]):
    """What `imap` and `imap_unordered` return: the results, as they come.

    An item that fails raises where it stands, and the iterator can be gone on with. Also with several threads.
    """

    def __init__(
        self, owner: object, made: PoolMap | None, error: BaseException | None = None, *, joins: bool = False
    ) -> None:
        self._owner = owner
        #: what comes are lists, to be joined to one
        self._joins = joins
        self._map = made
        self._error = error
        #: results in reverse order, and what follows them
        self._values: list[T] = []
        self._parts: deque[list[Any] | BaseException] = deque()
        self._lock = threading.Lock()
        self._began = False
        forks.renew_in_children(self)
        if made is not None:
            weakref.finalize(self, made.drop).atexit = False

    def after_fork(self) -> None:
        """In a child of a fork: whichever thread had the lock is not here."""
        self._lock = threading.Lock()

    def __iter__(self) -> IMapIterator[T]:
        return self

    def next(self, timeout: float | None = None) -> T:
        """The next result.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            multiprocessing.TimeoutError: The time is up; the next call goes on waiting.
            StopIteration: There is none any more.
        """
        try:
            return self._values.pop()
        except IndexError:
            pass  # what is raised below has nothing to do with this
        try:
            return self._next(timeout)
        except StopIteration:
            raise
        except BaseException as error:
            hide(error)
            raise

    __next__ = next

    def _next(self, timeout: float | None) -> T:
        __tracebackhide__ = True
        until = None if timeout is None else monotonic() + max(0.0, timeout)
        # In a fork of the process it is another one from then on.
        lock = self._lock
        if not lock.acquire(timeout=-1 if until is None else max(0.0, until - monotonic())):
            raise multiprocessing.TimeoutError
        try:
            if self._map is not None and not self._began:
                self._began = True
                self._map.bound()
            while True:
                try:
                    return self._values.pop()
                except IndexError:
                    pass
                if self._parts:
                    part = self._parts.popleft()
                    if isinstance(part, BaseException):
                        raise part
                    self._values = part
                elif not self._more(until):
                    raise StopIteration
        finally:
            lock.release()

    def _more(self, until: float | None) -> bool:
        """Wait for results; False if there are none any more."""
        made = self._map
        while made is not None:
            taken = made.look()
            if taken is None:
                # As one look has it: had it ended after that, there would be results that nobody has read.
                self._error, self._map = made.error, None
                break
            if taken:
                if made.driver.backend.unhandled:
                    made.driver.backend.settle_logs(LOGS_S)
                for segment in taken:
                    self._unfold(segment)
                return True
            __tracebackhide__ = True
            left = None if until is None else until - monotonic()
            if left is not None and left <= 0:
                raise multiprocessing.TimeoutError
            made.wait(left)
        error, self._error = self._error, None
        if error is None:
            return False
        self._parts.append(as_in_multiprocessing(error, in_loop=True))
        return True

    def _unfold(self, segment: Segment) -> None:
        values = open_segment(segment)
        if not segment.failures:
            self._append(values)
            return
        begin = 0
        for number, failure in enumerate(segment.failures):
            end = failure.offset - number
            if begin < end:
                self._append(values[begin:end])
            self._parts.append(as_in_multiprocessing(failure.error, in_loop=True))
            begin = end
        if begin < len(values):
            self._append(values[begin:])

    def _append(self, values: list[Any]) -> None:
        if self._joins:
            values = flattened(values)
        values.reverse()
        self._parts.append(values)
