"""Taking back: unstarted work moves from a busy worker to an idle one.

The dispatcher writes a limit on the board ("start nothing from here on"), waits until it must be
visible, and looks how far the worker has claimed. If not beyond the limit, it never will: it stores
what it claims before it reads the limit. If it has, its own report tells how far it came.
Source: the store-then-load of Dekker's algorithm; docs/design/scheduler.md, "Stealing".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allcores.scheduler.chunk_size import TARGET_NS
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.messages import WorkerProgress
from allcores.scheduler.worker_state import Lifecycle, WorkerState
from allcores.transport.positions import NO_LIMIT, PHASE_RUNNING, mark

if TYPE_CHECKING:
    from allcores.scheduler.scheduler import Scheduler

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

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._steal_at = 0
        #: an alarm is set that will look again
        self._hoping = False

    def seek_soon(self, now: int) -> None:
        """Look for work in a moment, once: by then the consumer may have brought new work."""
        # With everybody idle, as between two calls that follow each other, nobody has anything.
        somebody_is_busy = len(self._scheduler.idle) < len(self._scheduler.worker_states)
        if not self._hoping and somebody_is_busy and self._ends_are_near():
            self._hoping = True
            self._scheduler.alarm(now + SOON_NS, "seek", None)

    def _ends_are_near(self) -> bool:
        """Whether there is a flow whose consumer will not bring more: else taking back is not for now."""
        return any(
            map_state.calls or map_state.exhausted or map_state.credit <= 0 for map_state in self._scheduler.maps()
        )

    def look_again(self, now: int) -> None:
        """The alarm that `seek` has set."""
        self._hoping = False
        self.seek(now)

    def seek(self, now: int) -> None:
        """Somebody is idle and nothing waits: take unstarted work from whoever has most of it."""
        if now < self._steal_at or not self._ends_are_near() or self._scheduler.admission.narrow:
            return
        best: tuple[float, WorkerState, int] | None = None
        hope = False
        for worker_state in self._scheduler.worker_states.values():
            if (
                not worker_state.chunks
                or worker_state.lifecycle is not Lifecycle.READY
                or worker_state.termination is not None
                or worker_state.confirming
            ):
                continue
            map_state = worker_state.chunks[0].map_state
            if map_state.cancelled or map_state.stopped:
                continue
            # While the input goes on, its consumer will feed us; taking back is for the end.
            if not map_state.calls and not map_state.exhausted and map_state.credit > 0:
                continue
            hope = hope or len(worker_state.chunks) > 1 or len(worker_state.chunks[0].items) > 1
            found = spoils(worker_state, self._scheduler.progress(worker_state.worker), now)
            if found is not None and (best is None or found[0] > best[0]):
                best = (found[0], worker_state, found[1])
        if best is None:
            if hope and not self._hoping:
                # Not worth it yet: the current item may turn out to be a long one.
                self._hoping = True
                self._scheduler.alarm(now + HOPE_NS, "seek", None)
            return
        self._steal_at = now + PAUSE_NS
        _, worker_state, limit = best
        worker_state.confirming = True
        self._scheduler.limit(worker_state, limit)
        self._scheduler.alarm(now + CONFIRM_NS, "confirm", worker_state)
        self._scheduler.alarm(self._steal_at, "seek", None)

    def watch(self, worker_state: WorkerState, now: int) -> None:
        """Something waits behind what this worker runs: see that it does not wait for ever."""
        if not worker_state.behind_watched:
            worker_state.behind_watched = True
            # As long as the worker is likely to be over it anyway, nobody need be woken.
            ahead_ns = sum(chunk.map_state.chunker.target_ns for chunk in worker_state.chunks)
            alarm = self._scheduler.rough_alarm if ahead_ns > BEHIND_NS else self._scheduler.alarm
            alarm(now + max(BEHIND_NS, ahead_ns), "behind", worker_state)

    def free_what_waits(self, worker_state: WorkerState, now: int) -> None:
        """The alarm of `watch`: behind an item that takes long nothing waits, even while nobody is idle."""
        worker_state.behind_watched = False
        if (
            not worker_state.open
            or worker_state.confirming
            or len(worker_state.chunks) < 2
            or len(self._scheduler.worker_states) < 2
        ):
            return
        head = worker_state.chunks[0]
        progress = self._scheduler.progress(worker_state.worker)
        running = progress is not None and progress.phase == PHASE_RUNNING and progress.sequence == head.sequence
        elapsed = now - progress.started_ns if running and progress is not None else 0
        if progress is None or elapsed <= max(BEHIND_NS, 8 * (head.map_state.chunker.mean_ns or 0.0)):
            self.watch(worker_state, now)
            return
        worker_state.confirming = True
        self._scheduler.limit(worker_state, mark(head.sequence, max(head.done, progress.unstarted_from(head.sequence))))
        self._scheduler.alarm(now + CONFIRM_NS, "confirm", worker_state)

    def make_room(self, chunk: Chunk, now: int) -> None:
        """Let a new chunk not wait for long chunks of other flows: take back what is before it and not started."""
        held = self._scheduler.worker_states.get(chunk.worker)
        worker_states = [held] if held is not None else self._scheduler.worker_states.values()
        longest = max(worker_states, key=lambda worker_state: _ahead_ns(worker_state, chunk.map_state), default=None)
        if longest is not None and _ahead_ns(longest, chunk.map_state) > AHEAD_NS:
            self.recall(longest, now)

    def recall(self, worker_state: WorkerState, now: int) -> None:
        """Take back all that this worker has not started; there need not be anybody who could have it."""
        if not worker_state.chunks or not worker_state.open or worker_state.confirming:
            return
        head = worker_state.chunks[0]
        progress = self._scheduler.progress(worker_state.worker)
        first = max(head.done, progress.unstarted_from(head.sequence) if progress is not None else 0)
        if first < len(head.items) or len(worker_state.chunks) > 1:
            worker_state.confirming = True
            self._scheduler.limit(worker_state, mark(head.sequence, first))
            self._scheduler.alarm(now + CONFIRM_NS, "confirm", worker_state)

    def confirm(self, worker_state: WorkerState, now: int) -> None:
        """The limit must be visible by now: what the worker has not begun is ours."""
        if (
            not worker_state.confirming
            or worker_state.lifecycle is not Lifecycle.READY
            or worker_state.limit == NO_LIMIT
        ):
            return
        worker_state.confirming = False
        progress = self._scheduler.progress(worker_state.worker)
        if progress is None or progress.reach > worker_state.limit:
            # It may have passed the limit before it saw it: its own report will tell.
            return
        idle = max(1, len(self._scheduler.idle))
        for chunk in reversed(worker_state.chunks):
            kept = split(chunk, worker_state.limit)
            taken = chunk.items[kept:]
            if not taken:
                continue
            self._scheduler.stolen += len(taken)
            size = -(-len(taken) // idle)
            for start in range(kept + (len(taken) - 1) // size * size, kept - 1, -size):
                part = chunk.part(start, min(start + size, len(chunk.items)))
                if part.map_state.cancelled or part.cancelled:
                    self._scheduler.settle_cancelled(part, len(part.items))
                elif part.map_state.stopped:
                    self._scheduler.give_up(part, 0, len(part.items))
                else:
                    part.map_state.pending.appendleft(part)
                    self._scheduler.enqueue(part.map_state)
            chunk.size_bytes = chunk.size_bytes * kept // len(chunk.items)
            del chunk.items[kept:]
            chunk.cut = True
        self._scheduler.assign(now)


def _ahead_ns(worker_state: WorkerState, map_state: MapState) -> float:
    """Work of other flows that `desk` has, as far as it is known."""
    others = (chunk for chunk in worker_state.chunks if chunk.map_state is not map_state)
    return sum((chunk.map_state.chunker.mean_ns or 0.0) * (len(chunk.items) - chunk.done) for chunk in others)


def spoils(worker_state: WorkerState, progress: WorkerProgress | None, now: int) -> tuple[float, int] | None:
    """How much work (ns, estimated) would be won from `desk`, and from which mark on.

    None if it is not worth it. Chunks that wait behind the running one go first; of the running
    chunk half of what is not started, or all of it once the current item has run for long.
    """
    head = worker_state.chunks[0]
    mean = head.map_state.chunker.mean_ns or 0.0
    running = progress is not None and progress.phase == PHASE_RUNNING and progress.sequence == head.sequence
    elapsed = now - progress.started_ns if running and progress is not None else 0
    first = max(head.done, progress.unstarted_from(head.sequence) if progress is not None else 0)
    stuck = elapsed > max(STUCK_NS, 8 * mean)
    unstarted = max(0, len(head.items) - first)
    behind = sum(len(chunk.items) for chunk in list(worker_state.chunks)[1:])
    if stuck and unstarted + behind:
        return max(mean * (unstarted + behind), float(elapsed)), mark(head.sequence, first)
    if behind:
        won = mean * behind
        return (won, mark(worker_state.chunks[1].sequence, 0)) if won >= WORTH_NS or elapsed >= WORTH_NS else None
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
