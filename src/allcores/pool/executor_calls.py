"""The calls and maps of an executor that have no outcome yet: what its end, and that of the interpreter, waits for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from threading import get_ident
from typing import Any, NoReturn

from allcores.errors import WorkerLost
from allcores.pool.call_future import CallFuture
from allcores.pool.executor_errors import as_broken, translated
from allcores.pool.executor_map import ExecutorMap
from allcores.pool.pool import Pool, begin_call, driver_of, end_workers, is_of_this_process, open_executor_map
from allcores.pool.program_end import at_end
from allcores.system import forks

#: what of each executor has to end before the interpreter does
_open: set[ExecutorCalls] = set()


class ExecutorFuture(CallFuture):
    """A future as Python documents it: a call that runs cannot be cancelled."""

    ends_running_calls = False

    def __init__(self, calls: ExecutorCalls | None = None) -> None:
        super().__init__(driver_of(calls.pool) if calls is not None else None)
        self._calls = calls

    def _translate(self, error: BaseException, *, unpickling: bool = False) -> BaseException:
        return translated(error, unpickling=unpickling)

    def _invoke_callbacks(self) -> None:
        calls, self._calls = self._calls, None
        if calls is not None:
            calls.pending.pop(self, None)
        super()._invoke_callbacks()


class ExecutorCalls:
    """The calls of one executor that have no outcome yet, and the pool that runs them.

    It stands apart from the executor, so that calls in flight do not keep that alive. It takes no lock: its methods are
    also called by handlers of signals and by the garbage collector, in the middle of one another. Single operations on
    dictionaries are enough: a call is noted before it is asked whether the executor takes any, and shutting down looks
    for calls after it has said that none is taken.

    Attributes:
        pending: Futures without an outcome, in the order of their calls.
        entering: Those that are still being handed to the pool, with the thread that does it.
        maps: Those that have items without an outcome.
        over: After what no call is taken any more, in words; empty as long as calls are taken.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.pending: dict[Future[Any], None] = {}
        self.entering: dict[Future[Any], int] = {}
        self.maps: dict[ExecutorMap, None] = {}
        self.over = ""
        _open.add(self)

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Hand a call to the pool.

        Raises:
            RuntimeError: No call is taken any more.
            BrokenProcessPool: The pool is broken.
        """
        future = ExecutorFuture(self)
        self.entering[future] = get_ident()
        self.pending[future] = None
        try:
            if self.over:
                __tracebackhide__ = True
                raise RuntimeError(f"cannot schedule new futures after {self.over}")
            # Not there in a forked process, until it is used there.
            _open.add(self)
            begin_call(self.pool, future, fn, args, kwargs)
        except BaseException as error:
            self.pending.pop(future, None)
            # Whoever shuts down at this moment may be waiting for it.
            Future.cancel(future)
            _raise_as_broken(error)
        finally:
            self.entering.pop(future, None)
        return future

    def map(self, fn: Callable[..., Any], style: str, items: list[Any], chunk: int | None) -> ExecutorMap:
        """Hand calls to the pool, one for each item.

        Raises:
            RuntimeError: No call is taken any more.
            BrokenProcessPool: The pool is broken.
        """
        try:
            made = open_executor_map(self.pool, fn, style, items, chunk, self._map_ended)
        except BaseException as error:
            if self.over:
                __tracebackhide__ = True
                raise RuntimeError(f"cannot schedule new futures after {self.over}") from None
            _raise_as_broken(error)
        self.maps[made] = None
        try:
            if self.over:
                __tracebackhide__ = True
                raise RuntimeError(f"cannot schedule new futures after {self.over}")
            _open.add(self)
            made.start()
        except BaseException:
            self.maps.pop(made, None)
            # Whoever shuts down at this moment may be waiting for it.
            made.give_up()
            raise
        return made

    def _map_ended(self, ended: ExecutorMap) -> None:
        self.maps.pop(ended, None)

    def cancel(self, *, starting: int) -> None:
        """Cancel the calls that no worker has.

        Args:
            starting: The first of them that are left alone.
        """
        waiting = [future for future in list(self.pending) if not future.running()]
        # The last first: workers go on with the first meanwhile.
        for future in reversed(waiting[max(0, starting) :]):
            future.cancel()
        for each in list(self.maps):
            each.stop()

    def close(self) -> None:
        """End the pool once every call has its outcome, save what this very thread is in the middle of handing over."""
        this = get_ident()
        for future in list(self.pending):
            if self.entering.get(future) != this:
                with contextlib.suppress(CancelledError):
                    future.exception()
        for each in list(self.maps):
            each.wait()
        self.pool.close()
        _open.discard(self)

    def close_later(self) -> None:
        """The same, without waiting for it."""
        closer = threading.Thread(target=self.close, name="allcores-shutdown", daemon=True)
        try:
            closer.start()
        except RuntimeError:  # the program ends, and no thread can be had
            self.close()

    def dropped(self) -> None:
        """Nobody has the executor any more."""
        if is_of_this_process(self.pool) and not self.pool.closed:
            self.over = self.over or "shutdown"
            self.close_later()

    def end_workers(self, how: str, *, at_once: bool) -> None:
        """End all workers; what they run fails, everything else is cancelled.

        Args:
            how: The method that was called, for the error of what runs.
            at_once: By SIGKILL, without giving them time.
        """
        self.over = self.over or "shutdown"
        for future in list(self.pending):
            if not future.cancel() and isinstance(future, CallFuture):
                future.fail(WorkerLost(f"Its worker was ended: {how}() of the executor was called."))
        for each in list(self.maps):
            each.fail(WorkerLost(f"Its worker was ended: {how}() of the executor was called."))
        end_workers(self.pool, f"{how}() of the executor was called", at_once=at_once)
        self.close_later()


def _raise_as_broken(error: BaseException) -> NoReturn:
    """Raise what is being handled; as the standard library's class for a broken pool, where it is of one."""
    broken = as_broken(error)
    try:
        if broken is error:
            raise
        raise broken from error.__cause__
    finally:
        # Their tracebacks have this frame: a cycle otherwise, which would keep the executor.
        del broken, error


@forks.in_child
def _after_fork() -> None:
    # A forked process waits for nobody's futures: they are its parent's.
    for calls in _open:
        calls.pending.clear()
        calls.entering.clear()
        calls.maps.clear()
    _open.clear()


def _at_exit() -> None:
    # As documented: the interpreter waits for pending futures before it ends.
    for calls in list(_open):
        calls.over = calls.over or "interpreter shutdown"
    for calls in list(_open):
        calls.close()


at_end(_at_exit)
