"""Which workers there are: started, ready, terminated, told to stop.

A start has its seconds: `Limits.setup_s`. Starts that fail are counted, and too many in a row break the pool.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from allcores.errors import AllcoresError, BrokenPool, SetupError, WorkerLost
from allcores.outcome import Kind
from allcores.scheduler.actor_policy import ActorPolicy
from allcores.scheduler.messages import Kill, Launch, Stop
from allcores.scheduler.state import SchedulerState
from allcores.scheduler.timers import Timer
from allcores.scheduler.worker_state import Lifecycle, Termination, WorkerState
from allcores.transport.positions import NO_LIMIT

#: A look at whether a worker that starts was stopped comes this often, ns.
STOPPED_NS = 10_000_000_000
#: Starts in a row that the workers themselves ended, until the pool is called broken, if none was ever ready.
MOST_FAILED_STARTS = 3
#: The same if the last was killed from outside: that says nothing of how the next will fare.
MOST_KILLED_STARTS = 10
#: The same once a worker was ready: what hinders the new ones may pass.
MOST_FAILED_STARTS_LATER = 30


class Workers:
    """Moves each worker through its states."""

    __slots__ = ("_numbers", "_preload_excused", "_state")

    def __init__(self, state: SchedulerState, numbers: Iterator[int] | None = None) -> None:
        self._state = state
        #: what is loaded for all workers was given its seconds once more, for the program had been stopped
        self._preload_excused = False
        self._numbers = itertools.count(1) if numbers is None else numbers

    # --- starts -----------------------------------------------------------------------------------

    def fill(self, now: int) -> None:
        """Launch workers until there are as many as there are to be."""
        state = self._state
        if state.closing or state.broken is not None:
            return
        alive = sum(
            1
            for worker_state in state.worker_states.values()
            if worker_state.lifecycle in (Lifecycle.STARTING, Lifecycle.READY) and worker_state.termination is None
        )
        if state.actor_policy is not None:
            # Two objects never live at a time: the old one may still hold what the new one needs.
            alive = len(state.worker_states)
        for _ in range(state.workers - alive):
            worker_state = WorkerState(next(self._numbers), now, state.failed_starts)
            state.worker_states[worker_state.worker] = worker_state
            state.counters.workers_started += 1
            state.commands.append(Launch(worker_state.worker))
            self._watch_setup(worker_state, now)

    def on_ready(self, worker: int) -> bool:
        """A worker has started and its setup is done.

        Returns:
            Whether it may be given work.
        """
        state = self._state
        worker_state = state.worker_states.get(worker)
        if worker_state is None or worker_state.lifecycle is not Lifecycle.STARTING:
            return False
        state.failed_starts = state.own_failed_starts = 0
        state.ever_ready = True
        if state.closing:
            worker_state.move(Lifecycle.LEAVING)
            state.commands.append(Stop(worker))
            return False
        worker_state.move(Lifecycle.READY)
        if worker_state.open:
            state.list_open(worker_state)
        return True

    def _watch_setup(self, worker_state: WorkerState, now: int) -> None:
        """Look at a starting worker when its seconds are used up, and before that for whether it was stopped."""
        if self._state.nodes:
            # It may wait for hours until there is a node for it, whose own pool has these seconds then.
            return
        left = worker_state.started_ns + int(self._state.limits.setup_s * 1e9) - now
        self._state.timers.set(now + max(0, min(left, STOPPED_NS)), Timer.SETUP, worker_state)

    def check_setup(self, worker_state: WorkerState, now: int, still_ns: int) -> None:
        """End a worker that was stopped while it started, or whose setup has used up its seconds.

        They begin when whatever is loaded for all workers is there. A failed start, either way: another worker is
        started. That a setup hangs in every worker shows when none is ready at that time.

        Args:
            worker_state: The worker.
            now: The time, ns.
            still_ns: For so long the program was stopped just before, and its workers with it perhaps, ns.
        """
        state = self._state
        if worker_state.lifecycle is not Lifecycle.STARTING or worker_state.termination is not None:
            return
        if state.preloading_ns is not None:
            return
        if still_ns and 0 not in worker_state.excused:
            # Its seconds once more, and not twice.
            worker_state.excused[0] = worker_state.started_ns = now
        worker, limit_s = worker_state.worker, state.limits.setup_s
        if state.is_stopped(worker):
            lost = WorkerLost(f"Worker {worker} was stopped (SIGSTOP) while it started.", worker=worker)
            self._end_start(worker_state, lost, "it was stopped while it started", now, killed=True)
            return
        if now < worker_state.started_ns + int(limit_s * 1e9):
            self._watch_setup(worker_state, now)
            return
        error = SetupError(
            f"Worker {worker} was not ready after {limit_s:g} s: its {state.setup_step} function "
            "hangs, or needs longer than Limits(setup_s=...) allows."
        )
        if not state.any_ready():
            state.break_off(error)
        self._end_start(worker_state, error, "its setup took too long", now)

    def _end_start(
        self, worker_state: WorkerState, error: AllcoresError, reason: str, now: int, *, killed: bool = False
    ) -> None:
        # Counted before another is started in its place, which then belongs to the next in the row.
        self.start_failed(worker_state, f"{reason}.", killed=killed)
        self.terminate(worker_state, Termination(Kind.WORKER_LOST, error, reason, 0, 0), now)

    def start_failed(
        self, worker_state: WorkerState, reason: str, *, killed: bool = False, in_setup: bool = False
    ) -> None:
        """Count a worker that will never be ready; too many in a row break the pool.

        Args:
            worker_state: The worker.
            reason: A sentence, for the message.
            killed: See `WorkerGone`.
            in_setup: See `WorkerGone`.
        """
        state = self._state
        if state.closing or worker_state.failed_starts_before < state.failed_starts:
            # Another that was started beside it has failed already: one cause, one count.
            return
        if state.nodes and state.any_ready():
            # Nodes come and go by themselves; those that are there go on.
            return
        state.failed_starts += 1
        state.own_failed_starts += not killed
        if state.ever_ready:
            too_many = state.failed_starts >= MOST_FAILED_STARTS_LATER
        elif killed:
            too_many = state.failed_starts >= MOST_KILLED_STARTS
        else:
            too_many = state.own_failed_starts >= MOST_FAILED_STARTS
        if not too_many:
            return
        times = f"{state.failed_starts} times in a row"
        if in_setup and not state.ever_ready:
            state.break_off(
                SetupError(
                    f"The {state.setup_step} function ended its process {times}, and no worker was ever ready; "
                    f"the last: {reason}"
                )
            )
            return
        state.break_off(
            BrokenPool(
                f"Workers ended before they were ready, {times}; the last: {reason} See what the setup function does, "
                "and whether the machine has memory and processes left (`allcores doctor`)."
            )
        )

    def object_gone(
        self, policy: ActorPolicy, termination: Termination | None, reason: str, now: int, *, in_setup: bool
    ) -> None:
        """The object of an actor is gone with its worker: another is built, or it is not.

        Args:
            policy: The actor's.
            termination: Why the worker was ended, if it was.
            reason: How it ended.
            now: The time, ns.
            in_setup: See `WorkerGone`.
        """
        state = self._state
        ordered = termination is not None and termination.kind in (Kind.TIMED_OUT, Kind.CANCELLED)
        if state.closing or state.broken is not None or policy.grants(now, ordered=ordered):
            return
        state.workers -= 1
        if not state.workers:
            state.break_off(policy.error(reason, in_setup=in_setup))

    # --- what is loaded for all workers -----------------------------------------------------------

    def preload_began(self, now: int) -> None:
        """Something is loaded for all workers, and has as many seconds for it as a setup."""
        self._state.preloading_ns, self._preload_excused = now, False
        self._watch_preload(now, now)

    def _watch_preload(self, began_ns: int, now: int) -> None:
        left = began_ns + int(self._state.limits.setup_s * 1e9) - now
        self._state.timers.set(now + max(0, min(left, STOPPED_NS)), Timer.PRELOAD, began_ns)

    def check_preload(self, began_ns: int, now: int, still_ns: int) -> None:
        """The same as `check_setup` for what is loaded for all workers, if it is still the same attempt."""
        state = self._state
        if state.preloading_ns != began_ns:
            return
        if still_ns and not self._preload_excused:
            self._preload_excused = True
            began_ns = state.preloading_ns = now
        if state.is_stopped(0):
            state.commands.append(Kill(0, "it was stopped"))
            state.timers.set(now + STOPPED_NS, Timer.PRELOAD, began_ns)
            return
        if now < began_ns + int(state.limits.setup_s * 1e9):
            self._watch_preload(began_ns, now)
            return
        state.preloading_ns = None
        state.break_off(
            SetupError(
                f"The preload function was not done after {state.limits.setup_s:g} s: it hangs, or needs "
                "longer than Limits(setup_s=...) allows."
            )
        )

    def preload_ended(self, now: int) -> None:
        """It is loaded, or will not be: the seconds of those that start count from here."""
        self._state.preloading_ns = None
        for worker_state in self._state.worker_states.values():
            if worker_state.lifecycle is Lifecycle.STARTING and worker_state.termination is None:
                worker_state.started_ns = now
                self._watch_setup(worker_state, now)

    # --- ends -------------------------------------------------------------------------------------

    def terminate(self, worker_state: WorkerState, termination: Termination, now: int) -> None:
        """Kill a worker and launch another; its items are settled when it is gone."""
        worker_state.termination = termination
        self._state.unlist(worker_state)
        self._state.commands.append(Kill(worker_state.worker, termination.reason))
        self.fill(now)

    def launch_failed(self, worker: int) -> None:
        """A worker that was to be launched never will be: nothing is kept of it."""
        worker_state = self._state.worker_states.pop(worker)
        self._state.unlist(worker_state)
        worker_state.move(Lifecycle.GONE)

    def reopen(self, worker_state: WorkerState) -> None:
        """A worker holds fewer chunks than before: list it by what it can take, or let it go while closing."""
        state = self._state
        if worker_state.lifecycle is not Lifecycle.READY or worker_state.termination is not None:
            return
        if worker_state.limit != NO_LIMIT:
            if worker_state.chunks:
                return
            worker_state.confirming = 0
            state.set_limit(worker_state, NO_LIMIT)
        state.unlist(worker_state)
        if state.closing and not worker_state.chunks:
            worker_state.move(Lifecycle.LEAVING)
            state.commands.append(Stop(worker_state.worker))
        else:
            state.list_open(worker_state)

    def close(self) -> None:
        """Start no new workers; those that hold nothing may stop."""
        state = self._state
        state.closing = True
        for worker_state in state.worker_states.values():
            if worker_state.lifecycle is Lifecycle.STARTING and worker_state.termination is None:
                # Its setup may take for ever, and nothing depends on it any more.
                state.commands.append(Kill(worker_state.worker, "the pool was closed while it started"))
            elif worker_state.lifecycle is Lifecycle.READY and _is_free(worker_state):
                worker_state.move(Lifecycle.LEAVING)
                state.unlist(worker_state)
                state.commands.append(Stop(worker_state.worker))


def _is_free(worker_state: WorkerState) -> bool:
    """Whether nothing is left of what a worker holds, which is not being ended: others have it, or nobody wants it.

    It says so itself only once it gets there, and what it has printed may be in its way, which nobody reads.
    """
    return worker_state.termination is None and all(chunk.done >= len(chunk.items) for chunk in worker_state.chunks)
