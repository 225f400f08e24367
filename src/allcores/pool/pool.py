"""The pool: `map`, `imap`, `submit` and their like, on workers of its own."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Never, NoReturn, TypeVar

from allcores.backends.base import WorkerInit
from allcores.backends.open import CLUSTERS, open_backend
from allcores.errors import NotPicklable, UsageError
from allcores.limits import Limits, Retry
from allcores.pool.actor_methods import ActorMethods
from allcores.pool.actor_processes import ActorProcesses
from allcores.pool.call_chunks import calls_map, pack_call
from allcores.pool.caller_context import CallerContext, at_start
from allcores.pool.driver import Driver, close_dropped
from allcores.pool.map_methods import MapMethods
from allcores.pool.notifier import Observer
from allcores.pool.planning import checked_timeout_ns, plan_map
from allcores.pool.pool_log import Logs, PoolLog
from allcores.pool.pool_options import checked
from allcores.pool.sharing import Sharing
from allcores.pool.statistics import Statistics, item_times, statistics_of
from allcores.scheduler.map_state import Chunk
from allcores.system import deferral
from allcores.system.async_functions import check_function
from allcores.system.cores import core_budget
from allcores.system.tracebacks import hiding
from allcores.system.weak_objects import WeakObjects
from allcores.transport import process_role

if TYPE_CHECKING:
    from concurrent.futures import Future
    from contextvars import ContextVar

    from allcores.pool.executor_map import ExecutorMap
    from allcores.pool.worker_status import WorkerStatus

if TYPE_CHECKING:
    from allcores.pool.method_types import submit_method
else:
    # It is for type checkers alone; to make it takes a millisecond.
    from allcores.pool.functions import as_it_is as submit_method

T = TypeVar("T")
R = TypeVar("R")


class Pool(ActorMethods, MapMethods, Sharing):
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
        backend: "processes" (default), "threads" (for functions that release the GIL; no deadlines), "interpreters"
            (Python 3.14 and later; no deadlines, a crash ends the program), or "serial" (on
            the caller's thread, for debugging); or "dask" or "ray", whose workers are nodes of a cluster, each with a
            pool of its own (`workers=None`: all nodes that there are).
        address: Of the cluster: that of its scheduler, or what the library has for it (a Dask `Client`, say). Both in
            one: backend="dask://10.0.0.1:8786".
        start_method: Of processes. "template" (default): forked from a clean process with one thread; "forkserver": the
            same; "spawn": a fresh interpreter each; "fork": from this process.
        limits: Memory, items in flight and seconds that the pool may use, see `Limits`.
        observers: Callables that get frozen events (`allcores.events`); one that raises is dropped. One that has a
            method `attach` is given the pool with it.
        logs: True has log records of worker processes handled by this process's logging, and the pool's own events
            logged (logger "allcores"); False leaves logging alone; a `Logs` also takes what workers print.
        name: For messages and thread names.
        contextvars: Context variables (`contextvars.ContextVar`) that workers follow: a map's or call's tasks find the
            values that its caller has at that moment, which must pickle.
        tuned: A function that was tuned on this machine (`allcores.tune`): the pool gets the workers, backend and depth
            that were found for it, and maps of it the chunk. Refused if its code, Python, the cores or a library have
            changed since. In a process that only imports the module of the pool it is not looked at.
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
        address: object = None,
        start_method: str | None = None,
        limits: Limits | None = None,
        observers: Iterable[Observer] = (),
        logs: bool | Logs = True,
        name: str = "pool",
        contextvars: Iterable[ContextVar[Any]] = (),
        tuned: Callable[..., Any] | None = None,
        **unknown: Never,
    ) -> None:
        if unknown:
            from allcores.pool import arguments

            arguments.refuse(type(self), unknown)
        found = checked(
            workers,
            preload=preload,
            preload_args=preload_args,
            preload_modules=preload_modules,
            setup=setup,
            setup_args=setup_args,
            teardown=teardown,
            backend=backend,
            address=address,
            start_method=start_method,
            limits=limits,
            observers=observers,
            logs=logs,
            name=name,
            contextvars=contextvars,
            tuned=tuned,
        )
        backend, address = found["backend"], found["address"]
        if tuned is not None and not process_role.only_imports():
            from allcores.pool.tuned_options import tuned_options

            self._tuned = options = tuned_options(tuned, start_method, limits, prints=found["logs"].prints)
            workers, backend, limits = options.workers, options.backend, options.limits
        self.workers = 1 if backend == "serial" else workers or core_budget().workers
        self.limits = limits or Limits()
        self.name = name
        self._backend = backend
        self._address = address
        #: None: as many as the cluster has nodes
        self._asked_workers = workers
        self._start_method = start_method
        self._logs: Logs = found["logs"]
        self._preload_modules: tuple[str, ...] = found["preload_modules"]
        self._contextvars: tuple[ContextVar[Any], ...] = found["contextvars"]
        self._worker_init = WorkerInit(setup, found["setup_args"], teardown, preload, found["preload_args"])
        own = (PoolLog(name),) if self._logs.records else ()
        self._observers: tuple[Observer, ...] = (*found["observers"], *own)
        self._actor_workers = WeakObjects()
        self._actor_processes = ActorProcesses()
        self._current = self._wait_for_use() if process_role.only_imports() else self._start()
        #: `close` was called: for processes that have not used it, and for what other threads are about to start
        self._was_closed = False
        for observer in self._observers:
            if hasattr(observer, "attach"):
                observer.attach(self)

    def _start(self) -> Driver:
        """Make the workers, and what drives them."""
        from allcores.system import posix

        posix.keep_standard()
        logs = self._logs
        caller = None
        if self._contextvars or self._backend != "serial":
            caller = CallerContext(self._contextvars, self._backend not in ("serial", "threads"))
        place = open_backend(
            self._backend,
            workers=self.workers,
            worker_init=self._travelling(self._worker_init)._replace(
                around=None if caller is None else at_start(caller.current)
            ),
            limits=self.limits,
            start_method=self._start_method,
            share=core_budget().workers,
            logs_as=self.name,
            records=logs.records,
            prints=logs.prints,
            preload_modules=self._preload_modules,
            address=self._address,
        )
        if self._backend in CLUSTERS and self._asked_workers is None:
            if not place.node_count:
                place.close()
                raise UsageError(
                    f"The {self._backend} cluster has no node yet, so it is not known how many workers the pool is to "
                    "have: say workers=..., or wait until there are nodes."
                )
            self.workers = place.node_count
        driver = Driver(self.workers, self.limits, place, self._observers, self.name)
        if caller is not None:
            driver.around = caller.current
        # The driver knows nothing of the pool: a pool that is dropped unclosed closes itself.
        self._finalizer = weakref.finalize(self, close_dropped, driver)
        return driver

    def _travelling(self, init: WorkerInit) -> WorkerInit:
        """What workers do first and last, or processes of actors, as they are to have it."""
        return init

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
            if driver.inherited is not None and not self.closed:
                finalizer, at_exit = self._finalizer, self._finalizer.atexit
                driver = self._current = self._start()
                finalizer.detach()
                self._finalizer.atexit = at_exit
                if self._was_closed:
                    # By another thread meanwhile, or a signal's handler, which has closed the former one.
                    self._finalizer.detach()
                    driver.close()
            return driver

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
        try:
            begin_call(self, future, fn, args, kwargs, timeout, retries)
            return future
        finally:
            # Where the call has run on this thread, the traceback of its failure has this frame: a cycle otherwise.
            del future

    # --- the pool itself --------------------------------------------------------------------------

    def statistics(self) -> Statistics:
        """What the pool and its actors have done and are doing."""
        return statistics_of(self._current, self._actor_processes, self._memory())

    def item_times(self) -> list[tuple[float, int]]:
        """How long items took: (seconds, items that took less than that but not less than half of it), ascending.

        All attempts since the pool began. Quick items are measured together, and each counts with their mean.
        """
        return item_times(self._current, self._actor_processes)

    def worker_status(self) -> list[WorkerStatus]:
        """What each worker does at this moment, from any thread: no worker is asked or waited for.

        Those of actors are there, too; `WorkerStatus.actor` says whose.
        """
        from allcores.pool.worker_status import worker_status

        found = worker_status(self._current)
        for driver, name in self._actor_processes.drivers():
            found += worker_status(driver, name)
        return sorted(found, key=lambda status: status.worker)

    @property
    def closed(self) -> bool:
        """It takes no work any more."""
        driver = self._current
        return driver.closed if driver.inherited is None else self._was_closed

    @hiding
    def close(self) -> None:
        """End the pool. What runs has `Limits.grace_s` to finish, then it is ended. Idempotent."""
        self._was_closed = True
        self._close_actors()
        self._finalizer.detach()
        self._current.close()

    def __enter__(self) -> Pool:
        return self

    @hiding
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise NotPicklable("a pool cannot travel to another process, nor be copied: make another one there")

    def __repr__(self) -> str:
        state = "closed" if self.closed else self._backend
        return f"<allcores.Pool {self.name!r} {state}, {self.workers} workers>"


# --- for the executor, data frames and the module's own pool: what no program needs ---


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
    __tracebackhide__ = True
    driver = pool._driver
    check_function(fn)
    driver.check_open()
    function = driver.functions.named(fn, "call")
    timeout_ns = checked_timeout_ns(driver, timeout)
    if retries == 0:
        map_state = driver.call(None, calls_map)
    else:
        retry = Retry.of(retries)
        map_state = driver.call(retry, lambda number: calls_map(number, retry))
    chunk = Chunk(map_state, function, map_state.pulled, [(tuple(args), kwargs or {})], future=future)
    # Of the call, and not of the map, which is there as long as the pool is: each call may have another one.
    chunk.timeout_ns = timeout_ns
    future.bind(chunk, pool)
    try:
        chunk.surroundings = driver.around()
    except NotPicklable as error:
        future.fail(error)
        return
    if not pack_call(chunk, driver.backend):
        return
    driver.add(chunk)
    try:
        future.begin_here()
    finally:
        # The traceback of a call that has failed here has this frame: a cycle otherwise.
        del future, chunk


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

    driver = pool._driver
    make, function = plan_map(driver, fn, style, items, chunk=chunk)
    return ExecutorMap(driver, make, function, items, pool, ended)


def ready(*_: Any) -> None:
    """Run in a worker: it has started."""


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
    return bool(driver.submitted.waiting) or any(not map_state.calls for map_state in driver.maps())


def has_actors(pool: Pool) -> bool:
    """Whether an actor of it is open."""
    return bool(pool._actor_processes.drivers())


def is_forked(pool: Pool) -> bool:
    """Whether its workers are copies of this process."""
    return pool._start_method == "fork"


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


__all__ = ["Pool"]
