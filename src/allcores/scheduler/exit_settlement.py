"""What becomes of the items that a worker held when it exited: settled, retried or requeued.

What was finished counts. What was not begun is requeued. The item that ran is charged, as far as it is known which one
did, and whether it is what has ended the worker.
"""

from __future__ import annotations

from typing import NamedTuple

from allcores.errors import WorkerLost
from allcores.outcome import Failure, Kind
from allcores.scheduler.batch_size import BATCH_PARTS
from allcores.scheduler.map_state import Chunk
from allcores.scheduler.messages import WorkerGone
from allcores.scheduler.settlement import Settlement
from allcores.scheduler.state import SchedulerState
from allcores.scheduler.worker_state import WorkerState
from allcores.transport.positions import PHASE_IDLE, PHASE_LOADING, PHASE_RUNNING, mark

#: An unattributed item (it ran while its worker was ended by no fault that is known: its template died, say) is
#: requeued this often; then it is given up, for it may well be the cause.
MAX_REQUEUES = 2
#: The same for nodes of a cluster, which hold many items and go for many reasons.
MAX_NODES_LOST = 4


class _End(NamedTuple):
    """Where a worker was when it ended, or when its end was decided.

    Attributes:
        sequence: Of the chunk that it had begun; 0: of none.
        position: Of the item there.
        together: Items of the call that ran, from there on.
        phase: What it did with the chunk.
        failure: What the item gets if it is charged.
        preempted: 1 if it was ended for want of memory.
    """

    sequence: int
    position: int
    together: int
    phase: int
    failure: Failure
    preempted: int


