"""The future of one submitted call: a `concurrent.futures.Future` that can end running work."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from _thread import LockType, allocate_lock
from concurrent.futures import CancelledError, Future
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any

from allcores.errors import PoolClosed, UsageError
from allcores.pool.result_stream import LOGS_ASIDE_S, LOGS_S
from allcores.pool.segment_values import open_segment
from allcores.scheduler.item_words import describe
from allcores.scheduler.map_state import Chunk
from allcores.scheduler.segment import Segment
from allcores.system.clock import monotonic_ns
from allcores.system.tracebacks import forget, hide
from allcores.transport import remote_errors
from allcores.transport.exceptions import add_note

if TYPE_CHECKING:
    from collections.abc import Callable

    from allcores.pool.driver import Driver


_UNSETTLED = ("PENDING", "RUNNING")
#: what whoever waits for a call is told in a process that was forked from that of the call
OF_ANOTHER_PROCESS = "This call was submitted by the process that this one was forked from; it alone gets the outcome."


class CallFuture(Future[Any]):
    """What `Pool.submit` returns.

    Differs from its base in one thing: `cancel()` also ends a call that is running already, after
    `Limits.grace_s`, and returns True. One that is made without a driver belongs to no call and is like its base.
    """

    #: whether cancel() may end a running call
    ends_running_calls = True

    def __init__(self, driver: Driver | None = None) -> None:
        super().__init__()
        self._driver = driver
        self._chunk: Chunk | None = None
        #: the pool, which must not close itself before the outcome is here
        self._owner: object = None
        #: its outcome is being set; callbacks come later
        self._quiet = False
        #: locks that threads in `result()` wait for
        self._wakers: list[LockType] = []

    def cancel(self) -> bool:
        """Take the call back, or end it if it runs. False only if it is finished already."""
        chunk, driver = self._chunk, self._driver
        if driver is None:
            return super().cancel()
        if self.ends_running_calls:
            with self._condition:
                if self.done():
                    return self.cancelled()
                # The base class refuses once a call is running; ours can still be cancelled.
                self._state = "PENDING"
            if not super().cancel():
                return False
        elif not self._withdraw(driver):
            return False
        self._notify_cancel()
        driver.submitted.waiting.discard(self)
        if chunk is not None:
            driver.cancel_call(chunk)
        self._chunk = self._owner = None
        return True

    def _withdraw(self, driver: Driver) -> bool:
        """Cancel it unless a worker has it; False if one has, or had."""
        with self._condition:
            chunk = self._chunk
            # One decision: from here on no worker is given it, and before nobody was told that it is cancelled.
            if chunk is not None and not self.done() and not driver.withdraw(chunk):
                return False
            quiet, self._quiet = self._quiet, True
            try:
                cancelled = super().cancel()
            finally:
                self._quiet = quiet
        if not quiet:
            self.call_back()
        return cancelled

    def result(self, timeout: float | None = None) -> Any:
        """What the call returned; its exception raised. TimeoutError after `timeout` seconds."""
        try:
            if self._state in _UNSETTLED:
                timeout = self._wait(self._attend(timeout))
            if self._state != "FINISHED":
                # Raises, unless it is settled just now.
                super().exception(timeout)
            # As the base class does it, but without its lock: the state is set after the result. And that asks, until
            # Python 3.13, whether the exception is true, which its class may deny.
            if self._exception is None:
                return self._result
            raise self._exception
        except BaseException as error:
            if error is self._exception:
                forget(error)
            hide(error, by_design=True)
            raise
        finally:
            if self._driver is not None:
                if self._driver.backend.unhandled:
                    self._settle_logs(LOGS_S)
                if self._driver.lost_changes.untold:
                    self._driver.lost_changes.tell()
            # The exception's traceback has this frame, and the future has the exception: a cycle otherwise.
            del self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The call's exception, None if it returned. TimeoutError after `timeout` seconds."""
        try:
            return super().exception(self._wait(self._attend(timeout)))
        except BaseException as error:
            hide(error, by_design=True)
            raise
        finally:
            if self._driver is not None and self._driver.backend.unhandled:
                self._settle_logs(LOGS_S)
            # The exception's traceback has this frame, and the future has the exception: a cycle otherwise.
            del self

    def _wait(self, timeout: float | None) -> float | None:
        """Wait as the base class does, but without its lock; returns how long the base class is to wait.

        A signal's handler that runs here may wait for other calls, and the pool's thread must be able to settle this
        one.
        """
        if self._driver is None or self._state not in _UNSETTLED:
            return timeout
        waker = allocate_lock()
        waker.acquire()
        self._wakers.append(waker)
        try:
            # Asked again: whoever settles it changes the state first, and looks for wakers then.
            if self._state in _UNSETTLED:
                waker.acquire(timeout=-1 if timeout is None else min(timeout, TIMEOUT_MAX))
        finally:
            self._wakers.remove(waker)
        return 0.0

    def _attend(self, timeout: float | None) -> float | None:
        """Wait on this thread as long as that is possible; returns the seconds that are left."""
        chunk, driver = self._chunk, self._driver
        if driver is None or chunk is None or self._state not in _UNSETTLED:
            return timeout
        if driver.closed and driver.pid != os.getpid():
            raise PoolClosed(OF_ANOTHER_PROCESS)
        until = None if timeout is None else monotonic_ns() + int(timeout * 1e9)
        driver.backend.attend(chunk, until, self._is_settled)
        return None if until is None else max(0.0, (until - monotonic_ns()) / 1e9)

    def begin_here(self) -> None:
        """Where tasks run on their caller's thread: run what there is until it is done.

        Other threads may have to end first what they run. It stays for later in a task that it would wait for.
        """
        chunk, driver = self._chunk, self._driver
        try:
            if chunk is not None and driver is not None and driver.backend.runs_on_caller:
                with contextlib.suppress(UsageError):
                    driver.backend.attend(chunk, None, self._is_settled)
        finally:
            # The traceback of a call that has failed here has this frame: a cycle otherwise.
            del self, chunk

    def _is_settled(self) -> bool:
        # done() without its lock: one attribute, read once.
        return self._state not in _UNSETTLED

    def running(self) -> bool:
        """A worker has the call."""
        chunk = self._chunk
        if chunk is None:
            return super().running()
        return not self.done() and chunk.cancel_token.is_sent

    def is_simple(self) -> bool:
        """Nobody waits for it but in `result()`: to settle it runs no foreign code and takes no foreign lock."""
        return not self._done_callbacks and not self._waiters

    def _is_awaited_before_logs(self) -> bool:
        """Callbacks or threads wait for the outcome, and what was logged on the way to it is not handled yet."""
        return self._driver is not None and bool(self._driver.backend.unhandled) and not self.is_simple()

    def resolve(self, outcome: Segment | BaseException, *, wait: bool = False) -> bool:
        """Set its outcome; `call_back` is to follow. False if another thread has the future's lock.

        It may hold it for long: a signal's handler may run there, and wait for another call. With `wait` that is
        waited for.
        """
        told = False
        while True:
            if not told and self._is_awaited_before_logs():
                assert self._driver is not None
                self._driver.backend.settle_logs(LOGS_ASIDE_S)
                told = True
            if not self._condition.acquire(blocking=wait):
                return False
            if told or not self._is_awaited_before_logs():
                break
            # Another thread has begun to wait for it meanwhile: what was logged is handled without the lock.
            self._condition.release()
        self._quiet = True
        try:
            if isinstance(outcome, BaseException):
                self.fail(outcome)
            else:
                self._settle(outcome)
        finally:
            self._quiet = False
            self._condition.release()
        return True

    def _invoke_callbacks(self) -> None:
        for waker in list(self._wakers) if self._wakers else ():
            with contextlib.suppress(RuntimeError):  # it was woken already
                waker.release()
        if self._driver is not None and self._driver.backend.runs_on_caller:
            # Who waits for it may do so where it would have run.
            self._driver.backend.wake()
        if not self._quiet:
            self.call_back()

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Have `fn` called with this future once it is done; at once if it is.

        What the call has logged is handled before.
        """
        if self._driver is not None and self._driver.backend.unhandled:
            self._settle_logs(LOGS_S)
        super().add_done_callback(fn)

    @property
    def has_callbacks(self) -> bool:
        """Something is to be called that was added with `add_done_callback`."""
        return bool(self._done_callbacks)

    def call_back(self) -> None:
        """Call what was added with `add_done_callback`, each once. One that raises is logged, and the others go on.

        Only Ctrl-C, which is nobody's mistake, is passed on in the end.
        """
        if not self._done_callbacks:
            # What is added from now on is called by whoever adds it.
            return
        with self._condition:
            callbacks: list[Any] = self._done_callbacks
            self._done_callbacks: list[Any] = []
        interrupt: KeyboardInterrupt | None = None
        for callback in callbacks:
            try:
                callback(self)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                    interrupt = error
                else:
                    # As the base class does for Exception. SystemExit and the like would end whoever has the outcome.
                    logging.getLogger("concurrent.futures").exception("exception calling callback for %r", self)
        if interrupt is not None:
            raise interrupt

    def _settle_logs(self, seconds: float) -> None:
        """Wait until what the call has logged is handled, if it is done."""
        if self._driver is not None and self._is_settled():
            self._driver.backend.settle_logs(seconds)

    def _settle(self, segment: Segment) -> None:
        """The call's outcome is here."""
        if not self.set_running_or_notify_cancel_once():
            return
        try:
            if segment.failures:
                failure = segment.failures[0]
                self._set(error=self._translate(failure.error, unpickling=failure.unpickling))
            else:
                self._set(value=open_segment(segment)[0])
        except BaseException as error:
            add_note(error, "allcores: the result could not be unpickled")
            what = "the call" if self._chunk is None else describe(self._chunk, 0)
            facts = {"index": None, "attempts": segment.attempt, "worker": segment.worker}
            self._set(error=self._translate(remote_errors.as_exception(error, what, **facts), unpickling=True))
        self._chunk = self._owner = None

    def set_running_or_notify_cancel_once(self) -> bool:
        """False if the future was cancelled; may be called when it already was told so."""
        if self._state not in _UNSETTLED:
            return False
        return self._state == "RUNNING" or self.set_running_or_notify_cancel()

    def _set(self, value: Any = None, error: BaseException | None = None) -> None:
        # A cancel() may win the race; then the outcome has no taker.
        try:
            if error is not None:
                self.set_exception(error)
            else:
                self.set_result(value)
        except Exception:
            if not self.cancelled():
                raise

    def bind(self, chunk: Chunk, owner: object) -> None:
        """It is the call in this chunk.

        Args:
            chunk: Of one item.
            owner: What must live as long as the call does.
        """
        self._chunk, self._owner = chunk, owner

    def fail(self, error: BaseException) -> None:
        """No outcome will come: the pool is broken, or was ended. Any thread; one that has its outcome keeps it."""
        with self._condition:
            # Held from the look at the state to its change: the pool's thread may be setting the outcome just now.
            quiet, self._quiet = self._quiet, True
            try:
                if self.set_running_or_notify_cancel_once():
                    self._set(error=self._translate(error))
            finally:
                self._quiet = quiet
        if not quiet:
            # Also where it had its outcome: a thread that has cancelled it just now may have found it quiet.
            self.call_back()
        self._chunk = self._owner = None

    def _translate(self, error: BaseException, *, unpickling: bool = False) -> BaseException:
        """What the future has for `error`; `unpickling`: it was raised on the way, not by the function."""
        return error

    def drop(self) -> None:
        """The pool is closed: nothing will come."""
        with self._condition:
            # Held from the look at the state to its change: another thread may cancel it, or make it fail, just now.
            if self.done():
                return
            self._state = "PENDING"
        if super().cancel():
            self._notify_cancel()
        self._chunk = self._owner = None

    def abandon(self) -> None:
        """In a forked child: the outcome is the parent's, and here whoever waits for it is told so. Nothing is called.

        Also those that wait as `concurrent.futures.wait` does, which asks for the state alone.
        """
        if self._condition.acquire(blocking=False):
            self._condition.release()
        else:
            # The thread that held it does not exist here.
            self._condition = threading.Condition()
        if self._state in _UNSETTLED:
            self._done_callbacks.clear()
            self._waiters.clear()
            self._wakers.clear()
            self._exception = PoolClosed(OF_ANOTHER_PROCESS)
            self._state = "FINISHED"
        self._chunk = self._owner = None

    def _notify_cancel(self) -> None:
        """Tell those who wait() for it, once: an executor does when it meets the call, and nobody else will."""
        with self._condition:
            if self._state == "CANCELLED":
                self.set_running_or_notify_cancel()


__all__ = ["OF_ANOTHER_PROCESS", "CallFuture", "CancelledError"]
