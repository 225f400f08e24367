"""Every exception that allcores raises, split by whose move it is.

    AllcoresError
    ├── UsageError (ValueError)            the caller's: an option or argument makes no sense
    │   ├── UnknownOption (TypeError)      there is no option of that name
    │   └── NotSupported                   this backend or platform cannot keep that promise
    ├── PoolClosed (RuntimeError)          the caller's: the pool was closed before
    ├── PoolBusy (RuntimeError)            the caller's: the pool is used by code that runs inside of its own decision
    ├── BatchError (ValueError)            the caller's: a function of batches did not return one result per item
    ├── NotPicklable (TypeError, PicklingError)  the caller's: something cannot travel to or from a worker
    ├── TaskError                          one item's; carries index, attempts, worker
    │   ├── TaskTimeout (TimeoutError)     the item used up its seconds
    │   ├── WorkerLost                     the process that ran the item died
    │   ├── TaskCancelled                  it was cancelled, or never started
    │   ├── TaskExited                     the function raised SystemExit, KeyboardInterrupt, StopIteration ...
    │   └── RemoteError                    the function's own exception, whose class is not here
    ├── SliceError (OSError)               one item's: its slice of a file cannot be read
    ├── RunNotFound (LookupError)          the caller's: there is no such run
    ├── RunChanged (ValueError)            the caller's: function, options or input are not those of the run
    ├── RunInUse (RuntimeError)            the caller's: another process works on the run
    ├── JournalError (RuntimeError)        the machine's: the journal or the output cannot be written or read
    ├── SetupError                         the setup or preload function raised, hung or crashed
    ├── BrokenPool (RuntimeError)          the machine's: workers cannot be started
    ├── ActorLost (RuntimeError)           an actor's object is gone, and is not built anew
    ├── ActorBusy (RuntimeError)           the caller's: an actor's queue was full for too long
    └── InternalError (RuntimeError)       ours: please report it

    Interrupted (KeyboardInterrupt)        Ctrl-C during `map`: carries the outcomes so far

An exception raised by your function is not wrapped: it arrives as the type it is, with its attributes
and causes, the worker's traceback as the last of these, and a note that names the item.
"""

from __future__ import annotations

from pickle import PicklingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class AllcoresError(Exception):
    """Base class of all errors that allcores itself raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Facts live in attributes; the default reduction would call __init__ with the message alone.
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(kind: type[AllcoresError], args: tuple[Any, ...], facts: dict[str, Any]) -> AllcoresError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(facts)
    return error


def again(error: BaseException) -> BaseException:
    """An error that many get: a copy for each, if it is one of ours.

    One object that is raised again and again gathers tracebacks, and with them all that their frames hold.
    """
    if not isinstance(error, AllcoresError):
        return error
    copy = _rebuild(type(error), error.args, error.__dict__.copy())
    copy.__cause__, copy.__suppress_context__ = error.__cause__, error.__suppress_context__
    return copy


class UsageError(AllcoresError, ValueError):
    """An option or argument makes no sense; the message says which and what is allowed."""


class UnknownOption(UsageError, TypeError):
    """There is no option of that name, nor does the function take such an argument; the message says what is meant."""


class NotSupported(UsageError):
    """The chosen backend, start method or platform cannot keep the promise that was asked for."""


class PoolClosed(AllcoresError, RuntimeError):
    """The pool was closed, or belongs to the process this one was forked from."""


class PoolBusy(AllcoresError, RuntimeError):
    """The pool was used by code that it was running itself, in the middle of a decision: it would wait for itself."""

    def __init__(
        self,
        message: str = "A pool was used by code that it runs in the middle of a decision of its own, such as "
        "__reduce__ of an item, or __setstate__ of a result; it would wait for itself. Use it elsewhere, "
        "or another pool.",
    ) -> None:
        super().__init__(message)


class NotPicklable(AllcoresError, TypeError, PicklingError):
    """A function, item, result or exception cannot travel between processes.

    Attributes:
        path: Where the part at fault is, e.g. "items[57].db.conn"; None if it could not be found.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class BatchError(AllcoresError, ValueError):
    """A function that was given a batch did not return one result for each of its items.

    Attributes:
        expected: Items of the batch.
        returned: Results that came, one more than expected at most; None if it was no row of results at all.
    """

    def __init__(self, message: str, *, expected: int, returned: int | None) -> None:
        super().__init__(message)
        self.expected = expected
        self.returned = returned


