"""What is done once the driver's lock is released: futures get their outcomes, observers their events.

Both run foreign code, which may take long, raise, or use the same pool.
"""

from __future__ import annotations

import contextlib
import threading
from _thread import allocate_lock, get_ident
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import sleep
from typing import TYPE_CHECKING, Any

from allcores.backends.base import Backend
from allcores.errors import AllcoresError
from allcores.events import PoolEvent
from allcores.system import caller, deferral
from allcores.system.clock import monotonic_ns

if TYPE_CHECKING:
    from allcores.scheduler.segment import Segment

Observer = Callable[[PoolEvent], None]
#: what a future gets: its outcome, or the error that no outcome will come for
Due = tuple[Any, "Segment | BaseException"]
#: how long the end of a map or pool waits for observers that another thread is telling of it, ns: one may be slow, or
#: wait for a lock that the waiting thread holds
TOLD_NS = 1_000_000_000
#: pause between two attempts to give a future its outcome whose lock is held, ns
BLOCKED_NS = 1_000_000


class Notifier:
    """The queues of one pool. Filled with the driver's lock held, emptied without it, by the thread that comes first.

    Attributes:
        due: Outcomes for futures.
        observers: Those that have not raised.
        blocked: Outcomes of futures whose own lock is held by a thread; to be tried again soon.
    """

    def __init__(self, backend: Backend, observers: Iterable[Observer]) -> None:
        self.due: deque[Due] = deque()
        self.observers = list(observers)
        self.blocked: deque[Due] = deque()
        self._backend = backend
        #: outcomes that the pool's own thread is to hand out
        self._aside: deque[Due] = deque()
        #: by thread that is in the midst of a callback: futures whose callbacks are next
        self._calling: dict[int, deque[Any]] = {}
        self._events: deque[PoolEvent] = deque()
        #: events that were ever queued, and of these those that were told
        self._queued = self._told = 0
        #: held by the thread that tells an event: so they arrive in the order in which they happened
        self._telling = allocate_lock()
        self._teller = 0
        #: the pool's own thread has ended, or is about to
        self._over = False
        #: another one sees to what is left
        self._finishing = False

    def queue(self, events: Sequence[PoolEvent]) -> int:
        """Put events in the queue, with the driver's lock held.

        Returns:
            Its number, for `wait_told`.
        """
        self._events.extend(events)
        self._queued += len(events)
        return self._queued

    def notify(self) -> None:
        """Resolve futures and tell observers, with the lock released: both run foreign code.

        Whatever that raises, nothing is lost: what is left here, the pool's own thread tells, or the next one.
        """
        try:
            if self.due or self._aside or self.blocked:
                self.resolve()
            while self._events and self._tell_next():
                pass
        except BaseException:
            # Of a signal's handler, say. Others wait for what is left, and nothing else may happen for long.
            if self.due or self._events:
                self._backend.wake()
            raise

    def abandon(self) -> None:
        """In a forked child: what futures were to be given is in `due`, all of it."""
        for others in (self._aside, self.blocked):
            self.due.extend(others)
            others.clear()

    def finish(self) -> None:
        """The pool's own thread ends: from now on nothing is left to it, nor to a later round of it."""
        self._over = True
        self.notify()

    def resolve(self) -> None:
        """Give futures their outcomes."""
        here = self._over or self._backend.resolves_here()
        if here and self.blocked:
            for _ in range(len(self.blocked)):
                self._aside.append(self.blocked.popleft())
        while self.due or (here and self._aside):
            self._resolve_one(self.due or self._aside, here=here)
            # What this thread has left aside may have come after the last look of the pool's own.
            here = here or self._over
        if self.blocked and self._over and not self._finishing:
            with contextlib.suppress(RuntimeError):  # the interpreter is ending
                threading.Thread(target=self._see_to_blocked, name="allcores-finish", daemon=True).start()

    def _see_to_blocked(self) -> None:
        """Until no future's lock is held any more: on a thread that does nothing else, and that nobody waits for."""
        self._finishing = True
        while self.blocked:
            sleep(BLOCKED_NS / 1e9)
            self.notify()
            if not self.blocked:
                self._finishing = False
                # Asked again: from now on another thread that is blocked begins a thread of its own.
                self._finishing = bool(self.blocked)

    def _resolve_one(self, due: deque[Due], *, here: bool) -> None:
        """Give one future its outcome.

        Futures for which others than `result()` wait are left to the pool's thread, which holds no foreign lock; and to
        a later round, if a thread holds their own.
        """
        future = None
        try:
            outermost = deferral.enter()
            try:
                try:
                    future, outcome = due.popleft()
                except IndexError:  # another thread was quicker
                    return
                aside = None
                if not here and not future.is_simple():
                    aside = self._aside
                elif not future.resolve(outcome, wait=self._backend.runs_on_caller):
                    aside = self.blocked
                if aside is not None:
                    aside.append((future, outcome))
                    future = None
                    if not here:
                        self._backend.wake()
            finally:
                if outermost:
                    deferral.leave()
        finally:
            if future is not None and future.has_callbacks:
                self._call_back(future)

    def _call_back(self, future: Any) -> None:
        """Call what was added to a future; once it returns, if this thread is in the midst of a callback already.

        That one may be using the pool with a lock of the program's held, for which another would wait for ever. And
        callbacks that submit would stand in one another until Python refuses.
        """
        this = get_ident()
        waiting = self._calling.get(this)
        if waiting is not None:
            waiting.append(future)
            return
        waiting = self._calling[this] = deque((future,))
        interrupt: BaseException | None = None
        try:
            while waiting:
                try:
                    waiting.popleft().call_back()
                except BaseException as error:  # of a signal's handler: those of the others are called all the same
                    interrupt = error if interrupt is None else interrupt
        finally:
            del self._calling[this]
        if interrupt is not None:
            raise interrupt

    def _tell_next(self) -> bool:
        """Tell the oldest event; False if a thread is telling one already, which goes on with those that are left."""
        # In a section: what a signal's handler raises is not the observer's mistake.
        outermost = deferral.enter()
        try:
            if not self._telling.acquire(blocking=False):
                return False
            self._teller = get_ident()
            try:
                if self._events:
                    try:
                        self._tell(self._events.popleft())
                    finally:
                        self._told += 1
            finally:
                self._teller = 0
                self._telling.release()
        finally:
            if outermost:
                deferral.leave()
        return True

    def _tell(self, event: PoolEvent) -> None:
        """Tell the observers; one that raises is dropped, with a warning.

        Also one that raises SystemExit: it would end a thread of the pool's own, or of whoever reads results just then.
        """
        for observer in list(self.observers):
            try:
                observer(event)
            except BaseException as error:
                with contextlib.suppress(ValueError):  # it has left by itself, as that of one map does at its end
                    self.observers.remove(observer)
                # Where warnings are errors, this one must not end the driver's thread.
                with contextlib.suppress(Warning):
                    if isinstance(error, AllcoresError):
                        caller.warn(f"allcores: {error}")
                        continue
                    caller.warn(
                        f"allcores: observer {observer!r} raised {type(error).__name__}: {error}; it is not told "
                        "any more."
                    )

    def wait_told(self, number: int) -> None:
        """Return once the observers know all events up to that number, or after `TOLD_NS`; without locks.

        An observer that comes here itself is not waited for: its thread goes on telling when it returns.
        """
        until_ns = monotonic_ns() + TOLD_NS
        while self._told < number and self._teller != get_ident():
            left_ns = until_ns - monotonic_ns()
            if left_ns <= 0 or not self._telling.acquire(timeout=left_ns / 1e9):
                return
            self._telling.release()
            self.notify()
