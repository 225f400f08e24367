"""`multiprocessing.Pool` on allcores: the same interface, and a worker that dies costs its own task only.

from allcores.adapters.multiprocessing import Pool
"""

from __future__ import annotations

import multiprocessing
import os
import warnings
import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from allcores.adapters.pool_chunks import ChunkCall, chunks_of, flattened, in_chunks
from allcores.adapters.pool_iterator import IMapIterator
from allcores.adapters.pool_map_call import mapped
from allcores.adapters.pool_maps import PoolMap
from allcores.adapters.pool_results import AsyncResult, Callback, MapResult, failed
from allcores.adapters.pool_start import WorkerStart
from allcores.adapters.pool_work import Work, Workers
from allcores.backends.base import ChangesLost
from allcores.limits import FOREVER_S, Limits, whole_named
from allcores.pool.lost_changes import LostChanges
from allcores.pool.pool import Pool as Engine
from allcores.pool.pool import driver_of
from allcores.system import deferral
from allcores.system.tracebacks import only_hiding
from allcores.transport.refilled_items import as_pulled

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from allcores.pool.notifier import Observer

S = TypeVar("S")
T = TypeVar("T")

RUN, CLOSE, TERMINATE = "RUN", "CLOSE", "TERMINATE"


def _checked(chunksize: Any) -> int | None:
    __tracebackhide__ = True
    size = whole_named("chunksize", chunksize)
    if size is not None and size < 1:
        raise ValueError(f"Chunksize must be 1+, not {size:n}")
    return size


class Unnoticed(LostChanges):
    """Nothing is said of globals that functions change in workers."""

    def note(self, event: ChangesLost) -> None:
        """Leave it at that."""


