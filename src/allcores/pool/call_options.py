"""What may be said of a call besides function and input, for type checkers.

The methods of `Pool` spell these out, with their defaults: that is what `help` and editors show. What hands options
through (`allcores.map`, for one) takes `**options: Unpack[MapOptions]`, so that a wrong name or type is found before
the program runs. Nothing loads this file at run time.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from allcores.cache.options import CacheLike
from allcores.limits import Retry
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
