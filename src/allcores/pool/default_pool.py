"""The functions of the module: each works on one warm pool that is shared by the whole process."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from allcores.backends.processes import templates
from allcores.pool.method_types import (
    async_method,
    map_method,
    outcomes_method,
    reduce_method,
    run_method,
    star_method,
    stream_method,
)
from allcores.system.tracebacks import hiding

if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import TypeVarTuple, Unpack

    from allcores.outcome import Outcome
    from allcores.pool.actor import Actor
    from allcores.pool.async_stream import AsyncStream
    from allcores.pool.call_options import ActorOptions
    from allcores.pool.pool import Pool
    from allcores.pool.result_stream import Stream
    from allcores.runs.options import RunResult, SinkLike, SourceLike

    Ts = TypeVarTuple("Ts")
P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


#: the pool behind these functions; the lock is reentrant, since a signal's handler may use them too
_shared: Pool | None = None
_shared_lock = threading.RLock()


def shared() -> Pool:
    """The warm pool behind the functions of the module; made at the first call, closed at exit."""
    global _shared
    with _shared_lock:
        pool = _shared
        if pool is None:
            # An interpreter starts there while this one imports the rest.
            templates.start()
        from allcores.pool.pool import Pool, is_of_this_process, is_usable

        if pool is None or not is_usable(pool):
            if pool is not None and is_of_this_process(pool):
                pool.close()
            pool = _shared = Pool(name="shared")
        return pool


def shutdown_shared() -> None:
    """Close the shared pool, if there is one; the next module-level call makes a new one."""
    global _shared
    with _shared_lock:
        pool, _shared = _shared, None
    if pool is not None:
        pool.close()


def _after_fork() -> None:
    global _shared, _shared_lock
    _shared = None
    _shared_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(shutdown_shared)


# --- the functions ------------------------------------------------------------------------------


@map_method
@hiding
def map(fn: Callable[..., R], items: Iterable[Any], *more: Iterable[Any], **options: Any) -> list[R]:
    """`Pool.map` on the shared pool."""
    return shared().map(fn, items, *more, **options)


@stream_method
@hiding
def imap(fn: Callable[..., R], items: Iterable[Any], *more: Iterable[Any], **options: Any) -> Stream[R]:
    """`Pool.imap` on the shared pool."""
    return shared().imap(fn, items, *more, **options)


@stream_method
@hiding
def imap_unordered(fn: Callable[..., R], items: Iterable[Any], *more: Iterable[Any], **options: Any) -> Stream[R]:
    """`Pool.imap_unordered` on the shared pool."""
    return shared().imap_unordered(fn, items, *more, **options)


@star_method
@hiding
def starmap(fn: Callable[..., R], items: Iterable[Any], **options: Any) -> list[R]:
    """`Pool.starmap` on the shared pool."""
    return shared().starmap(fn, items, **options)


@outcomes_method
@hiding
def outcomes(fn: Callable[..., R], items: Iterable[Any], *more: Iterable[Any], **options: Any) -> Stream[Outcome[R]]:
    """`Pool.outcomes` on the shared pool."""
    return shared().outcomes(fn, items, *more, **options)


@async_method
@hiding
def aimap(
    fn: Callable[..., R],
    items: Iterable[Any] | AsyncIterable[Any],
    *more: Iterable[Any] | AsyncIterable[Any],
    **options: Any,
) -> AsyncStream[R]:
    """`Pool.aimap` on the shared pool."""
    return shared().aimap(fn, items, *more, **options)


@reduce_method
@hiding
def reduce(fn: Callable[..., R], items: Iterable[Any], merge: Callable[[R, R], R], **options: Any) -> R:
    """`Pool.reduce` on the shared pool."""
    return shared().reduce(fn, items, merge, **options)  # type: ignore[no-any-return]


@run_method
@hiding
def run(fn: Callable[..., Any], source: SourceLike, sink: SinkLike, **options: Any) -> RunResult:
    """`Pool.run` on the shared pool."""
    return shared().run(fn, source, sink, **options)


@hiding
def submit(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
    """`Pool.submit` on the shared pool."""
    return shared().submit(fn, *args, **kwargs)


def actor(cls: Callable[[Unpack[Ts]], T], *args: *Ts, **options: Unpack[ActorOptions]) -> Actor[T]:
    """`Pool.actor` of the shared pool."""
    return shared().actor(cls, *args, **options)


def actors(
    cls: Callable[[Unpack[Ts]], T], *args: *Ts, count: int | None = None, **options: Unpack[ActorOptions]
) -> Actor[T]:
    """`Pool.actors` of the shared pool."""
    return shared().actors(cls, *args, count=count, **options)
