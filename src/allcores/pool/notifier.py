"""What is done once the driver's lock is released: futures get their outcomes, observers their events.

Both run foreign code, which may take long, raise, or use the same pool.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from allcores.backends.base import Backend
from allcores.events import PoolEvent
from allcores.system import caller, deferral

if TYPE_CHECKING:
    from allcores.scheduler.map_state import Segment

Observer = Callable[[PoolEvent], None]
#: what a future gets: its outcome, or the error that no outcome will come for
Due = tuple[Any, "Segment | BaseException"]


class Notifier:
    """The queues of one pool. Filled with the driver's lock held, emptied without it, by the thread that comes first.

    Attributes:
        due: Outcomes for futures.
        events: Events for observers.
        observers: Those that have not raised.
        blocked: Outcomes of futures whose own lock is held by a thread; to be tried again soon.
    """

    def __init__(self, backend: Backend, observers: Iterable[Observer]) -> None:
        self.due: deque[Due] = deque()
        self.events: deque[PoolEvent] = deque()
        self.observers = list(observers)
        self.blocked: deque[Due] = deque()
        self._backend = backend
        #: outcomes that the pool's own thread is to hand out
        self._aside: deque[Due] = deque()

    def notify(self) -> None:
        """Resolve futures and tell observers, with the lock released: both run foreign code.

        Whatever that raises, nothing is lost: what is left here, the next one tells.
        """
        if self.due or self._aside or self.blocked:
            self.resolve()
        while self.events:
            try:
                event = self.events.popleft()
            except IndexError:  # another thread was quicker
                break
            self.tell(event)

    def resolve(self) -> None:
        """Give futures their outcomes."""
        here = self._backend.resolves_here()
        if here and self.blocked:
            for _ in range(len(self.blocked)):
                self._aside.append(self.blocked.popleft())
        while self.due or (here and self._aside):
            self._resolve_one(self.due or self._aside, here=here)

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
            if future is not None:
                future.call_back()

    def tell(self, event: PoolEvent) -> None:
        """Tell the observers; one that raises is dropped, with a warning."""
        for observer in list(self.observers):
            # In a section: what a signal's handler raises is not the observer's mistake.
            outermost = deferral.enter()
            try:
                observer(event)
            except Exception as error:
                self.observers.remove(observer)
                # Where warnings are errors, this one must not end the driver's thread.
                with contextlib.suppress(Warning):
                    caller.warn(
                        f"allcores: observer {observer!r} raised {type(error).__name__}: {error}; it is not told "
                        "any more."
                    )
            finally:
                if outermost:
                    deferral.leave()
