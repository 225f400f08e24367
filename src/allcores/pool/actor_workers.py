"""The workers of one actor: a driver of their own whose setup builds the object, and whose tasks are its methods.

So deaths, deadlines, shared memory, logs and setup errors are those of any pool. Different is what
`scheduler.actor_policy` says: no call is run twice, and an object is built anew as often as was granted.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from _queue import Empty, SimpleQueue
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, NamedTuple

from allcores.backends.base import WorkerInit
from allcores.backends.open import open_backend
from allcores.errors import ActorBusy, NotPicklable, PoolClosed, UsageError
from allcores.limits import FOREVER_S, Limits
from allcores.pool.actor_processes import ActorTeller
from allcores.pool.call_chunks import calls_map, pack_call
from allcores.pool.call_future import CallFuture
from allcores.pool.caller_context import at_start
from allcores.pool.driver import Driver, close_dropped
from allcores.pool.pool_log import PoolLog
from allcores.scheduler.actor_policy import ActorPolicy
from allcores.scheduler.item_words import call_text
from allcores.scheduler.map_state import Chunk
from allcores.system.clock import monotonic_ns
from allcores.system.cores import core_budget
from allcores.transport import process_role
from allcores.worker.actor_object import Apply, Build, BuildTogether, Method, leave

if TYPE_CHECKING:
    from allcores.pool.actor_processes import ActorProcesses
    from allcores.pool.notifier import Observer
    from allcores.pool.pool_log import Logs


class ActorHome(NamedTuple):
    """What an actor takes over from its pool.

    Attributes:
        driver: The pool's driver, which is started for it where it has not been.
        processes: Where it is counted.
        travelling: Makes of what its processes do first and last what they are to have.
    """

    pool: Any
    driver: Callable[[], Driver]
    processes: ActorProcesses
    backend: str
    start_method: str | None
    limits: Limits
    logs: Logs
    preload: Callable[..., Any] | None
    preload_args: tuple[Any, ...]
    travelling: Callable[[WorkerInit], WorkerInit]


class CallSettings(NamedTuple):
    """How a call is made.

    Attributes:
        timeout_ns: From its beginning; None: no deadline.
        queue_s: How long it may wait for a place in the queue, seconds.
        cancel_running: `cancel()` ends it, and with it its process, also once it was begun.
    """

    timeout_ns: int | None
    queue_s: float
    cancel_running: bool


class ActorFuture(CallFuture):
    """The future of an actor's call. It has a place in the queue until its outcome is here."""

    def __init__(self, driver: Driver, places: SimpleQueue[None] | None, *, ends_running_calls: bool) -> None:
        super().__init__(driver)
        self.ends_running_calls = ends_running_calls
        self._places = places

    def _invoke_callbacks(self) -> None:
        self.leave_queue()
        super()._invoke_callbacks()

    def leave_queue(self) -> None:
        """Give its place to the next; once."""
        places, self._places = self._places, None
        if places is not None:
            places.put(None)


