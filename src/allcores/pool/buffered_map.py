"""`Executor.map` with a buffer: one call after the other, as results are read.

The iterator does not keep the executor. One that nobody else has takes no further calls.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import Any, TypeVar

from allcores.system.clock import monotonic_ns
from allcores.system.tracebacks import hide
from allcores.transport.references import OpenFiles
from allcores.transport.refilled_items import as_pulled, call_each

R = TypeVar("R")


def buffered(
    executor: Executor,
    fn: Callable[..., R],
    iterables: tuple[Iterable[Any], ...],
    *,
    chunk: int,
    buffer: int | None,
    end_ns: int | None,
) -> Iterator[R]:
    """Results of `fn` over the zipped iterables, in order.

    Args:
        executor: Takes the calls.
        fn: The function.
        iterables: Read as results are.
        chunk: Items in a call.
        buffer: Calls whose results are not yet read, at most; None: all are submitted at once.
        end_ns: When to give up waiting.
    """
    calls: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
    call: Callable[..., Any] = fn
    if chunk > 1:
        # A call is pickled when it is submitted, but not the arguments of several before the last are there.
        arguments = zip(*map(as_pulled, iterables), strict=False)
        calls = ((batch,) for batch in iter(lambda: list(islice(arguments, chunk)), []))
        call = _Batch(fn)
    futures = deque(executor.submit(call, *args) for args in islice(calls, buffer))
    results = _results(futures, end_ns, _Refill(executor, call, calls))
    return _flattened(results) if chunk > 1 else results


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
