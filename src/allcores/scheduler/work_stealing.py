"""Work stealing: unstarted work moves from a busy worker to an idle one.

The scheduler writes a limit on the board ("start nothing from here on"), waits until it must be
visible, and looks how far the worker has claimed. If not beyond the limit, it never will: it stores
what it claims before it reads the limit. If it has, its own report tells how far it came.
Source: the store-then-load of Dekker's algorithm; docs/design/scheduler.md, "Stealing".
"""

from __future__ import annotations

from collections.abc import Callable

from allcores.scheduler.chunk_size import TARGET_NS
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.messages import Revoke, WorkerProgress
from allcores.scheduler.state import SchedulerState
from allcores.scheduler.timers import Timer
from allcores.scheduler.worker_state import Lifecycle, WorkerState
from allcores.transport.positions import NO_LIMIT, PHASE_OUTPUT, PHASE_RUNNING, PREPARING, mark

#: After a limit is written, a worker's store to its slot is visible to us, and our limit to it,
#: long before this: store buffers drain in microseconds.
CONFIRM_NS = 1_000_000
#: Pause between two looks for work to steal, while a worker is idle at the end of an input, ns.
PAUSE_NS = 2_000_000
#: Pause before the first look, ns: it is made once for all workers that fall idle meanwhile.
SOON_NS = 500_000
#: The same when there is something, but not worth it yet, ns.
HOPE_NS = 10_000_000
#: How long a chunk may wait behind an item that takes long before it is given to another worker, ns.
BEHIND_NS = 50_000_000
#: Work of other maps that a map's new chunk may have before it, ns; what is more is stolen.
AHEAD_NS = 2 * TARGET_NS
#: Unstarted work worth the price of stealing it, in ns.
WORTH_NS = 1_000_000
#: So long a node keeps what it was sent, and between two looks at nodes, ns: to ask takes some 10 ms.
NODE_NS = 100_000_000
#: what a worker may be busy with between two chunks
_BETWEEN = (*PREPARING, PHASE_OUTPUT)
#: An item that has run this long makes everything behind it worth taking, in ns.
STUCK_NS = 20_000_000


