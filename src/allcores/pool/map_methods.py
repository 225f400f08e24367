"""`map`, `imap` and their like: the part of `Pool` that runs a function over items."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from allcores.backends.base import WorkerInit
from allcores.errors import Interrupted, UsageError
from allcores.limits import Retry, check_batch, check_on_error, check_timeout
from allcores.outcome import Outcome
from allcores.pool.driver import Driver
from allcores.pool.planning import plan_map
from allcores.pool.result_stream import Stream
from allcores.system.async_functions import check_not_async
from allcores.system.tracebacks import hiding
from allcores.transport.reduction import MISSING, Reduction

if TYPE_CHECKING:
    from allcores.cache.options import CacheLike
    from allcores.pool.async_stream import AsyncStream
    from allcores.pool.call_options import OnError
    from allcores.pool.tuned_options import TunedOptions
    from allcores.runs.options import Journal, RunResult, SinkLike, SourceLike
    from allcores.scheduler.batch_size import Batch

if TYPE_CHECKING:
    from allcores.pool.method_types import (
        async_method,
        map_method,
        outcomes_method,
        reduce_method,
        run_method,
        star_method,
        stream_method,
    )
else:
    # They are for type checkers alone; to make them takes a millisecond.
    from allcores.pool.functions import as_it_is

    async_method = map_method = outcomes_method = reduce_method = as_it_is
    run_method = star_method = stream_method = as_it_is

T = TypeVar("T")
R = TypeVar("R")


class MapMethods:
    """Base of `Pool`."""

    _worker_init: WorkerInit
    #: what was found for a function; None: nothing was asked for
    _tuned: TunedOptions | None = None

    @property
    def _driver(self) -> Driver:
        raise NotImplementedError

    @map_method
    @hiding
    def map(
        self,
        fn: Callable[..., R],
        items: Iterable[Any],
        *more: Iterable[Any],
        timeout: float | None = None,
        retries: int | Retry = 0,
        chunk: int | None = None,
        batch: Batch | None = None,
        cache: CacheLike | None = None,
        on_error: OnError = "raise",
        progress: bool | str = False,
        **constants: Any,
    ) -> list[R]:
        """Results of `fn(item)` for all items, as a list in input order.

        Args:
            fn: The function; called as `fn(item)`, in a worker.
            items: The input. It is pulled on the calling thread, as far ahead as `Limits` allow.
            *more: Further inputs, as for the built-in `map`: the function is called as `fn(item, item of the second,
                ...)`, and the shortest input ends it. An item is a tuple then, in outcomes and messages.
            timeout: Seconds per item and attempt; the item that uses them up is ended, the others go on.
            retries: Further attempts for an item that fails, or a `Retry` with the details.
            chunk: Items that travel together; None sizes chunks by measurement.
            batch: Call `fn` with a list of so many items, of which it returns one result each (a list, an array, a
                generator); "auto" sizes batches by measured seconds. Failures, deadlines, retries and crashes still
                concern one item: a batch that fails is run again in smaller ones, until the item at fault is alone. A
                call may have fewer items, and a chunk holds whole batches. None: `fn` takes one item.
            cache: Keep results on the disk, and look for them there first: True for the default folder, a folder, or a
                `Cache`. For functions whose results depend on nothing but their arguments.
            on_error: "raise" the first failure in input order, or "skip" failed items.
            progress: True shows a progress bar in a terminal or notebook, and a text stands before it. It needs rich.
            **constants: Keyword arguments for the function, the same for all items; they travel once to each worker.
                The names above are options: `functools.partial(fn, timeout=5)` gives the function one called so.

        Returns:
            One result per item, in input order; with `on_error="skip"`, one per item that returned.

        Raises:
            Exception: What the function raised, with the worker's traceback as its cause.
            TaskTimeout: An item used up its `timeout`.
            WorkerLost: The process that ran an item ended.
            BatchError: With `batch`, the function did not return one result per item; also with `on_error="skip"`.
            NotPicklable: The function, an item or a result cannot travel.
            UnknownOption: A keyword is no option, and no argument of the function.
            Interrupted: On Ctrl-C, with the results of the leading items in `done`.
        """
        fn, style, items = self._combined(self.map, fn, "one", items, more, constants, cache, batch)
        check_on_error(on_error)
        return _collect(
            self._stream(fn, style, items, timeout, retries, chunk, batch, on_error, progress, ordered=True)
        )

    @stream_method
    @hiding
    def imap(
        self,
        fn: Callable[..., R],
        items: Iterable[Any],
        *more: Iterable[Any],
        timeout: float | None = None,
        retries: int | Retry = 0,
        chunk: int | None = None,
        batch: Batch | None = None,
        cache: CacheLike | None = None,
        on_error: OnError = "raise",
        progress: bool | str = False,
        **constants: Any,
    ) -> Stream[R]:
        """Results in input order, one by one, in bounded memory; the input may be endless.

        The input is pulled on the thread that reads the stream, and only as far ahead as `Limits`
        allow. An exception of the input arrives after the results of the items before it. Leaving
        the loop cancels what is left. Arguments as for `map`.
        """
        fn, style, items = self._combined(self.imap, fn, "one", items, more, constants, cache, batch)
        return self._stream(
            fn, style, items, timeout, retries, chunk, batch, check_on_error(on_error), progress, ordered=True
        )

    @stream_method
    @hiding
    def imap_unordered(
        self,
        fn: Callable[..., R],
        items: Iterable[Any],
        *more: Iterable[Any],
        timeout: float | None = None,
        retries: int | Retry = 0,
        chunk: int | None = None,
        batch: Batch | None = None,
        cache: CacheLike | None = None,
        on_error: OnError = "raise",
        progress: bool | str = False,
        **constants: Any,
    ) -> Stream[R]:
        """Results as they are finished. Arguments as for `map`."""
        fn, style, items = self._combined(self.imap_unordered, fn, "one", items, more, constants, cache, batch)
        return self._stream(
            fn, style, items, timeout, retries, chunk, batch, check_on_error(on_error), progress, ordered=False
        )

    @star_method
    @hiding
    def starmap(
        self,
        fn: Callable[..., R],
        items: Iterable[Iterable[Any]],
        *,
        timeout: float | None = None,
        retries: int | Retry = 0,
        chunk: int | None = None,
        batch: Batch | None = None,
        cache: CacheLike | None = None,
        on_error: OnError = "raise",
        progress: bool | str = False,
        **constants: Any,
    ) -> list[R]:
        """Like `map` for functions of several arguments: results of `fn(*item)`.

        With `batch`, `fn` gets a list for each of its arguments.
        """
        fn, style, items = self._combined(self.starmap, fn, "star", items, (), constants, cache, batch)
        check_on_error(on_error)
        return _collect(
            self._stream(fn, style, items, timeout, retries, chunk, batch, on_error, progress, ordered=True)
        )

    @outcomes_method
    @hiding
    def outcomes(
        self,
        fn: Callable[..., R],
        items: Iterable[Any],
        *more: Iterable[Any],
        timeout: float | None = None,
        retries: int | Retry = 0,
        chunk: int | None = None,
        batch: Batch | None = None,
        cache: CacheLike | None = None,
        ordered: bool = True,
        progress: bool | str = False,
        **constants: Any,
    ) -> Stream[Outcome[R]]:
        """An `Outcome` for each item, never an exception for one: value or error, attempts, seconds, worker."""
        fn, style, items = self._combined(self.outcomes, fn, "one", items, more, constants, cache, batch)
        return self._stream(fn, style, items, timeout, retries, chunk, batch, None, progress, ordered=ordered)

    @async_method
    @hiding
    def aimap(
        self,
        fn: Callable[..., R],
        items: Iterable[Any] | AsyncIterable[Any],
        *more: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = None,
        retries: int | Retry = 0,
        chunk: int | None = None,
        batch: Batch | None = None,
        cache: CacheLike | None = None,
        on_error: OnError = "raise",
        ordered: bool = True,
        progress: bool | str = False,
        **constants: Any,
    ) -> AsyncStream[R]:
        """Results for `async for`; the input may be sync or async. Call it inside a running event loop.

        A sync input is pulled on the loop's thread, so it should not wait. Leaving the loop closes
        the stream when it is dropped; `aclose()` does so at once. A wait for the next result may be
        cancelled or timed out: it takes nothing, and the stream goes on.
        """
        from allcores.pool.async_stream import AsyncStream

        check_on_error(on_error)
        chunk = self._chunk_for(fn, chunk, batch)
        fn, style, items = self._combined(self.aimap, fn, "one", items, more, constants, cache, batch)
        driver = self._driver
        make, function = plan_map(
            driver, fn, style, items,
            timeout=timeout, retries=retries, chunk=chunk, batch=batch, ordered=ordered, progress=progress,
        )  # fmt: skip
        return AsyncStream(driver, make, function, items, on_error, self)

    @reduce_method
    @hiding
    def reduce(
        self,
        fn: Callable[..., R],
        items: Iterable[Any],
        merge: Callable[[R, R], R],
        initial: Any = MISSING,
        *,
        timeout: float | None = None,
        retries: int | Retry = 0,
        chunk: int | None = None,
        batch: Batch | None = None,
        cache: CacheLike | None = None,
        on_error: OnError = "raise",
        progress: bool | str = False,
        **constants: Any,
    ) -> R:
        """The values of `fn(item)`, merged into one: in the workers first, then in the program, in bounded memory.

        Values are merged in input order, but not one by one: `merge` must be associative (sums, counters, lists,
        tables, the larger of two), and need not be commutative. Then the result is that of
        `functools.reduce(merge, map(fn, items), initial)`, and always the same.

        Args:
            fn: The function; called as `fn(item)`, in a worker.
            items: The input.
            merge: Called as `merge(left, right)`, in workers and in the program; returns the value of both. It may
                change `left` and return it.
            initial: What the first value is merged into; the result if there are none.
            timeout: As for `map`; merging counts.
            retries: As for `map`.
            chunk: As for `map`.
            batch: As for `map`: `fn` gets a list of items and returns one value for each, which are merged.
            cache: As for `map`: what `fn` gives is kept, and merged anew.
            on_error: "raise" the first failure in input order, or "skip" failed items: they are not merged.
            progress: As for `map`.
            **constants: As for `map`: for `fn`.

        Returns:
            The merged value.

        Raises:
            TypeError: There is no value, and no `initial`.
            UsageError: `merge` returned None for two values.
            Interrupted: On Ctrl-C, with what was merged of the leading items in `done`, as a list of one value.
            Exception: What `merge` raised, which is never skipped; what `map` raises.
        """
        if not callable(merge):
            raise UsageError(f"merge={merge!r} cannot be called; it is the function that merges two values.")
        check_not_async(merge, "merge")
        chunk = self._chunk_for(fn, chunk, batch)
        fn, style, items = self._combined(self.reduce, fn, "one", items, (), constants, cache, batch)
        both = Reduction(fn, merge) if callable(fn) else fn
        stream = self._stream(
            both, style, items, timeout, retries, chunk, batch, check_on_error(on_error), progress, ordered=True
        )
        from allcores.pool.reducing import reduced

        return reduced(stream, merge, initial)  # type: ignore[no-any-return]

    @run_method
    @hiding
    def run(
        self,
        fn: Callable[..., Any],
        source: SourceLike,
        sink: SinkLike,
        *,
        journal: Journal | bool = True,
        timeout: float | None = None,
        retries: int | Retry = 0,
        chunk: int | None = None,
        batch: Batch | None = None,
        cache: CacheLike | None = None,
        on_error: Literal["raise", "skip", "record"] = "raise",
        progress: bool | str = False,
        **constants: Any,
    ) -> RunResult:
        """Map a source into a sink, so that it can go on after anything; the output appears whole, in input order.

        Args:
            fn: The function; called as `fn(item)`, in a worker.
            source: A path (.jsonl, .csv, .parquet, lines), a pattern or folder of files, or anything that can be
                iterated.
            sink: A path (.jsonl, .csv, .parquet, `out.db:table`, `folder/`), or one of the sinks.
            journal: True keeps a journal with its defaults, a `Journal` says how, False keeps none.
            on_error: "raise" the first failure, which a resumed run tries again; "skip" failed items; "record" them in
                the output (JSON Lines), where each line is a record then.
            timeout: As for `map`.
            retries: As for `map`.
            chunk: As for `map`.
            batch: As for `map`.
            cache: As for `map`.
            progress: As for `map`.
            **constants: As for `map`. Other ones make another run.

        Raises:
            RunChanged: Function, options or input are not those of the run that is resumed.
            RunInUse: Another process goes on with that run.
            RunNotFound: There is no run of the name that `journal` asks for.
            JournalError: The journal cannot be read or written.
            Exception: What `map` raises.
        """
        from allcores.runs.run import run

        check_timeout(timeout)
        check_batch(batch)
        chunk = self._chunk_for(fn, chunk, batch)
        fn, _, _ = self._combined(self.run, fn, "one", source, (), constants)
        called, _, _ = self._combined(self.run, fn, "one", source, (), {}, cache, batch)
        init = self._worker_init
        if progress is not False:
            from allcores.progress.one_map import bar_of

            bar_of(progress)  # raises what is wrong with it before anything is written
        return run(
            _Outcomes(partial(self.outcomes, progress=progress)) if progress is not False else self,
            fn,
            source,
            sink,
            journal=journal,
            timeout=timeout,
            retries=retries,
            chunk=chunk,
            batch=batch,
            called=called,
            on_error=on_error,
            setup=init.setup,
            setup_args=init.setup_args,
            preload=init.preload,
            preload_args=init.preload_args,
        )

    # --- how methods become maps -------------------------------------------------------------------

    def _combined(
        self,
        method: Callable[..., Any],
        fn: Callable[..., Any],
        style: str,
        items: Any,
        more: tuple[Any, ...],
        constants: dict[str, Any],
        cache: CacheLike | None = None,
        batch: Batch | None = None,
    ) -> tuple[Callable[..., Any], str, Any]:
        """One function, its style, and one input: of several inputs, with constants, and one that has a cache."""
        if more or constants:
            from allcores.pool import arguments

            init = self._worker_init
            has_state = init.setup is not None or init.preload is not None
            fn, style, items = arguments.combined(method, fn, style, items, more, constants, has_state=has_state)
        if cache is not None:
            from allcores.cache.function import cached

            fn, style = cached(fn, style, cache, batches=batch is not None)
        return fn, style, items

    def _chunk_for(self, fn: Any, chunk: int | None, batch: Batch | None = None) -> int | None:
        """The chunk that is asked for; else the one that was found for this function, which was called item by item."""
        if chunk is not None or batch is not None or self._tuned is None:
            return chunk
        return self._tuned.chunk_of(fn)

    def _stream(
        self,
        fn: Callable[..., Any],
        style: str,
        items: Iterable[Any],
        timeout: float | None,
        retries: int | Retry,
        chunk: int | None,
        batch: Batch | None,
        on_error: str | None,
        progress: bool | str = False,
        *,
        ordered: bool,
    ) -> Stream[Any]:
        if self._tuned is not None:
            chunk = self._chunk_for(fn, chunk, batch)
        driver = self._driver
        make, function = plan_map(
            driver, fn, style, items, timeout=timeout, retries=retries, chunk=chunk, batch=batch, ordered=ordered,
            detailed=on_error is None, progress=progress,
        )  # fmt: skip
        return Stream(driver, make, function, items, on_error, self)


class _Outcomes(NamedTuple):
    """What a run needs of a pool."""

    outcomes: Callable[..., Stream[Outcome[Any]]]


def _collect(stream: Stream[R]) -> list[R]:
    """All results; Ctrl-C gives those that were finished, inside the exception."""
    results: list[R] = []
    try:
        stream.collect(results)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(f"interrupted after {len(results)} items", results) from interrupt
    return results
