"""Looks after workers that take too long: over an item, over their setup, over letting go.

Each look is an alarm; none of them polls. What it sees comes from the status board.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allcores.errors import AllcoresError, SetupError, TaskTimeout, WorkerLost
from allcores.outcome import Kind
from allcores.scheduler.messages import Kill
from allcores.scheduler.worker_state import Lifecycle, Termination, WorkerState
from allcores.scheduler.workers import STOPPED_NS

if TYPE_CHECKING:
    from allcores.scheduler.scheduler import Scheduler

#: A worker that has not begun what it was given after this long was stopped while it was idle, ns.
START_NS = 10_000_000_000
#: After this long it is asked whether it is stopped, ns.
BEGIN_NS = 500_000_000
#: How long finished items of a chunk may wait, unsent, behind one that takes long, ns.
PEEK_NS = 50_000_000
#: A look at a deadline comes this much late rather than early: an early one would only have to come again, ns.
LATE_NS = 100_000


class Timeouts:
    """The dispatcher's clockwork."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def ring(self, what: str, worker_state: WorkerState, when: int, now: int) -> None:
        """An alarm about `desk` is due."""
        if worker_state.lifecycle in (Lifecycle.GONE, Lifecycle.LEAVING) or worker_state.termination is not None:
            return
        if what == "deadline":
            # An alarm that an earlier one has replaced has nothing to say.
            if worker_state.deadline_ns == when:
                self.deadline(worker_state, now)
        elif what == "start":
            self.start(worker_state, now)
        elif what == "grace":
            self.grace(worker_state, now)
        elif what == "setup" and worker_state.lifecycle is Lifecycle.STARTING:
            self.setup(worker_state, now)

    def setup(self, worker_state: WorkerState, now: int) -> None:
        """Was it stopped, or has its setup used up its seconds?

        They begin when whatever is loaded for all workers is there. A failed start, either way: another worker is
        started. That a setup hangs in every worker shows when none is ready at that time.
        """
        scheduler = self._scheduler
        limit_s = scheduler.limits.setup_s
        if scheduler.preloading_ns is not None:
            return
        if scheduler.is_stopped(worker_state.worker):
            lost = WorkerLost(
                f"Worker {worker_state.worker} was stopped (SIGSTOP) while it started.", worker=worker_state.worker
            )
            self._give_up_start(worker_state, lost, "it was stopped while it started", now, killed=True)
            return
        if now < worker_state.started_ns + int(limit_s * 1e9):
            scheduler.watch_start(worker_state, now)
            return
        error = SetupError(
            f"Worker {worker_state.worker} was not ready after {limit_s:g} s: its {scheduler.setup_step} function "
            "hangs, or needs longer than Limits(setup_s=...) allows."
        )
        if not any(other.lifecycle is Lifecycle.READY for other in scheduler.worker_states.values()):
            scheduler.break_off(error)
        self._give_up_start(worker_state, error, "its setup took too long", now)

    def _give_up_start(
        self, worker_state: WorkerState, error: AllcoresError, reason: str, now: int, *, killed: bool = False
    ) -> None:
        # Counted before another is started in its place, which then belongs to the next in the row.
        self._scheduler.start_failed(worker_state, f"{reason}.", killed=killed)
        self._scheduler.termination(worker_state, Termination(Kind.WORKER_LOST, error, reason, 0, 0), now)

    def preload(self, began_ns: int, now: int) -> None:
        """The same for what is loaded for all workers, if it is still the same attempt."""
        scheduler = self._scheduler
        if scheduler.preloading_ns != began_ns:
            return
        if scheduler.is_stopped(0):
            scheduler.commands.append(Kill(0, "it was stopped"))
            scheduler.alarm(now + STOPPED_NS, "preload", began_ns)
            return
        if now < began_ns + int(scheduler.limits.setup_s * 1e9):
            scheduler.watch_preload(began_ns, now)
            return
        scheduler.preloading_ns = None
        scheduler.break_off(
            SetupError(
                f"The preload function was not done after {scheduler.limits.setup_s:g} s: it hangs, or needs "
                "longer than Limits(setup_s=...) allows."
            )
        )

    def deadline(self, worker_state: WorkerState, now: int) -> None:
        """Has the item that this worker runs used up its seconds?"""
        worker_state.deadline_ns = None
        due: int | None = None
        progress = self._scheduler.progress(worker_state.worker)
        chunk = worker_state.find(progress.sequence) if progress is not None and progress.started_ns else None
        if chunk is not None and progress is not None and chunk.map_state.timeout_ns is not None:
            due = progress.started_ns + chunk.map_state.timeout_ns
            if due <= now:
                seconds = chunk.map_state.timeout_ns / 1e9
                what = self._scheduler.describe(chunk, min(progress.position, len(chunk.items) - 1))
                error = TaskTimeout(
                    f"{what} ran longer than timeout={seconds:g} s in worker {worker_state.worker}, which was ended.",
                    timeout=seconds,
                    index=None if chunk.future is not None else chunk.first + progress.position,
                    attempts=chunk.attempt,
                    worker=worker_state.worker,
                )
                self._scheduler.termination(
                    worker_state,
                    Termination(
                        Kind.TIMED_OUT, error, f"{what} timed out", progress.sequence, progress.position, progress.phase
                    ),
                    now,
                )
                return
        if due is None:
            timeouts = [c.map_state.timeout_ns for c in worker_state.chunks if c.map_state.timeout_ns is not None]
            if not timeouts:
                return
            if chunk is None and self._scheduler.is_stopped(worker_state.worker):
                self._give_up_beginning(worker_state, now)
                return
            due = now + min(timeouts)
        self.expect(worker_state, due + LATE_NS)

    def expect(self, worker_state: WorkerState, due: int) -> None:
        """See that somebody looks at this worker's deadline at `due`."""
        if worker_state.deadline_ns is None or due < worker_state.deadline_ns:
            worker_state.deadline_ns = due
            self._scheduler.alarm(due, "deadline", worker_state)

    def start(self, worker_state: WorkerState, now: int) -> None:
        """Has it begun what it was given? A worker that was stopped while it was idle never will."""
        worker_state.start_watched = False
        if not worker_state.chunks:
            return
        head = worker_state.chunks[0]
        progress = self._scheduler.progress(worker_state.worker)
        if progress is not None and not progress.started_ns and progress.sequence < head.sequence:
            if head.sent_ns + START_NS <= now or self._scheduler.is_stopped(worker_state.worker):
                self._give_up_beginning(worker_state, now)
                return
            due = min(head.sent_ns + START_NS, now + BEGIN_NS)
        else:
            due = now + min(START_NS, BEGIN_NS)
        worker_state.start_watched = True
        self._scheduler.rough_alarm(due, "start", worker_state)

    def _give_up_beginning(self, worker_state: WorkerState, now: int) -> None:
        """It has not begun what it was given, and never will: its items are put back."""
        error = WorkerLost(f"Worker {worker_state.worker} did not begin what it was given.", worker=worker_state.worker)
        self._scheduler.termination(
            worker_state, Termination(Kind.WORKER_LOST, error, "it did not begin what it was given", 0, 0), now
        )

    def grace(self, worker_state: WorkerState, now: int) -> None:
        """Its grace is over: does it still run something that was cancelled?"""
        if not worker_state.chunks:
            return
        progress = self._scheduler.progress(worker_state.worker)
        chunk = worker_state.find(progress.sequence) if progress is not None and progress.started_ns else None
        if chunk is None or progress is None:
            chunk = worker_state.chunks[0]
        if chunk.cancelled or chunk.map_state.cancelled:
            error = WorkerLost(f"{self._scheduler.describe(chunk, 0)} was cancelled.", worker=worker_state.worker)
            self._scheduler.termination(
                worker_state, Termination(Kind.CANCELLED, error, "what it ran was cancelled", 0, 0), now
            )
