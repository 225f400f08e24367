"""Workers that take too long: over an item, over beginning a chunk, over reporting, over letting go.

Each look is a timer; none of them polls. What it sees comes from the status board.
"""

from __future__ import annotations

from collections.abc import Callable

from allcores.errors import TaskTimeout, WorkerLost
from allcores.outcome import Kind
from allcores.scheduler.batch_size import allowed_ns
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.messages import Peek
from allcores.scheduler.state import SchedulerState
from allcores.scheduler.timers import Timer
from allcores.scheduler.worker_state import Lifecycle, Termination, WorkerState
from allcores.transport.positions import PHASE_CONTEXT, PHASE_OUTPUT, PREPARING, mark

#: A worker that has not begun what it was given after this long was stopped while it was idle, ns.
START_NS = 10_000_000_000
#: After this long it is asked whether it is stopped, ns.
BEGIN_NS = 500_000_000
#: How long finished items of a chunk may wait, unsent, behind one that takes long, ns.
PEEK_NS = 50_000_000
#: A look at a deadline comes this much late rather than early: an early one would only have to come again, ns.
LATE_NS = 100_000

#: Between two looks at whether a call that was sent to run beside others was begun, ns.
LOOK_NS = 10_000_000

#: terminates a worker, with the time in ns
Terminate = Callable[[WorkerState, Termination, int], None]


