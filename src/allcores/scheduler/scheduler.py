"""Events in, commands out: who gets which chunk, what is retried, which worker is ended.

Pure: no process, file or clock. The time is an argument; where a worker is, `progress` tells (the
status board in real life, a dictionary in tests). Each method is a transaction, and leaves its commands in `state`.

    caller ──► add / cancel ─┐                       ┌─► Send, SetLimit, Kill, Stop, Launch
    worker ──► results ──────┼──► Scheduler ─────────┤
    death  ──► gone ─────────┤   SchedulerState and  └─► segments settled in their MapState
    time   ──► tick ─────────┘   policies around it      (`dirty_maps` have some)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from allcores.events import WorkerEnded
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.scheduler.admission import AdmissionControl
from allcores.scheduler.exit_settlement import ExitSettlement
from allcores.scheduler.input_demand import InputDemand, is_short
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.memory_policy import MAX_PREEMPTIONS
from allcores.scheduler.messages import Kill, Results, Revoke, Send, WorkerGone, WorkerProgress
from allcores.scheduler.segment import Segment
from allcores.scheduler.settlement import Settlement
from allcores.scheduler.state import SchedulerState
from allcores.scheduler.timeouts import Timeouts
from allcores.scheduler.timers import Timer
from allcores.scheduler.work_stealing import WorkStealing
from allcores.scheduler.worker_state import Lifecycle, Termination, WorkerState
from allcores.scheduler.workers import Workers
from allcores.transport.positions import mark

#: So long after two maps had work at the same time chunks stay short, ns: who came second may come again.
CROWDED_NS = 1_000_000_000


class Scheduler:
    """See the module's drawing. Not thread-safe: its owner holds one lock around it.

    Attributes:
        state: All that is known. The owner empties its outbox after each transaction, others read it.
        demand: How much input is to be pulled.
        admission: Which workers may be given work while memory is short.
    """

    def __init__(
        self,
        workers: int,
        limits: Limits,
        progress: Callable[[int], WorkerProgress | None],
        *,
        rng: random.Random | None = None,
        describe: Callable[[Chunk, int], str] | None = None,
        numbers: Iterator[int] | None = None,
    ) -> None:
        """Begin without workers; `fill` launches them.

        Args:
            workers: How many there are to be.
            limits: The pool's limits.
            progress: Where a worker is; None if nothing is known of it.
            rng: For the random part of retry delays.
            describe: Words for an item of a chunk, for messages.
            numbers: Of workers; None: from 1.
        """
        self.state = state = SchedulerState(workers, limits, progress, rng=rng, describe=describe)
        self._settlement = Settlement(state)
        self._exits = ExitSettlement(state, self._settlement)
        self._workers = Workers(state, numbers)
        self._timeouts = Timeouts(state, self._workers.terminate)
        self._stealing = WorkStealing(state, self._settlement.requeue_unstarted)
        self.admission = AdmissionControl(state, self._workers.terminate, self._stealing.recall)
        self.demand = InputDemand(state, self.admission.allowance)

    # --- maps -------------------------------------------------------------------------------------

    def open(self, map_state: MapState) -> None:
        """A map begins."""
        self.state.maps[map_state.number] = map_state
        if map_state.series is not None:
            map_state.series.add(map_state)
        if self.state.broken is not None:
            map_state.broken = self.state.broken

    def forget(self, map_state: MapState) -> None:
        """A map is over for its consumer."""
        self.state.maps.pop(map_state.number, None)
        if map_state.series is not None:
            map_state.series.remove(map_state)
            self.state.dirty_maps.update(map_state.together)

    def forget_all(self) -> None:
        """All is over: nothing is kept of what workers held."""
        for worker_state in self.state.worker_states.values():
            worker_state.chunks.clear()
        self.state.timers.clear()

    def starved(self, now: int) -> None:
        """A map has no credit left: what is out must be finished, and idle workers can help with it."""
        if self.state.idle and not self.state.next_map():
            self._stealing.seek(now)

    def input_ended(self, map_state: MapState, now: int) -> None:
        """Nothing more will be pulled; from now on stealing is what keeps all workers busy."""
        map_state.exhausted = True
        self.state.dirty_maps.update(map_state.together)
        if self.state.idle and not self.state.next_map():
            self._stealing.seek_soon(now)

    def add(self, chunk: Chunk, now: int) -> None:
        """Take freshly pulled items."""
        map_state, state = chunk.map_state, self.state
        if map_state.cancelled:
            return
        map_state.add(chunk)
        if len(state.maps) > 1 and any(
            other.pulled > other.settled for other in state.maps.values() if map_state.is_apart(other)
        ):
            state.crowded_until_ns = now + CROWDED_NS
        if map_state.stopped:
            # Pulled while another thread stopped the stream.
            map_state.pending.remove(chunk)
            self._settlement.settle_stopped(chunk, 0, len(chunk.items))
            return
        state.enqueue(map_state)
        self.assign(now, seek=False)
        if now < state.crowded_until_ns:
            self._stealing.make_room(chunk, now)

    def settle_unpicklable(self, map_state: MapState, segment: Segment) -> None:
        """Settle items that cannot travel, without an attempt."""
        self._settlement.settle_unpicklable(map_state, segment)

    def cancel(self, map_state: MapState, now: int) -> None:
        """Give up a map: its outcomes are not wanted any more."""
        if map_state.cancelled:
            return
        state = self.state
        state.counters.by_kind[Kind.CANCELLED] += sum(len(chunk.items) for chunk in map_state.pending)
        map_state.cancel(now)
        if map_state.retry.times:
            for chunk in state.timers.drop_retries(map_state):
                self._settlement.settle_cancelled(chunk)
        state.dirty_maps.add(map_state)
        for worker_state in list(state.worker_states.values()):
            if any(chunk.map_state is map_state for chunk in worker_state.chunks):
                self._revoke_cancelled(worker_state, now)
        self.forget(map_state)

    def cancel_chunk(self, chunk: Chunk, now: int) -> None:
        """Give up one call."""
        # Whatever was cut from it shares its token; what is pending is dropped when its turn comes.
        if chunk.cancelled:
            return
        chunk.cancel_token.cancelled = True
        chunk.cancel_token.cancelled_ns = now
        for worker_state in self.state.worker_states.values():
            if any(held.cancelled for held in worker_state.chunks):
                self._revoke_cancelled(worker_state, now)

    def stop(self, map_state: MapState, now: int) -> None:
        """Start nothing more of this map; what runs finishes. Unstarted items count as cancelled."""
        state = self.state
        map_state.stopped = map_state.exhausted = True
        for chunk in list(map_state.pending):
            self._settlement.settle_stopped(chunk, 0, len(chunk.items))
        map_state.pending.clear()
        for chunk in state.timers.drop_retries(map_state):
            self._settlement.settle_stopped(chunk, 0, 1)
        for worker_state in state.worker_states.values():
            if state.nodes:
                state.commands += [
                    Revoke(worker_state.worker, chunk.sequence, running=False)
                    for chunk in worker_state.chunks
                    if chunk.map_state is map_state
                ]
                continue
            first = next((chunk for chunk in worker_state.chunks if chunk.map_state is map_state), None)
            if first is None:
                continue
            progress = state.progress(worker_state.worker)
            position = progress.unstarted_from(first.sequence) if progress is not None else 0
            self._stealing.end_at(worker_state, mark(first.sequence, position), now)
        state.dirty_maps.update(map_state.together)

    def _revoke_cancelled(self, worker_state: WorkerState, now: int) -> None:
        if self.state.nodes:
            self.state.commands += [
                Revoke(worker_state.worker, chunk.sequence, running=True)
                for chunk in worker_state.chunks
                if chunk.given_up_ns is not None
            ]
            return
        first = next((chunk for chunk in worker_state.chunks if chunk.given_up_ns is not None), None)
        if first is None:
            return
        if len(self.state.worker_states) > 1 and any(
            chunk.sequence > first.sequence and chunk.given_up_ns is None for chunk in worker_state.chunks
        ):
            # What waits behind it, and is still wanted, is for others: it may run on for as long as its grace is.
            progress = self.state.progress(worker_state.worker)
            limit = mark(first.sequence, progress.unstarted_from(first.sequence) if progress is not None else 0)
            if limit < worker_state.limit:
                self._stealing.end_at(worker_state, limit, now)
        else:
            self.state.set_limit(worker_state, mark(first.sequence, 0))
        self._timeouts.watch_grace(worker_state, now)

    def break_off(self, error: BaseException) -> None:
        """No outcome can be had any more: every map that is open gets `error`, once."""
        self.state.break_off(error)

    # --- workers ----------------------------------------------------------------------------------

    def fill(self, now: int) -> None:
        """Launch workers until there are as many as there are to be."""
        self._workers.fill(now)

    def launch_failed(self, worker: int) -> None:
        """A worker that was to be launched never will be."""
        self._workers.launch_failed(worker)

    def ready(self, worker: int, now: int) -> None:
        """A worker has started and its setup is done."""
        if self._workers.on_ready(worker):
            self.assign(now)
            if self.state.idle:
                # If all of its items are settled, one of them by the end of a worker, whose place this one takes, no
                # result of its own wakes it any more.
                self._wake_readers()

    def setup_failed(self, error: BaseException) -> None:
        """The setup (or preload) function failed: every map gets the error, once."""
        self.state.break_off(error)

    def preload_began(self, now: int) -> None:
        """Something is loaded for all workers, and has as many seconds for it as a setup."""
        self._workers.preload_began(now)

    def preload_ended(self, now: int) -> None:
        """It is loaded, or will not be."""
        self._workers.preload_ended(now)

    def terminate(self, worker_state: WorkerState, termination: Termination, now: int) -> None:
        """Kill a worker and launch another; its items are settled when it is gone."""
        self._workers.terminate(worker_state, termination, now)

    def kill_all(self, reason: str, *, at_once: bool) -> None:
        """Kill all workers, and start no others.

        Args:
            reason: Why, for the log.
            at_once: Give them no time.
        """
        self.state.closing = True
        self.state.commands += [Kill(worker, reason, at_once) for worker in self.state.worker_states]

    def close(self) -> None:
        """Start no new workers; those that hold nothing may stop."""
        self._workers.close()

    def gone(self, event: WorkerGone, now: int) -> None:
        """A worker has exited: settle, retry or requeue every item that it held, and launch another."""
        state = self.state
        worker_state = state.worker_states.pop(event.worker, None)
        if worker_state is None:
            return
        state.unlist(worker_state)
        started = worker_state.lifecycle is not Lifecycle.STARTING
        worker_state.move(Lifecycle.GONE)
        termination = worker_state.termination
        self._exits.settle(worker_state, event, now)
        self.admission.update()
        if state.activity_batcher is not None:
            state.activity_batcher.gone(worker_state.worker)
            state.activity_batcher.tell(state.events)
        reason = event.reason if termination is None else termination.reason
        state.events.append(WorkerEnded(worker_state.worker, reason))
        if not started and termination is None and not event.unattributed:
            self._workers.start_failed(worker_state, reason, killed=event.killed, in_setup=event.in_setup)
        if state.actor_policy is not None:
            in_setup = event.in_setup and not started
            self._workers.object_gone(state.actor_policy, termination, reason, now, in_setup=in_setup)
        self.fill(now)
        self.assign(now)

    # --- results ----------------------------------------------------------------------------------

    def results(self, event: Results, now: int) -> None:
        """A worker reports finished items, or that it is done with a chunk."""
        state, settlement = self.state, self._settlement
        worker_state = state.worker_states.get(event.worker)
        if worker_state is None:
            return
        worker_state.heard_ns = now
        chunk = worker_state.find(event.sequence)
        if chunk is not None and (
            event.start > chunk.done or (event.leaving and state.concurrent == 1 and worker_state.owes_before(chunk))
        ):
            # What comes before it is still in the pipe (this was read from the outbox): it will come again.
            return
        if event.leaving and worker_state.lifecycle is Lifecycle.READY:
            worker_state.move(Lifecycle.LEAVING)
            state.unlist(worker_state)
        if chunk is None:
            return
        if event.count and event.start == chunk.done:
            settlement.take_results(worker_state, chunk, event, now)
        if event.ended:
            worker_state.chunks.remove(chunk)
            worker_state.tails -= chunk.tail
        elif event.tail and not chunk.tail:
            chunk.tail = True
            worker_state.tails += 1
            # Its reader may pull more, though nothing may have been settled.
            state.dirty_maps.add(chunk.map_state)
            self._workers.reopen(worker_state)
            self.assign(now)
        if event.leaving:
            # From the last to the first, so that what is requeued stands in its old order.
            for held in reversed(worker_state.chunks):
                settlement.requeue(held, held.done, len(held.items))
            worker_state.chunks.clear()
        if event.ended:
            if chunk.done < len(chunk.items):
                # It stopped at its limit, or is leaving. The rest was never started.
                size = 1 if event.unloadable else None
                settlement.requeue(chunk, chunk.done, len(chunk.items), size=size, apart=event.unloadable)
            if worker_state.chunks and state.concurrent == 1:
                worker_state.chunks[0].sent_ns = now
            self._workers.reopen(worker_state)
        if event.leaving:
            self.fill(now)
        if event.ended or event.leaving:
            if state.some_alone and chunk.preempted >= MAX_PREEMPTIONS:
                # It may have been the last of them. To look for others takes time in proportion to what is pending.
                self.admission.update()
            self.assign(now)

    # --- handing out ------------------------------------------------------------------------------

    def assign(self, now: int, *, seek: bool = True) -> None:
        """Hand out what is pending to the workers that can take it.

        Args:
            now: The time, ns.
            seek: With idle workers and nothing pending, look for work to steal.
        """
        state = self.state
        if state.broken is not None:
            return
        while state.idle or state.spare or state.deep:
            map_state = state.next_map()
            if map_state is None or (state.narrow and not self.admission.admits(map_state)):
                break
            # Calls are one item each: a node takes as many as its cores can run.
            short = is_short(map_state) or (state.nodes and map_state.calls)
            worker_state = state.next_worker_state(short=short)
            if worker_state is None:
                break
            chunk = self._settlement.next_chunk(map_state)
            if chunk is None:
                self._workers.reopen(worker_state)
                continue
            if not map_state.pending and len(state.maps) > 1:
                # Its reader may pull more before its next turn comes, or it falls behind the others for good.
                state.dirty_maps.add(map_state)
            self._send(worker_state, chunk, now)
        if state.narrow:
            if not state.rotation and self.admission.allowance():
                self.admission.wake_all()
            return
        if state.idle and not state.rotation:
            # Workers were busy with items of other maps, perhaps, which may have ended since: nothing of its own would
            # wake a reader now.
            self._wake_readers()
            if seek:
                self._stealing.seek_soon(now)

    def _wake_readers(self) -> None:
        """A worker is idle: a reader with a slow input, which pulls nothing while none is, is to look again."""
        for each in self.state.maps.values():
            # Submitted calls have no reader that could pull more.
            if not each.calls and self.demand.wants_input(each):
                self.state.dirty_maps.add(each)

    def _send(self, worker_state: WorkerState, chunk: Chunk, now: int) -> None:
        """Give a chunk to a worker, and set the timers that watch it."""
        worker_state.last_sequence += 1
        chunk.sequence = worker_state.last_sequence
        chunk.worker = worker_state.worker
        chunk.sent_ns = now
        chunk.cancel_token.is_sent = True
        worker_state.chunks.append(chunk)
        if not self.state.nodes:
            self._watch(worker_state, chunk, now)
        self.state.commands.append(Send(worker_state.worker, chunk))
        self.admission.expect(now)

    def _watch(self, worker_state: WorkerState, chunk: Chunk, now: int) -> None:
        """Set the timers that watch a worker which was given this chunk."""
        map_state, timeouts = chunk.map_state, self._timeouts
        if chunk.timeout_ns is not None:
            timeouts.watch_deadline(worker_state, now + chunk.timeout_ns)
        if not worker_state.start_watched:
            timeouts.watch_begin(worker_state, now)
        if not worker_state.behind_watched and len(worker_state.chunks) > 1:
            self._stealing.watch(worker_state, now)
        if not worker_state.peek_watched and len(chunk.items) > 1:
            timeouts.watch_reports(worker_state, map_state, now)

    # --- time -------------------------------------------------------------------------------------

    def tick(self, now: int) -> None:
        """Time has passed: deal with every timer that is due."""
        timers = self.state.timers
        still_ns = timers.still_ns(now)
        while (due := timers.pop_due(now)) is not None:
            self._on_timer(*due, now, still_ns)

    def _on_timer(self, timer: Timer, subject: Any, due_ns: int, now: int, still_ns: int) -> None:
        if timer is Timer.RETRY:
            self._settlement.requeue_unstarted(subject)
            self.assign(now)
        elif timer is Timer.STEAL:
            self._stealing.on_timer(now)
        elif timer is Timer.CONFIRM:
            if self._stealing.confirm(subject, due_ns):
                self.assign(now)
        elif timer is Timer.BEHIND:
            self._stealing.free_blocked(subject, now)
        elif timer is Timer.MEMORY:
            if self.admission.on_timer(now):
                self.assign(now)
        elif timer is Timer.SETUP:
            self._workers.check_setup(subject, now, still_ns)
        elif timer is Timer.PRELOAD:
            self._workers.check_preload(subject, now, still_ns)
        else:
            self._timeouts.on_timer(timer, subject, due_ns, now, still_ns=still_ns)

    @property
    def next_timer_ns(self) -> int | None:
        """When `tick` has to be called again; None if nothing is due."""
        return self.state.timers.next_ns

    @property
    def waiting_for_time(self) -> bool:
        """True if a retry is due later: only time can bring it about."""
        return self.state.timers.retry_is_set
