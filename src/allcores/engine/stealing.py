"""Taking back: unstarted work moves from a busy worker to an idle one.

The dispatcher writes a limit on the board ("start nothing from here on"), waits until it must be
visible, and looks how far the worker has claimed. If not beyond the limit, it never will: it stores
what it claims before it reads the limit. If it has, its own report tells how far it came.
Source: the store-then-load of Dekker's algorithm; docs/design.md, "Taking back".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allcores.engine.chunker import TARGET_NS
from allcores.engine.desk import Desk, Life
from allcores.engine.events import Glance
from allcores.engine.flow import Chunk, Flow
from allcores.transport.marks import NO_LIMIT, PHASE_RUNNING, mark

if TYPE_CHECKING:
    from allcores.engine.dispatcher import Dispatcher

#: After a limit is written, a worker's store to its slot is visible to us, and our limit to it,
#: long before this: store buffers drain in microseconds.
CONFIRM_NS = 1_000_000
#: Pause between two looks for work to take back, while somebody is idle at the end of an input, ns.
PAUSE_NS = 2_000_000
#: Pause before the first look, ns: it is made once for all workers that fall idle meanwhile.
SOON_NS = 500_000
#: The same when there is something, but not worth it yet, ns.
HOPE_NS = 10_000_000
#: How long a chunk may wait behind an item that takes long before it is given to another worker, ns.
BEHIND_NS = 50_000_000
#: Work of other flows that a flow's new chunk may have before it, ns; what is more is taken back.
AHEAD_NS = 2 * TARGET_NS
#: Unstarted work worth the trouble of taking it back, in ns.
WORTH_NS = 1_000_000
#: An item that has run this long makes everything behind it worth taking, in ns.
STUCK_NS = 20_000_000


class Stealing:
    """The dispatcher's hand in busy workers' queues."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._steal_at = 0
        #: an alarm is set that will look again
        self._hoping = False

    def seek_soon(self, now: int) -> None:
        """Look for work in a moment, once: by then the consumer may have brought new work."""
        # With everybody idle, as between two calls that follow each other, nobody has anything.
        somebody_is_busy = len(self._dispatcher.idle) < len(self._dispatcher.desks)
        if not self._hoping and somebody_is_busy and self._ends_are_near():
            self._hoping = True
            self._dispatcher.alarm(now + SOON_NS, "seek", None)

    def _ends_are_near(self) -> bool:
        """Whether there is a flow whose consumer will not bring more: else taking back is not for now."""
        return any(flow.calls or flow.exhausted or flow.credit <= 0 for flow in self._dispatcher.flows())

    def look_again(self, now: int) -> None:
        """The alarm that `seek` has set."""
        self._hoping = False
        self.seek(now)

    def seek(self, now: int) -> None:
        """Somebody is idle and nothing waits: take unstarted work from whoever has most of it."""
        if now < self._steal_at or not self._ends_are_near() or self._dispatcher.valve.narrow:
            return
        best: tuple[float, Desk, int] | None = None
        hope = False
        for desk in self._dispatcher.desks.values():
            if not desk.chunks or desk.life is not Life.READY or desk.doom is not None or desk.confirming:
                continue
            flow = desk.chunks[0].flow
            if flow.cancelled or flow.stopped:
                continue
            # While the input goes on, its consumer will feed us; taking back is for the end.
            if not flow.calls and not flow.exhausted and flow.credit > 0:
                continue
            hope = hope or len(desk.chunks) > 1 or len(desk.chunks[0].items) > 1
            found = spoils(desk, self._dispatcher.glance(desk.worker), now)
            if found is not None and (best is None or found[0] > best[0]):
                best = (found[0], desk, found[1])
        if best is None:
            if hope and not self._hoping:
                # Not worth it yet: the current item may turn out to be a long one.
                self._hoping = True
                self._dispatcher.alarm(now + HOPE_NS, "seek", None)
            return
        self._steal_at = now + PAUSE_NS
        _, desk, limit = best
        desk.confirming = True
        self._dispatcher.limit(desk, limit)
        self._dispatcher.alarm(now + CONFIRM_NS, "confirm", desk)
        self._dispatcher.alarm(self._steal_at, "seek", None)

    def watch(self, desk: Desk, now: int) -> None:
        """Something waits behind what this worker runs: see that it does not wait for ever."""
        if not desk.behind_watched:
            desk.behind_watched = True
            # As long as the worker is likely to be over it anyway, nobody need be woken.
            ahead_ns = sum(chunk.flow.chunker.target_ns for chunk in desk.chunks)
            self._dispatcher.alarm(now + max(BEHIND_NS, ahead_ns), "behind", desk)

    def free_what_waits(self, desk: Desk, now: int) -> None:
        """The alarm of `watch`: behind an item that takes long nothing waits, even while nobody is idle."""
        desk.behind_watched = False
        if not desk.open or desk.confirming or len(desk.chunks) < 2 or len(self._dispatcher.desks) < 2:
            return
        head = desk.chunks[0]
        glance = self._dispatcher.glance(desk.worker)
        running = glance is not None and glance.phase == PHASE_RUNNING and glance.sequence == head.sequence
        elapsed = now - glance.started_ns if running and glance is not None else 0
        if glance is None or elapsed <= max(BEHIND_NS, 8 * (head.flow.chunker.mean_ns or 0.0)):
            self.watch(desk, now)
            return
        desk.confirming = True
        self._dispatcher.limit(desk, mark(head.sequence, max(head.done, glance.unstarted_from(head.sequence))))
        self._dispatcher.alarm(now + CONFIRM_NS, "confirm", desk)

    def make_room(self, chunk: Chunk, now: int) -> None:
        """Let a new chunk not wait for long chunks of other flows: take back what is before it and not started."""
        held = self._dispatcher.desks.get(chunk.worker)
        desks = [held] if held is not None else self._dispatcher.desks.values()
        longest = max(desks, key=lambda desk: _ahead_ns(desk, chunk.flow), default=None)
        if longest is not None and _ahead_ns(longest, chunk.flow) > AHEAD_NS:
            self.recall(longest, now)

    def recall(self, desk: Desk, now: int) -> None:
        """Take back all that this worker has not started; there need not be anybody who could have it."""
        if not desk.chunks or not desk.open or desk.confirming:
            return
        head = desk.chunks[0]
        glance = self._dispatcher.glance(desk.worker)
        first = max(head.done, glance.unstarted_from(head.sequence) if glance is not None else 0)
        if first < len(head.items) or len(desk.chunks) > 1:
            desk.confirming = True
            self._dispatcher.limit(desk, mark(head.sequence, first))
            self._dispatcher.alarm(now + CONFIRM_NS, "confirm", desk)

    def confirm(self, desk: Desk, now: int) -> None:
        """The limit must be visible by now: what the worker has not begun is ours."""
        if not desk.confirming or desk.life is not Life.READY or desk.limit == NO_LIMIT:
            return
        desk.confirming = False
        glance = self._dispatcher.glance(desk.worker)
        if glance is None or glance.reach > desk.limit:
            # It may have passed the limit before it saw it: its own report will tell.
            return
        idle = max(1, len(self._dispatcher.idle))
        for chunk in reversed(desk.chunks):
            kept = split(chunk, desk.limit)
            taken = chunk.items[kept:]
            if not taken:
                continue
            self._dispatcher.taken_back += len(taken)
            size = -(-len(taken) // idle)
            for start in range(kept + (len(taken) - 1) // size * size, kept - 1, -size):
                part = chunk.part(start, min(start + size, len(chunk.items)))
                if part.flow.cancelled or part.cancelled:
                    self._dispatcher.settle_cancelled(part, len(part.items))
                elif part.flow.stopped:
                    self._dispatcher.give_up(part, 0, len(part.items))
                else:
                    part.flow.pending.appendleft(part)
                    self._dispatcher.enlist(part.flow)
            chunk.size_bytes = chunk.size_bytes * kept // len(chunk.items)
            del chunk.items[kept:]
            chunk.cut = True
        self._dispatcher.assign(now)


def _ahead_ns(desk: Desk, flow: Flow) -> float:
    """Work of other flows that `desk` has, as far as it is known."""
    others = (chunk for chunk in desk.chunks if chunk.flow is not flow)
    return sum((chunk.flow.chunker.mean_ns or 0.0) * (len(chunk.items) - chunk.done) for chunk in others)


def spoils(desk: Desk, glance: Glance | None, now: int) -> tuple[float, int] | None:
    """How much work (ns, estimated) would be won from `desk`, and from which mark on.

    None if it is not worth it. Chunks that wait behind the running one go first; of the running
    chunk half of what is not started, or all of it once the current item has run for long.
    """
    head = desk.chunks[0]
    mean = head.flow.chunker.mean_ns or 0.0
    running = glance is not None and glance.phase == PHASE_RUNNING and glance.sequence == head.sequence
    elapsed = now - glance.started_ns if running and glance is not None else 0
    first = max(head.done, glance.unstarted_from(head.sequence) if glance is not None else 0)
    stuck = elapsed > max(STUCK_NS, 8 * mean)
    unstarted = max(0, len(head.items) - first)
    behind = sum(len(chunk.items) for chunk in list(desk.chunks)[1:])
    if stuck and unstarted + behind:
        return max(mean * (unstarted + behind), float(elapsed)), mark(head.sequence, first)
    if behind:
        won = mean * behind
        return (won, mark(desk.chunks[1].sequence, 0)) if won >= WORTH_NS or elapsed >= WORTH_NS else None
    half = unstarted // 2
    if half and mean * half >= WORTH_NS:
        return mean * half, mark(head.sequence, len(head.items) - half)
    return None


def split(chunk: Chunk, limit: int) -> int:
    """How many items of `chunk` stay with its worker under `limit`."""
    sequence, position = limit >> 32, limit & 0xFFFFFFFF
    if chunk.sequence < sequence:
        return len(chunk.items)
    return min(position, len(chunk.items)) if chunk.sequence == sequence else 0
