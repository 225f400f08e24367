"""The functions of the module: each works on one warm pool that is shared by the whole process."""

from __future__ import annotations

import atexit
import threading
from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from allcores.errors import UsageError
from allcores.limits import check_workers
from allcores.system import forks
from allcores.system.posix import can_fork
from allcores.system.tracebacks import hiding

if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import TypeVarTuple, Unpack

    from allcores.outcome import Outcome
    from allcores.pool.actor import Actor
    from allcores.pool.async_stream import AsyncStream
    from allcores.pool.call_options import ActorOptions, PoolOptions
    from allcores.pool.nested_calls import PoolOfModule
    from allcores.pool.pool import Pool
    from allcores.pool.result_stream import Stream
    from allcores.runs.options import RunResult, SinkLike, SourceLike

    Ts = TypeVarTuple("Ts")
if TYPE_CHECKING:
    from allcores.pool.module_types import (
        shared_async,
        shared_map,
        shared_outcomes,
        shared_reduce,
        shared_run,
        shared_star,
        shared_stream,
    )
else:
    # They are for type checkers alone; to make them takes a millisecond.
    def _as_it_is(function: Callable[..., Any]) -> Any:
        return function

    shared_async = shared_map = shared_outcomes = shared_reduce = _as_it_is
    shared_run = shared_star = shared_stream = _as_it_is

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


#: the pool behind these functions, and those of other numbers of workers that were asked for; the lock is reentrant,
#: since a signal's handler may use them too
_shared: PoolOfModule | None = None
_others: dict[int, PoolOfModule] = {}
_shared_lock = threading.RLock()
#: what `configure` was given
_settings: dict[str, Any] = {}
#: threads that are just beginning something on a pool
_entered: dict[Pool, int] = {}


def shared(workers: int | None = None) -> Pool:
    """The warm pool behind the functions of the module; made at the first call, closed at exit.

    Args:
        workers: Of so many workers; None for what `configure` was told.
    """
    global _shared
    with _shared_lock:
        if workers is None or (_shared is not None and _shared.workers == workers):
            _shared = _usable(_shared, {})
            return _shared
        # Looked at first: bad ones are refused before anything is closed.
        workers = check_workers(workers)
        for number in [each for each in _others if each != workers and _is_idle(_others[each])]:
            _others.pop(number).close()
        _others[workers] = _usable(_others.pop(workers, None), {"workers": workers})
        return _others[workers]


def _usable(pool: PoolOfModule | None, settings: dict[str, Any]) -> PoolOfModule:
    """That pool, or a new one if it cannot be used."""
    from allcores.transport import module_settings

    # Those of a worker of such a pool are what that pool was made with, unless it was told something itself.
    told = _settings or module_settings.known
    settings = {"name": "shared", **told, **settings}
    processes = settings.get("backend", "processes") == "processes" and can_fork()
    if pool is None and processes and settings.get("start_method") is None:
        from allcores.backends.processes import templates

        # An interpreter starts there while this one imports the rest.
        templates.start()
    from allcores.pool.nested_calls import PoolOfModule
    from allcores.pool.pool import is_of_this_process, is_usable

    # One that setup has used in a worker was made without them.
    if pool is not None and is_usable(pool) and pool.told == (*told,) and not _is_outdated(pool):
        return pool
    if pool is not None and is_of_this_process(pool):
        pool.close()
    return PoolOfModule(settings, (*told,))


def _is_outdated(pool: PoolOfModule) -> bool:
    """Whether a module of the program was loaded anew, which its workers have as it was, and nothing of it is open."""
    from allcores.pool.pool import has_actors
    from allcores.system import reloads

    before = pool.reloads
    return before is not None and reloads.current() is not before and _is_idle(pool) and not has_actors(pool)


def _is_idle(pool: Pool) -> bool:
    from allcores.pool.pool import is_busy

    return not _entered.get(pool) and not is_busy(pool)


def _nested() -> Pool | None:
    """The pool for calls in a task that this very thread runs for one of these pools; None: there is no such task."""
    pools = [pool for pool in (_shared, *list(_others.values())) if pool is not None]
    if not pools:
        return None
    from allcores.pool.nested_calls import pool_within

    return pool_within(pools, _settings)


class _Using:
    """A block in which a pool begins something: it is not closed meanwhile by others that find it idle."""

    _pool: Pool | None = None

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers

    def __enter__(self) -> Pool:
        nested = _nested()
        if nested is not None:
            return nested
        with _shared_lock:
            self._pool = pool = shared(self._workers)
            _entered[pool] = _entered.get(pool, 0) + 1
        return pool

    def __exit__(self, *_: object) -> None:
        if self._pool is None:
            return
        with _shared_lock:
            left = _entered.pop(self._pool, 1) - 1
            if left:
                _entered[self._pool] = left


#: for `allcores.frames`
using = _Using