class ExitSettlement:
    """Settles, retries or requeues every item that an exited worker held.

    Args:
        state: What the scheduler knows.
        settlement: Takes each item.
    """

    __slots__ = ("_settlement", "_state")

    def __init__(self, state: SchedulerState, settlement: Settlement) -> None:
        self._state = state
        self._settlement = settlement

    def settle(self, worker_state: WorkerState, event: WorkerGone, now: int) -> None:
        """Deal with all chunks of a worker; from the last to the first, so that those requeued keep their order."""
        if self._state.actor_policy is not None:
            self._settle_actor(worker_state, event, now)
        elif self._state.nodes:
            self._settle_node(worker_state, event, now)
        else:
            self._settle_worker(worker_state, event, now)
        worker_state.chunks.clear()

    # --- a worker ---------------------------------------------------------------------------------

    def _settle_worker(self, worker_state: WorkerState, event: WorkerGone, now: int) -> None:
        settlement, end = self._settlement, _end_of(worker_state, event)
        preparing = event.preparing and worker_state.termination is None and not event.unattributed
        for chunk in reversed(worker_state.chunks):
            if preparing and chunk is worker_state.chunks[0] and _is_to_begin(chunk, worker_state):
                # Its function may do so in each process, so not for ever; another program may have ended this one, so
                # not at once.
                if chunk.requeues < MAX_REQUEUES:
                    settlement.requeue(chunk, chunk.done, len(chunk.items), charged=1)
                else:
                    settlement.requeue(chunk, chunk.done + 1, len(chunk.items))
                    failure = end.failure._replace(offset=chunk.done)
                    settlement.fail(chunk, failure, worker_state.worker, now, 0)
            elif chunk.sequence != end.sequence or end.position < chunk.done:
                # Not started; or finished in the moment the worker was ended: the outcome counts, no item is charged.
                settlement.requeue(chunk, chunk.done, len(chunk.items))
            elif end.phase != PHASE_RUNNING and (
                chunk.cut
                or len(chunk.items) - chunk.done > 1
                or (chunk.shared is not None and end.phase == PHASE_LOADING)
            ):
                # It died over the whole chunk (unpickling it, pickling its results): one by one will tell. It is
                # held against none of them when a template is lost later.
                settlement.requeue(
                    chunk,
                    chunk.done,
                    len(chunk.items),
                    charged=1 if event.unattributed and worker_state.termination is None else 0,
                    size=1,
                    preempted=end.preempted,
                    apart=end.phase == PHASE_LOADING,
                    begun=True,
                )
            else:
                self._settle_running(worker_state, chunk, end, event, now)

    def _settle_running(self, worker_state: WorkerState, chunk: Chunk, end: _End, event: WorkerGone, now: int) -> None:
        """The chunk in which an item, or a batch of them, was at work."""
        settlement, running = self._settlement, event.running
        position = end.position
        stop = min(position + end.together, len(chunk.items))
        seconds_ns = max(0, now - running.started_ns) if running else 0
        if self._state.activity_batcher is not None:
            self._state.activity_batcher.note(
                worker_state, chunk, position, stop - position, 1, seconds_ns, 0, None, now
            )
        settlement.requeue(chunk, stop, len(chunk.items))
        most = MAX_REQUEUES if chunk.map_state.requeues_unattributed else 0
        if event.unattributed and worker_state.termination is None and chunk.requeues < most:
            settlement.requeue(chunk, position, stop, charged=1)
        elif end.preempted or stop - position > 1:
            # Who of a batch is at fault is not known: smaller ones tell, and nobody is charged. Of those that
            # overran each runs alone, for its own deadline.
            size = 1 if end.failure.kind is Kind.TIMED_OUT else -(-(stop - position) // BATCH_PARTS)
            settlement.requeue(chunk, position, stop, size=size, preempted=end.preempted)
        else:
            settlement.fail(chunk, end.failure._replace(offset=position), worker_state.worker, now, seconds_ns)
        # Finished, but its outcome was not sealed yet: run again, not charged as an attempt.
        settlement.requeue(chunk, chunk.done, position)

    # --- a node of a cluster ----------------------------------------------------------------------

    def _settle_node(self, worker_state: WorkerState, event: WorkerGone, now: int) -> None:
        """What it held goes to others, but not for ever, for an item may be what ends nodes."""
        settlement = self._settlement
        for chunk in reversed(worker_state.chunks):
            start, stop = chunk.done, len(chunk.items)
            if event.unattributed and worker_state.termination is None:
                settlement.requeue(chunk, start, stop)
            elif stop - start == 1 and chunk.requeues >= MAX_NODES_LOST:
                error = WorkerLost(
                    f"{self._state.describe(chunk, start)} was on {chunk.requeues + 1} nodes that were lost; the last: "
                    f"{event.reason}.",
                    index=chunk.index_of(start),
                    attempts=chunk.attempt,
                    worker=worker_state.worker,
                )
                settlement.fail(chunk, Failure(start, Kind.WORKER_LOST, error), worker_state.worker, now, 0)
            else:
                # After some losses each by itself: then no other is lost with the one at fault.
                size = 1 if chunk.requeues >= MAX_REQUEUES else None
                settlement.requeue(chunk, start, stop, charged=1, size=size, apart=size is not None)

    # --- an actor's worker ------------------------------------------------------------------------

    def _settle_actor(self, worker_state: WorkerState, event: WorkerGone, now: int) -> None:
        """What was begun is lost, whatever ended it, and never run again."""
        termination, running = worker_state.termination, event.running
        reached = running.sequence if running is not None else 0
        if running is not None and mark(running.sequence, running.position) >= worker_state.limit:
            reached -= 1  # it had stopped at its limit
        seconds_ns = max(0, now - running.started_ns) if running is not None else 0
        for chunk in reversed(worker_state.chunks):
            charged = termination is not None and chunk.sequence == termination.sequence
            if not chunk.items:
                continue  # its call was stolen before it was begun, and is with another worker
            if chunk.sequence > reached and not charged:
                self._settlement.requeue(chunk, 0, 1)
                continue
            failure = Failure(0, event.kind, event.error)
            if termination is not None:
                failure = Failure(0, termination.kind, termination.error)
            alone = chunk.sequence == reached and len(worker_state.chunks) == 1
            if not charged and (termination is not None or not (alone or self._state.concurrent == 1)):
                failure = Failure(0, Kind.WORKER_LOST, self._lost_beside(chunk, worker_state, event))
            self._settlement.fail(chunk, failure, worker_state.worker, now, seconds_ns)

    def _lost_beside(self, chunk: Chunk, worker_state: WorkerState, event: WorkerGone) -> WorkerLost:
        """The error of a call that ran when its process ended for another's sake."""
        termination = worker_state.termination
        reason = termination.reason if termination is not None else event.reason
        what, together = self._state.describe(chunk, 0), len(worker_state.chunks)
        beside = f", beside {together - 1} more," if self._state.concurrent > 1 and together > 1 else ""
        return WorkerLost(
            f"{what} was running{beside} when its process was lost: {reason.rstrip('.')}.",
            attempts=chunk.attempt,
            worker=worker_state.worker,
        )


def _end_of(worker_state: WorkerState, event: WorkerGone) -> _End:
    """Where a worker has ended: as the decision to end it has it, if there was one, else as the board has it."""
    termination, running = worker_state.termination, event.running
    if termination is not None:
        sequence, position, together = termination.sequence, termination.position, termination.together
        phase, failure = termination.phase, Failure(0, termination.kind, termination.error)
    else:
        sequence, position, together, phase = 0, 0, 1, PHASE_IDLE
        if running is not None:
            sequence, position, together, phase = running.sequence, running.position, running.together, running.phase
        failure = Failure(0, event.kind, event.error)
    if sequence and mark(sequence, position) >= worker_state.limit:
        # It had stopped at its limit: the item there was never started, and may be with another worker by now.
        sequence = 0
    preempted = 1 if termination is not None and termination.preempted else 0
    return _End(sequence, position, together, phase, failure, preempted)


def _is_to_begin(chunk: Chunk, worker_state: WorkerState) -> bool:
    """Whether a worker that prepares for a chunk is going to begin it: it may have been stolen meanwhile."""
    return chunk.done < len(chunk.items) and mark(chunk.sequence, chunk.done) < worker_state.limit