class Pool:
    """Drop-in for `multiprocessing.Pool`: its methods, results, callbacks and errors, on an allcores pool.

    What is different: a worker that dies fails the task that it ran (`WorkerLost`) instead of hanging the program; an
    initializer that raises is an error (`SetupError`) instead of a loop; `imap` with a chunk size of 1 sizes chunks
    itself, and pulls its input as workers want it.

    Args:
        processes: How many workers; None takes the core budget (`allcores.core_budget()`).
        initializer: Called in each worker before its first task.
        initargs: Its arguments. Locks, queues and shared values may be among them.
        maxtasksperchild: A worker is replaced after so many tasks.
        context: A context of multiprocessing; its start method is used. None: multiprocessing's default.

    Raises:
        ValueError: For numbers that make no sense.
        TypeError: The initializer cannot be called.
    """

    #: of its engine, for classes that are derived from it
    _observers: tuple[Observer, ...] = ()

    @only_hiding
    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
    ) -> None:
        __tracebackhide__ = True
        self._state = "INIT"
        processes = whole_named("processes", processes)
        if processes is not None and processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        tasks = whole_named("maxtasksperchild", maxtasksperchild)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        method = (context or multiprocessing).get_start_method()
        workers = Workers()
        engine = Engine(
            processes,
            # Without an initializer they may be anything, as with the original.
            setup=WorkerStart(method, initializer, () if initializer is None else tuple(initargs)),
            start_method=method,
            limits=Limits(items_per_worker=tasks, grace_s=0.0, setup_s=FOREVER_S),
            observers=(workers, *self._observers),
            name="multiprocessing",
        )
        # A global that a worker changes is its own, as all programs for the original know.
        driver_of(engine).lost_changes = Unnoticed()
        #: programs read it
        self._processes = engine.workers
        self._chunks_are_tasks = maxtasksperchild is not None
        self._work = Work(engine, workers, initializes=initializer is not None)
        self._pid = os.getpid()
        self._state = RUN
        # The engine ends at exit by itself.
        weakref.finalize(self, self._work.dropped).atexit = False

    def __del__(self, _warn: Callable[..., None] = warnings.warn, _run: str = RUN) -> None:
        if getattr(self, "_state", None) == _run and self._pid == os.getpid():
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        workers = getattr(self, "_processes", 0)
        return f"<{type(self).__module__}.{type(self).__qualname__} state={self._state} pool_size={workers}>"

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def _check_running(self) -> None:
        __tracebackhide__ = True
        if self._state != RUN:
            raise ValueError("Pool not running")

    # --- one call ---

    @only_hiding
    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None) -> T:
        """`func(*args, **kwds)`, called in a worker and waited for."""
        return self.apply_async(func, args, kwds).get()

    @only_hiding
    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: dict[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[T]:
        """Have `func(*args, **kwds)` called in a worker.

        Args:
            func: The function.
            args: Its positional arguments.
            kwds: Its keyword arguments.
            callback: Called with the value, on a thread of the pool.
            error_callback: Called with the exception, likewise.

        Raises:
            ValueError: The pool is not running.
        """
        self._check_running()
        result: AsyncResult[T] = AsyncResult(self._work, self, callback, error_callback)
        try:
            self._work.begin(result.future, func, args, kwds or {})
        except BaseException:
            # The end of the pool would wait for it.
            result.withdraw()
            raise
        return result

    # --- many ---

    @only_hiding
    def map(self, func: Callable[[S], T], iterable: Iterable[S], chunksize: int | None = None) -> list[T]:
        """Results of `func(item)` for all items, in their order.

        Args:
            func: The function.
            iterable: The input; read to its end first, if it has no length.
            chunksize: Items that travel together; None: as many as prove right.

        Raises:
            Exception: What the first item in input order that failed has raised; after all have an outcome.
        """
        return self._mapped(func, "one", iterable, chunksize)

    @only_hiding
    def map_async(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]:
        """Like `map`, without waiting. Callbacks as for `apply_async`."""
        return self._map(func, "one", iterable, chunksize, callback, error_callback)

    @only_hiding
    def starmap(
        self, func: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[T]:
        """Like `map`, for `func(*item)`."""
        return self._mapped(func, "star", iterable, chunksize)

    @only_hiding
    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]:
        """Like `map_async`, for `func(*item)`."""
        return self._map(func, "star", iterable, chunksize, callback, error_callback)

    def _mapped(
        self, func: Callable[..., Any], style: str, iterable: Iterable[Any], chunksize: int | None
    ) -> list[Any]:
        self._check_running()
        chunksize = _checked(chunksize)
        items = iterable if type(iterable) is list else list(as_pulled(iterable))
        if self._chunks_are_tasks:
            part, parts = ChunkCall(func, style), chunks_of(items, chunksize, self._processes)
            return flattened(mapped(self._work, part, "one", parts, 1))
        return mapped(self._work, func, style, items, chunksize)

    def _map(
        self,
        func: Callable[..., Any],
        style: str,
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> MapResult[Any]:
        self._check_running()
        chunksize = _checked(chunksize)
        trouble: BaseException | None = None
        items: list[Any] = []
        if hasattr(iterable, "__len__"):
            try:
                items = list(as_pulled(iterable))
            except Exception as error:
                if deferral.raised_by_handler(error):
                    raise
                # As in the original, where another thread reads it: the result tells.
                trouble = error
        else:
            items = list(as_pulled(iterable))
        if not items and trouble is None:
            # The original tells nobody of a map of nothing.
            callback = error_callback = None
        result: MapResult[Any] = MapResult(self._work, self, callback, error_callback)
        if trouble is not None:
            return failed(result, trouble)
        if self._chunks_are_tasks:
            items = chunks_of(items, chunksize, self._processes)
            func, style, chunksize, result.joins = ChunkCall(func, style), "one", 1, True
        try:
            PoolMap(self._work, func, style, items, chunksize, result=result)
        except BaseException as error:
            if isinstance(error, Exception) and not deferral.raised_by_handler(error):
                # As in the original: the result tells.
                return failed(result, error)
            # The end of the pool would wait for it.
            result.withdraw()
            raise
        return result

    @only_hiding
    def imap(self, func: Callable[[S], T], iterable: Iterable[S], chunksize: int = 1) -> IMapIterator[T]:
        """An iterator over the results of `func(item)`, in the order of the items.

        Work begins at once. As long as nobody reads, all of the input is worked on; from then on it is pulled no
        further ahead than `Limits` of allcores say. An input that is no collection is pulled on a thread of the pool.

        Args:
            func: The function.
            iterable: The input; it may be endless.
            chunksize: Items that travel together; 1: as many as prove right.

        Raises:
            ValueError: The pool is not running, or the chunk size is below 1.
        """
        return self._imap(func, iterable, chunksize, ordered=True)

    @only_hiding
    def imap_unordered(self, func: Callable[[S], T], iterable: Iterable[S], chunksize: int = 1) -> IMapIterator[T]:
        """Like `imap`, with the results as they come."""
        return self._imap(func, iterable, chunksize, ordered=False)

    def _imap(
        self, func: Callable[..., Any], items: Iterable[Any], chunksize: int, *, ordered: bool
    ) -> IMapIterator[Any]:
        __tracebackhide__ = True
        self._check_running()
        chunksize = _checked(chunksize) or 1
        joins = self._chunks_are_tasks and chunksize > 1
        if joins:
            # A chunk is one task, as in the original, and what fails in it costs the rest of it.
            func, items, chunksize = ChunkCall(func, "one"), in_chunks(items, chunksize), 1
        try:
            made = PoolMap(self._work, func, "one", items, chunksize if chunksize > 1 else None, ordered=ordered)
        except Exception as error:
            if deferral.raised_by_handler(error):
                raise
            return IMapIterator(self, None, error)
        return IMapIterator(self, made, joins=joins)

    # --- the end ---

    def close(self) -> None:
        """Take no more work. Workers end once what there is is done."""
        if self._state == RUN:
            self._state = CLOSE
            self._work.close_later()

    def terminate(self) -> None:
        """End the workers at once. Results that are not there yet raise `PoolClosed`."""
        self._state = TERMINATE
        self._work.terminate()

    @only_hiding
    def join(self) -> None:
        """Wait until all work is done and the workers have ended.

        Raises:
            ValueError: Neither `close` nor `terminate` was called before.
        """
        __tracebackhide__ = True
        if self._state == RUN:
            raise ValueError("Pool is still running")
        self._work.unbound()
        self._work.join()

    @only_hiding
    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()


__all__ = ["AsyncResult", "IMapIterator", "MapResult", "Pool"]
