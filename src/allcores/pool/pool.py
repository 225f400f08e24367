"""The pool: `map`, `imap`, `submit` and their like, on workers of its own."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Never, TypeVar

from allcores.backends.base import WorkerInit
from allcores.backends.open import open_backend
from allcores.errors import Interrupted, NotSupported, UsageError
from allcores.limits import Limits, Retry, check_batch, check_chunk, check_on_error, check_timeout, check_workers
from allcores.outcome import Outcome
from allcores.pool.actor_methods import ActorMethods
from allcores.pool.driver import Driver, close_dropped
from allcores.pool.input_reader import encode, length_of
from allcores.pool.notifier import Observer
from allcores.pool.pool_log import Logs, PoolLog
from allcores.pool.result_stream import Stream
from allcores.pool.sharing import Sharing
from allcores.pool.statistics import Statistics, statistics_of
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.map_state import Chunk, Function, MapState
from allcores.system import deferral
from allcores.system.cores import core_budget
from allcores.system.tracebacks import hiding
from allcores.transport import process_role, surroundings
from allcores.transport.reduction import MISSING, Reduction

if TYPE_CHECKING:
    from concurrent.futures import Future

    from allcores.cache.options import CacheLike
    from allcores.pool.async_stream import AsyncStream
    from allcores.pool.call_options import OnError
    from allcores.pool.executor_map import ExecutorMap
    from allcores.pool.worker_status import WorkerStatus
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
        submit_method,
    )
else:
    # They are for type checkers alone; to make them takes a millisecond.
    from allcores.pool.functions import as_it_is

    async_method = map_method = outcomes_method = reduce_method = as_it_is
    run_method = star_method = stream_method = submit_method = as_it_is

T = TypeVar("T")
R = TypeVar("R")


class Pool(ActorMethods, Sharing):
    """Workers that run a function over items: streamed, in chunks that size themselves, crash-proof.

    Use it as a context manager: leaving the block closes it and ends what still runs. A pool may be
    used from many threads. In a process forked from its own (a server's worker, say) it starts anew at its first use
    there, with the same settings; streams and futures of the first process give results in that one alone.
    One that is made in a worker, or while `multiprocessing` imports the main module for a new process, starts at its
    first use there: a pool that stands in a module costs nothing in processes that only import it.

    Args:
        workers: How many; None takes the core budget (`allcores.core_budget()`).
        preload: Run once for all workers, before the first of them starts. What `preload` returns, unless None, exists
            once in memory and is given to the function as its first argument.
        preload_args: Its arguments.
        preload_modules: Names of modules, say ["numpy"], that are imported once where `preload` would run, and before
            it: workers have them from the start, and share their memory.
        setup: Run once in each worker before its first task; with what `preload` returned, if anything, as first
            argument. What `setup` returns, unless None, is the function's first argument instead.
        setup_args: Its arguments, after what `preload` returned.
        teardown: Run in each worker at its normal end, with that same first argument.
        backend: "processes" (default), "threads" (for functions that release the GIL; no deadlines), or "serial" (on
            the caller's thread, for debugging).
        start_method: Of processes. "template" (default): forked from a clean process with one thread; "forkserver": the
            same; "spawn": a fresh interpreter each; "fork": from this process.
        limits: Memory, items in flight and seconds that the pool may use, see `Limits`.
        observers: Callables that get frozen events (`allcores.events`); one that raises is dropped. One that has a
            method `attach` is given the pool with it.
        logs: True has log records of worker processes handled by this process's logging, and the pool's own events
            logged (logger "allcores"); False leaves logging alone; a `Logs` also takes what workers print.
        name: For messages and thread names.
        **unknown: There are no others. For those of other libraries (`n_jobs`, `initializer`) the error says which of
            these is meant.

    Raises:
        UnknownOption: For a keyword that is no option.
        UsageError: For options that make no sense.
        NotPicklable: If `setup` or `preload` cannot travel.
        NotSupported: For options that this system or backend cannot offer.
        SetupError: If there is no module of a name in `preload_modules`.
        BrokenPool: If no worker can be started. Where the pool starts at its first use, these are raised there.
    """

    @hiding
    def __init__(
        self,
        workers: int | None = None,
        *,
        preload: Callable[..., Any] | None = None,
        preload_args: Iterable[Any] = (),
        preload_modules: Iterable[str] = (),
        setup: Callable[..., Any] | None = None,
        setup_args: Iterable[Any] = (),
        teardown: Callable[..., Any] | None = None,
        backend: str = "processes",
        start_method: str | None = None,
        limits: Limits | None = None,
        observers: Iterable[Observer] = (),
        logs: bool | Logs = True,
        name: str = "pool",
        **unknown: Never,
    ) -> None:
        if unknown:
            from allcores.pool import arguments

            arguments.refuse(type(self), unknown)
        if workers is None:
            workers = core_budget().workers
        check_workers(workers)
        if backend == "serial":
            workers = 1
        self.workers = workers
        self.limits = limits or Limits()
        self.name = name
        if preload is not None and not callable(preload):
            raise UsageError(f"preload={preload!r} cannot be called; it is the function that loads.")
        logs = Logs.of(logs)
        if logs.prints and backend != "processes":
            raise NotSupported(f"Logs(prints=True) needs backend='processes': {backend!r} prints as this process does.")
        self._backend = backend
        self._start_method = start_method
        self._logs = logs
        if isinstance(preload_modules, str):
            raise UsageError(f"preload_modules={preload_modules!r} is one name; give a list: [{preload_modules!r}].")
        self._preload_modules = tuple(preload_modules)
        self._worker_init = WorkerInit(setup, tuple(setup_args), teardown, preload, tuple(preload_args))
        self._observers: tuple[Observer, ...] = (*observers, PoolLog(name)) if logs.records else tuple(observers)
        self._actor_workers = weakref.WeakSet()
        self._current = self._wait_for_use() if process_role.only_imports() else self._start()
        #: it was closed in a process that has not used it: one that was forked, or where it starts at first use
        self._closed_unused = False
        for observer in self._observers:
            if hasattr(observer, "attach"):
                observer.attach(self)

    def _start(self) -> Driver:
        """Make the workers, and what drives them."""
        from allcores.system import posix

        posix.keep_standard()
        logs = self._logs
        place = open_backend(
            self._backend,
            workers=self.workers,
            worker_init=self._worker_init,
            limits=self.limits,
            start_method=self._start_method,
            share=core_budget().workers,
            logs_as=self.name,
            records=logs.records,
            prints=logs.prints,
            preload_modules=self._preload_modules,
        )
        driver = Driver(self.workers, self.limits, place, self._observers, self.name)
        # The driver knows nothing of the pool: a pool that is dropped unclosed closes itself.
        self._finalizer = weakref.finalize(self, close_dropped, driver)
        return driver

    def _wait_for_use(self) -> Driver:
        """A driver of no workers, which the first use replaces by one that has them."""
        place = open_backend("serial", workers=0, worker_init=WorkerInit(), limits=Limits(), start_method=None, share=1)
        driver = Driver(0, Limits(), place, (), self.name)
        driver.inherited = threading.RLock()
        self._finalizer = weakref.finalize(self, close_dropped, driver)
        return driver

    @property
    def _driver(self) -> Driver:
        """What drives the workers. Where it has not started in this process, the first to ask starts it."""
        driver = self._current
        return driver if driver.inherited is None else self._start_anew(driver.inherited)

    def _start_anew(self, lock: threading.RLock) -> Driver:
        with lock:
            driver = self._current
            if driver.inherited is not None and not self._closed_unused:
                finalizer, at_exit = self._finalizer, self._finalizer.atexit
                driver = self._current = self._start()
                finalizer.detach()
                self._finalizer.atexit = at_exit
            return driver

    # --- work -------------------------------------------------------------------------------------

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
        fn, style, items = self._combined(self.aimap, fn, "one", items, more, constants, cache, batch)
        make, function = self._plan(fn, style, items, timeout, retries, chunk, batch, ordered, False, progress)
        return AsyncStream(self._driver, make, function, items, on_error, self)

    @reduce_method
    @hiding
    def reduce(
        self,
        fn: Callable[..., R],
        items: Iterable[Any],
        merge: Callable[[R, R], R],
        *,
        initial: Any = MISSING,
        timeout: float | None = None,
        retries: int | Retry = 0,
        chunk: int | None = None,
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
        fn, style, items = self._combined(self.reduce, fn, "one", items, (), constants, cache)
        both = Reduction(fn, merge) if callable(fn) else fn
        stream = self._stream(
            both, style, items, timeout, retries, chunk, None, check_on_error(on_error), progress, ordered=True
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

    @submit_method
    @hiding
    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """A `concurrent.futures.Future` for `fn(*args, **kwargs)`. Its `cancel()` ends running work."""
        return self.call(fn, args, kwargs)

    @hiding
    def call(
        self,
        fn: Callable[..., R],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
        retries: int | Retry = 0,
    ) -> Future[R]:
        """Like `submit`, with a deadline and retries.

        Args:
            fn: The function; called as `fn(*args, **kwargs)`, in a worker.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            timeout: Seconds per attempt; a call that uses them up is ended.
            retries: Further attempts if it fails, or a `Retry` with the details.

        Returns:
            A future. Its `cancel()` also ends a call that runs already.

        Raises:
            PoolClosed: If the pool is closed.
            BrokenPool: If no outcome can be had any more.
        """
        future: Future[R] = _new_future(self._driver)
        begin_call(self, future, fn, args, kwargs, timeout, retries)
        return future

    # --- the pool itself --------------------------------------------------------------------------

    def statistics(self) -> Statistics:
        """What the pool has done and is doing."""
        return statistics_of(self._current, self._memory())

    def item_times(self) -> list[tuple[float, int]]:
        """How long items took: (seconds, items that took less than that but not less than half of it), ascending.

        All attempts since the pool began. Quick items are measured together, and each counts with their mean.
        """
        with self._current.lock:
            counts = list(self._current.scheduler.state.counters.by_time)
        return [((1 << bucket) / 1e9, number) for bucket, number in enumerate(counts) if number]

    def worker_status(self) -> list[WorkerStatus]:
        """What each worker does at this moment, from any thread: no worker is asked or waited for."""
        from allcores.pool.worker_status import worker_status

        return worker_status(self._current)

    @property
    def closed(self) -> bool:
        """It takes no work any more."""
        driver = self._current
        return driver.closed if driver.inherited is None else self._closed_unused

    def close(self) -> None:
        """End the pool. What runs has `Limits.grace_s` to finish, then it is ended. Idempotent."""
        self._closed_unused = True
        self._close_actors()
        self._finalizer.detach()
        self._current.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else self._backend
        return f"<allcores.Pool {self.name!r} {state}, {self.workers} workers>"

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

    def _plan(
        self,
        fn: Callable[..., Any],
        style: str,
        items: Any,
        timeout: float | None,
        retries: int | Retry,
        chunk: int | None,
        batch: Batch | None,
        ordered: bool,
        detailed: bool,
        progress: bool | str = False,
    ) -> tuple[Callable[[int], MapState], Function]:
        if not callable(fn):
            raise UsageError(f"{fn!r} cannot be called; the first argument is the function.")
        retry = Retry.of(retries)
        timeout_ns = self._timeout_ns(timeout)
        limits = self.limits
        chunker, least = Chunker(check_chunk(chunk)), (chunk or 1) * 2
        batch = check_batch(batch)
        if batch is not None:
            from allcores.scheduler.batch_size import BatchChunker

            chunker = BatchChunker(chunk, batch, limits.bytes_in_flight)
            if batch != "auto":
                # Each worker has one, and one waits.
                least = max(least, 2 * batch * self.workers)
        self._driver.check_open()
        function = self._driver.functions.named(fn, style)
        total = length_of(items)
        bar = None
        if progress is not False:
            from allcores.progress.one_map import MapProgress, bar_of

            bar = bar_of(progress)
        driver = self._driver
        around = surroundings.current() if driver.backend.needs_bytes else None

        def make(number: int) -> MapState:
            if bar is not None:
                driver.add_observer(MapProgress(bar, number, driver))
            map_state = MapState(
                number,
                chunker=chunker,
                ordered=ordered,
                total=total,
                timeout_ns=timeout_ns,
                retry=retry,
                detailed=detailed,
                items_limit=max(limits.items_in_flight, least),
                bytes_limit=limits.bytes_in_flight,
            )
            map_state.surroundings = around
            return map_state

        return make, function

    def _timeout_ns(self, timeout: float | None) -> int | None:
        timeout = check_timeout(timeout)
        if timeout is None:
            return None
        if not self._driver.backend.can_end_tasks:
            raise NotSupported(
                f"timeout={timeout:g} needs backend='processes': backend={self._driver.backend.name!r} cannot end "
                "a task that runs too long."
            )
        return int(timeout * 1e9)

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
        detailed = on_error is None
        make, function = self._plan(fn, style, items, timeout, retries, chunk, batch, ordered, detailed, progress)
        return Stream(self._driver, make, function, items, on_error, self)


class _Outcomes(NamedTuple):
    """What a run needs of a pool."""

    outcomes: Callable[..., Stream[Outcome[Any]]]


# --- for the executor and the module's own pool: what no program needs ---


def begin_call(
    pool: Pool,
    future: Any,
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any] | None,
    timeout: float | None = None,
    retries: int | Retry = 0,
) -> None:
    """Begin a call, whose outcome `future` gets. See `Pool.submit`."""
    driver = pool._driver
    if not callable(fn):
        raise UsageError(f"{fn!r} cannot be called; the first argument is the function.")
    driver.check_open()
    function = driver.functions.named(fn, "call")
    if timeout is None and retries == 0:
        map_state = driver.call(None, _calls_map)
    else:
        timeout_ns, retry = pool._timeout_ns(timeout), Retry.of(retries)
        map_state = driver.call(
            (timeout_ns, retry),
            lambda number: MapState(number, chunker=Chunker(1), calls=True, timeout_ns=timeout_ns, retry=retry),
        )
    chunk = Chunk(map_state, function, map_state.pulled, [(tuple(args), kwargs or {})], future=future)
    future.bind(chunk, pool)
    if driver.backend.needs_bytes:
        chunk.surroundings = surroundings.current()
        payload, bad = encode(chunk.items, 0, driver.backend.pack)
        if payload is None:
            future.fail(bad[0][1])
            return
        chunk.payload = payload
        chunk.size_bytes = len(payload)
    driver.add(chunk)
    if driver.backend.runs_on_caller:
        while not future.done() and driver.backend.pump():
            pass


def open_executor_map(
    pool: Pool,
    fn: Callable[..., Any],
    style: str,
    items: list[Any],
    chunk: int | None,
    ended: Callable[[ExecutorMap], object],
) -> ExecutorMap:
    """A map for an executor, to be started. See `Executor.map`."""
    from allcores.pool.executor_map import ExecutorMap

    make, function = pool._plan(fn, style, items, None, 0, chunk, None, True, False)
    return ExecutorMap(pool._driver, make, function, items, pool, ended)


def driver_of(pool: Pool) -> Driver:
    """What drives a pool's workers; it is started where it has not been in this process."""
    return pool._driver


def is_of_this_process(pool: Pool) -> bool:
    """Whether a pool was made, or used, in this process, and not only in one that this was forked from."""
    return pool._current.pid == os.getpid()


def is_usable(pool: Pool) -> bool:
    """Whether a pool of this process takes work: it is neither closed nor broken."""
    driver = pool._current
    return not driver.closed and driver.pid == os.getpid() and driver.broken is None


def is_busy(pool: Pool) -> bool:
    """Whether a stream of it is open, or a call of it has no outcome yet."""
    driver = pool._current
    return bool(driver.waiting()) or any(not map_state.calls for map_state in driver.maps())


def end_workers(pool: Pool, reason: str, *, at_once: bool) -> None:
    """End all workers, whatever they run. See `Driver.end_workers`."""
    pool._current.end_workers(reason, at_once=at_once)


def leave_open_at_exit(pool: Pool) -> None:
    """At the end of the program other code closes it."""
    pool._finalizer.atexit = False


def _new_future(driver: Driver) -> Future[Any]:
    """Replaces itself by the class.

    The module is loaded late, since `concurrent.futures` takes its time; and in a section, since a signal handler that
    uses it must not find half of it.
    """
    global _new_future
    outermost = deferral.enter()
    try:
        from allcores.pool.call_future import CallFuture

        _new_future = CallFuture
    finally:
        if outermost:
            deferral.leave()
    return CallFuture(driver)


def _calls_map(number: int) -> MapState:
    return MapState(number, chunker=Chunker(1), calls=True)


def _collect(stream: Stream[R]) -> list[R]:
    """All results; Ctrl-C gives those that were finished, inside the exception."""
    results: list[R] = []
    try:
        stream.collect(results)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(f"interrupted after {len(results)} items", results) from interrupt
    return results


__all__ = ["Pool"]