@hiding
def configure(workers: int | None = None, **options: Unpack[PoolOptions]) -> None:
    """Say how the pool behind `allcores.map` and its like is to be: once, at the start of a program, say.

    Settings take the place of all earlier ones; without arguments all are as at first. A pool that is there is closed
    now, and the next call makes the new one. Safe from any thread; forked processes take the settings along.

    Args:
        workers: As for `Pool`.
        **options: `preload`, `setup`, `limits`, `backend`, `observers` and the other options of `Pool`.

    Raises:
        UnknownOption: `Pool` has no option of that name.
        UsageError: A value makes no sense, or the pool is in use: a stream is open, or a call has no result yet.
        NotSupported: Values do not go together.
        SetupError: There is no module of a name in `preload_modules`.
    """
    global _settings
    from allcores.pool import arguments, pool_options
    from allcores.pool.pool import Pool, is_usable

    unknown = {name: value for name, value in options.items() if name not in arguments.options_of(Pool)}
    if unknown:
        arguments.refuse(Pool, unknown)
    found = pool_options.checked(workers, **options)
    if found["address"] is not None:
        options["address"] = found["address"]  # it may have stood in the backend's name
    settings = {"workers": found["workers"], **{name: found[name] for name in options}}
    with _shared_lock:
        pools = [pool for pool in (_shared, *_others.values()) if pool is not None and is_usable(pool)]
        if not all(_is_idle(pool) for pool in pools):
            raise UsageError(
                "configure: the pool of the module's functions is in use. Call it before they are used, or read the "
                "open streams to their end and wait for the calls first; allcores.close() ends them."
            )
        close()
        _settings = settings


@hiding
def close() -> None:
    """Close the pool behind `allcores.map` and its like, if there is one; what runs on it is ended, as by `Pool.close`.

    The next call makes a new one, with the same settings. At the end of the program this is done in any case.
    """
    global _shared
    with _shared_lock:
        pools = [*_others.values(), *([] if _shared is None else [_shared])]
        _shared = None
        _others.clear()
    for pool in pools:
        pool.close()


#: tests close the pool after each of them
shutdown_shared = close


@forks.in_child
def _after_fork() -> None:
    global _shared, _shared_lock
    _shared = None
    _others.clear()
    _entered.clear()
    _shared_lock = threading.RLock()


def _at_exit() -> None:
    from allcores.pool.program_end import quiet_daemons

    quiet_daemons()
    close()


atexit.register(_at_exit)


# --- the functions ------------------------------------------------------------------------------


@shared_map
@hiding
def map(
    fn: Callable[..., R], items: Iterable[Any], *more: Iterable[Any], workers: int | None = None, **options: Any
) -> list[R]:
    """`Pool.map` on the shared pool; with `workers=`, on one of so many."""
    with _Using(workers) as pool:
        return pool.map(fn, items, *more, **options)


@shared_stream
@hiding
def imap(
    fn: Callable[..., R], items: Iterable[Any], *more: Iterable[Any], workers: int | None = None, **options: Any
) -> Stream[R]:
    """`Pool.imap` on the shared pool; with `workers=`, on one of so many."""
    with _Using(workers) as pool:
        return pool.imap(fn, items, *more, **options)


@shared_stream
@hiding
def imap_unordered(
    fn: Callable[..., R], items: Iterable[Any], *more: Iterable[Any], workers: int | None = None, **options: Any
) -> Stream[R]:
    """`Pool.imap_unordered` on the shared pool; with `workers=`, on one of so many."""
    with _Using(workers) as pool:
        return pool.imap_unordered(fn, items, *more, **options)


@shared_star
@hiding
def starmap(fn: Callable[..., R], items: Iterable[Any], *, workers: int | None = None, **options: Any) -> list[R]:
    """`Pool.starmap` on the shared pool; with `workers=`, on one of so many."""
    with _Using(workers) as pool:
        return pool.starmap(fn, items, **options)


@shared_outcomes
@hiding
def outcomes(
    fn: Callable[..., R], items: Iterable[Any], *more: Iterable[Any], workers: int | None = None, **options: Any
) -> Stream[Outcome[R]]:
    """`Pool.outcomes` on the shared pool; with `workers=`, on one of so many."""
    with _Using(workers) as pool:
        return pool.outcomes(fn, items, *more, **options)


@shared_async
@hiding
def aimap(
    fn: Callable[..., R],
    items: Iterable[Any] | AsyncIterable[Any],
    *more: Iterable[Any] | AsyncIterable[Any],
    workers: int | None = None,
    **options: Any,
) -> AsyncStream[R]:
    """`Pool.aimap` on the shared pool; with `workers=`, on one of so many."""
    with _Using(workers) as pool:
        return pool.aimap(fn, items, *more, **options)


@shared_reduce
@hiding
def reduce(
    fn: Callable[..., R],
    items: Iterable[Any],
    merge: Callable[[R, R], R],
    *initial: R,
    workers: int | None = None,
    **options: Any,
) -> R:
    """`Pool.reduce` on the shared pool; with `workers=`, on one of so many."""
    with _Using(workers) as pool:
        return pool.reduce(fn, items, merge, *initial, **options)  # type: ignore[no-any-return]


@shared_run
@hiding
def run(
    fn: Callable[..., Any], source: SourceLike, sink: SinkLike, *, workers: int | None = None, **options: Any
) -> RunResult:
    """`Pool.run` on the shared pool; with `workers=`, on one of so many."""
    with _Using(workers) as pool:
        return pool.run(fn, source, sink, **options)


@hiding
def submit(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
    """`Pool.submit` on the shared pool."""
    with _Using() as pool:
        return pool.submit(fn, *args, **kwargs)


@hiding
def actor(cls: Callable[[Unpack[Ts]], T], *args: *Ts, **options: Unpack[ActorOptions]) -> Actor[T]:
    """`Pool.actor` of the shared pool."""
    with _Using() as pool:
        return pool.actor(cls, *args, **options)


@hiding
def actors(
    cls: Callable[[Unpack[Ts]], T], *args: *Ts, count: int | None = None, **options: Unpack[ActorOptions]
) -> Actor[T]:
    """`Pool.actors` of the shared pool."""
    with _Using() as pool:
        return pool.actors(cls, *args, count=count, **options)
