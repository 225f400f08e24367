"""What the asynchronous methods of the `multiprocessing` drop-in return, with the meaning that Python documents."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from multiprocessing import pool as original
from typing import Any, TypeVar

from allcores.adapters.pool_chunks import flattened
from allcores.adapters.pool_errors import as_in_multiprocessing, ended
from allcores.adapters.pool_work import Work
from allcores.errors import PoolClosed
from allcores.pool.call_future import OF_ANOTHER_PROCESS, CallFuture
from allcores.pool.pool import driver_of
from allcores.system.tracebacks import forget, hide, only_hiding

T = TypeVar("T")

Callback = Callable[[Any], object]


class _Told(threading.Event):
    """Set once the outcome is there and was told. In a fork of its process nothing else will come: it is set there."""

    def __init__(self) -> None:
        super().__init__()
        self._process = os.getpid()

    @property
    def elsewhere(self) -> bool:
        """It is set by the process that this one was forked from, if at all."""
        return not super().is_set() and self._process != os.getpid()

    def is_set(self) -> bool:
        return super().is_set() or self._process != os.getpid()

    def wait(self, timeout: float | None = None) -> bool:
        # Asked first: a thread of the parent may have held what guards it.
        return self.is_set() or super().wait(timeout)


class PoolFuture(CallFuture):
    """The future of one call, whose errors are those of `multiprocessing`."""

    def __init__(self, work: Work) -> None:
        super().__init__(driver_of(work.pool))
        self._work: Work | None = work

    def _translate(self, error: BaseException, *, unpickling: bool = False) -> BaseException:
        return as_in_multiprocessing(error)

    def _invoke_callbacks(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.futures.pop(self, None)
        super()._invoke_callbacks()


class AsyncResult(original.ApplyResult[T]):
    """The outcome of `apply_async`, once it is there.

    Its methods may be called from any thread. A function given as `callback` or `error_callback` is called on a thread
    of the pool, before `ready()` says so.
    """

    def __init__(
        self, work: Work, owner: object, callback: Callback | None = None, error_callback: Callback | None = None
    ) -> None:
        self._future: PoolFuture = PoolFuture(work)
        #: the pool, which is not closed as long as a program may ask for a result
        self._owner = owner
        self._work = work
        self._callbacks = (callback, error_callback)
        #: None: nobody is told
        self._told = _Told() if callback is not None or error_callback is not None else None
        if self._told is not None:
            work.callback_due()
            self._future.add_done_callback(self._tell_later)

    @property
    def future(self) -> PoolFuture:
        """The future of the call."""
        return self._future

    def withdraw(self) -> None:
        """Nobody will have it: the call was interrupted as it began, and who wanted it was told."""
        self._callbacks = (None, None)
        self._future.fail(ended())

    def _tell_later(self, _: object) -> None:
        self._work.call_later(self._tell)

    def _tell(self) -> None:
        """Call whom it concerns; on the pool's thread for that."""
        assert self._told is not None
        callback, error_callback = self._callbacks
        self._callbacks = (None, None)
        try:
            try:
                value = self._outcome(0)
            except BaseException as error:
                hide(error)
                if error_callback is not None:
                    error_callback(error)
            else:
                if callback is not None:
                    callback(value)
        finally:
            self._told.set()

    def _outcome(self, timeout: float | None) -> Any:
        try:
            return self._future.result(timeout)
        except CancelledError:
            raise ended() from None

    def ready(self) -> bool:
        """Whether the outcome is there."""
        return self._future.done() if self._told is None else self._told.is_set()

    @only_hiding
    def successful(self) -> bool:
        """Whether it is a value.

        Raises:
            ValueError: It is not there yet.
        """
        __tracebackhide__ = True
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return not self._future.cancelled() and self._future.exception() is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the outcome is there, or for so many seconds."""
        if self._told is not None:
            self._told.wait(timeout)
            return
        try:
            self._future.exception(None if timeout is None else max(0.0, timeout))
        except (TimeoutError, CancelledError):
            return

    @only_hiding
    def get(self, timeout: float | None = None) -> T:
        """The value; what the function raised is raised.

        Args:
            timeout: Seconds to wait at most; None: as long as it takes.

        Raises:
            multiprocessing.TimeoutError: The time is up. The call goes on.
            WorkerLost: The process that ran it ended.
            PoolClosed: The pool was terminated before.
        """
        if timeout is not None or self._told is not None:
            self.wait(timeout)
            if not self.ready():
                __tracebackhide__ = True
                raise multiprocessing.TimeoutError
        value: T = self._outcome(None)
        return value


class MapResult(original.MapResult[T]):
    """The outcome of `map_async` or `starmap_async`: a list, or the failure of the first item that failed.

    Attributes:
        joins: What comes are lists, to be joined to one.
    """

    #: of the original, and not public; programs read both for a progress bar
    _chunksize = 1

    def __init__(
        self, work: Work, owner: object, callback: Callback | None = None, error_callback: Callback | None = None
    ) -> None:
        self._owner = owner
        self._work = work
        self._callbacks = (callback, error_callback)
        self._told = _Told()
        self._value: Any = None
        self._error: BaseException | None = None
        self._settled = False
        self.joins = False
        #: how many items have no outcome yet, as long as the map goes on
        self._unsettled: Callable[[], int] | None = None
        work.callback_due()

    def follow(self, chunk: int, unsettled: Callable[[], int]) -> None:
        """The map has begun.

        Args:
            chunk: Items that travel together; 1 where that is not given.
            unsettled: How many items have no outcome yet.
        """
        self._chunksize, self._unsettled = chunk, unsettled

    def settle(self, value: Any, error: BaseException | None) -> None:
        """The outcome is there; those whom it concerns are told later."""
        if self._settled:
            return
        self._settled = True
        self._unsettled = None
        if error is not None:
            hide(error)
        self._value, self._error = flattened(value) if self.joins and error is None else value, error
        if self._callbacks == (None, None):
            self._told.set()
            self._work.callback_done()
        else:
            self._work.call_later(self._tell)

    def withdraw(self) -> None:
        """Nobody will have it: the map could not begin, and who wanted it was told why."""
        if not self._settled:
            self._settled = True
            self._work.callback_done()

    @property
    def _number_left(self) -> int:
        """How many chunks have no outcome yet, each counted as of `_chunksize` items."""
        unsettled = self._unsettled
        return 0 if unsettled is None else -(-unsettled() // self._chunksize)

    def _tell(self) -> None:
        callback, error_callback = self._callbacks
        self._callbacks = (None, None)
        try:
            if self._error is None:
                if callback is not None:
                    callback(self._value)
            elif error_callback is not None:
                error_callback(self._error)
        finally:
            self._told.set()

    def ready(self) -> bool:
        """Whether the outcome is there."""
        return self._told.is_set()

    @only_hiding
    def successful(self) -> bool:
        """Whether all items have returned.

        Raises:
            ValueError: The outcome is not there yet.
        """
        __tracebackhide__ = True
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None and not self._told.elsewhere

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the outcome is there, or for so many seconds."""
        self._told.wait(timeout)

    @only_hiding
    def get(self, timeout: float | None = None) -> list[T]:
        """The list of results; what an item's function raised is raised once all items have an outcome.

        Args:
            timeout: Seconds to wait at most; None: as long as it takes.

        Raises:
            multiprocessing.TimeoutError: The time is up. The map goes on.
        """
        __tracebackhide__ = True
        self._told.wait(timeout)
        if not self._told.is_set():
            raise multiprocessing.TimeoutError
        if self._told.elsewhere:
            raise PoolClosed(OF_ANOTHER_PROCESS)
        if self._error is not None:
            forget(self._error)
            raise self._error
        values: list[T] = self._value
        return values


def failed(result: MapResult[Any], error: BaseException) -> MapResult[Any]:
    """A result that is there already: the map could not begin."""
    result.settle(None, as_in_multiprocessing(error))
    return result