class WorkStealing:
    """Takes unstarted items from busy workers, through limits on the status board."""

    __slots__ = ("_is_set", "_next_ns", "_requeue_unstarted", "_state")

    def __init__(self, state: SchedulerState, requeue_unstarted: Callable[[Chunk], None]) -> None:
        """Begin with nothing to steal.

        Args:
            state: The scheduler's state.
            requeue_unstarted: Makes a stolen part pending again, or settles it if its items are cancelled.
        """
        self._state = state
        self._requeue_unstarted = requeue_unstarted
        #: before that nothing is stolen, ns
        self._next_ns = 0
        #: a timer is set that will look again
        self._is_set = False

    # --- for idle workers -------------------------------------------------------------------------

    def seek_soon(self, now: int) -> None:
        """Look for work in a moment, once: by then the consumer may have brought new work."""
        # With all workers idle, as between two calls that follow each other, there is nothing to steal.
        state = self._state
        if not self._is_set and len(state.idle) < len(state.worker_states) and self._ends_are_near():
            self._is_set = True
            state.timers.set(now + SOON_NS, Timer.STEAL)

    def _ends_are_near(self) -> bool:
        """Whether there is a map whose consumer will not bring more: before that stealing is of no use."""
        return any(
            map_state.calls or map_state.exhausted or not map_state.may_pull for map_state in self._state.maps.values()
        )

    def on_timer(self, now: int) -> None:
        """The timer that `seek` or `seek_soon` has set is due."""
        self._is_set = False
        if self._state.idle and not self._state.rotation:
            self.seek(now)

    def seek(self, now: int) -> None:
        """A worker is idle and nothing is pending: take unstarted work from the worker that has most of it."""
        state = self._state
        if state.concurrent > 1:
            return  # nothing waits behind what runs
        if state.nodes:
            self._seek_on_nodes(now)
            return
        if now < self._next_ns or not self._ends_are_near() or state.narrow:
            return
        best: tuple[float, WorkerState, int] | None = None
        hope = False
        for worker_state in state.worker_states.values():
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
            # While the input goes on, its consumer brings new work; stealing is for the end.
            if not map_state.calls and not map_state.exhausted and map_state.may_pull:
                continue
            hope = hope or len(worker_state.chunks) > 1 or len(worker_state.chunks[0].items) > 1
            found = stealable(worker_state, state.progress(worker_state.worker), now)
            if found is not None and (best is None or found[0] > best[0]):
                best = (found[0], worker_state, found[1])
        if best is None:
            if hope and not self._is_set:
                # Not worth it yet: the current item may turn out to be a long one.
                self._is_set = True
                state.timers.set(now + HOPE_NS, Timer.STEAL)
            return
        self._next_ns = now + PAUSE_NS
        _, worker_state, limit = best
        self._begin(worker_state, limit, now)
        state.timers.set(self._next_ns, Timer.STEAL)

    def _seek_on_nodes(self, now: int) -> None:
        """The same for nodes: ask the one that holds most for what it has not started.

        What it does not give back is asked for again, more and more rarely: it may have been about to start it.
        """
        state = self._state
        if not self._ends_are_near():
            return
        most: WorkerState | None = None
        hope = False
        for worker_state in state.worker_states.values():
            held = worker_state.chunks
            if not held or (len(held) == 1 and len(held[0].items) - held[0].done < 2):
                continue  # what it holds runs
            hope = True
            last = self._last(worker_state)
            if any(_may_be_asked_for(chunk, now) for chunk in last) and (
                most is None or len(worker_state.chunks) > len(most.chunks)
            ):
                most = worker_state
        if most is not None:
            for chunk in self._last(most):
                if _may_be_asked_for(chunk, now):
                    chunk.asked += 1
                    state.commands.append(Revoke(most.worker, chunk.sequence, running=False, for_others=True))
        if hope and not self._is_set:
            self._is_set = True
            state.timers.set(now + NODE_NS, Timer.STEAL)

    def _last(self, worker_state: WorkerState) -> list[Chunk]:
        """Of the chunks of a node those that the idle ones might have."""
        count = max(1, len(worker_state.chunks) // (len(self._state.idle) + 1))
        return list(worker_state.chunks)[-count:]

    # --- for chunks that wait ---------------------------------------------------------------------

    def watch(self, worker_state: WorkerState, now: int) -> None:
        """A chunk waits behind what this worker runs: see that it does not wait for ever."""
        if not worker_state.behind_watched and self._state.concurrent == 1:
            worker_state.behind_watched = True
            # As long as the worker is likely to be over it anyway, the timer need not wake the owner.
            ahead_ns = sum(chunk.map_state.chunker.target_ns for chunk in worker_state.chunks)
            timers = self._state.timers
            set_timer = timers.set_rough if ahead_ns > BEHIND_NS else timers.set
            set_timer(now + max(BEHIND_NS, ahead_ns), Timer.BEHIND, worker_state)

    def free_blocked(self, worker_state: WorkerState, now: int) -> None:
        """The timer of `watch`: behind an item that takes long nothing waits, even while no worker is idle."""
        worker_state.behind_watched = False
        if (
            not worker_state.open
            or worker_state.confirming
            or len(worker_state.chunks) < 2
            or (len(self._state.worker_states) < 2 and not self._state.returns_unstarted)
        ):
            return
        head = worker_state.chunks[0]
        progress = self._state.progress(worker_state.worker)
        elapsed, first = _occupied(worker_state, progress, now)
        if progress is None or elapsed <= max(BEHIND_NS, 8 * (head.map_state.chunker.mean_ns or 0.0)):
            self.watch(worker_state, now)
            return
        self._begin(worker_state, mark(head.sequence, first), now)

    def make_room(self, chunk: Chunk, now: int) -> None:
        """Let a new chunk not wait for long chunks of other maps: steal what is before it and not started."""
        if self._state.nodes:
            return
        held = self._state.worker_states.get(chunk.worker)
        worker_states = [held] if held is not None else self._state.worker_states.values()
        longest = max(worker_states, key=lambda worker_state: _ahead_ns(worker_state, chunk.map_state), default=None)
        if longest is not None and _ahead_ns(longest, chunk.map_state) > AHEAD_NS:
            self.recall(longest, now)

    def recall(self, worker_state: WorkerState, now: int) -> None:
        """Steal all that this worker has not started, whether or not another is idle."""
        if not worker_state.chunks or not worker_state.open or worker_state.confirming or self._state.concurrent > 1:
            return
        head = worker_state.chunks[0]
        progress = self._state.progress(worker_state.worker)
        _, first = _occupied(worker_state, progress, now)
        if first < len(head.items) or len(worker_state.chunks) > 1:
            self._begin(worker_state, mark(head.sequence, first), now)

    def end_at(self, worker_state: WorkerState, limit: int, now: int) -> None:
        """Have a worker start nothing from there on, and see soon whether it does not.

        What it would say of that itself comes late if it imports modules for a function, or runs a long item.
        """
        if self._state.concurrent > 1 or worker_state.lifecycle is not Lifecycle.READY:
            self._state.set_limit(worker_state, limit)
        else:
            self._begin(worker_state, limit, now)

    # --- the two steps ----------------------------------------------------------------------------

    def _begin(self, worker_state: WorkerState, limit: int, now: int) -> None:
        """Set a limit, and look at it once it must be visible."""
        worker_state.confirming = now + CONFIRM_NS
        self._state.set_limit(worker_state, limit)
        self._state.timers.set(worker_state.confirming, Timer.CONFIRM, worker_state)

    def confirm(self, worker_state: WorkerState, due_ns: int) -> bool:
        """The limit must be visible by now: take what the worker has not begun.

        A timer of an earlier limit, which was lifted since, says nothing: the one that is there now may not even have
        been written.

        Args:
            worker_state: Whose limit it is.
            due_ns: When the timer was due.

        Returns:
            True if it was taken, and can be handed out.
        """
        state = self._state
        if (
            worker_state.confirming != due_ns
            or worker_state.lifecycle is not Lifecycle.READY
            or worker_state.limit == NO_LIMIT
        ):
            return False
        worker_state.confirming = 0
        progress = state.progress(worker_state.worker)
        if progress is None or progress.reach > worker_state.limit:
            # It may have passed the limit before it saw it: its own report will tell.
            return False
        idle = max(1, len(state.idle))
        for chunk in reversed(worker_state.chunks):
            kept = split(chunk, worker_state.limit)
            taken = len(chunk.items) - kept
            if not taken:
                continue
            if not chunk.map_state.stopped:
                state.counters.stolen += taken
            size = _whole_batches(-(-taken // idle), chunk)
            for start in range(kept + (taken - 1) // size * size, kept - 1, -size):
                self._requeue_unstarted(chunk.part(start, min(start + size, len(chunk.items))))
            chunk.share()
            chunk.size_bytes = chunk.size_bytes * kept // len(chunk.items)
            del chunk.items[kept:]
            chunk.cut = True
        return True


def _may_be_asked_for(chunk: Chunk, now: int) -> bool:
    """Whether its node has had it for long enough, four times as long each time."""
    return now - chunk.sent_ns >= NODE_NS << 2 * chunk.asked


def _ahead_ns(worker_state: WorkerState, map_state: MapState) -> float:
    """Estimated work of other maps that a worker holds, ns; those of one series wait for each other."""
    others = (chunk for chunk in worker_state.chunks if map_state.is_apart(chunk.map_state))
    return sum((chunk.map_state.chunker.mean_ns or 0.0) * (len(chunk.items) - chunk.done) for chunk in others)


def stealable(worker_state: WorkerState, progress: WorkerProgress | None, now: int) -> tuple[float, int] | None:
    """What can be stolen from a worker.

    Chunks that wait behind the running one go first; of the running chunk half of what is not started, or all of it
    once the current item has run for long.

    Args:
        worker_state: The worker; it holds at least one chunk.
        progress: Where it is, if that is known.
        now: The time, ns.

    Returns:
        The work that would be won (ns, estimated), and the position from which on; None if it is not worth it.
    """
    head = worker_state.chunks[0]
    mean = head.map_state.chunker.mean_ns or 0.0
    elapsed, first = _occupied(worker_state, progress, now)
    stuck = elapsed > max(STUCK_NS, 8 * mean)
    unstarted = max(0, len(head.items) - first)
    behind = sum(len(chunk.items) for chunk in list(worker_state.chunks)[1:])
    if stuck and unstarted + behind:
        return max(mean * (unstarted + behind), float(elapsed)), mark(head.sequence, first)
    if behind:
        won = mean * behind
        return (won, mark(worker_state.chunks[1].sequence, 0)) if won >= WORTH_NS or elapsed >= WORTH_NS else None
    half = len(head.items) - _whole_batches(len(head.items) - unstarted // 2, head)
    if half > 0 and mean * half >= WORTH_NS:
        return mean * half, mark(head.sequence, len(head.items) - half)
    return None


def _occupied(worker_state: WorkerState, progress: WorkerProgress | None, now: int) -> tuple[int, int]:
    """How long a worker has been over its first chunk's item, ns, and the position in there of the first that may go.

    One that unpickles what the chunk needs (a module may take long to be imported) keeps the item that it does so for.
    """
    head = worker_state.chunks[0]
    if progress is None:
        return 0, head.done
    first = max(head.done, progress.unstarted_from(head.sequence))
    if progress.phase == PHASE_RUNNING and progress.sequence == head.sequence:
        return now - progress.started_ns, first
    if progress.phase in _BETWEEN and not progress.started_ns and progress.sequence < head.sequence:
        kept = max(1, head.batch) if progress.phase in PREPARING else 0
        return now - max(head.sent_ns, worker_state.heard_ns), first + kept
    return 0, first


def _whole_batches(items: int, chunk: Chunk) -> int:
    """So many items of a chunk, and what makes their last batch whole."""
    return -(-items // chunk.batch) * chunk.batch if chunk.batch else items


def split(chunk: Chunk, limit: int) -> int:
    """How many items of `chunk` stay with its worker under `limit`."""
    sequence, position = limit >> 32, limit & 0xFFFFFFFF
    if chunk.sequence < sequence:
        return len(chunk.items)
    return min(position, len(chunk.items)) if chunk.sequence == sequence else 0
