"""Every core of the machine, put to work on an ordinary Python function.

    import allcores
    allcores.map(function, items)

Names are loaded when they are first used: `import allcores` itself takes a millisecond or two.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from allcores import metrics, slices
    from allcores.async_stream import AsyncStream
    from allcores.budget import Budget, core_budget
    from allcores.errors import (
        AllcoresError,
        BrokenPool,
        InternalError,
        Interrupted,
        JournalError,
        NotPicklable,
        NotSupported,
        PoolBusy,
        PoolClosed,
        RemoteError,
        RunChanged,
        RunInUse,
        RunNotFound,
        SetupError,
        SliceError,
        TaskCancelled,
        TaskError,
        TaskExited,
        TaskTimeout,
        UsageError,
        WorkerLost,
    )
    from allcores.executor import Executor
    from allcores.journal.options import Journal, RunResult
    from allcores.lanes import Lane
    from allcores.limits import Limits, Retry
    from allcores.logs import Logs
    from allcores.outcome import Kind, Outcome
    from allcores.pool import Pool
    from allcores.progress import LiveView, ProgressBar
    from allcores.shortcuts import aimap, imap, imap_unordered, map, outcomes, run, starmap, submit
    from allcores.statistics import Statistics
    from allcores.stream import Stream
    from allcores.timeline import Timeline
    from allcores.transport.sharing import Counter, Flag, SharedBytes

__version__ = "0.1.0"

_HOMES = {
    "async_stream": ("AsyncStream",),
    "budget": ("Budget", "core_budget"),
    "errors": (
        "AllcoresError",
        "BrokenPool",
        "InternalError",
        "Interrupted",
        "JournalError",
        "NotPicklable",
        "NotSupported",
        "PoolBusy",
        "PoolClosed",
        "RemoteError",
        "RunChanged",
        "RunInUse",
        "RunNotFound",
        "SetupError",
        "SliceError",
        "TaskCancelled",
        "TaskError",
        "TaskExited",
        "TaskTimeout",
        "UsageError",
        "WorkerLost",
    ),
    "executor": ("Executor",),
    "journal.options": ("Journal", "RunResult"),
    "lanes": ("Lane",),
    "limits": ("Limits", "Retry"),
    "logs": ("Logs",),
    "outcome": ("Kind", "Outcome"),
    "pool": ("Pool",),
    "statistics": ("Statistics",),
    "progress": ("LiveView", "ProgressBar"),
    "shortcuts": ("aimap", "imap", "imap_unordered", "map", "outcomes", "run", "starmap", "submit"),
    "stream": ("Stream",),
    "timeline": ("Timeline",),
    "transport.sharing": ("Counter", "Flag", "SharedBytes"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AllcoresError",
    "AsyncStream",
    "BrokenPool",
    "Budget",
    "Counter",
    "Executor",
    "Flag",
    "InternalError",
    "Interrupted",
    "Journal",
    "JournalError",
    "Kind",
    "Lane",
    "Limits",
    "LiveView",
    "Logs",
    "NotPicklable",
    "NotSupported",
    "Outcome",
    "Pool",
    "PoolBusy",
    "PoolClosed",
    "ProgressBar",
    "RemoteError",
    "Retry",
    "RunChanged",
    "RunInUse",
    "RunNotFound",
    "RunResult",
    "SetupError",
    "SharedBytes",
    "SliceError",
    "Statistics",
    "Stream",
    "TaskCancelled",
    "TaskError",
    "TaskExited",
    "TaskTimeout",
    "Timeline",
    "UsageError",
    "WorkerLost",
    "aimap",
    "core_budget",
    "imap",
    "imap_unordered",
    "map",
    "metrics",
    "outcomes",
    "run",
    "slices",
    "starmap",
    "submit",
]


def __getattr__(name: str) -> Any:
    if name in ("metrics", "slices"):
        from importlib import import_module

        return import_module(f"allcores.{name}")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'allcores' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"allcores.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
