"""`concurrent.futures.Executor` on an allcores pool.

The constructor and the meaning of every method are `ProcessPoolExecutor`'s, except that a worker that
dies fails its own future only. That future's exception is both a `WorkerLost`, which says what
happened, and a `BrokenProcessPool`, so that old `except` clauses still work.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor as BaseExecutor
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

from allcores.clock import monotonic_ns
from allcores.errors import BrokenPool, PoolClosed, SetupError, UsageError, WorkerLost
from allcores.futures import CallFuture
from allcores.limits import Limits
from allcores.pool import Pool
from allcores.transport.references import OpenFiles

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

R = TypeVar("R")

_open: weakref.WeakSet[Executor] = weakref.WeakSet()


class WorkerLostInExecutor(WorkerLost, BrokenProcessPool):
    """`WorkerLost` as an executor's future has it: also a `BrokenProcessPool`."""


class SetupFailedInExecutor(SetupError, BrokenProcessPool):
    """`SetupError` as an executor's future has it: also a `BrokenProcessPool`."""


class _ExecutorFuture(CallFuture):
    """A future as Python documents it: a call that runs cannot be cancelled."""

    ends_running_calls = False

    def _translate(self, error: BaseException) -> BaseException:
        return as_broken(error)


def as_broken(error: BaseException) -> BaseException:
    """`error`, as also a BrokenProcessPool if it tells of a lost worker or a broken pool."""
    kind: type[BaseException] | None = None
    if isinstance(error, WorkerLost) and not isinstance(error, BrokenProcessPool):
        kind = WorkerLostInExecutor
    elif isinstance(error, (SetupError, BrokenPool)) and not isinstance(error, BrokenProcessPool):
        kind = SetupFailedInExecutor
    if kind is None:
        return error
    again = kind.__new__(kind)
    again.args = error.args
    again.__dict__.update(error.__dict__)
    again.__cause__ = error.__cause__
    return again


class _Initialize:
    """Runs the initializer and drops what it returns: an executor's function gets no extra argument."""

    def __init__(self, initializer: Callable[..., Any], initargs: tuple[Any, ...]) -> None:
        self.initializer = initializer
        self.initargs = initargs

    def __call__(self) -> None:
        self.initializer(*self.initargs)


class _Batch:
    """Calls a function on the arguments of several items: one future for a chunk, as `chunksize=` asks."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __call__(self, batch: list[tuple[Any, ...]]) -> list[Any]:
        # Arguments in a batch are too deep for the worker to see that they are references.
        files = OpenFiles()
        try:
            return [self.fn(*files.loaded("star", arguments)) for arguments in batch]
        finally:
            files.close()


class Executor(BaseExecutor):
    """Drop-in for `concurrent.futures.ProcessPoolExecutor`.

    max_workers: None takes the core budget.
    mp_context: a multiprocessing context; its start method is used ("fork", "spawn", "forkserver").
        None uses the template.
    initializer, initargs: run once in each worker.
    max_tasks_per_child: a worker is replaced after that many calls; not with "fork".
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
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
            setup=_Initialize(initializer, initargs) if initializer is not None else None,
            start_method=method,
            limits=Limits(items_per_worker=max_tasks_per_child),
            name="executor",
        )
        # At exit the futures come first, then the pool: see _at_exit.
        self._pool._finalizer.atexit = False
        #: dask reads it
        self._max_workers = self._pool.workers
        self._lock = threading.Lock()
        self._all_done = threading.Condition(self._lock)
        self._pending: set[Future[Any]] = set()
        self._shut = False
        _open.add(self)

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """A future for `fn(*args, **kwargs)`. Raises RuntimeError after shutdown, BrokenProcessPool if broken."""
        with self._lock:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
        future = _ExecutorFuture(self._pool._driver)
        with self._lock:
            self._pending.add(future)
        future.add_done_callback(self._finished)
        try:
            self._pool._call(future, fn, args, kwargs)
        except PoolClosed as error:
            self._finished(future)
            raise RuntimeError("cannot schedule new futures after shutdown") from error
        except (SetupError, BrokenPool) as error:
            self._finished(future)
            raise as_broken(error) from error.__cause__
        except BaseException:
            self._finished(future)
            raise
        return future

    def _finished(self, future: Future[Any]) -> None:
        with self._lock:
            self._pending.discard(future)
            if not self._pending:
                self._all_done.notify_all()

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """Results of `fn` over the zipped iterables, in order, as Python documents it.

        timeout: seconds from this call until a result has to be there; TimeoutError otherwise.
        chunksize: items per call. buffersize: calls whose results are not yet read, at most; None
        submits everything at once.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end_ns = None if timeout is None else monotonic_ns() + int(timeout * 1e9)
        arguments = zip(*iterables, strict=False)
        submit: Callable[[Any], Future[Any]]
        if chunksize == 1:
            batches: Iterator[Any] = arguments
            submit = lambda args: self.submit(fn, *args)  # noqa: E731
        else:
            batch = _Batch(fn)
            batches = iter(lambda: list(islice(arguments, chunksize)), [])
            submit = lambda args: self.submit(batch, args)  # noqa: E731
        futures: deque[Future[Any]] = deque(map(submit, islice(batches, buffersize)))

        def results() -> Iterator[Any]:
            try:
                while futures:
                    future = futures.popleft()
                    left = None if end_ns is None else max(0.0, (end_ns - monotonic_ns()) / 1e9)
                    value = future.result(left)
                    if buffersize is not None:
                        futures.extend(map(submit, islice(batches, 1)))
                    yield value
            finally:
                for future in futures:
                    future.cancel()

        found = results()
        return chain.from_iterable(found) if chunksize > 1 else found

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. With `wait`, return when all are done and every worker is gone."""
        if self._pool._driver.pid != os.getpid():
            return
        with self._lock:
            self._shut = True
            pending = list(self._pending)
        if cancel_futures:
            for future in pending:
                future.cancel()
        if not wait:
            closer = threading.Thread(target=self._close_when_done, name="allcores-shutdown", daemon=True)
            closer.start()
            return
        self._close_when_done()

    def _close_when_done(self) -> None:
        with self._lock:
            while self._pending:
                self._all_done.wait(1.0)
        self._pool.close()
        _open.discard(self)


if hasattr(os, "register_at_fork"):
    # A forked process waits for nobody's futures: they are its parent's.
    os.register_at_fork(after_in_child=_open.clear)


def _at_exit() -> None:
    # As documented: the interpreter waits for pending futures before it ends.
    for executor in list(_open):
        executor.shutdown(wait=True)


atexit.register(_at_exit)