class TaskError(AllcoresError):
    """One item's failure that is not an exception of the function.

    Attributes:
        index: The item's position, from 0; None for a submitted call.
        attempts: How often it was tried, from 1.
        worker: Number of the worker of the last attempt.
    """

    def __init__(self, message: str, *, index: int | None = None, attempts: int = 1, worker: int | None = None) -> None:
        super().__init__(message)
        self.index = index
        self.attempts = attempts
        self.worker = worker


class TaskTimeout(TaskError, TimeoutError):
    """The item ran longer than `timeout` and its worker was ended.

    Attributes:
        timeout: The seconds that were allowed.
    """

    def __init__(self, message: str, *, timeout: float, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.timeout = timeout


class WorkerLost(TaskError):
    """The process that ran the item died; the item is the likely cause.

    Attributes:
        exitcode: The exit code, or None if a signal ended it.
        signal: The signal's name ("SIGSEGV"), or None.
        peak_memory: The largest resident memory of that process, in bytes; None if unknown.
        stack: Python stack at a fatal signal, as faulthandler wrote it; None if there is none.
    """

    def __init__(
        self,
        message: str,
        *,
        exitcode: int | None = None,
        signal: str | None = None,
        peak_memory: int | None = None,
        stack: str | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(message, **facts)
        self.exitcode = exitcode
        self.signal = signal
        self.peak_memory = peak_memory
        self.stack = stack


class TaskCancelled(TaskError):
    """The item was cancelled, or its stream was stopped before the item was started."""


class TaskExited(TaskError):
    """The function raised something that would end the caller's program or loop.

    SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration, and whatever else is
    no Exception (asyncio.CancelledError), mean something else in the caller than in the task; they arrive
    wrapped, the original is `__cause__`.
    """


class RemoteError(TaskError):
    """Stands in for an exception of the function whose class cannot be had in this process.

    Attributes:
        type_name: Qualified name of the original exception's type.
    """

    def __init__(self, message: str, *, type_name: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.type_name = type_name


class SliceError(AllcoresError, OSError):
    """The slice of a file that an item stands for cannot be read: the file is gone, changed or damaged.

    Attributes:
        path: The file.
        start: Where the slice begins, in rows, bytes or row groups of the file.
        stop: Where it ends; the first that is not part of it.
    """

    def __init__(self, message: str, *, path: str, start: int, stop: int) -> None:
        super().__init__(message)
        self.path = path
        self.start = start
        self.stop = stop


class RunNotFound(AllcoresError, LookupError):
    """There is no run of that name, or none that could be resumed."""


class RunChanged(AllcoresError, ValueError):
    """The function, its options or its input are not those of the run that is to be resumed.

    Attributes:
        differences: A sentence each.
    """

    def __init__(self, message: str, *, differences: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.differences = differences


class RunInUse(AllcoresError, RuntimeError):
    """Another process, or another thread of this one, works on the run.

    Attributes:
        run: Its name.
        pid: The process, None if it is not known.
    """

    def __init__(self, message: str, *, run: str | None = None, pid: int | None = None) -> None:
        super().__init__(message)
        self.run = run
        self.pid = pid


class JournalError(AllcoresError, RuntimeError):
    """The journal or the output cannot be written or read: a full disk, most likely. What is committed stays.

    Attributes:
        run: The run's name, None if there is none yet.
    """

    def __init__(self, message: str, *, run: str | None = None) -> None:
        super().__init__(message)
        self.run = run


class SetupError(AllcoresError):
    """The `setup` or `preload` function raised, hung or crashed, so no worker can start."""


class BrokenPool(AllcoresError, RuntimeError):
    """Workers die before they are ready, again and again; the message tells how."""


class ActorLost(AllcoresError, RuntimeError):
    """An actor has no object any more: its process ended, and it is not built anew as often as that."""


class ActorBusy(AllcoresError, RuntimeError):
    """An actor has as many calls without an outcome as `max_queued` allows, and had for as long as the call waited."""


class InternalError(AllcoresError, RuntimeError):
    """A mistake of allcores itself. The pool is closed; please report the message."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `map`: what was running has finished.

    Attributes:
        done: The values of the leading items that were finished, in order.
    """

    def __init__(self, message: str, done: list[Any]) -> None:
        super().__init__(message)
        self.done = done

    def __reduce__(self) -> tuple[Any, ...]:
        return Interrupted, (str(self), self.done), self.__dict__


class RemoteTraceback(Exception):
    """Carries a worker's traceback as text; shown as the cause of the exception it belongs to.

    Attributes:
        tb: The formatted traceback, as `concurrent.futures` has it in the cause of a remote exception.
    """

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return f"\n{self.tb}"
