"""What may be said of a call besides function and input, for type checkers.

The methods of `Pool` spell these out, with their defaults: that is what `help` and editors show. What hands options
through (`allcores.map`, for one) takes `**options: Unpack[MapOptions]`, so that a wrong name or type is found before
the program runs. Nothing loads this file at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, Literal, TypedDict

from allcores.cache.options import CacheLike
from allcores.limits import Limits, Retry
from allcores.pool.notifier import Observer
from allcores.pool.pool_log import Logs
from allcores.runs.options import Journal
from allcores.runs.options import OnError as OnErrorOfRun

#: what becomes of an item that fails
OnError = Literal["raise", "skip"]


class CallOptions(TypedDict, total=False):
    """Of every call: see `Pool.map`. Without `batch`, which changes what a function is given."""

    timeout: float | None
    retries: int | Retry
    chunk: int | None
    cache: CacheLike | None
    progress: bool | str


class MapOptions(CallOptions, total=False):
    """Of calls that give values, and have to do something with failures."""

    on_error: OnError


class OutcomeOptions(CallOptions, total=False):
    """Of `Pool.outcomes`, in which failures are outcomes, too."""

    ordered: bool


class AsyncMapOptions(MapOptions, total=False):
    """Of `Pool.aimap`."""

    ordered: bool


class RunOptions(CallOptions, total=False):
    """Of `Pool.run`."""

    journal: Journal | bool
    on_error: OnErrorOfRun


class ActorOptions(TypedDict, total=False):
    """Of `Pool.actor` and `Pool.actors`."""

    timeout: float | None
    restart: int | None
    within: float
    concurrent: int
    max_queued: int | None
    queue_timeout: float
    cancel_running: bool


class PoolOptions(TypedDict, total=False):
    """Of `Pool`, besides `workers`."""

    preload: Callable[..., Any] | None
    preload_args: Iterable[Any]
    preload_modules: Iterable[str]
    setup: Callable[..., Any] | None
    setup_args: Iterable[Any]
    teardown: Callable[..., Any] | None
    backend: str
    address: object
    start_method: str | None
    limits: Limits | None
    observers: Iterable[Observer]
    logs: bool | Logs
    name: str
    contextvars: Iterable[ContextVar[Any]]
    tuned: Callable[..., Any] | None


class OfModule(TypedDict, total=False):
    """Of the functions of the module, besides those of the methods of `Pool`."""

    workers: int | None


class SharedMapOptions(MapOptions, OfModule, total=False):
    """Of `allcores.map`."""


class SharedOutcomeOptions(OutcomeOptions, OfModule, total=False):
    """Of `allcores.outcomes`."""


class SharedAsyncMapOptions(AsyncMapOptions, OfModule, total=False):
    """Of `allcores.aimap`."""


class SharedRunOptions(RunOptions, OfModule, total=False):
    """Of `allcores.run`."""