class Timeouts:
    """Sets the timers that watch busy workers, and acts on them."""

    __slots__ = ("_state", "_terminate")

    def __init__(self, state: SchedulerState, terminate: Terminate) -> None:
        """Watch nothing yet.

        Args:
            state: The scheduler's state.
            terminate: Terminates a worker.
        """
        self._state = state
        self._terminate = terminate

    def on_timer(self, timer: Timer, worker_state: WorkerState, due_ns: int, now: int, *, still_ns: int) -> None:
        """A timer about a worker is due.

        Args:
            timer: Which.
            worker_state: The worker.
            due_ns: When it was due.
            now: The time, ns.
            still_ns: For so long the program was stopped just before, and its workers with it perhaps, ns; 0: it ran.
        """
        if timer is Timer.PEEK:
            self._check_reports(worker_state, now)
        elif worker_state.lifecycle in (Lifecycle.GONE, Lifecycle.LEAVING) or worker_state.termination is not None:
            return
        elif timer is Timer.BEGIN:
            self._check_begin(worker_state, now, still_ns)
        elif timer is Timer.GRACE:
            self._check_grace(worker_state, now)
        elif timer is Timer.DEADLINE and worker_state.deadline_ns == due_ns:
            # Any other was replaced by an earlier one.
            self._check_deadline(worker_state, now, stood_still=still_ns > 0)

    # --- items ------------------------------------------------------------------------------------

    def watch_deadline(self, worker_state: WorkerState, due_ns: int) -> None:
        """Look at this worker's deadline at `due_ns`, or earlier."""
        if worker_state.deadline_ns is None or due_ns < worker_state.deadline_ns:
            worker_state.deadline_ns = due_ns
            self._state.timers.set(due_ns, Timer.DEADLINE, worker_state)

    def _check_deadline(self, worker_state: WorkerState, now: int, *, stood_still: bool) -> None:
        """Terminate a worker whose item has used up its timeout.

        Args:
            worker_state: The worker.
            now: The time, ns.
            stood_still: The program was stopped: what runs has its seconds once more.
        """
        worker_state.deadline_ns = None
        if self._state.concurrent > 1:
            self._check_deadlines(worker_state, now, stood_still)
            return
        due: int | None = None
        progress = self._state.progress(worker_state.worker)
        chunk = worker_state.find(progress.sequence) if progress is not None and progress.started_ns else None
        if chunk is not None and progress is not None and chunk.timeout_ns is not None:
            timeout_ns, together = chunk.timeout_ns, progress.together
            due = progress.started_ns + allowed_ns(timeout_ns, together, chunk.map_state.chunker.mean_ns)
            at = mark(progress.sequence, progress.position)
            due = self._excused(worker_state, at, due, timeout_ns, now, stood_still)
            if due <= now:
                seconds = timeout_ns / 1e9
                what = self._state.describe(chunk, min(progress.position, len(chunk.items) - 1))
                error = TaskTimeout(
                    f"{what} ran longer than timeout={seconds:g} s in worker {worker_state.worker}, which was ended.",
                    timeout=seconds,
                    index=chunk.index_of(progress.position),
                    attempts=chunk.attempt,
                    worker=worker_state.worker,
                )
                reason = (
                    f"{what} timed out" if together == 1 else f"a batch of {together} items from {what} on timed out"
                )
                self._terminate(
                    worker_state,
                    Termination(
                        Kind.TIMED_OUT,
                        error,
                        reason,
                        progress.sequence,
                        progress.position,
                        progress.phase,
                        together=together,
                    ),
                    now,
                )
                return
            if together > 1:
                # A part of the batch, if it fails, may have to be looked at earlier.
                due = min(due, now + timeout_ns)
        timeouts = [c.timeout_ns for c in worker_state.chunks if c is not chunk and c.timeout_ns is not None]
        if due is not None and timeouts:
            # What waits behind it may have fewer seconds, and begin at any moment.
            due = min(due, now + min(timeouts))
        if due is None:
            if not timeouts:
                return
            if chunk is None and self._state.is_stopped(worker_state.worker):
                self._end_idle(worker_state, now)
                return
            due = now + min(timeouts)
        self.watch_deadline(worker_state, due + LATE_NS)

    def _excused(
        self, worker_state: WorkerState, at: int, due: int, timeout_ns: int, now: int, stood_still: bool
    ) -> int:
        """When the seconds of an item are used up, which it has once more if the program was stopped, and not twice.

        Looks before that, for what waits behind it and has fewer, find it excused as well.
        """
        excused = worker_state.excused
        if due <= now and stood_still and at not in excused:
            held = {chunk.sequence for chunk in worker_state.chunks}
            worker_state.excused = {each: end for each, end in excused.items() if each >> 32 in held}
            worker_state.excused[at] = now + timeout_ns
        return max(due, worker_state.excused.get(at, 0))

    def _check_deadlines(self, worker_state: WorkerState, now: int, stood_still: bool) -> None:
        """The same for a worker that runs several calls at a time, each from the moment it was sent."""
        progress = self._state.progress(worker_state.worker)
        begun = progress.sequence if progress is not None else 0
        next_ns: int | None = None
        for chunk in worker_state.chunks:
            if chunk.timeout_ns is None:
                continue
            due = chunk.sent_ns + chunk.timeout_ns
            if chunk.sequence <= begun:
                due = self._excused(worker_state, mark(chunk.sequence, 0), due, chunk.timeout_ns, now, stood_still)
            if due <= now and chunk.sequence <= begun:
                what, seconds = self._state.describe(chunk, 0), chunk.timeout_ns / 1e9
                error = TaskTimeout(
                    f"{what} ran longer than timeout={seconds:g} s in worker {worker_state.worker}, which was ended.",
                    timeout=seconds,
                    attempts=chunk.attempt,
                    worker=worker_state.worker,
                )
                termination = Termination(Kind.TIMED_OUT, error, f"{what} timed out", chunk.sequence, 0)
                self._terminate(worker_state, termination, now)
                return
            due = max(due, now + LOOK_NS)
            next_ns = due if next_ns is None else min(next_ns, due)
        if next_ns is not None:
            self.watch_deadline(worker_state, next_ns + LATE_NS)

    # --- beginning and reporting ------------------------------------------------------------------

    def watch_begin(self, worker_state: WorkerState, now: int) -> None:
        """Look later whether a worker has begun what it was given."""
        worker_state.start_watched = True
        self._state.timers.set_rough(now + min(START_NS, BEGIN_NS), Timer.BEGIN, worker_state)

    def _check_begin(self, worker_state: WorkerState, now: int, still_ns: int) -> None:
        """Has it begun what it was given? A worker that was stopped while it was idle never will."""
        worker_state.start_watched = False
        if not worker_state.chunks:
            return
        head = worker_state.chunks[0]
        progress = self._state.progress(worker_state.worker)
        due = now + min(START_NS, BEGIN_NS)
        if progress is not None and progress.sequence < head.sequence and self._state.is_stopped(worker_state.worker):
            # Also one that says that it is at work: the outcome of that is here, and it was stopped as it sent it.
            self._end_idle(worker_state, now)
            return
        if progress is not None and not progress.started_ns and progress.sequence < head.sequence:
            if still_ns:
                # It did not run, either. (It is looked at twice a second, so that little more than this was lost.)
                worker_state.busy_ns = now
                worker_state.preparing = worker_state.preparing[0], worker_state.preparing[1] + still_ns
            if progress.phase in PREPARING:
                worker_state.busy_ns = now
                if worker_state.preparing[0] != head.sequence:
                    worker_state.preparing = head.sequence, now
                elif now - worker_state.preparing[1] >= int(self._state.limits.setup_s * 1e9):
                    self._end_preparing(worker_state, head, progress.phase, now)
                    return
            elif progress.phase == PHASE_OUTPUT or self._is_receiving(worker_state):
                # What it prints is not read, or what it was given is large and on its way.
                worker_state.busy_ns = now
            else:
                late_ns = max(head.sent_ns, worker_state.busy_ns) + START_NS
                if late_ns <= now:
                    self._end_idle(worker_state, now)
                    return
                due = min(late_ns, now + BEGIN_NS)
        worker_state.start_watched = True
        self._state.timers.set_rough(due, Timer.BEGIN, worker_state)

    def _is_receiving(self, worker_state: WorkerState) -> bool:
        """Whether a part of what a worker was given has gone into its pipe since the last look."""
        before, worker_state.unsent = worker_state.unsent, self._state.unsent(worker_state.worker)
        return before != worker_state.unsent

    def _end_idle(self, worker_state: WorkerState, now: int) -> None:
        """Terminate a worker that has not begun what it was given, and never will: its items are requeued."""
        error = WorkerLost(f"Worker {worker_state.worker} did not begin what it was given.", worker=worker_state.worker)
        self._terminate(
            worker_state, Termination(Kind.WORKER_LOST, error, "it did not begin what it was given", 0, 0), now
        )

    def _end_preparing(self, worker_state: WorkerState, head: Chunk, phase: int, now: int) -> None:
        """Terminate a worker that is not done with unpickling what its first chunk needs: the first item is charged."""
        if head.done >= len(head.items):
            self._end_idle(worker_state, now)  # all of it was stolen meanwhile
            return
        what = "context variables" if phase == PHASE_CONTEXT else "function"
        item, seconds = self._state.describe(head, head.done), self._state.limits.setup_s
        error = WorkerLost(
            f"Worker {worker_state.worker} was ended while unpickling the {what} for {item}: it was not done after "
            f"{seconds:g} s. A module that is imported hangs, or needs longer than Limits(setup_s=...) allows.",
            index=head.index_of(head.done),
            attempts=head.attempt,
            worker=worker_state.worker,
        )
        reason = f"unpickling the {what} for {item} took too long"
        self._terminate(worker_state, Termination(Kind.WORKER_LOST, error, reason, head.sequence, head.done), now)

    def watch_reports(self, worker_state: WorkerState, map_state: MapState, now: int) -> None:
        """Look later whether a worker has finished items that it does not report."""
        self._set_peek(worker_state, now + _patience_ns(map_state), now)

    def _set_peek(self, worker_state: WorkerState, due_ns: int, now: int) -> None:
        worker_state.peek_watched = True
        timers = self._state.timers
        set_timer = timers.set_rough if due_ns - now > PEEK_NS else timers.set
        set_timer(due_ns, Timer.PEEK, worker_state)

    def _check_reports(self, worker_state: WorkerState, now: int) -> None:
        """Have the board read if nothing was heard for long: finished items may wait behind one that takes long."""
        worker_state.peek_watched = False
        if worker_state.termination is not None or not any(len(chunk.items) > 1 for chunk in worker_state.chunks):
            return
        head = worker_state.chunks[0]
        due_ns = max(worker_state.heard_ns, head.sent_ns) + _patience_ns(head.map_state)
        if due_ns <= now:
            self._state.commands.append(Peek(worker_state.worker))
            due_ns = now + PEEK_NS
        self._set_peek(worker_state, due_ns, now)

    # --- cancellation -----------------------------------------------------------------------------

    def watch_grace(self, worker_state: WorkerState, now: int) -> None:
        """Look after the grace period whether a worker still runs something that was cancelled by `now`."""
        self._state.timers.set(now + self._grace_ns, Timer.GRACE, worker_state)

    @property
    def _grace_ns(self) -> int:
        return int(self._state.limits.grace_s * 1e9)

    def _check_grace(self, worker_state: WorkerState, now: int) -> None:
        """Terminate a worker that still runs something whose grace is over; what was cancelled later has its own."""
        if not worker_state.chunks:
            return
        progress = self._state.progress(worker_state.worker)
        chunk = worker_state.find(progress.sequence) if progress is not None and progress.started_ns else None
        if chunk is None or progress is None:
            chunk = worker_state.chunks[0]
        if chunk.given_up_ns is not None and now - chunk.given_up_ns >= self._grace_ns:
            error = WorkerLost(f"{self._state.describe(chunk, 0)} was cancelled.", worker=worker_state.worker)
            self._terminate(worker_state, Termination(Kind.CANCELLED, error, "what it ran was cancelled", 0, 0), now)


def _patience_ns(map_state: MapState) -> int:
    """How long nothing need be heard of a chunk: PEEK_NS, or longer if its reports are that rare."""
    return max(PEEK_NS, 2 * map_state.chunker.target_ns)
