"""The ledger's and the roster's hand: events in, orders out. Who gets which chunk, what is retried, who is ended.

Pure: no process, file or clock. The time is an argument; where a worker is, `glance` tells (the
status board in real life, a dictionary in tests). Every method leaves its orders in `orders`.

    caller ──► add / cancel ─┐                      ┌─► Send, SetLimit, Kill, Stop, Launch
    worker ──► results ──────┼──► Dispatcher ───────┤
    death  ──► gone ─────────┤   desks, rotation,   └─► segments settled in their Flow
    time   ──► tick ─────────┘   alarms, valve          (flows to wake: `touched`)
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable

from allcores.engine.desk import Desk, Life
from allcores.engine.events import (
    Failure,
    Glance,
    Peek,
    PoolBroken,
    Results,
    Send,
    WorkerEnded,
    WorkerGone,
)
from allcores.engine.flow import Chunk, Flow, Segment
from allcores.engine.roster import DEPTH, DEPTH_SHORT, Roster
from allcores.engine.stealing import Stealing
from allcores.engine.valve import Valve
from allcores.engine.watch import BEGIN_NS, PEEK_NS, START_NS, Watch
from allcores.errors import BrokenPool, SetupError
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.transport.marks import PHASE_IDLE, PHASE_RUNNING, mark

#: A chunk that takes less than this, ns, is a short one: of those a worker holds more.
SHORT_NS = 5_000_000
#: So long after two flows had work at the same time chunks stay short, ns: who came second may come again.
CROWDED_NS = 1_000_000_000
#: Chunks pulled ahead of need, at most: the driver hands them out while the consumer is busy.
RESERVE = 64
#: An item that ran while its worker was ended through no fault that is known (its template died, say) is put
#: back this often; then it is given up, for it may well be the fault.
MOST_PUT_BACKS = 2
#: Starts in a row that the workers themselves ended, until the pool is called broken, if none was ever ready.
MOST_FAILED_STARTS = 3
#: The same if the last was killed from outside: that says nothing of how the next will fare.
MOST_KILLED_STARTS = 10
#: The same once a worker was ready: what hinders the new ones may pass.
MOST_FAILED_STARTS_LATER = 30


class Dispatcher(Roster):
    """See the module's drawing. Not thread-safe: its owner holds one lock around it."""

    def __init__(
        self,
        workers: int,
        limits: Limits,
        glance: Callable[[int], Glance | None],
        *,
        rng: random.Random | None = None,
        describe: Callable[[Chunk, int], str] | None = None,
    ) -> None:
        super().__init__(workers, limits, rng)
        self.glance = glance
        self.describe = describe or (lambda chunk, position: f"items[{chunk.first + position}]")
        self._flows: dict[int, Flow] = {}
        self._watch = Watch(self)
        self._stealing = Stealing(self)
        self.valve = Valve(self)
        self.taken_back = 0
        self._crowded_until = 0

    # --- flows ------------------------------------------------------------------------------------

    def open(self, flow: Flow) -> None:
        """A flow begins."""
        self._flows[flow.number] = flow
        if self.broken is not None:
            flow.broken = self.broken

    def flows(self) -> Iterable[Flow]:
        """Flows that are open."""
        return self._flows.values()

    def forget(self, flow: Flow) -> None:
        """A flow is over for its consumer."""
        self._flows.pop(flow.number, None)

    def forget_all(self) -> None:
        """All is over, and nobody waits for anything: nothing is kept of what workers had."""
        for desk in self.desks.values():
            desk.chunks.clear()
        self.alarms.clear()

    def room(self, flow: Flow) -> int:
        """Chunks that this flow should pull now, so that nobody waits for input."""
        if self.valve.narrow:
            return self.valve.allowance() - len(flow.pending)
        if _is_new(flow):
            # Nobody knows how large its results are: one chunk for each worker will tell.
            return max(self.workers - flow.chunks_out, len(self.idle) - len(flow.pending))
        free = len(self.idle) * DEPTH + len(self.spare)
        if _is_short(flow):
            free += (len(self.idle) + len(self.spare)) * (DEPTH_SHORT - DEPTH) + len(self.deep)
        if not self.items_done:
            # Nobody is ready yet, perhaps: have the first chunks waiting for those who start.
            free = max(free, self.workers)
        return free + min(self.workers, RESERVE) - len(flow.pending)

    def starved(self, now: int) -> None:
        """A flow has no credit left: what is out must be finished, and idle workers can help with it."""
        if self.idle and not self.next_flow():
            self._stealing.seek(now)

    def input_ended(self, flow: Flow, now: int) -> None:
        """Nothing more will be pulled; from now on taking back is what keeps everybody busy."""
        flow.exhausted = True
        self.touched.add(flow)
        if self.idle and not self.next_flow():
            self._stealing.seek_soon(now)

    def starving(self, flow: Flow) -> bool:
        """A worker is idle, and this flow's consumer could pull something for it."""
        return bool(self.idle) and not flow.exhausted and flow.credit > 0 and self._lets_in(flow)

    def _lets_in(self, flow: Flow) -> bool:
        return not self.valve.narrow or self.room(flow) > 0

    def wants_input(self, flow: Flow) -> bool:
        """Workers wait for this flow's consumer to pull more."""
        return not flow.exhausted and (bool(self.idle) or not flow.pending) and flow.credit > 0 and self._lets_in(flow)

    @property
    def hungry(self) -> bool:
        """Somebody has nothing to do."""
        return bool(self.idle) or not self.items_done

    def crowded(self, now: int) -> bool:
        """Whether several flows have work for the workers, or had so a moment ago."""
        return now < self._crowded_until

    def add(self, chunk: Chunk, now: int) -> None:
        """Freshly pulled items."""
        flow = chunk.flow
        if flow.cancelled:
            return
        flow.add(chunk)
        if len(self._flows) > 1 and any(
            other.pulled > other.settled for other in self._flows.values() if other is not flow
        ):
            self._crowded_until = now + CROWDED_NS
        if flow.stopped:
            # Pulled while somebody else's thread stopped the stream.
            flow.pending.remove(chunk)
            self.give_up(chunk, 0, len(chunk.items))
            return
        self.enlist(flow)
        self.assign(now, seek=False)
        if now < self._crowded_until:
            self._stealing.make_room(chunk, now)

    def refuse(self, flow: Flow, segment: Segment) -> None:
        """Items that cannot travel: settled without an attempt."""
        flow.pulled += segment.count
        self.items_done += segment.count
        for failure in segment.failures or ():
            self.by_kind[failure.kind] += 1
        self._settle(segment, flow)

    def cancel(self, flow: Flow, now: int) -> None:
        """Nobody wants this flow's outcomes any more."""
        if flow.cancelled:
            return
        dropped = sum(len(chunk.items) for chunk in flow.pending)
        self.by_kind[Kind.CANCELLED] += dropped
        flow.cancel()
        if flow.retry.times:
            for chunk in self.drop_retries(flow):
                self.settle_cancelled(chunk)
        self.touched.add(flow)
        for desk in list(self.desks.values()):
            if any(chunk.flow is flow for chunk in desk.chunks):
                self._revoke_cancelled(desk, now)
        self.forget(flow)

    def cancel_chunk(self, chunk: Chunk, now: int) -> None:
        """Nobody wants this one call any more."""
        # Whatever was cut from it shares its fate; what waits is dropped when its turn comes.
        chunk.fate.cancelled = True
        for desk in self.desks.values():
            if any(held.cancelled for held in desk.chunks):
                self._revoke_cancelled(desk, now)

    def stop(self, flow: Flow, now: int) -> None:
        """Start nothing more of this flow; what runs finishes. Unstarted items count as cancelled."""
        flow.stopped = flow.exhausted = True
        for chunk in list(flow.pending):
            self.give_up(chunk, 0, len(chunk.items))
        flow.pending.clear()
        for chunk in self.drop_retries(flow):
            self.give_up(chunk, 0, 1)
        for desk in self.desks.values():
            mine = [chunk for chunk in desk.chunks if chunk.flow is flow]
            if not mine:
                continue
            glance = self.glance(desk.worker)
            position = glance.unstarted_from(mine[0].sequence) if glance is not None else 0
            self.limit(desk, mark(mine[0].sequence, position))
        self.touched.add(flow)

    def _revoke_cancelled(self, desk: Desk, now: int) -> None:
        first = next((c for c in desk.chunks if c.cancelled or c.flow.cancelled), None)
        if first is None:
            return
        self.limit(desk, mark(first.sequence, 0))
        self.alarm(now + int(self.limits.grace_s * 1e9), "grace", desk)

    # --- workers ----------------------------------------------------------------------------------

    def ready(self, worker: int, now: int) -> None:
        """A worker has started and its setup is done."""
        if self.welcome(worker, now):
            self.assign(now)

    def setup_failed(self, error: BaseException) -> None:
        """The setup (or preload) function failed: every flow gets the error, once."""
        self.break_off(error)

    def gone(self, event: WorkerGone, now: int) -> None:
        """A worker's process has ended; give each item it held what it deserves."""
        desk = self.desks.pop(event.worker, None)
        if desk is None:
            return
        self.shut(desk)
        started = desk.life is not Life.STARTING
        desk.move(Life.GONE)
        doom = desk.doom
        kind, error, reason = event.kind, event.error, event.reason
        sequence, position = (event.running.sequence, event.running.position) if event.running else (0, 0)
        if doom is not None:
            kind, error, reason = doom.kind, doom.error, doom.reason
            sequence, position = doom.sequence, doom.position
        phase = doom.phase if doom is not None else event.running.phase if event.running else PHASE_IDLE
        if sequence and mark(sequence, position) >= desk.limit:
            # It had stopped at its limit: the item there was never started, and may be somebody else's by now.
            sequence = 0
        for chunk in reversed(desk.chunks):
            # From the last to the first, so that what is put back stands in its old order.
            if chunk.sequence != sequence:
                self.put_back(chunk, chunk.done, len(chunk.items), blame=0)
            elif position < chunk.done:
                # It finished the item in the moment it was ended: the outcome counts, nobody is to blame.
                self.put_back(chunk, chunk.done, len(chunk.items), blame=0)
            elif phase != PHASE_RUNNING and (chunk.cut or len(chunk.items) - chunk.done > 1):
                # It died over the whole chunk (unpickling it, pickling its results): one by one will tell.
                postponed = 1 if doom is not None and doom.postponed else 0
                self.put_back(chunk, chunk.done, len(chunk.items), blame=1 - postponed, alone=True, postponed=postponed)
            else:
                position = max(position, chunk.done)
                seconds_ns = max(0, now - event.running.started_ns) if event.running else 0
                if self.chronicle is not None:
                    self.chronicle.note(desk, chunk, position, 1, 1, seconds_ns, 0, None, now)
                self.put_back(chunk, position + 1, len(chunk.items), blame=0)
                if doom is not None and doom.postponed:
                    self.put_back(chunk, position, position + 1, blame=0, postponed=1)
                elif event.innocent and doom is None and chunk.put_backs < MOST_PUT_BACKS:
                    self.put_back(chunk, position, position + 1, blame=1)
                else:
                    self.fail(chunk, Failure(position, kind, error), desk.worker, now, seconds_ns)
                # Finished, but its outcome was not sealed yet: run again, not charged as an attempt.
                self.put_back(chunk, chunk.done, position, blame=0)
        desk.chunks.clear()
        self.valve.turn()
        if self.chronicle is not None:
            self.chronicle.gone(desk.worker)
            self.chronicle.tell(self.news)
        self.news.append(WorkerEnded(desk.worker, reason))
        if not started and doom is None and not event.innocent:
            self.start_failed(desk, reason, killed=event.killed, in_setup=event.in_setup)
        self.fill(now)
        self.assign(now)

    def start_failed(self, desk: Desk, reason: str, *, killed: bool = False, in_setup: bool = False) -> None:
        """Count a worker that will never be ready; too many in a row break the pool. See `WorkerGone`."""
        if self.closing or desk.failed_starts_before < self.failed_starts:
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
            self.news.append(PoolBroken(error))
        for flow in list(self._flows.values()):
            # The first reason counts; what follows from it says less.
            flow.broken = flow.broken or self.broken
            flow.pending.clear()
            self.touched.add(flow)

    # --- results ----------------------------------------------------------------------------------

    def results(self, event: Results, now: int) -> None:
        """A worker reports finished items, or that it is done with a chunk."""
        desk = self.desks.get(event.worker)
        if desk is None:
            return
        desk.heard_ns = now
        if event.leaving and desk.life is Life.READY:
            desk.move(Life.LEAVING)
            self.shut(desk)
        chunk = desk.find(event.sequence)
        if chunk is None:
            return
        if event.start > chunk.done:
            # What comes before it is still in the pipe (this was read from the outbox): it will come again.
            return
        if event.count and event.start == chunk.done:
            self.take_results(desk, chunk, event, now)
        if event.ended:
            desk.chunks.remove(chunk)
        if event.leaving:
            # From the last to the first, so that what is put back stands in its old order.
            for held in reversed(desk.chunks):
                self.put_back(held, held.done, len(held.items), blame=0)
            desk.chunks.clear()
        if event.ended:
            # Not all done: it stopped at its limit, or is leaving. The rest was never started.
            self.put_back(chunk, chunk.done, len(chunk.items), blame=0, alone=event.unloadable)
            if desk.chunks:
                desk.chunks[0].sent_ns = now
            self.reopen(desk)
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
            flow = self.next_flow()
            if flow is None or (self.valve.narrow and not self.valve.admits(flow)):
                break
            desk = self.next_desk(short=_is_short(flow))
            if desk is None:
                break
            chunk = self.next_chunk(flow)
            if chunk is None:
                self.reopen(desk)
                continue
            if not flow.pending and len(self._flows) > 1:
                # Its reader may pull more before its next turn comes, or it falls behind the others for good.
                self.touched.add(flow)
            desk.last_sequence += 1
            chunk.sequence = desk.last_sequence
            chunk.worker = desk.worker
            desk.chunks.append(chunk)
            chunk.sent_ns = now
            if chunk.flow.timeout_ns is not None:
                self._watch.expect(desk, now + chunk.flow.timeout_ns)
            if not desk.start_watched:
                desk.start_watched = True
                self.alarm(now + min(START_NS, BEGIN_NS), "start", desk)
            if len(desk.chunks) > 1:
                self._stealing.watch(desk, now)
            if len(chunk.items) > 1 and not desk.peek_watched:
                desk.peek_watched = True
                self.alarm(now + _patience_ns(PEEK_NS, flow), "peek", desk)
            self.orders.append(Send(desk.worker, chunk))
            self.valve.expect(now)
        if self.valve.narrow:
            if not self.rotation and self.valve.allowance():
                self.valve.wake_all()
            return
        if seek and self.idle and not self.rotation:
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
                self.valve.look(now)
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

    def _peek(self, desk: Desk, now: int) -> None:
        """Has this worker finished items that it does not report, behind one that takes long?"""
        desk.peek_watched = False
        if desk.doom is not None or not any(len(chunk.items) > 1 for chunk in desk.chunks):
            return
        wait_ns = _patience_ns(PEEK_NS, desk.chunks[0].flow)
        due = max(desk.heard_ns, desk.chunks[0].sent_ns) + wait_ns
        if due <= now:
            self.orders.append(Peek(desk.worker))
            due = now + PEEK_NS
        desk.peek_watched = True
        self.alarm(due, "peek", desk)

    def _retry_now(self, chunk: Chunk, now: int) -> None:
        if chunk.flow.cancelled or chunk.cancelled:
            self.settle_cancelled(chunk)
            return
        chunk.flow.pending.appendleft(chunk)
        self.enlist(chunk.flow)
        self.assign(now)

    def recall(self, desk: Desk, now: int) -> None:
        """Take back what this worker has not started, without asking who could have it."""
        self._stealing.recall(desk, now)


def _patience_ns(least_ns: int, flow: Flow) -> int:
    """How long nothing need be heard of a chunk: `least_ns`, or longer if its reports are that rare."""
    return max(least_ns, 2 * flow.chunker.target_ns)


def _is_new(flow: Flow) -> bool:
    """Whether nothing is known yet of a stream's results."""
    return flow.chunker.mean_ns is None and not flow.calls


def _is_short(flow: Flow) -> bool:
    """Whether the chunk that waits first takes little time."""
    mean_ns = flow.chunker.mean_ns
    return mean_ns is not None and mean_ns * (len(flow.pending[0].items) if flow.pending else 1) < SHORT_NS


__all__ = ["DEPTH", "Dispatcher"]
