"""Where the columns meet: one lock around the dispatcher, its orders carried out, its news told.

Whoever has something to say (a consumer with new items, the backend's thread with results) calls in,
the dispatcher decides, the orders are carried out at once, on that same thread. So a submitted call
reaches its worker without waking anybody else first.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

from allcores.backends import Backend
from allcores.clock import monotonic_ns
from allcores.engine.chronicle import Chronicle
from allcores.engine.dispatcher import Dispatcher
from allcores.engine.events import (
    FlowEnded,
    FlowStarted,
    Kill,
    News,
    Order,
    PoolEnded,
    PoolOpened,
    Progress,
    TaskFailed,
)
from allcores.engine.flow import Chunk, Flow, Function, Segment, describe
from allcores.engine.guard import Guard
from allcores.errors import InternalError, PoolClosed
from allcores.limits import Limits
from allcores.transport import pickling
from allcores.transport.parcels import Parcel

Observer = Callable[[News], None]
#: what a turn has to tell once the lock is released: settled calls, and news
Told = tuple[list[tuple[Flow, list[Segment]]], list[News]]

#: drivers of this process; a forked copy of it must let go of their descriptors
_drivers: weakref.WeakSet[Driver] = weakref.WeakSet()
#: functions whose bytes are kept, per pool
MOST_FUNCTIONS = 256
#: news of progress at most this often per flow, ns
PROGRESS_NS = 50_000_000


def _abandon_all() -> None:
    for driver in list(_drivers):
        driver.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)


class Driver:
    """One pool's loop, without its thread: the thread, if any, is the backend's."""

    def __init__(
        self, workers: int, limits: Limits, backend: Backend, observers: Iterable[Observer], name: str
    ) -> None:
        self.name = name
        self.workers = workers
        self.limits = limits
        self.backend = backend
        self.lock = threading.Lock()
        #: the same lock, safe from Ctrl-C: for every section that changes something
        self.guard = Guard(self.lock)
        self.dispatcher = Dispatcher(workers, limits, backend.glance, describe=describe)
        self.pid = os.getpid()
        self.closed = False
        self._observers: list[Observer] = list(observers)
        self._wakers: dict[Flow, Callable[[], None]] = {}
        self._told_ns: dict[Flow, int] = {}
        self._numbers = count(1)
        self._function_numbers = count(1)
        self._functions: dict[tuple[int, str], Function] = {}
        #: functions that workers may drop; the backend collects them
        self.dropped: deque[int] = deque()
        #: the time until which the backend's thread sleeps; None while it is awake
        self.sleeps_until: int | None = None
        #: flows behind `submit`, by what was asked of them
        self._calls: dict[object, Flow] = {}
        self._calls_lock = threading.Lock()
        #: futures without an outcome yet
        self._waiting: set[Any] = set()
        #: flows that were given up where the lock could not be taken (by the garbage collector, say)
        self._given_up: deque[Flow] = deque()
        #: somebody wants to know of all work; an observer whose attribute `sees_work` is False does not
        self.tells_work = any(getattr(observer, "sees_work", True) for observer in self._observers)
        if self.tells_work:
            self.dispatcher.chronicle = Chronicle()
        if self._observers:
            self.notify(PoolOpened(name, backend.name, workers))
        backend.start(self)
        _drivers.add(self)
        with self.guard:
            self.dispatcher.fill(monotonic_ns())
            self._obey()
        backend.started()

    # --- turns: each takes the lock, lets the dispatcher decide, obeys, and tells ---

    def turn(self, step: Callable[[Dispatcher, int], None]) -> None:
        """Let `step` talk to the dispatcher, then carry out what it ordered."""
        if self.closed and self.pid != os.getpid():
            return
        with self.guard:
            step(self.dispatcher, monotonic_ns())
            told = self._obey()
        self._tell(told)

    def add(self, chunk: Chunk) -> None:
        """Hand a chunk of fresh items to the dispatcher."""
        with self.guard:
            self._check_open()
            self.dispatcher.add(chunk, monotonic_ns())
            told = self._obey()
        self._tell(told)

    def add_all(self, flow: Flow, parts: Iterable[Chunk | Segment]) -> None:
        """Hand over freshly pulled items in one turn; those that could not be pickled come settled."""
        with self.guard:
            self._check_open()
            now = monotonic_ns()
            for part in parts:
                if isinstance(part, Chunk):
                    self.dispatcher.add(part, now)
                else:
                    self.dispatcher.refuse(flow, part)
            told = self._obey()
        self._tell(told)

    def _obey(self) -> Told:
        dispatcher = self.dispatcher
        while self._given_up:
            self._drop(self._given_up.popleft())
        while dispatcher.orders:
            orders: Sequence[Order] = dispatcher.orders
            dispatcher.orders = []
            self.backend.obey(orders)
        calls: list[tuple[Flow, list[Segment]]] = []
        if dispatcher.touched:
            for flow in dispatcher.touched:
                if flow.calls:
                    segments = list(iter(flow.take, None))
                    if segments or flow.broken is not None:
                        calls.append((flow, segments))
                    continue
                waker = self._wakers.get(flow)
                # Also when it can bring new work: behind a straggler nothing is ready, and workers idle.
                if waker is not None and (flow.ready or flow.finished or dispatcher.wants_input(flow)):
                    waker()
                if self._observers:
                    self._note_progress(flow)
            dispatcher.touched.clear()
        news: list[News] = []
        if dispatcher.chronicle is not None:
            dispatcher.chronicle.tell(dispatcher.news)
        if dispatcher.news:
            news, dispatcher.news = dispatcher.news, []
        alarm = dispatcher.next_alarm_ns
        if self.sleeps_until is not None and alarm is not None and alarm < self.sleeps_until:
            self.sleeps_until = None
            self.backend.wake()
        return calls, news

    def _note_progress(self, flow: Flow) -> None:
        now = monotonic_ns()
        if flow.finished or now - self._told_ns.get(flow, 0) > PROGRESS_NS:
            self._told_ns[flow] = now
            self.dispatcher.news.append(Progress(flow.number, flow.settled, flow.failed, flow.total))

    def _tell(self, told: Told) -> None:
        """Resolve futures and tell observers, with the lock released: both run foreign code."""
        calls, news = told
        for flow, segments in calls:
            for segment in segments:
                self._waiting.discard(segment.future)
                segment.future._settle(segment)
            if flow.broken is not None:
                for future in list(self._waiting):
                    self._waiting.discard(future)
                    future._fail(flow.broken)
        if news and self._observers:
            for each in news:
                self.notify(each)

    def notify(self, news: News) -> None:
        """Tell the observers; one that raises is dropped, with a warning."""
        for observer in list(self._observers):
            try:
                observer(news)
            except Exception as error:
                self._observers.remove(observer)
                # Where warnings are errors, this one must not end the driver's thread.
                with contextlib.suppress(Warning):
                    warnings.warn(
                        f"allcores: observer {observer!r} raised {type(error).__name__}: {error}; it is not told "
                        "any more.",
                        RuntimeWarning,
                        stacklevel=2,
                    )

    @property
    def observed(self) -> bool:
        """Somebody listens."""
        return bool(self._observers)

    # --- flows ---

    def open(self, make: Callable[[int], Flow], waker: Callable[[], None] | None = None) -> Flow:
        """Begin a flow; `waker` is called, with the lock held, when it has something for its consumer."""
        with self.guard:
            self._check_open()
            flow = make(next(self._numbers))
            if waker is not None:
                self._wakers[flow] = waker
            self.dispatcher.open(flow)
        if self._observers and not flow.calls:
            self.notify(FlowStarted(flow.number, flow.total))
        return flow

    def end(self, flow: Flow, *, wait: bool = False) -> None:
        """The consumer is done with a flow, or gives it up: what is left of it is cancelled.

        Without `wait` it may be called by the garbage collector in the middle of one of our own turns: then the lock
        cannot be taken, and whoever holds it does this at the end of its turn or the next.
        """
        if flow not in self._wakers or (self.closed and self.pid != os.getpid()):
            return
        if not self.guard.enter(wait=wait):
            self._given_up.append(flow)
            self.backend.wake()
            return
        try:
            self._drop(flow)
            told: Any = self._obey() if not self.closed else ([], [])
        finally:
            self.guard.__exit__()
        self._tell(told)

    def _drop(self, flow: Flow) -> None:
        if self._wakers.pop(flow, None) is None:
            return
        cancelled = not flow.finished or flow.cancelled
        self._told_ns.pop(flow, None)
        if not flow.finished and not self.closed:
            self.dispatcher.cancel(flow, monotonic_ns())
        self.dispatcher.forget(flow)
        if self._observers:
            chronicle = self.dispatcher.chronicle
            if chronicle is not None:
                chronicle.settle(flow)
                chronicle.tell(self.dispatcher.news)
            self.dispatcher.news.append(Progress(flow.number, flow.settled, flow.failed, flow.total))
            self.dispatcher.news.append(FlowEnded(flow.number, flow.settled, flow.failed, cancelled))

    def call(self, key: object, make: Callable[[int], Flow], future: Any) -> Flow:
        """The flow behind all `submit`s with the same options; `future` waits for one of its chunks."""
        flow = self._calls.get(key)
        if flow is None:
            with self._calls_lock:
                flow = self._calls.get(key) or self._calls.setdefault(key, self.open(make))
        self._waiting.add(future)
        return flow

    def uncall(self, future: Any) -> None:
        """A future that got its outcome elsewhere."""
        self._waiting.discard(future)

    def report_failure(self, flow: Flow, outcome: Any) -> None:
        """Tell observers of an item that is not ok."""
        if self._observers:
            self.notify(TaskFailed(flow.number, outcome))

    # --- functions ---

    def function(self, target: Callable[..., Any], style: str) -> Function:
        """`target` as the pipes know it; its bytes are made once. Raises NotPicklable."""
        key = (id(target), style)
        known = self._functions.get(key)
        if known is not None and known.target is target:
            return known
        name = getattr(target, "__qualname__", type(target).__name__)
        payload = b""
        leases: dict[int, object] = {}
        if self.backend.needs_bytes:
            # With the search path as it is now: it may have grown since the workers were started.
            packed: bytes | Parcel = pickling.dump_named(target, name, self.backend.pack_for_all)
            if isinstance(packed, Parcel):
                leases, packed = packed.leases, packed.data
            payload = pickling.dumps((style, packed, list(sys.path)))
        function = Function(next(self._function_numbers), target, payload, style, name, leases)
        if leases:
            # What it shares must be free to go when nobody uses it: workers drop it with its last chunk.
            weakref.finalize(function, self.dropped.append, function.number).atexit = False
            return function
        with self.guard:
            if len(self._functions) >= MOST_FUNCTIONS:
                oldest = next(iter(self._functions))
                self.dropped.append(self._functions.pop(oldest).number)
            self._functions[key] = function
        return function

    # --- life ---

    def _check_open(self) -> None:
        if self.closed:
            if self.pid != os.getpid():
                raise PoolClosed(
                    f"This process was forked from process {self.pid}, whose pool {self.name!r} it cannot use: "
                    "make a Pool of its own here."
                )
            raise PoolClosed(f"Pool {self.name!r} is closed; make a new one.")
        if self.dispatcher.broken is not None:
            raise self.dispatcher.broken

    def check_open(self) -> None:
        """Raises PoolClosed, or the error that broke the pool."""
        self._check_open()

    def cancel_call(self, chunk: Chunk) -> None:
        """Take back one submitted call; running work is ended after the grace period."""
        if not self.closed and self.pid == os.getpid():
            self.turn(lambda dispatcher, now: dispatcher.cancel_chunk(chunk, now))

    def end_workers(self, reason: str, *, at_once: bool) -> None:
        """End all workers, whatever they run, and start no others; `close` is to follow.

        Args:
            reason: Why, for the log.
            at_once: Give them no time.
        """
        if self.closed or self.pid != os.getpid():
            return

        def step(dispatcher: Dispatcher, now: int) -> None:
            dispatcher.closing = True
            dispatcher.orders += [Kill(worker, reason, at_once) for worker in dispatcher.desks]

        self.turn(step)

    def fail_everything(self, error: BaseException) -> None:
        """The loop itself failed: everybody who waits is told, nobody is left waiting."""
        told: Told
        with self.guard:
            self.dispatcher.break_off(
                InternalError(f"allcores made a mistake ({type(error).__name__}: {error}); please report it.")
            )
            self.dispatcher.closing = True
            for waker in self._wakers.values():
                waker()
            told = ([(flow, []) for flow in self._calls.values()], self.dispatcher.news)
            self.dispatcher.news = []
        self._tell(told)

    def close(self) -> None:
        """End everything: what runs has the grace period of `Limits.grace_s`. Idempotent."""
        if self.pid != os.getpid():
            return
        with self.guard:
            if self.closed:
                return
            self.closed = True
            now = monotonic_ns()
            error = PoolClosed(f"Pool {self.name!r} was closed.")
            for flow in [*self._wakers, *self._calls.values()]:
                if self._observers and not flow.calls:
                    ended = FlowEnded(flow.number, flow.settled, flow.failed, not flow.finished or flow.cancelled)
                    self.dispatcher.news.append(ended)
                if not flow.finished:
                    flow.broken = flow.broken or error
                self.dispatcher.cancel(flow, now)
                waker = self._wakers.get(flow)
                if waker is not None:
                    waker()
            self.dispatcher.close()
            told = self._obey()
            self.backend.wake()
        self._tell(([], told[1]))
        for future in list(self._waiting):
            self._waiting.discard(future)
            future._drop()
        self.backend.close()
        _drivers.discard(self)
        if self._observers:
            self.notify(PoolEnded(self.name))

    def flows(self) -> list[Flow]:
        """All flows that are open now."""
        return [*self._wakers, *self._calls.values()]

    def abandon(self) -> None:
        """In a forked child: this pool is the parent's."""
        self.closed = True
        # The thread that held the lock at that moment does not exist here.
        self.lock = threading.Lock()
        self.guard = Guard(self.lock)
        error = PoolClosed(f"Pool {self.name!r} belongs to process {self.pid}, which this one was forked from.")
        for flow in self.flows():
            flow.broken = error
        self.backend.abandon()
