"""`concurrent.futures.Executor` on an allcores pool.

The constructor and the meaning of every method are `ProcessPoolExecutor`'s, except that a worker that
dies fails its own future only. That future's exception is both a `WorkerLost`, which says what
happened, and a `BrokenProcessPool`, so that old `except` clauses still work.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import Executor as BaseExecutor
from functools import partial
from itertools import islice
from threading import get_ident
from types import FunctionType
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, SupportsIndex, TypeVar

from allcores.errors import NotPicklable, UsageError, WorkerLost
from allcores.limits import Limits, whole_named
from allcores.pool.call_future import CallFuture
from allcores.pool.executor_errors import as_broken, translated
from allcores.pool.executor_map import ExecutorMap, all_of
from allcores.pool.pool import (
    Pool,
    begin_call,
    driver_of,
    end_workers,
    is_of_this_process,
    leave_open_at_exit,
    open_executor_map,
)
from allcores.system import forks
from allcores.system.clock import monotonic_ns
from allcores.system.tracebacks import hide, hiding
from allcores.transport import had_by_fork, script_globals
from allcores.transport.references import OpenFiles
from allcores.transport.refilled_items import as_pulled, call_each

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from allcores.pool.notifier import Observer

P = ParamSpec("P")
R = TypeVar("R")

#: what of each executor has to end before the interpreter does
_open: set[_Calls] = set()


class _ExecutorFuture(CallFuture):
    """A future as Python documents it: a call that runs cannot be cancelled."""

    ends_running_calls = False

    def __init__(self, calls: _Calls | None = None) -> None:
        super().__init__(driver_of(calls.pool) if calls is not None else None)
        self._calls = calls

    def _translate(self, error: BaseException, *, unpickling: bool = False) -> BaseException:
        return translated(error, unpickling=unpickling)

    def _invoke_callbacks(self) -> None:
        calls, self._calls = self._calls, None
        if calls is not None:
            calls.pending.pop(self, None)
        super()._invoke_callbacks()


class _Calls:
    """The calls of one executor that have no outcome yet, and the pool that runs them.

    It stands apart from the executor, so that calls in flight do not keep that alive. It takes no lock: its methods are
    also called by handlers of signals and by the garbage collector, in the middle of one another. Single operations on
    dictionaries are enough: a call is noted before it is asked whether the executor takes any, and shutting down looks
    for calls after it has said that none is taken.

    Attributes:
        pending: Futures without an outcome, in the order of their calls.
        entering: Those that are still being handed to the pool, with the thread that does it.
        maps: Those that have items without an outcome.
        over: After what no call is taken any more, in words; empty as long as calls are taken.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.pending: dict[Future[Any], None] = {}
        self.entering: dict[Future[Any], int] = {}
        self.maps: dict[ExecutorMap, None] = {}
        self.over = ""

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Hand a call to the pool.

        Raises:
            RuntimeError: No call is taken any more.
            BrokenProcessPool: The pool is broken.
        """
        future = _ExecutorFuture(self)
        self.entering[future] = get_ident()
        self.pending[future] = None
        try:
            if self.over:
                __tracebackhide__ = True
                raise RuntimeError(f"cannot schedule new futures after {self.over}")
            # Not there in a forked process, until it is used there.
            _open.add(self)
            begin_call(self.pool, future, fn, args, kwargs)
        except BaseException as error:
            self.pending.pop(future, None)
            # Whoever shuts down at this moment may be waiting for it.
            Future.cancel(future)
            broken = as_broken(error)
            try:
                if broken is error:
                    raise
                raise broken from error.__cause__
            finally:
                # Its traceback has this frame: a cycle otherwise, which would keep the executor.
                del broken
        finally:
            self.entering.pop(future, None)
        return future

    def map(self, fn: Callable[..., Any], style: str, items: list[Any], chunk: int | None) -> ExecutorMap:
        """Hand calls to the pool, one for each item.

        Raises:
            RuntimeError: No call is taken any more.
            BrokenProcessPool: The pool is broken.
        """
        try:
            made = open_executor_map(self.pool, fn, style, items, chunk, self._map_ended)
        except BaseException as error:
            if self.over:
                __tracebackhide__ = True
                raise RuntimeError(f"cannot schedule new futures after {self.over}") from None
            broken = as_broken(error)
            try:
                if broken is error:
                    raise
                raise broken from error.__cause__
            finally:
                del broken
        self.maps[made] = None
        try:
            if self.over:
                __tracebackhide__ = True
                raise RuntimeError(f"cannot schedule new futures after {self.over}")
            _open.add(self)
            made.start()
        except BaseException:
            self.maps.pop(made, None)
            # Whoever shuts down at this moment may be waiting for it.
            made.give_up()
            raise
        return made

    def _map_ended(self, ended: ExecutorMap) -> None:
        self.maps.pop(ended, None)

    def cancel(self, *, starting: int) -> None:
        """Cancel the calls that no worker has.

        Args:
            starting: The first of them that are left alone.
        """
        waiting = [future for future in list(self.pending) if not future.running()]
        # The last first: workers go on with the first meanwhile.
        for future in reversed(waiting[max(0, starting) :]):
            future.cancel()
        for each in list(self.maps):
            each.stop()

    def close(self) -> None:
        """End the pool once every call has its outcome, save what this very thread is in the middle of handing over."""
        this = get_ident()
        for future in list(self.pending):
            if self.entering.get(future) != this:
                with contextlib.suppress(CancelledError):
                    future.exception()
        for each in list(self.maps):
            each.wait()
        self.pool.close()
        _open.discard(self)

    def close_later(self) -> None:
        """The same, without waiting for it."""
        closer = threading.Thread(target=self.close, name="allcores-shutdown", daemon=True)
        try:
            closer.start()
        except RuntimeError:  # the program ends, and no thread can be had
            self.close()

    def dropped(self) -> None:
        """Nobody has the executor any more."""
        if is_of_this_process(self.pool) and not self.pool.closed:
            self.over = self.over or "shutdown"
            self.close_later()

    def end_workers(self, how: str, *, at_once: bool) -> None:
        """End all workers; what they run fails, everything else is cancelled.

        Args:
            how: The method that was called, for the error of what runs.
            at_once: By SIGKILL, without giving them time.
        """
        self.over = self.over or "shutdown"
        for future in list(self.pending):
            if not future.cancel() and isinstance(future, CallFuture):
                future.fail(WorkerLost(f"Its worker was ended: {how}() of the executor was called."))
        for each in list(self.maps):
            each.fail(WorkerLost(f"Its worker was ended: {how}() of the executor was called."))
        end_workers(self.pool, f"{how}() of the executor was called", at_once=at_once)
        self.close_later()


class _Initialize:
    """Runs the initializer and drops what it returns: an executor's function gets no extra argument."""

    def __init__(self, initializer: Callable[..., Any], initargs: tuple[Any, ...], *, by_fork: bool) -> None:
        self.initializer = initializer
        self.initargs = initargs
        #: workers are forked from the program, and have this already
        self.by_fork = by_fork

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return (_had, (had_by_fork.number_of(self),)) if self.by_fork else super().__reduce_ex__(protocol)

    def __call__(self) -> None:
        # As in a worker of ProcessPoolExecutor: records of logging name their process once this is imported.
        import multiprocessing.process  # noqa: F401

        try:
            self.initializer(*self.initargs)
        except BaseException:
            import logging

            # Where ProcessPoolExecutor says it, and in the same words: programs listen there.
            logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
            raise