class ActorWorkers:
    """See the module. Any thread may use it.

    Args:
        home: What it takes over from its pool.
        build: Builds the object.
        name: Of the class, for messages.
        count: How many objects there are to be.
        policy: How they are replaced.
        max_queued: Calls without an outcome, at most; None: as many as come.
    """

    def __init__(
        self, home: ActorHome, build: Build, name: str, *, count: int, policy: ActorPolicy, max_queued: int | None
    ) -> None:
        self.name = name
        self.count = count
        self.build = build
        self.max_queued = max_queued
        self.pid = os.getpid()
        self.closed = False
        self._home = home
        self._policy = policy
        self._lock = threading.RLock()
        self._driver: Driver | None = None
        self._methods: dict[str, Method] = {}
        #: free places; put and get of it are whole at any moment, so a signal's handler may make calls too
        self._places: SimpleQueue[None] | None = None
        if max_queued is not None:
            self._places = SimpleQueue()
            for _ in range(max_queued):
                self._places.put(None)
        if not process_role.only_imports():
            self.driver()

    @property
    def backend(self) -> str:
        """Name of the backend."""
        return self._home.backend

    @property
    def is_open(self) -> bool:
        """It is of this process, and not closed."""
        return not self.closed and self.pid == os.getpid()

    def driver(self) -> Driver:
        """What drives the workers. In a process that only imports the program it starts at the first call.

        Raises:
            PoolClosed: It is closed, or belongs to another process.
        """
        if self.pid != os.getpid():
            raise PoolClosed(
                f"The actor {self.name} belongs to process {self.pid}, which this one was forked from, and so does its "
                "state. Make one of this process, with actor() of a pool."
            )
        driver = self._driver
        if driver is None and not self.closed:
            with self._lock:
                driver = self._driver
                if driver is None and not self.closed:
                    driver = self._driver = self._start()
                    if not self.is_open:  # closed by a signal's handler
                        driver.close()
        if driver is None or self.closed:
            raise PoolClosed(f"The actor {self.name} is closed; make a new one.")
        return driver

    def _start(self) -> Driver:
        home, build = self._home, self.build
        limits = home.limits
        limits = Limits(
            **{
                **{each: getattr(limits, each) for each in limits.__match_args__},
                # What would end an object that does nothing wrong.
                "items_per_worker": None,
                "growth_per_worker": None,
                "memory_reserve": None,
            }
        )
        workers, teardown = self.count, leave
        policy = self._policy
        if home.backend == "threads" and build.concurrent_calls > 1:
            # Each thread is a worker, and an object has several.
            workers *= build.concurrent_calls
            together = BuildTogether(build.factory, build.args, build.words, build.concurrent_calls)
            build, teardown = together, together.leave
            policy = ActorPolicy(build.words, restart=policy.restart, within_ns=policy.within_ns)
        elif home.backend == "serial":
            policy = ActorPolicy(build.words, restart=policy.restart, within_ns=policy.within_ns)
        each = max(1, core_budget().workers // home.pool.workers)
        beside = home.driver()
        init = WorkerInit(build, (), teardown, home.preload, home.preload_args, at_start(beside.around))
        try:
            place = open_backend(
                home.backend,
                workers=workers,
                worker_init=home.travelling(init),
                limits=limits,
                start_method=home.start_method,
                share=each * self.count,
                logs_as=self.name,
                records=home.logs.records,
                prints=home.logs.prints,
                sees=beside.backend.parent_memory() if home.backend in ("processes", "interpreters") else None,
            )
        except NotPicklable as error:
            raise NotPicklable(f"{build.words} cannot travel to its process: {error}", path=error.path) from error
        observers: list[Observer] = [PoolLog(self.name)] if home.logs.records else []
        if beside.observed:
            observers.append(ActorTeller(beside, self.name))
        driver = Driver(workers, limits, place, observers, self.name, policy, beside)
        driver.around = beside.around
        home.processes.add(driver, self.name)
        # The driver knows nothing of this object: an actor that nobody has any more ends its processes.
        self._finalizer = weakref.finalize(self, close_dropped, driver)
        return driver

    # --- calls ------------------------------------------------------------------------------------

    def call(
        self, target: str | Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], settings: CallSettings
    ) -> ActorFuture:
        """Begin a call.

        Args:
            target: A method's name, or a function that gets the object as first argument.
            args: Its arguments.
            kwargs: Its arguments.
            settings: How the call is made.

        Raises:
            PoolClosed: It is closed, or belongs to another process.
            ActorBusy: There was no place in the queue.
            ActorLost: There is no object any more.
            SetupError: The object could not be built.
        """
        driver = self.driver()
        driver.check_open()
        self._enter_queue(driver, settings.queue_s)
        future = ActorFuture(driver, self._places, ends_running_calls=settings.cancel_running)
        try:
            self.driver().check_open()
            self._hand_over(driver, future, self._callable(target), args, kwargs, settings)
        except BaseException:
            future.leave_queue()
            raise
        try:
            future.begin_here()
            return future
        finally:
            # Where the call has run on this thread, the traceback of its failure has this frame: a cycle otherwise.
            del future

    def _hand_over(
        self,
        driver: Driver,
        future: ActorFuture,
        target: Method | Apply,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        settings: CallSettings,
    ) -> None:
        function = driver.functions.named(target, "call", words=call_text)
        # One map for all: its chunks are handed out in the order of the calls.
        map_state = driver.call(None, calls_map)
        chunk = Chunk(map_state, function, map_state.pulled, [(args, dict(kwargs))], future=future)
        chunk.timeout_ns = settings.timeout_ns
        future.bind(chunk, self)
        try:
            chunk.surroundings = driver.around()
        except NotPicklable as error:
            future.fail(error)
            return
        if pack_call(chunk, driver.backend):
            driver.add(chunk)

    def _callable(self, target: str | Callable[..., Any]) -> Method | Apply:
        """What a worker calls. Methods are kept: their bytes travel once."""
        if not isinstance(target, str):
            return Apply(target, f"{self.name}.call({getattr(target, '__qualname__', type(target).__name__)})")
        method = self._methods.get(target)
        if method is None:
            method = self._methods.setdefault(target, Method(target, f"{self.name}.{target}"))
        return method

    def _enter_queue(self, driver: Driver, seconds: float) -> None:
        """Take a place in the queue, or wait for one."""
        places = self._places
        if places is None:
            return
        until_ns = monotonic_ns() + int(seconds * 1e9)
        stepped_back = False
        while True:
            try:
                places.get_nowait()
                return
            except Empty:
                left_s = (until_ns - monotonic_ns()) / 1e9
            if left_s > 0 and not stepped_back:
                # This may be a signal's handler on a thread that waits for a call, and reads its worker's pipe.
                stepped_back = True
                driver.backend.step_back()
            elif left_s > 0:
                if driver.backend.pump():
                    # A callback on the thread without which no call is ever settled.
                    continue
                try:
                    places.get(timeout=min(left_s, FOREVER_S))
                    return
                except Empty:
                    continue
            else:
                raise self._busy(seconds)

    def _busy(self, seconds: float) -> ActorBusy:
        return ActorBusy(
            f"The actor {self.name} has {self.max_queued} calls without an outcome, which is max_queued; a call "
            f"waited {seconds:g} s for a place. Make fewer at a time, raise max_queued or queue_timeout, or use "
            "more of them (actors(count=...))."
        )

    # --- the end ----------------------------------------------------------------------------------

    def close(self, finish_s: float = 0.0) -> None:
        """End it. Idempotent.

        Args:
            finish_s: How long calls that were made before may take to finish; what is left then is cancelled.
        """
        if self.pid != os.getpid():
            return
        self.closed = True
        with self._lock:
            driver = self._driver
        if driver is None:
            return
        until_ns = monotonic_ns() + int(finish_s * 1e9)
        for future in list(driver.submitted.waiting) if finish_s > 0 else ():
            try:
                future.exception(max(0.0, (until_ns - monotonic_ns()) / 1e9))
            except (CancelledError, TimeoutError):
                continue
        driver.close()
        # Only now: in the middle of a decision of its own it refuses, and has to be closed later.
        self._finalizer.detach()


def named(factory: Callable[..., Any], args: Iterable[Any]) -> tuple[str, str, Any]:
    """What is built, in words: its name, the call that builds it, and its class, None if that is not known."""
    args, kwargs = tuple(args), dict[str, Any]()
    while isinstance(factory, functools.partial):
        args, kwargs, factory = factory.args + args, {**factory.keywords, **kwargs}, factory.func
    if not callable(factory):
        raise UsageError(f"{factory!r} cannot be called; the first argument is the class, or a function that builds.")
    name = getattr(factory, "__qualname__", type(factory).__name__).rpartition("<locals>.")[2]
    return name, call_text(name, args, kwargs), factory if isinstance(factory, type) else None


__all__ = ["ActorHome", "ActorWorkers", "CallSettings", "named"]
