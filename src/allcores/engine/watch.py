"""Looks after workers that take too long: over an item, over their setup, over letting go.

Each look is an alarm; none of them polls. What it sees comes from the status board.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allcores.engine.desk import Desk, Doom, Life
from allcores.engine.events import Kill
from allcores.engine.roster import STOPPED_NS
from allcores.errors import AllcoresError, SetupError, TaskTimeout, WorkerLost
from allcores.outcome import Kind

if TYPE_CHECKING:
    from allcores.engine.dispatcher import Dispatcher

#: A worker that has not begun what it was given after this long was stopped while it was idle, ns.
START_NS = 10_000_000_000
#: After this long it is asked whether it is stopped, ns.
BEGIN_NS = 500_000_000
#: How long finished items of a chunk may wait, unsent, behind one that takes long, ns.
PEEK_NS = 50_000_000
#: A look at a deadline comes this much late rather than early: an early one would only have to come again, ns.
LATE_NS = 100_000


class Watch:
    """The dispatcher's clockwork."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def ring(self, what: str, desk: Desk, when: int, now: int) -> None:
        """An alarm about `desk` is due."""
        if desk.life in (Life.GONE, Life.LEAVING) or desk.doom is not None:
            return
        if what == "deadline":
            # An alarm that an earlier one has replaced has nothing to say.
            if desk.deadline_ns == when:
                self.deadline(desk, now)
        elif what == "start":
            self.start(desk, now)
        elif what == "grace":
            self.grace(desk, now)
        elif what == "setup" and desk.life is Life.STARTING:
            self.setup(desk, now)

    def setup(self, desk: Desk, now: int) -> None:
        """Was it stopped, or has its setup used up its seconds?

        They begin when whatever is loaded for all workers is there. A failed start, either way: another worker is
        started. That a setup hangs in every worker shows when none is ready at that time.
        """
        dispatcher = self._dispatcher
        limit_s = dispatcher.limits.setup_s
        if dispatcher.preloading_ns is not None:
            return
        if dispatcher.is_stopped(desk.worker):
            lost = WorkerLost(f"Worker {desk.worker} was stopped (SIGSTOP) while it started.", worker=desk.worker)
            self._give_up_start(desk, lost, "it was stopped while it started", now, killed=True)
            return
        if now < desk.started_ns + int(limit_s * 1e9):
            dispatcher.watch_start(desk, now)
            return
        error = SetupError(
            f"Worker {desk.worker} was not ready after {limit_s:g} s: its {dispatcher.setup_step} function "
            "hangs, or needs longer than Limits(setup_s=...) allows."
        )
        if not any(other.life is Life.READY for other in dispatcher.desks.values()):
            dispatcher.break_off(error)
        self._give_up_start(desk, error, "its setup took too long", now)

    def _give_up_start(self, desk: Desk, error: AllcoresError, reason: str, now: int, *, killed: bool = False) -> None:
        # Counted before another is started in its place, which then belongs to the next in the row.
        self._dispatcher.start_failed(desk, f"{reason}.", killed=killed)
        self._dispatcher.doom(desk, Doom(Kind.WORKER_LOST, error, reason, 0, 0), now)

    def preload(self, began_ns: int, now: int) -> None:
        """The same for what is loaded for all workers, if it is still the same attempt."""
        dispatcher = self._dispatcher
        if dispatcher.preloading_ns != began_ns:
            return
        if dispatcher.is_stopped(0):
            dispatcher.orders.append(Kill(0, "it was stopped"))
            dispatcher.alarm(now + STOPPED_NS, "preload", began_ns)
            return
        if now < began_ns + int(dispatcher.limits.setup_s * 1e9):
            dispatcher.watch_preload(began_ns, now)
            return
        dispatcher.preloading_ns = None
        dispatcher.break_off(
            SetupError(
                f"The preload function was not done after {dispatcher.limits.setup_s:g} s: it hangs, or needs "
                "longer than Limits(setup_s=...) allows."
            )
        )

    def deadline(self, desk: Desk, now: int) -> None:
        """Has the item that this worker runs used up its seconds?"""
        desk.deadline_ns = None
        due: int | None = None
        glance = self._dispatcher.glance(desk.worker)
        chunk = desk.find(glance.sequence) if glance is not None and glance.started_ns else None
        if chunk is not None and glance is not None and chunk.flow.timeout_ns is not None:
            due = glance.started_ns + chunk.flow.timeout_ns
            if due <= now:
                seconds = chunk.flow.timeout_ns / 1e9
                what = self._dispatcher.describe(chunk, min(glance.position, len(chunk.items) - 1))
                error = TaskTimeout(
                    f"{what} ran longer than timeout={seconds:g} s in worker {desk.worker}, which was ended.",
                    timeout=seconds,
                    index=None if chunk.future is not None else chunk.first + glance.position,
                    attempts=chunk.attempt,
                    worker=desk.worker,
                )
                self._dispatcher.doom(
                    desk,
                    Doom(Kind.TIMED_OUT, error, f"{what} timed out", glance.sequence, glance.position, glance.phase),
                    now,
                )
                return
        if due is None:
            timeouts = [c.flow.timeout_ns for c in desk.chunks if c.flow.timeout_ns is not None]
            if not timeouts:
                return
            if chunk is None and self._dispatcher.is_stopped(desk.worker):
                self._give_up_beginning(desk, now)
                return
            due = now + min(timeouts)
        self.expect(desk, due + LATE_NS)

    def expect(self, desk: Desk, due: int) -> None:
        """See that somebody looks at this worker's deadline at `due`."""
        if desk.deadline_ns is None or due < desk.deadline_ns:
            desk.deadline_ns = due
            self._dispatcher.alarm(due, "deadline", desk)

    def start(self, desk: Desk, now: int) -> None:
        """Has it begun what it was given? A worker that was stopped while it was idle never will."""
        desk.start_watched = False
        if not desk.chunks:
            return
        head = desk.chunks[0]
        glance = self._dispatcher.glance(desk.worker)
        if glance is not None and not glance.started_ns and glance.sequence < head.sequence:
            if head.sent_ns + START_NS <= now or self._dispatcher.is_stopped(desk.worker):
                self._give_up_beginning(desk, now)
                return
            due = min(head.sent_ns + START_NS, now + BEGIN_NS)
        else:
            due = now + min(START_NS, BEGIN_NS)
        desk.start_watched = True
        self._dispatcher.alarm(due, "start", desk)

    def _give_up_beginning(self, desk: Desk, now: int) -> None:
        """It has not begun what it was given, and never will: its items are put back."""
        error = WorkerLost(f"Worker {desk.worker} did not begin what it was given.", worker=desk.worker)
        self._dispatcher.doom(desk, Doom(Kind.WORKER_LOST, error, "it did not begin what it was given", 0, 0), now)

    def grace(self, desk: Desk, now: int) -> None:
        """Its grace is over: does it still run something that was cancelled?"""
        if not desk.chunks:
            return
        glance = self._dispatcher.glance(desk.worker)
        chunk = desk.find(glance.sequence) if glance is not None and glance.started_ns else None
        if chunk is None or glance is None:
            chunk = desk.chunks[0]
        if chunk.cancelled or chunk.flow.cancelled:
            error = WorkerLost(f"{self._dispatcher.describe(chunk, 0)} was cancelled.", worker=desk.worker)
            self._dispatcher.doom(desk, Doom(Kind.CANCELLED, error, "what it ran was cancelled", 0, 0), now)
