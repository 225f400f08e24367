"""The ledger's and the roster's hand: events in, orders out. Who gets which chunk, what is retried, who is ended.

Pure: no process, file or clock. The time is an argument; where a worker is, `progress` tells (the
status board in real life, a dictionary in tests). Every method leaves its orders in `orders`.

    caller ──► add / cancel ─┐                      ┌─► Send, SetLimit, Kill, Stop, Launch
    worker ──► results ──────┼──► Scheduler ───────┤
    death  ──► gone ─────────┤   desks, rotation,   └─► segments settled in their Flow
    time   ──► tick ─────────┘   alarms, valve          (flows to wake: `touched`)
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable

from allcores.errors import BrokenPool, SetupError
from allcores.events import PoolBroken, WorkerEnded
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.scheduler.admission import AdmissionControl
from allcores.scheduler.map_state import Chunk, MapState, Segment
from allcores.scheduler.messages import Failure, Peek, Results, Send, WorkerGone, WorkerProgress
from allcores.scheduler.timeouts import BEGIN_NS, PEEK_NS, START_NS, Timeouts
from allcores.scheduler.work_stealing import Stealing
from allcores.scheduler.worker_state import Lifecycle, WorkerState
from allcores.scheduler.workers import DEPTH, DEPTH_SHORT, Workers
from allcores.transport.positions import PHASE_IDLE, PHASE_RUNNING, mark

#: A chunk that takes less than this, ns, is a short one: of those a worker holds more.
SHORT_NS = 5_000_000
#: So long after two flows had work at the same time chunks stay short, ns: who came second may come again.
CROWDED_NS = 1_000_000_000
#: Chunks pulled ahead of need, at most: the driver hands them out while the consumer is busy.
RESERVE = 64
#: An item that ran while its worker was ended through no fault that is known (its template died, say) is put
#: back this often; then it is given up, for it may well be the fault.
MAX_REQUEUES = 2
#: Starts in a row that the workers themselves ended, until the pool is called broken, if none was ever ready.
MOST_FAILED_STARTS = 3
#: The same if the last was killed from outside: that says nothing of how the next will fare.
MOST_KILLED_STARTS = 10
#: The same once a worker was ready: what hinders the new ones may pass.
MOST_FAILED_STARTS_LATER = 30


class Scheduler(Workers):
    """See the module's drawing. Not thread-safe: its owner holds one lock around it."""

    def __init__(
        self,
        workers: int,
        limits: Limits,
        progress: Callable[[int], WorkerProgress | None],
        *,
        rng: random.Random | None = None,
        describe: Callable[[Chunk, int], str] | None = None,
    ) -> None:
        super().__init__(workers, limits, rng)
        self.progress = progress
        self.describe = describe or (lambda chunk, position: f"items[{chunk.first + position}]")
        self._maps: dict[int, MapState] = {}
        self._watch = Timeouts(self)
        self._stealing = Stealing(self)
        self.admission = AdmissionControl(self)
        self.stolen = 0
        self._crowded_until = 0

    # --- flows ------------------------------------------------------------------------------------

    def open(self, map_state: MapState) -> None:
        """A flow begins."""
        self._maps[map_state.number] = map_state
        if self.broken is not None:
            map_state.broken = self.broken

    def maps(self) -> Iterable[MapState]:
        """Flows that are open."""
        return self._maps.values()

    def forget(self, map_state: MapState) -> None:
        """A flow is over for its consumer."""
        self._maps.pop(map_state.number, None)

    def forget_all(self) -> None:
        """All is over, and nobody waits for anything: nothing is kept of what workers had."""
        for worker_state in self.worker_states.values():
            worker_state.chunks.clear()
        self.alarms.clear()

    def room(self, map_state: MapState) -> int:
        """Chunks that this flow should pull now, so that nobody waits for input."""
        if self.admission.narrow:
            return self.admission.allowance() - len(map_state.pending)
        if _is_new(map_state):
            # Nobody knows how large its results are: one chunk for each worker will tell.
            return max(self.workers - map_state.chunks_out, len(self.idle) - len(map_state.pending))
        free = len(self.idle) * DEPTH + len(self.spare)
        if _is_short(map_state):
            free += (len(self.idle) + len(self.spare)) * (DEPTH_SHORT - DEPTH) + len(self.deep)
        if not self.items_done:
            # Nobody is ready yet, perhaps: have the first chunks waiting for those who start.
            free = max(free, self.workers)
        return free + min(self.workers, RESERVE) - len(map_state.pending)

    def starved(self, now: int) -> None:
        """A flow has no credit left: what is out must be finished, and idle workers can help with it."""
        if self.idle and not self.next_map():
            self._stealing.seek(now)

    def input_ended(self, map_state: MapState, now: int) -> None:
        """Nothing more will be pulled; from now on taking back is what keeps everybody busy."""
        map_state.exhausted = True
        self.dirty_maps.add(map_state)
        if self.idle and not self.next_map():
            self._stealing.seek_soon(now)

    def starving(self, map_state: MapState) -> bool:
        """A worker is idle, and this flow's consumer could pull something for it."""
        return bool(self.idle) and not map_state.exhausted and map_state.credit > 0 and self._lets_in(map_state)

    def _lets_in(self, map_state: MapState) -> bool:
        return not self.admission.narrow or self.room(map_state) > 0

    def wants_input(self, map_state: MapState) -> bool:
        """Workers wait for this flow's consumer to pull more."""
        return (
            not map_state.exhausted
            and (bool(self.idle) or not map_state.pending)
            and map_state.credit > 0
            and self._lets_in(map_state)
        )

    @property
    def hungry(self) -> bool:
        """Somebody has nothing to do."""
        return bool(self.idle) or not self.items_done

    def crowded(self, now: int) -> bool:
        """Whether several flows have work for the workers, or had so a moment ago."""
        return now < self._crowded_until

    def add(self, chunk: Chunk, now: int) -> None:
        """Freshly pulled items."""
        map_state = chunk.map_state
        if map_state.cancelled:
            return
        map_state.add(chunk)
        if len(self._maps) > 1 and any(
            other.pulled > other.settled for other in self._maps.values() if other is not map_state
        ):
            self._crowded_until = now + CROWDED_NS
        if map_state.stopped:
            # Pulled while somebody else's thread stopped the stream.
            map_state.pending.remove(chunk)
            self.give_up(chunk, 0, len(chunk.items))
            return
        self.enqueue(map_state)
        self.assign(now, seek=False)
        if now < self._crowded_until:
            self._stealing.make_room(chunk, now)

    def refuse(self, map_state: MapState, segment: Segment) -> None:
        """Items that cannot travel: settled without an attempt."""
        map_state.pulled += segment.count
        self.items_done += segment.count
        for failure in segment.failures or ():
            self.by_kind[failure.kind] += 1
        self._settle(segment, map_state)

    def cancel(self, map_state: MapState, now: int) -> None:
        """Nobody wants this flow's outcomes any more."""
        if map_state.cancelled:
            return
        dropped = sum(len(chunk.items) for chunk in map_state.pending)
        self.by_kind[Kind.CANCELLED] += dropped
        map_state.cancel()
        if map_state.retry.times:
            for chunk in self.drop_retries(map_state):
                self.settle_cancelled(chunk)
        self.dirty_maps.add(map_state)
        for worker_state in list(self.worker_states.values()):
            if any(chunk.map_state is map_state for chunk in worker_state.chunks):
                self._revoke_cancelled(worker_state, now)
        self.forget(map_state)

    def cancel_chunk(self, chunk: Chunk, now: int) -> None:
        """Nobody wants this one call any more."""
        # Whatever was cut from it shares its fate; what waits is dropped when its turn comes.
        chunk.cancel_token.cancelled = True
        for worker_state in self.worker_states.values():
            if any(held.cancelled for held in worker_state.chunks):
                self._revoke_cancelled(worker_state, now)

    def stop(self, map_state: MapState, now: int) -> None:
        """Start nothing more of this flow; what runs finishes. Unstarted items count as cancelled."""
        map_state.stopped = map_state.exhausted = True
        for chunk in list(map_state.pending):
            self.give_up(chunk, 0, len(chunk.items))
        map_state.pending.clear()
        for chunk in self.drop_retries(map_state):
            self.give_up(chunk, 0, 1)
        for worker_state in self.worker_states.values():
            mine = [chunk for chunk in worker_state.chunks if chunk.map_state is map_state]
            if not mine:
                continue
            progress = self.progress(worker_state.worker)
            position = progress.unstarted_from(mine[0].sequence) if progress is not None else 0
            self.limit(worker_state, mark(mine[0].sequence, position))
        self.dirty_maps.add(map_state)

    def _revoke_cancelled(self, worker_state: WorkerState, now: int) -> None:
        first = next((c for c in worker_state.chunks if c.cancelled or c.map_state.cancelled), None)
        if first is None:
            return
        self.limit(worker_state, mark(first.sequence, 0))
        self.alarm(now + int(self.limits.grace_s * 1e9), "grace", worker_state)

    # --- workers ----------------------------------------------------------------------------------

    def ready(self, worker: int, now: int) -> None:
        """A worker has started and its setup is done."""
        if self.on_ready(worker, now):
            self.assign(now)

    def setup_failed(self, error: BaseException) -> None:
        """The setup (or preload) function failed: every flow gets the error, once."""
        self.break_off(error)

    def gone(self, event: WorkerGone, now: int) -> None:
        """A worker's process has ended; give each item it held what it deserves."""
        worker_state = self.worker_states.pop(event.worker, None)
        if worker_state is None:
            return
        self.shut(worker_state)
        started = worker_state.lifecycle is not Lifecycle.STARTING
        worker_state.move(Lifecycle.GONE)
        termination = worker_state.termination
        kind, error, reason = event.kind, event.error, event.reason
        sequence, position = (event.running.sequence, event.running.position) if event.running else (0, 0)
        if termination is not None:
            kind, error, reason = termination.kind, termination.error, termination.reason
            sequence, position = termination.sequence, termination.position
        phase = termination.phase if termination is not None else event.running.phase if event.running else PHASE_IDLE
        if sequence and mark(sequence, position) >= worker_state.limit:
            # It had stopped at its limit: the item there was never started, and may be somebody else's by now.
            sequence = 0
        for chunk in reversed(worker_state.chunks):
            # From the last to the first, so that what is put back stands in its old order.
            if chunk.sequence != sequence:
                self.requeue(chunk, chunk.done, len(chunk.items), blame=0)
            elif position < chunk.done:
                # It finished the item in the moment it was ended: the outcome counts, nobody is to blame.
                self.requeue(chunk, chunk.done, len(chunk.items), blame=0)
            elif phase != PHASE_RUNNING and (chunk.cut or len(chunk.items) - chunk.done > 1):
                # It died over the whole chunk (unpickling it, pickling its results): one by one will tell.
                preempted = 1 if termination is not None and termination.preempted else 0
                self.requeue(chunk, chunk.done, len(chunk.items), blame=1 - preempted, alone=True, preempted=preempted)
            else:
                position = max(position, chunk.done)
                seconds_ns = max(0, now - event.running.started_ns) if event.running else 0
                if self.activity_batcher is not None:
                    self.activity_batcher.note(worker_state, chunk, position, 1, 1, seconds_ns, 0, None, now)
                self.requeue(chunk, position + 1, len(chunk.items), blame=0)
                if termination is not None and termination.preempted:
                    self.requeue(chunk, position, position + 1, blame=0, preempted=1)
                elif event.unattributed and termination is None and chunk.requeues < MAX_REQUEUES:
                    self.requeue(chunk, position, position + 1, blame=1)
                else:
                    self.fail(chunk, Failure(position, kind, error), worker_state.worker, now, seconds_ns)
                # Finished, but its outcome was not sealed yet: run again, not charged as an attempt.
                self.requeue(chunk, chunk.done, position, blame=0)
        worker_state.chunks.clear()
        self.admission.turn()
        if self.activity_batcher is not None:
            self.activity_batcher.gone(worker_state.worker)
            self.activity_batcher.tell(self.new_events)
        self.new_events.append(WorkerEnded(worker_state.worker, reason))
        if not started and termination is None and not event.unattributed:
            self.start_failed(worker_state, reason, killed=event.killed, in_setup=event.in_setup)
        self.fill(now)
        self.assign(now)

    def start_failed(
        self, worker_state: WorkerState, reason: str, *, killed: bool = False, in_setup: bool = False
    ) -> None:
        """Count a worker that will never be ready; too many in a row break the pool. See `WorkerGone`."""
        if self.closing or worker_state.failed_starts_before < self.failed_starts:
            # Another that was started beside it has failed already: one cause, one count.
            return
        self.failed_starts += 1
        self.own_failed_starts += not killed
        if self.ever_ready:
            too_many = self.failed_starts >= MOST_FAILED_STARTS_LATER
        elif killed:
            too_many = self.failed_starts >= MOST_KILLED_STARTS
        else:
            too_many = self.own_failed_starts >= MOST_FAILED_STARTS
        if not too_many:
            return
        times = f"{self.failed_starts} times in a row"
        if in_setup and not self.ever_ready:
            self.setup_failed(
                SetupError(
                    f"The {self.setup_step} function ended its process {times}, and no worker was ever ready; "
                    f"the last: {reason}"
                )
            )
            return
        self.break_off(
            BrokenPool(
                f"Workers ended before they were ready, {times}; the last: {reason} See what the setup function does, "
                "and whether the machine has memory and processes left (`allcores doctor`)."
            )
        )

    def break_off(self, error: BaseException) -> None:
        """No outcome can be had any more: everybody who waits gets `error`."""
        if self.broken is None:
            self.broken = error
            self.new_events.append(PoolBroken(error))
        for map_state in list(self._maps.values()):
            # The first reason counts; what follows from it says less.
            map_state.broken = map_state.broken or self.broken
            map_state.pending.clear()
            self.dirty_maps.add(map_state)

    # --- results ----------------------------------------------------------------------------------

    def results(self, event: Results, now: int) -> None:
        """A worker reports finished items, or that it is done with a chunk."""
        worker_state = self.worker_states.get(event.worker)
        if worker_state is None:
            return
        worker_state.heard_ns = now
        if event.leaving and worker_state.lifecycle is Lifecycle.READY:
            worker_state.move(Lifecycle.LEAVING)
            self.shut(worker_state)
        chunk = worker_state.find(event.sequence)
        if chunk is None:
            return
        if event.start > chunk.done:
            # What comes before it is still in the pipe (this was read from the outbox): it will come again.
            return
        if event.count and event.start == chunk.done:
            self.take_results(worker_state, chunk, event, now)
        if event.ended:
            worker_state.chunks.remove(chunk)
        if event.leaving:
            # From the last to the first, so that what is put back stands in its old order.
            for held in reversed(worker_state.chunks):
                self.requeue(held, held.done, len(held.items), blame=0)
            worker_state.chunks.clear()
        if event.ended:
            # Not all done: it stopped at its limit, or is leaving. The rest was never started.
            self.requeue(chunk, chunk.done, len(chunk.items), blame=0, alone=event.unloadable)
            if worker_state.chunks:
                worker_state.chunks[0].sent_ns = now
            self.reopen(worker_state)
        if event.leaving:
            self.fill(now)
        if event.ended or event.leaving:
            self.assign(now)

    # --- handing out ------------------------------------------------------------------------------

    def assign(self, now: int, *, seek: bool = True) -> None:
        """Hand out what waits to whoever can take it; with `seek`, look for work to take back if nothing waits."""
        if self.broken is not None:
            return
        while self.somebody_can_take:
            map_state = self.next_map()
            if map_state is None or (self.admission.narrow and not self.admission.admits(map_state)):
                break
            worker_state = self.next_worker_state(short=_is_short(map_state))
            if worker_state is None:
                break
            chunk = self.next_chunk(map_state)
            if chunk is None:
                self.reopen(worker_state)
                continue
            if not map_state.pending and len(self._maps) > 1:
                # Its reader may pull more before its next turn comes, or it falls behind the others for good.
                self.dirty_maps.add(map_state)
            worker_state.last_sequence += 1
            chunk.sequence = worker_state.last_sequence
            chunk.worker = worker_state.worker
            worker_state.chunks.append(chunk)
            chunk.sent_ns = now
            if chunk.map_state.timeout_ns is not None:
                self._watch.expect(worker_state, now + chunk.map_state.timeout_ns)
            if not worker_state.start_watched:
                worker_state.start_watched = True
                self.rough_alarm(now + min(START_NS, BEGIN_NS), "start", worker_state)
            if len(worker_state.chunks) > 1:
                self._stealing.watch(worker_state, now)
            if len(chunk.items) > 1 and not worker_state.peek_watched:
                worker_state.peek_watched = True
                self._peek_at(now + _patience_ns(PEEK_NS, map_state), now, worker_state)
            self.commands.append(Send(worker_state.worker, chunk))
            self.admission.expect(now)
        if self.admission.narrow:
            if not self.rotation and self.admission.allowance():
                self.admission.wake_all()
            return
        if self.idle and not self.rotation:
            if len(self._maps) > 1:
                # A reader with a slow input pulls nothing while all workers are busy, with the items of other maps
                # perhaps: nothing of its own would wake it now.
                self.dirty_maps.update(each for each in self._maps.values() if self.wants_input(each))
            if seek:
                self._stealing.seek_soon(now)

    # --- time -------------------------------------------------------------------------------------

    def tick(self, now: int) -> None:
        """Time has passed."""
        while self.alarms and self.alarms[0][0] <= now:
            when, _, what, subject = heapq.heappop(self.alarms)
            if what == "retry":
                self._retry_now(subject, now)
            elif what == "seek":
                if self.idle and not self.rotation:
                    self._stealing.look_again(now)
            elif what == "memory":
                self.admission.look(now)
            elif what == "behind":
                self._stealing.free_what_waits(subject, now)
            elif what == "confirm":
                self._stealing.confirm(subject, now)
            elif what == "preload":
                self._watch.preload(subject, now)
            elif what == "peek":
                self._peek(subject, now)
            else:
                self._watch.ring(what, subject, when, now)

    def _peek(self, worker_state: WorkerState, now: int) -> None:
        """Has this worker finished items that it does not report, behind one that takes long?"""
        worker_state.peek_watched = False
        if worker_state.termination is not None or not any(len(chunk.items) > 1 for chunk in worker_state.chunks):
            return
        wait_ns = _patience_ns(PEEK_NS, worker_state.chunks[0].map_state)
        due = max(worker_state.heard_ns, worker_state.chunks[0].sent_ns) + wait_ns
        if due <= now:
            self.commands.append(Peek(worker_state.worker))
            due = now + PEEK_NS
        worker_state.peek_watched = True
        self._peek_at(due, now, worker_state)

    def _peek_at(self, due: int, now: int, worker_state: WorkerState) -> None:
        alarm = self.rough_alarm if due - now > PEEK_NS else self.alarm
        alarm(due, "peek", worker_state)

    def _retry_now(self, chunk: Chunk, now: int) -> None:
        if chunk.map_state.cancelled or chunk.cancelled:
            self.settle_cancelled(chunk)
            return
        chunk.map_state.pending.appendleft(chunk)
        self.enqueue(chunk.map_state)
        self.assign(now)

    def recall(self, worker_state: WorkerState, now: int) -> None:
        """Take back what this worker has not started, without asking who could have it."""
        self._stealing.recall(worker_state, now)


def _patience_ns(least_ns: int, map_state: MapState) -> int:
    """How long nothing need be heard of a chunk: `least_ns`, or longer if its reports are that rare."""
    return max(least_ns, 2 * map_state.chunker.target_ns)


def _is_new(map_state: MapState) -> bool:
    """Whether nothing is known yet of a stream's results."""
    return map_state.chunker.mean_ns is None and not map_state.calls


def _is_short(map_state: MapState) -> bool:
    """Whether the chunk that waits first takes little time."""
    mean_ns = map_state.chunker.mean_ns
    return mean_ns is not None and mean_ns * (len(map_state.pending[0].items) if map_state.pending else 1) < SHORT_NS


__all__ = ["DEPTH", "Scheduler"]
