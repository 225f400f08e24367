"""Actors of a pool: the part of `Pool` that makes objects with processes of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from allcores.errors import NotSupported, PoolClosed, UsageError
from allcores.formatting import counted
from allcores.pool.actor_processes import Place
from allcores.system.tracebacks import hiding

if TYPE_CHECKING:
    from typing import TypeVarTuple, Unpack

    from allcores.backends.base import WorkerInit
    from allcores.limits import Limits
    from allcores.pool.actor import Actor
    from allcores.pool.actor_processes import ActorProcesses
    from allcores.pool.actor_workers import ActorWorkers
    from allcores.pool.driver import Driver
    from allcores.pool.notifier import Observer
    from allcores.pool.pool_log import Logs
    from allcores.system.weak_objects import WeakObjects

    Ts = TypeVarTuple("Ts")
T = TypeVar("T")


class ActorMethods:
    """Base of `Pool`."""

    workers: int
    limits: Limits
    name: str
    _backend: str
    _start_method: str | None
    _logs: Logs
    _worker_init: WorkerInit
    _travelling: Callable[[WorkerInit], WorkerInit]
    _observers: tuple[Observer, ...]
    #: of actors that are open, and of some that were closed
    _actor_workers: WeakObjects[ActorWorkers]
    _actor_processes: ActorProcesses
    _was_closed: bool

    @property
    def _driver(self) -> Driver:
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        """See Pool."""
        raise NotImplementedError

    @hiding
    def actor(
        self,
        cls: Callable[[Unpack[Ts]], T],
        *args: *Ts,
        timeout: float | None = None,
        restart: int | None = 3,
        within: float = 60.0,
        concurrent: int = 1,
        max_queued: int | None = 1000,
        queue_timeout: float = 60.0,
        cancel_running: bool = False,
    ) -> Actor[T]:
        """An object `cls(*args)` that lives in a process of its own; its methods are called through the handle.

        It adds a process to the pool's workers, so that it never waits for one of them. A pool may have as many such
        processes as it has workers.

        Args:
            cls: The class, or a function that returns the object; with what `preload` returned, if anything, as first
                argument. An object that is a context manager is entered, and left at its normal end. Keyword arguments
                go by `functools.partial`.
            *args: Its arguments.
            timeout: Seconds per call, from its beginning; one that uses them up is ended with its process.
            restart: How often the object is built anew within `within` seconds when its process was lost; 0: never,
                None: always. What ended for a deadline or a cancelled call is not counted.
            within: Seconds, see `restart`.
            concurrent: Calls that the object runs at a time, in threads.
            max_queued: Calls without an outcome, at most; None for no bound. At the bound a call waits for a place.
            queue_timeout: Seconds that it waits, then it raises `ActorBusy`; 0 raises at once.
            cancel_running: `cancel()` of a future ends a call that runs, and its process. By default it withdraws
                only what the process does not have yet.

        Raises:
            UsageError: Options make no sense, or the pool has as many of them as workers.
            NotSupported: The backend cannot keep that promise.
            NotPicklable: The class or an argument cannot travel.
        """
        return self._actors(
            cls,
            args,
            count=1,
            timeout=timeout,
            restart=restart,
            within=within,
            concurrent=concurrent,
            max_queued=max_queued,
            queue_timeout=queue_timeout,
            cancel_running=cancel_running,
        )

    @hiding
    def actors(
        self,
        cls: Callable[[Unpack[Ts]], T],
        *args: *Ts,
        count: int | None = None,
        timeout: float | None = None,
        restart: int | None = 3,
        within: float = 60.0,
        concurrent: int = 1,
        max_queued: int | None = 1000,
        queue_timeout: float = 60.0,
        cancel_running: bool = False,
    ) -> Actor[T]:
        """The same with several such objects, each in a process of its own, behind one handle.

        A call goes to an object that runs nothing, if there is one; calls are begun in the order in which they were
        made. `restart` counts for all of them together; when it is used up, the others go on until none is left.

        Args:
            cls: See `actor`.
            *args: See `actor`.
            count: How many; None: as many as the pool has workers.
            timeout: See `actor`.
            restart: See `actor`.
            within: See `actor`.
            concurrent: See `actor`.
            max_queued: See `actor`.
            queue_timeout: See `actor`.
            cancel_running: See `actor`.
        """
        return self._actors(
            cls,
            args,
            count=self.workers if count is None else count,
            timeout=timeout,
            restart=restart,
            within=within,
            concurrent=concurrent,
            max_queued=max_queued,
            queue_timeout=queue_timeout,
            cancel_running=cancel_running,
        )

    def _actors(self, cls: Callable[..., T], args: tuple[Any, ...], *, count: int, **options: Any) -> Actor[T]:
        from allcores.pool.actor import make_actor
        from allcores.pool.actor_workers import ActorHome

        if self.closed:
            raise PoolClosed(f"Pool {self.name!r} is closed; make a new one.")
        if self._backend in ("dask", "ray"):
            raise NotSupported(
                f"An actor needs a backend of one machine, not backend={self._backend!r}: make it in a pool of this "
                "program, or use what the cluster's library has."
            )
        if self._backend == "serial":
            count = min(count, 1)
        place = Place(count)
        try:
            taken = self._actor_processes.reserve(place, self._most_processes, self._count_processes)
            if taken is not None:
                more = counted(count, "more process", "more processes")
                raise UsageError(
                    f"{more} for actors would be too many: a pool of {counted(self.workers, 'worker')} may have as "
                    f"many, and {taken} are there. Close some actors, or make the pool with "
                    f"Pool(workers={taken + count})."
                )
            init = self._worker_init
            home = ActorHome(
                self,
                lambda: self._driver,
                self._actor_processes,
                self._backend,
                self._start_method,
                self.limits,
                self._logs,
                init.preload,
                init.preload_args,
                self._travelling,
            )
            actor, workers = make_actor(home, cls, args, count=count, **options)
            self._actor_processes.made(place, lambda: self._actor_workers.add(workers))
        finally:
            place.count = 0
        if self._was_closed:
            # By another thread meanwhile, which may have looked for actors before this one was there.
            workers.close()
            raise PoolClosed(f"Pool {self.name!r} was closed.")
        return actor

    @property
    def _most_processes(self) -> int:
        """How many actors may have; the objects of a serial pool have none."""
        return sys.maxsize if self._backend == "serial" else self.workers

    def _count_processes(self) -> int:
        return sum(each.count for each in self._actor_workers.all() if each.is_open)

    def _close_actors(self) -> None:
        for workers in self._actor_workers.all():
            workers.close()
