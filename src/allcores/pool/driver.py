"""One lock around the scheduler: its commands are carried out, and its events are passed to observers.

A thread that has an event (a consumer with new items, the backend's thread with results) takes the lock, the scheduler
decides, and the commands are carried out at once, on that same thread. So a submitted call reaches its worker without
waking another thread first.

A thread takes locks in this order, and none of the same line twice, unless it is said to be reentrant.
`tests/lock_order.py` checks it in all tests.

1. what guards the making of a pool (reentrant): `default_pool`'s lock, then `Driver.inherited`
2. `Driver.lock` of one pool
3. `system.fork_lock` (reentrant)
4. those of shared memory (`system.deferral.Lock`, reentrant): `SharedObjects` or `Encoder`, then `Arena`

A `Bell` and a backend's queues never wait for their locks. A future's lock is not taken while one of these is held (it
may be held by a thread that takes the first: to cancel a call is one decision), nor is foreign code called on purpose,
but to pickle an item that is sent again: outcomes and observers' events wait in queues until `Driver.lock` is released.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any

from allcores.backends.base import Assignment, Backend, BackendEvent, ChangesLost, Totals
from allcores.errors import InternalError, PoolBusy, PoolClosed, again
from allcores.events import MapEnded, MapStarted, PoolEnded, PoolEvent, PoolOpened, Progress, TaskFailed
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.pool.backend_events import apply_event
from allcores.pool.functions import Functions
from allcores.pool.interrupt_lock import InterruptSafeLock
from allcores.pool.lost_changes import LostChanges
from allcores.pool.notifier import BLOCKED_NS, Notifier, Observer
from allcores.pool.program_end import at_end, quiet_daemons, see_to_end
from allcores.pool.submitted_calls import SubmittedCalls
from allcores.scheduler.activity import ActivityBatcher
from allcores.scheduler.actor_policy import ActorPolicy
from allcores.scheduler.item_words import describe
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.messages import Command, Results, Send
from allcores.scheduler.scheduler import Scheduler
from allcores.scheduler.segment import Segment
from allcores.scheduler.worker_state import Lifecycle
from allcores.system import forks
from allcores.system.clock import monotonic_ns
from allcores.system.weak_objects import WeakObjects
from allcores.transport import surroundings

#: drivers of this process; a forked copy of it must let go of their descriptors
_drivers: WeakObjects[Driver] = WeakObjects()
#: between two `Progress` events of a map at least, ns
PROGRESS_NS = 50_000_000


@forks.in_child
def _abandon_all() -> None:
    for driver in _drivers.all():
        # A fork of this fork must not close the same numbers again: by then they may be of other files.
        _drivers.discard(driver)
        driver.abandon()


def _close_all() -> None:
    for driver in _drivers.all():
        close_dropped(driver)


# At the end of the program each is closed by whoever has made it.
at_end(_close_all, of_program=False)


class Driver:
    """One pool's lock and scheduler. Its backend's thread, if it has one, and the program's threads use it alike.

    Attributes:
        submitted: Calls that have no outcome yet.
    """

    def __init__(
        self,
        workers: int,
        limits: Limits,
        backend: Backend,
        observers: Iterable[Observer],
        name: str,
        actor_policy: ActorPolicy | None = None,
        beside: Driver | None = None,
    ) -> None:
        """Begin, with workers.

        Args:
            workers: How many.
            limits: The pool's.
            backend: Where they run.
            observers: Whom to tell what happens.
            name: For messages.
            actor_policy: For the workers of an actor.
            beside: The driver of the pool that an actor belongs to: numbers of workers and maps are theirs together.
        """
        self.name = name
        self.workers = workers
        self.limits = limits
        self.backend = backend
        self.lock = InterruptSafeLock()
        self._worker_numbers: Iterator[int] = count(1) if beside is None else beside._worker_numbers
        self.scheduler = Scheduler(workers, limits, backend.progress, describe=describe, numbers=self._worker_numbers)
        self.pid = os.getpid()
        #: for whoever makes another in its place: in a process that was forked from this one's, and where a pool waits
        #: for its first use; None: it is used itself
        self.inherited: threading.RLock | None = None
        self.closed = False
        #: what a map's or call's worker is to find around it, as it is now; a pool may replace it
        self.around: Callable[[], Any] = surroundings.current if backend.needs_bytes else _nothing
        #: observers know that it is over
        self._ended = False
        self._notifier = Notifier(backend, observers)
        self.lost_changes = LostChanges()
        #: see Host; without the lock
        self.notify, self.resolve = self._notifier.notify, self._notifier.resolve
        self._wakers: dict[MapState, Callable[[], None]] = {}
        self._told_ns: dict[MapState, int] = {}
        self._numbers: Iterator[int] = count(1) if beside is None else beside._numbers
        self.functions = Functions(backend)
        self.submitted = SubmittedCalls(self._notifier.due)
        #: maps that were given up where the lock could not be taken (by the garbage collector, say)
        self._given_up: deque[MapState] = deque()
        #: an observer wants activity events; one whose attribute `sees_work` is False does not
        self.wants_activity = any(getattr(observer, "sees_work", True) for observer in self._notifier.observers)
        if self.wants_activity:
            self.scheduler.state.activity_batcher = ActivityBatcher()
        if self._notifier.observers:
            self.notify_observers(PoolOpened(name, backend.name, workers))
        if actor_policy is not None:
            self.scheduler.state.actor_policy, self.scheduler.state.concurrent = actor_policy, actor_policy.concurrent
        self.scheduler.state.setup_step = backend.setup_step
        if backend.node_cores:
            self.scheduler.state.are_nodes(backend.node_cores)
        self.scheduler.state.is_stopped, self.scheduler.state.unsent = backend.is_stopped, backend.unsent
        if backend.memory_gauge is not None:
            self.scheduler.admission.watch(backend.memory_gauge, backend.resident_tree_bytes)
        self._has_thread = False
        try:
            backend.start(self)
        except BaseException:
            # Of a signal's handler, as in what follows.
            if self._has_thread:
                self.close()
            raise
        _drivers.add(self)
        see_to_end()
        try:
            with self.lock:
                self.scheduler.fill(monotonic_ns())
                self.execute()
            backend.started()
        except BaseException:
            # A signal's handler raised: nobody would have the pool, nor close it.
            self.close()
            raise

    # --- rounds: each takes the lock, lets the scheduler decide, executes its commands, and notifies ---

    def turn(self, step: Callable[[Scheduler, int], None]) -> None:
        """Let `step` call the scheduler, then execute its commands."""
        if self.closed and self.pid != os.getpid():
            return
        try:
            with self.lock:
                step(self.scheduler, monotonic_ns())
                self.execute()
        finally:
            self.notify()

    def add(self, chunk: Chunk) -> None:
        """Hand a chunk of fresh items to the scheduler."""
        try:
            with self.lock:
                self.check_open()
                if chunk.future is not None:
                    self.submitted.waiting.add(chunk.future)
                self.scheduler.add(chunk, monotonic_ns())
                self.execute()
        finally:
            self.notify()

    def add_calls(self, chunks: Sequence[Chunk]) -> None:
        """Hand calls to the scheduler in one turn, each a chunk with a future."""
        try:
            with self.lock:
                self.check_open()
                self.submitted.waiting.update(chunk.future for chunk in chunks)
                now = monotonic_ns()
                for chunk in chunks:
                    self.scheduler.add(chunk, now)
                self.execute()
        finally:
            self.notify()

    def add_all(
        self, map_state: MapState, parts: Iterable[Chunk | Segment], then: Callable[[], None] | None = None
    ) -> None:
        """Hand over freshly pulled items in one turn; those that could not be pickled come settled.

        Args:
            map_state: Whose items they are.
            parts: Chunks, and segments of what could not be pickled.
            then: Called at the end of the turn, with the lock held.
        """
        try:
            with self.lock:
                self.check_open()
                now = monotonic_ns()
                for part in parts:
                    if isinstance(part, Chunk):
                        self.scheduler.add(part, now)
                    else:
                        self.scheduler.settle_unpicklable(map_state, part)
                self.execute()
                if then is not None:
                    then()
        finally:
            self.notify()

    def execute(self) -> None:
        """Execute the scheduler's commands; with the lock held. `notify` is to follow once it is released."""
        scheduler, state = self.scheduler, self.scheduler.state
        while self._given_up:
            self._drop(self._given_up.popleft())
        while state.commands:
            commands: Sequence[Command] = state.commands
            state.commands = []
            while self.functions.unused:
                self.backend.forget_function(self.functions.unused.popleft())
            self.backend.execute(commands)
            if self.backend.runs_on_caller:
                # Whoever reads a map is who runs its chunks: another thread may have given it one.
                state.dirty_maps.update(command.chunk.map_state for command in commands if isinstance(command, Send))
        if state.dirty_maps:
            for map_state in state.dirty_maps:
                if map_state.calls:
                    # Closing cancels them.
                    if not self.closed:
                        self.submitted.settle(map_state)
                    continue
                waker = self._wakers.get(map_state)
                if waker is None:
                    # Its reader has left: nothing is noted of it any more.
                    continue
                # Also when it can bring new work: behind a straggler nothing is ready, and workers idle.
                if (
                    map_state.ready
                    or map_state.finished
                    or self.backend.runs_on_caller
                    or scheduler.demand.wants_input(map_state)
                ):
                    waker()
                if self._notifier.observers:
                    self._note_progress(map_state)
            state.dirty_maps.clear()
        if state.activity_batcher is not None:
            state.activity_batcher.tell(state.events)
        if state.events:
            if self._notifier.observers:
                self._notifier.queue(state.events)
            state.events = []
        sleeps_until, alarm = self.backend.sleeps_until, state.timers.next_ns
        if sleeps_until is not None and alarm is not None and alarm < sleeps_until:
            self.backend.wake_by(alarm)

    def _note_progress(self, map_state: MapState) -> None:
        if self.closed:
            # Its end was told of.
            return
        now = monotonic_ns()
        if map_state.finished or now - self._told_ns.get(map_state, 0) > PROGRESS_NS:
            self._told_ns[map_state] = now
            self.scheduler.state.events.append(
                Progress(map_state.number, map_state.settled, map_state.failed, map_state.total)
            )

    @property
    def observed(self) -> bool:
        """There is an observer."""
        return bool(self._notifier.observers)

    def add_observer(self, observer: Observer) -> None:
        """Tell an observer more, from now on; of what workers do only if another one is told of that already."""
        self._notifier.observers.append(observer)

    def remove_observer(self, observer: Observer) -> None:
        """Tell it nothing more."""
        with contextlib.suppress(ValueError):  # it has raised, and was dropped
            self._notifier.observers.remove(observer)

    def notify_observers(self, event: PoolEvent, map_state: MapState | None = None) -> None:
        """Tell observers of something at once; without the lock.

        Args:
            event: What has happened.
            map_state: The map that it is about: once that has ended, nothing more is told of it.
        """
        with self.lock:
            if self._ended or (map_state is not None and (self.closed or map_state not in self._wakers)):
                return
            self._notifier.queue((event,))
        self.notify()

    # --- what a backend sees: see Host ---

    def begun(self) -> None:
        self._has_thread = True

    def post(self, events: Sequence[BackendEvent]) -> None:
        if self.closed and self.pid != os.getpid():
            return
        try:
            with self.lock:
                self.apply(events, monotonic_ns())
                self.execute()
        finally:
            self.notify()

    def on_timer(self) -> None:
        self.turn(lambda scheduler, now: scheduler.tick(now))

    def apply(self, events: Sequence[BackendEvent], now: int) -> None:
        scheduler = self.scheduler
        for event in events:
            if isinstance(event, Results):
                scheduler.results(event, now)
            elif isinstance(event, ChangesLost):
                self.lost_changes.note(event)
            else:
                apply_event(scheduler, event, now)

    def tick(self, now: int) -> None:
        self.scheduler.tick(now)

    @property
    def closing(self) -> bool:
        return self.scheduler.state.closing

    @property
    def broken(self) -> BaseException | None:
        return self.scheduler.state.broken

    @property
    def waiting_for_time(self) -> bool:
        return self.scheduler.waiting_for_time

    @property
    def holds_work(self) -> bool:
        return any(worker_state.chunks for worker_state in self.scheduler.state.worker_states.values())

    @property
    def idle_workers(self) -> int:
        return len(self.scheduler.state.idle)

    def assignment(self, worker: int, sequence: int) -> Assignment | None:
        worker_state = self.scheduler.state.worker_states.get(worker)
        if worker_state is None:
            return None
        return Assignment(
            worker_state.find(sequence),
            worker_state.chunks[0] if worker_state.chunks else None,
            bool(worker_state.chunks),
            worker_state.lifecycle is Lifecycle.STARTING,
            worker_state.lifecycle is Lifecycle.LEAVING,
            worker_state.termination is not None,
        )

    def totals(self) -> Totals:
        counters = self.scheduler.state.counters
        return Totals(counters.items_done, counters.items_done - counters.count(Kind.OK), counters.retries)

    def progress_of_maps(self) -> tuple[int, int]:
        maps = [map_state for map_state in self.maps() if not map_state.calls]
        unknown = any(map_state.total is None for map_state in maps)
        return sum(f.settled for f in maps), 0 if unknown else sum(f.total or 0 for f in maps)

    # --- maps ---

    def open(self, make: Callable[[int], MapState], waker: Callable[[], None] | None = None) -> MapState:
        """Begin a map; `waker` is called, with the lock held, when it has something for its consumer."""
        with self.lock:
            self.check_open()
            map_state = make(next(self._numbers))
            if waker is not None:
                self._wakers[map_state] = waker
            self.scheduler.open(map_state)
            if self._notifier.observers and not map_state.calls:
                self._notifier.queue((MapStarted(map_state.number, map_state.total),))
        self.notify()
        return map_state

    def end(self, map_state: MapState) -> None:
        """The consumer is done with a map, or gives it up: what is left of it is cancelled.

        It may be called in the middle of one of our own turns, by the end of an object that was dropped there: then it
        is done in the next one, which the backend makes soon if no other thread does.
        """
        if map_state not in self._wakers or (self.closed and self.pid != os.getpid()):
            return
        if self.lock.mine:
            self._given_up.append(map_state)
            self.backend.wake()
            return
        told = 0
        try:
            with self.lock:
                told = self._drop(map_state)
                if not self.closed:
                    self.execute()
        finally:
            self.notify()
        # Whoever has read the last result finds that its observers know, also where another thread tells them.
        self._notifier.wait_told(told)

    def _drop(self, map_state: MapState) -> int:
        """Forget a map, and tell of its end; the number of that event, 0 if there is none."""
        waker = self._wakers.pop(map_state, None)
        if waker is None:
            return 0
        # Closed by another thread, maybe, while its reader waits.
        waker()
        cancelled = not map_state.finished or map_state.cancelled
        self._told_ns.pop(map_state, None)
        if not map_state.finished and not self.closed:
            self.scheduler.cancel(map_state, monotonic_ns())
        self.scheduler.forget(map_state)
        if self.closed or not self._notifier.observers:
            return 0
        state = self.scheduler.state
        if state.activity_batcher is not None:
            state.activity_batcher.settle(map_state)
            state.activity_batcher.tell(state.events)
        self._notifier.queue(state.events)
        state.events = []
        return self._notifier.queue(
            (
                Progress(map_state.number, map_state.settled, map_state.failed, map_state.total),
                MapEnded(map_state.number, map_state.settled, map_state.failed, cancelled),
            )
        )

    def call(self, key: object, make: Callable[[int], MapState]) -> MapState:
        """The map behind all `submit`s with the same options."""
        maps = self.submitted.maps
        map_state = maps.get(key)
        if map_state is None:
            with self.lock:
                self.check_open()
                map_state = maps.get(key)
                if map_state is None:
                    map_state = maps[key] = make(next(self._numbers))
                    self.scheduler.open(map_state)
        return map_state

    @property
    def next_timer_ns(self) -> int | None:
        """See Host."""
        alarm = self.scheduler.next_timer_ns
        if not self._notifier.blocked:
            return alarm
        soon = monotonic_ns() + BLOCKED_NS
        return soon if alarm is None else min(soon, alarm)

    def report_failure(self, map_state: MapState, outcome: Any) -> None:
        """Tell observers of an item that is not ok."""
        if self._notifier.observers:
            self.notify_observers(TaskFailed(map_state.number, outcome), map_state)

    # --- life ---

    def check_open(self) -> None:
        """Raises PoolClosed, or the error that broke the pool."""
        if self.closed:
            self.check_process()
            raise PoolClosed(f"Pool {self.name!r} is closed; make a new one.")
        if self.scheduler.state.broken is not None:
            raise again(self.scheduler.state.broken)

    def check_process(self) -> None:
        """Raises PoolClosed in a process that was forked from that of the pool: what is not there yet will not come."""
        if self.closed and self.pid != os.getpid():
            raise PoolClosed(
                f"This process was forked from process {self.pid}, whose stream or call of pool {self.name!r} "
                "it cannot use: that process alone gets the outcome. A new call is run by workers of this process."
            )

    def cancel_call(self, chunk: Chunk) -> None:
        """Cancel one submitted call; running work is ended after the grace period."""
        if not self.closed and self.pid == os.getpid():
            self.turn(lambda scheduler, now: scheduler.cancel_chunk(chunk, now))

    def withdraw(self, chunk: Chunk) -> bool:
        """Have no worker get a call; False if one was given it. `cancel_call` is to follow."""
        if self.closed or self.pid != os.getpid():
            return True
        with self.lock:
            if chunk.cancel_token.is_sent:
                return False
            self.scheduler.cancel_chunk(chunk, monotonic_ns())
            return True

    def end_workers(self, reason: str, *, at_once: bool) -> None:
        """End all workers, whatever they run, and start no others; `close` is to follow.

        Args:
            reason: Why, for the log.
            at_once: Give them no time.
        """
        if self.closed or self.pid != os.getpid():
            return
        self.turn(lambda scheduler, now: scheduler.kill_all(reason, at_once=at_once))

    def fail(self, error: BaseException) -> None:
        """See Host: all waiting callers get the error."""
        mistake = InternalError(f"allcores made a mistake ({type(error).__name__}: {error}); please report it.")
        mistake.__cause__ = error
        try:
            with self.lock:
                self.scheduler.break_off(mistake)
                self.scheduler.state.closing = True
                for waker in self._wakers.values():
                    waker()
                if not self.closed:
                    for map_state in self.submitted.maps.values():
                        self.submitted.settle(map_state)
                self._notifier.queue(self.scheduler.state.events)
                self.scheduler.state.events = []
        finally:
            self.notify()

    def finish(self) -> None:
        """See Host."""
        self._notifier.finish()
        if self.closed:
            self.submitted.drop()

    def close(self) -> None:
        """End everything: what runs has the grace period of `Limits.grace_s`. Idempotent."""
        if self.pid != os.getpid():
            return
        self.backend.step_back()
        try:
            with self.lock:
                if self.closed:
                    return
                self.closed = True
                self._close()
        finally:
            # Also if a signal's handler has raised: what was begun is ended.
            if self.closed:
                self._let_go()

    def _close(self) -> None:
        """Cancel all that is out; with the lock held."""
        now = monotonic_ns()
        error = PoolClosed(f"Pool {self.name!r} was closed.")
        activity_batcher = self.scheduler.state.activity_batcher
        for map_state in self.maps():
            if activity_batcher is not None:
                activity_batcher.settle(map_state)
                activity_batcher.tell(self.scheduler.state.events)
            if self._notifier.observers and not map_state.calls:
                ended = MapEnded(
                    map_state.number, map_state.settled, map_state.failed, not map_state.finished or map_state.cancelled
                )
                self.scheduler.state.events.append(ended)
            if not map_state.finished:
                map_state.broken = map_state.broken or error
            self.scheduler.cancel(map_state, now)
            waker = self._wakers.get(map_state)
            if waker is not None:
                waker()
        self.scheduler.close()
        self.execute()
        self.backend.wake()

    def _let_go(self) -> None:
        """The end of closing: nobody waits any more, and no worker is left."""
        try:
            self.notify()
            self.submitted.drop()
        finally:
            self.backend.close()
            _drivers.discard(self)
            with self.lock:
                self.scheduler.forget_all()
            self.functions.clear()
        if self._notifier.observers:
            with self.lock:
                # Two threads may be closing it.
                told = 0 if self._ended else self._notifier.queue((PoolEnded(self.name),))
                self._ended = True
            self.notify()
            self._notifier.wait_told(told)

    def maps(self) -> list[MapState]:
        """All maps that are open now."""
        return [*self._wakers, *self.submitted.maps.values()]

    def abandon(self) -> None:
        """In a forked child: this pool is the parent's."""
        self.closed = True
        self.inherited = threading.RLock()
        # The thread that held the lock at that moment does not exist here.
        self.lock.renew()
        error = PoolClosed(f"Pool {self.name!r} belongs to process {self.pid}, which this one was forked from.")
        for map_state in self.maps():
            map_state.broken = error
        self._notifier.abandon()
        self.submitted.abandon()
        self.backend.abandon()


def _nothing() -> None:
    """What is around a task that runs in this very process."""


def close_dropped(driver: Driver, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
    """Close the driver of an object that nobody holds any more, or of a program that ends.

    Of one that was made by the last handlers of `atexit` nothing is left that could be closed when Python itself is
    taken apart: its workers end with the program.
    """
    if is_finalizing():
        return
    quiet_daemons()
    try:
        driver.close()
    except PoolBusy:
        # It was dropped in the middle of one of the driver's own decisions, on this very thread.
        threading.Thread(target=driver.close, name="allcores-close", daemon=True).start()