def _had(number: int) -> _Initialize:
    """In a worker that was forked from the program. Its functions are copies: they are to see what this one binds."""
    made: _Initialize = had_by_fork.had(number)
    function: Any = made.initializer
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if isinstance(function, FunctionType):
        script_globals.arrived(function)
    return made


class _Batch:
    """Calls a function on the arguments of several items: one future for a chunk, as `chunksize=` asks."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __call__(self, batch: list[tuple[Any, ...]]) -> list[Any]:
        # Arguments in a batch are too deep for the worker to see that they are references.
        files = OpenFiles()
        try:
            return call_each(lambda arguments: self.fn(*files.loaded("star", arguments)), batch)
        finally:
            files.close()


class Executor(BaseExecutor):
    """Drop-in for `concurrent.futures.ProcessPoolExecutor`.

    Args:
        max_workers: How many workers; None takes the core budget.
        mp_context: A multiprocessing context; its start method is used ("fork", "spawn", "forkserver"). None uses the
            template.
        initializer: Run once in each worker.
        initargs: Its arguments.
        max_tasks_per_child: A worker is replaced after that many calls; not with "fork".
    """

    #: of its pool, for classes that are derived from it
    _observers: tuple[Observer, ...] = ()

    @hiding
    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        __tracebackhide__ = True
        max_workers = whole_named("max_workers", max_workers)
        if max_workers is not None and max_workers <= 0:
            raise UsageError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        method = mp_context.get_start_method() if mp_context is not None else None
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise UsageError("max_tasks_per_child must be >= 1")
            if method == "fork":
                raise UsageError("max_tasks_per_child is incompatible with the 'fork' start method")
        self._pool = Pool(
            max_workers,
            setup=_Initialize(initializer, initargs, by_fork=method == "fork") if initializer is not None else None,
            start_method=method,
            limits=Limits(items_per_worker=whole_named("max_tasks_per_child", max_tasks_per_child)),
            observers=self._observers,
            name="executor",
        )
        # At exit the futures come first, then the pool: see _at_exit.
        leave_open_at_exit(self._pool)
        #: dask reads it
        self._max_workers = self._pool.workers
        self._calls = _Calls(self._pool)
        _open.add(self._calls)
        weakref.finalize(self, self._calls.dropped).atexit = False

    @hiding
    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have `fn(*args, **kwargs)` called in a worker.

        Returns:
            Its future.

        Raises:
            RuntimeError: The executor was shut down.
            BrokenProcessPool: No worker can be started.
        """
        return self._calls.submit(fn, args, kwargs)

    @hiding
    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """Results of `fn` over the zipped iterables, in order, as Python documents it.

        Args:
            fn: Takes as many arguments as there are iterables.
            *iterables: Read up to the end of the shortest one; at once, unless there is a `buffersize`.
            timeout: Seconds from this call until a result has to be there.
            chunksize: Items that travel together, 2 or more; with 1, as many as prove right. Items per call, with a
                `buffersize`.
            buffersize: Calls whose results are not yet read, at most; None submits everything at once. The iterator
                does not keep the executor: one that nobody else has takes no further calls.

        Returns:
            An iterator. It has a `close()`, which cancels what waits.

        Raises:
            TimeoutError: By the iterator, when the time is up.
        """
        __tracebackhide__ = True
        chunksize = whole_named("chunksize", chunksize) or 0
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end_ns = None if timeout is None else monotonic_ns() + int(timeout * 1e9)
        if buffersize is None:
            style, items = all_of(iterables)
            chunk = chunksize if chunksize > 1 else None
            return self._calls.map(fn, style, items, chunk).results(end_ns)
        calls: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        call: Callable[..., Any] = fn
        if chunksize > 1:
            # A call is pickled when it is submitted, but not the arguments of several before the last are there.
            arguments = zip(*map(as_pulled, iterables), strict=False)
            calls = ((batch,) for batch in iter(lambda: list(islice(arguments, chunksize)), []))
            call = _Batch(fn)
        futures = deque(self.submit(call, *args) for args in islice(calls, buffersize))
        results = _results(futures, end_ns, _Refill(self, call, calls))
        return _flattened(results) if chunksize > 1 else results

    @hiding
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and end the workers after the last one.

        Args:
            wait: Return when all calls are done and every worker is gone; at once otherwise.
            cancel_futures: Cancel the calls that no worker has begun. Workers that are just starting have, one each.
        """
        calls = self._calls
        if not is_of_this_process(self._pool):
            return
        calls.over = calls.over or "shutdown"
        if cancel_futures:
            busy = sum(future.running() for future in list(calls.pending))
            calls.cancel(starting=self._pool.workers - busy)
        if wait:
            calls.close()
        else:
            calls.close_later()

    def terminate_workers(self) -> None:
        """End all workers at once, by SIGTERM, and after a while by SIGKILL; take no more calls, wait for nothing.

        The futures of calls that run raise a `BrokenProcessPool`, all others are cancelled. As in Python 3.14, on every
        Python version.
        """
        self._end_workers("terminate_workers", at_once=False)

    def kill_workers(self) -> None:
        """Like `terminate_workers`, by SIGKILL."""
        self._end_workers("kill_workers", at_once=True)

    def __reduce__(self) -> NoReturn:
        raise NotPicklable("an executor cannot travel to another process, nor be copied: make another one there")

    def _end_workers(self, how: str, *, at_once: bool) -> None:
        if is_of_this_process(self._pool):
            self._calls.end_workers(how, at_once=at_once)


class _Refill:
    """Submits the next call of a `map` with a buffer, for as long as the executor is referred to."""

    def __init__(self, executor: Executor, fn: Callable[..., Any], calls: Iterator[tuple[Any, ...]]) -> None:
        self._executor = weakref.ref(executor)
        self._fn = fn
        self._calls = calls

    def __call__(self) -> list[Future[Any]]:
        executor = self._executor()
        args = next(self._calls, None) if executor is not None else None
        if executor is None or args is None:
            return []
        return [executor.submit(self._fn, *args)]

    def end(self) -> None:
        """After the last result: was that all? The standard library's map would leave out the rest without a word."""
        if self._executor() is None and next(self._calls, None) is not None:
            raise RuntimeError("cannot schedule new futures after shutdown: nobody has the executor any more")


