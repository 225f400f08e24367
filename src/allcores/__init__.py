"""Every core of the machine, put to work on an ordinary Python function.

    import allcores
    allcores.map(function, items)

Names are loaded when they are first used: `import allcores` itself takes a millisecond or two.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from allcores import frames, metrics, slices
    from allcores.advisor.advice import Advice
    from allcores.advisor.advise import advise
    from allcores.advisor.tuning.tune import tune
    from allcores.advisor.tuning.tuning import Tuning
    from allcores.cache.options import Cache, CacheStatistics
    from allcores.errors import (
        ActorBusy,
        ActorLost,
        AllcoresError,
        BatchError,
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
        UnknownOption,
        UsageError,
        WorkerLost,
    )
    from allcores.limits import Limits, Retry
    from allcores.monitoring import LiveView, ProgressBar
    from allcores.outcome import AnyOutcome, Kind, Outcome
    from allcores.pipelines.pipeline import Pipeline
    from allcores.pipelines.record_stream import RecordStream
    from allcores.pipelines.run import PipelineResult
    from allcores.pipelines.statistics import StageStatistics
    from allcores.pool.actor import Actor
    from allcores.pool.async_stream import AsyncStream
    from allcores.pool.default_pool import (
        actor,
        actors,
        aimap,
        close,
        configure,
        imap,
        imap_unordered,
        map,
        outcomes,
        reduce,
        run,
        starmap,
        submit,
    )
    from allcores.pool.executor import Executor
    from allcores.pool.lost_changes import LostChangeWarning
    from allcores.pool.pool import Pool
    from allcores.pool.pool_log import Logs
    from allcores.pool.result_stream import Stream
    from allcores.pool.statistics import Statistics
    from allcores.pool.worker_status import WorkerStatus
    from allcores.runs.options import Journal, RunResult
    from allcores.shared_memory.objects import Counter, Flag, SharedBytes
    from allcores.system.cores import Budget, core_budget
    from allcores.timeline import Timeline

    def patch(*, summary: bool = True, report: Any = None) -> Any:
        """See `allcores.adapters.patching.patch`."""


__version__ = "0.1.0"

_HOMES = {
    "adapters.patching": ("patch",),
    "advisor.advice": ("Advice",),
    "advisor.advise": ("advise",),
    "advisor.tuning.tune": ("tune",),
    "advisor.tuning.tuning": ("Tuning",),
    "cache.options": ("Cache", "CacheStatistics"),
    "pipelines.pipeline": ("Pipeline",),
    "pipelines.record_stream": ("RecordStream",),
    "pipelines.run": ("PipelineResult",),
    "pipelines.statistics": ("StageStatistics",),
    "pool.actor": ("Actor",),
    "pool.async_stream": ("AsyncStream",),
    "system.cores": ("Budget", "core_budget"),
    "errors": (
        "ActorBusy",
        "ActorLost",
        "AllcoresError",
        "BatchError",
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
        "UnknownOption",
        "UsageError",
        "WorkerLost",
    ),
    "pool.executor": ("Executor",),
    "pool.lost_changes": ("LostChangeWarning",),
    "runs.options": ("Journal", "RunResult"),
    "pool.worker_status": ("WorkerStatus",),
    "limits": ("Limits", "Retry"),
    "pool.pool_log": ("Logs",),
    "outcome": ("AnyOutcome", "Kind", "Outcome"),
    "pool.pool": ("Pool",),
    "pool.statistics": ("Statistics",),
    "monitoring": ("LiveView", "ProgressBar"),
    "pool.default_pool": (
        "actor",
        "actors",
        "aimap",
        "close",
        "configure",
        "imap",
        "imap_unordered",
        "map",
        "outcomes",
        "reduce",
        "run",
        "starmap",
        "submit",
    ),
    "pool.result_stream": ("Stream",),
    "timeline": ("Timeline",),
    "shared_memory.objects": ("Counter", "Flag", "SharedBytes"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Actor",
    "ActorBusy",
    "ActorLost",
    "Advice",
    "AllcoresError",
    "AnyOutcome",
    "AsyncStream",
    "BatchError",
    "BrokenPool",
    "Budget",
    "Cache",
    "CacheStatistics",
    "Counter",
    "Executor",
    "Flag",
    "InternalError",
    "Interrupted",
    "Journal",
    "JournalError",
    "Kind",
    "Limits",
    "LiveView",
    "Logs",
    "LostChangeWarning",
    "NotPicklable",
    "NotSupported",
    "Outcome",
    "Pipeline",
    "PipelineResult",
    "Pool",
    "PoolBusy",
    "PoolClosed",
    "ProgressBar",
    "RecordStream",
    "RemoteError",
    "Retry",
    "RunChanged",
    "RunInUse",
    "RunNotFound",
    "RunResult",
    "SetupError",
    "SharedBytes",
    "SliceError",
    "StageStatistics",
    "Statistics",
    "Stream",
    "TaskCancelled",
    "TaskError",
    "TaskExited",
    "TaskTimeout",
    "Timeline",
    "Tuning",
    "UnknownOption",
    "UsageError",
    "WorkerLost",
    "WorkerStatus",
    "actor",
    "actors",
    "advise",
    "aimap",
    "close",
    "configure",
    "core_budget",
    "frames",
    "imap",
    "imap_unordered",
    "map",
    "metrics",
    "outcomes",
    "patch",
    "reduce",
    "run",
    "slices",
    "starmap",
    "submit",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in ("frames", "metrics", "slices"):
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
