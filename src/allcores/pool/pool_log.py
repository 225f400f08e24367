"""What of a pool reaches `logging`: its workers' records, and one line per event worth a line."""

from __future__ import annotations

import sys
from typing import Any

from allcores.errors import UsageError
from allcores.events import PoolBroken, PoolEvent, TaskFailed, TaskRetried, WorkerEnded, WorkerStarted
from allcores.outcome import Kind
from allcores.system.plain_record import record
from allcores.system.terminal_text import safe_line

#: how a worker ends that nobody has to hear of
_QUIET = ("It was told to end.", "what it ran was cancelled", "the pool was closed while it started")

_DEBUG, _INFO, _WARNING, _ERROR = 10, 20, 30, 40


@record
class Logs:
    """What a pool takes over from its workers, for `Pool(logs=...)`.

    Attributes:
        records: Log records arrive in this process and are handled by its logging configuration, with the worker's name
            as `processName` and its number as `worker`. Levels are those that loggers have here when a worker is
            started; records below are not sent. Nothing waits for them: a worker keeps up to 1,000 that its pipe does
            not take, and the parent up to 10,000 that its handlers have not taken; more are dropped, and counted.
        prints: Lines that Python code writes to sys.stdout and sys.stderr arrive, too, each behind the worker's name.
            False leaves them as they are: each worker writes to the terminal, or file, of the program by itself.
    """

    records: bool = True
    prints: bool = False

    @classmethod
    def of(cls, logs: bool | Logs) -> Logs:
        """What `logs=` of a pool means. Raises UsageError."""
        if isinstance(logs, bool):
            return cls(records=logs)
        if not isinstance(logs, cls):
            raise UsageError(f"logs={logs!r} must be True, False or a Logs.")
        return logs


class PoolLog:
    """An observer that writes to the logger "allcores".

    Each record has an attribute `allcores`: a dictionary with the event's name, the pool and the event's facts.

    Args:
        pool: Its name.
    """

    #: what happens often is not worth a line
    sees_work = False

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._logger: Any = None

    def __call__(self, event: PoolEvent) -> None:
        """Take one event. What is not worth a line, it ignores."""
        # As long as nobody has imported logging, nobody has set up a handler either.
        if "logging" not in sys.modules:
            return
        if getattr(event, "actor", None) is not None:
            # An actor has a log of its own.
            return
        if isinstance(event, WorkerEnded):
            level = _DEBUG if event.reason.startswith(_QUIET) else _WARNING
            self._say(level, "worker_ended", "worker %d ended: %s", worker=event.worker, reason=event.reason)
        elif isinstance(event, WorkerStarted):
            self._say(_DEBUG, "worker_started", "worker %d started, pid %s", worker=event.worker, pid=event.pid)
        elif isinstance(event, TaskRetried):
            self._say(
                _INFO,
                "task_retried",
                "items[%s]: attempt %d failed (%s: %s), the next follows in %.3g s",
                index=event.index,
                attempt=event.attempt,
                kind=event.kind.value,
                error=f"{type(event.error).__name__}: {event.error}",
                wait_s=event.wait_s,
            )
        elif isinstance(event, TaskFailed) and event.outcome.kind is Kind.TIMED_OUT:
            error = str(event.outcome.error)
            self._say(_WARNING, "task_timed_out", "items[%s] timed out: %s", index=event.outcome.index, error=error)
        elif isinstance(event, PoolBroken):
            error = f"{type(event.error).__name__}: {event.error}"
            self._say(_ERROR, "pool_broken", "the pool is broken: %s", error=error)

    def _say(self, level: int, event: str, text: str, **facts: Any) -> None:
        if self._logger is None:
            import logging

            self._logger = logging.getLogger("allcores")
            if not any(isinstance(each, logging.NullHandler) for each in self._logger.handlers):
                # Without one, a program that has no logging set up would see these lines on standard error.
                self._logger.addHandler(logging.NullHandler())
        if self._logger.isEnabledFor(level):
            facts = {"event": event, "pool": self._pool, **facts}
            values = tuple(safe_line(each) if isinstance(each, str) else each for each in facts.values())[2:]
            self._logger.log(level, f"pool %s: {text}", self._pool, *values, extra={"allcores": facts})
