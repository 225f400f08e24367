"""`concurrent.futures.Executor` on an allcores pool.

The constructor and the meaning of every method are `ProcessPoolExecutor`'s, except that a worker that
dies fails its own future only. That future's exception is both a `WorkerLost`, which says what
happened, and a `BrokenProcessPool`, so that old `except` clauses still work.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor as BaseExecutor
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from allcores.errors import NotPicklable, UsageError
from allcores.limits import Limits, whole_named
from allcores.pool.buffered_map import buffered
from allcores.pool.executor_calls import ExecutorCalls
from allcores.pool.executor_map import all_of
from allcores.pool.executor_start import Initialize
from allcores.pool.pool import Pool, is_of_this_process, leave_open_at_exit
from allcores.system.clock import monotonic_ns
from allcores.system.tracebacks import hiding

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from allcores.pool.notifier import Observer

P = ParamSpec("P")
R = TypeVar("R")


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
            setup=Initialize(initializer, initargs, by_fork=method == "fork") if initializer is not None else None,
            start_method=method,
            limits=Limits(items_per_worker=whole_named("max_tasks_per_child", max_tasks_per_child)),
            observers=self._observers,
            name="executor",
        )
        # At exit the futures come first, then the pool: see `executor_calls`.
        leave_open_at_exit(self._pool)
        #: dask reads it
        self._max_workers = self._pool.workers
        self._calls = ExecutorCalls(self._pool)
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
        # One that was put in the place of ours, by a subclass or a program, is to see each call.
        if buffersize is None and getattr(self.submit, "__func__", None) is Executor.submit:
            style, items = all_of(iterables)
            chunk = chunksize if chunksize > 1 else None
            return self._calls.map(fn, style, items, chunk).results(end_ns)
        return buffered(self, fn, iterables, chunk=chunksize, buffer=buffersize, end_ns=end_ns)

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