def _results(futures: deque[Future[Any]], end_ns: int | None, refill: _Refill) -> Iterator[Any]:
    """The futures' results, in order. It keeps no reference to what it has given away."""
    try:
        while futures:
            left = None if end_ns is None else max(0.0, (end_ns - monotonic_ns()) / 1e9)
            futures[0].result(left)
            first = [futures.popleft()]
            futures.extend(refill())
            yield first.pop().result()
        refill.end()
    except BaseException as error:
        hide(error, by_design=True)
        raise
    finally:
        for future in futures:
            future.cancel()


def _flattened(batches: Iterator[list[R]]) -> Iterator[R]:
    """The results of all batches; it keeps none that it has given away."""
    try:
        for batch in batches:
            batch.reverse()
            while batch:
                yield batch.pop()
    except BaseException as error:
        hide(error, by_design=True)
        raise
    finally:
        batches.close()  # type: ignore[attr-defined]


@forks.in_child
def _after_fork() -> None:
    # A forked process waits for nobody's futures: they are its parent's.
    for calls in _open:
        calls.pending.clear()
        calls.entering.clear()
        calls.maps.clear()
    _open.clear()


def _at_exit() -> None:
    # As documented: the interpreter waits for pending futures before it ends.
    for calls in list(_open):
        calls.over = calls.over or "interpreter shutdown"
    for calls in list(_open):
        calls.close()


atexit.register(_at_exit)
