"""Errors as an executor's futures have them: also the standard library's `BrokenProcessPool`."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from allcores.errors import AllcoresError, BrokenPool, InternalError, SetupError, TaskExited, WorkerLost


class WorkerLostInExecutor(WorkerLost, BrokenProcessPool):
    """`WorkerLost` as an executor's future has it: also a `BrokenProcessPool`."""


class SetupFailedInExecutor(SetupError, BrokenProcessPool):
    """`SetupError` as an executor's future has it: also a `BrokenProcessPool`."""


class BrokenPoolInExecutor(BrokenPool, BrokenProcessPool):
    """`BrokenPool` as an executor's future has it: also a `BrokenProcessPool`."""


class InternalErrorInExecutor(InternalError, BrokenProcessPool):
    """`InternalError` as an executor's future has it: also a `BrokenProcessPool`."""


class UnpicklingFailedInExecutor(AllcoresError, BrokenProcessPool):
    """The function, its arguments or its result could not be unpickled; `__cause__` is what that raised.

    `ProcessPoolExecutor` breaks over it, so it is a `BrokenProcessPool`; here it fails its own future only.
    """


_AS_BROKEN: dict[type[AllcoresError], type[AllcoresError]] = {
    WorkerLost: WorkerLostInExecutor,
    SetupError: SetupFailedInExecutor,
    BrokenPool: BrokenPoolInExecutor,
    InternalError: InternalErrorInExecutor,
}


def translated(error: BaseException, *, unpickling: bool = False) -> BaseException:
    """The error of a call as an executor has it.

    Args:
        error: What the pool has for it.
        unpickling: It was raised on the way, not by the function.
    """
    if isinstance(error, TaskExited) and error.__cause__ is not None:
        error = error.__cause__
    if not unpickling:
        return as_broken(error)
    broken = UnpicklingFailedInExecutor(f"A call or its result could not be unpickled: {type(error).__name__}: {error}")
    broken.__cause__ = error
    return broken


def as_broken(error: BaseException) -> BaseException:
    """`error`, as also a BrokenProcessPool if it tells of a lost worker or a broken pool."""
    kind = next((_AS_BROKEN[base] for base in type(error).__mro__ if base in _AS_BROKEN), None)
    if kind is None or isinstance(error, BrokenProcessPool):
        return error
    again = kind.__new__(kind)
    again.args = error.args
    again.__dict__.update(error.__dict__)
    again.__cause__ = error.__cause__
    return again
