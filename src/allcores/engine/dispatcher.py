"""The ledger's hand: events in, orders out. Who gets which chunk, what is retried, who is ended.

Pure: no process, file or clock. The time is an argument; where a worker is, `glance` tells (the
status board in real life, a dictionary in tests). Every method leaves its orders in `orders`.

    caller ──► add / cancel ─┐                      ┌─► Send, SetLimit, Kill, Stop, Launch
    worker ──► results ──────┼──► Dispatcher ───────┤
    death  ──► gone ─────────┤   desks, rotation,   └─► segments settled in their Flow
    time   ──► tick ─────────┘   alarms                 (flows to wake: `touched`)
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from allcores.engine.desk import Desk, Doom, Life
from allcores.engine.events import (
    Failure,
    Glance,
    Kill,
    Launch,
    News,
    Order,
    Results,
    Send,
    SetLimit,
    Stop,
    TaskRetried,
    WorkerEnded,
    WorkerGone,
)
from allcores.engine.flow import Chunk, Flow, Segment
from allcores.engine.stealing import split, spoils
from allcores.errors import BrokenPool, SetupError, TaskCancelled, TaskTimeout, WorkerLost
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.transport.marks import NO_LIMIT, PHASE_IDLE, PHASE_RUNNING, mark

#: Chunks per worker: one runs, one waits, so that no worker waits for the parent.
DEPTH = 2
#: Chunks pulled ahead of need, at most: the driver hands them out while the consumer is busy.
RESERVE = 8
#: After a limit is written, a worker's store to its slot is visible to us, and our limit to it,
#: long before this: store buffers drain in microseconds. See docs/design.md, "Taking back".
CONFIRM_NS = 1_000_000
#: Pause between two looks for work to take back, while somebody is idle at the end of an input.
STEAL_PAUSE_NS = 2_000_000
#: An item that lost its worker this often through no fault of its own is given up.
MOST_PUT_BACKS = 5
#: Workers that die before they are ready, in a row, until the pool is called broken.
MOST_STILLBORN = 3


class Dispatcher:
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
        self.workers = workers
        self.limits = limits
        self._glance = glance
        self._rng = rng or random.Random()
        self._describe = describe or (lambda chunk, position: f"items[{chunk.first + position}]")
        self.desks: dict[int, Desk] = {}
        self._numbers = itertools.count(1)
        #: READY desks by what they hold: nothing, or less than DEPTH chunks
        self._idle: dict[Desk, None] = {}
        self._spare: dict[Desk, None] = {}
        #: flows that have pending chunks, served in turn
        self._rotation: deque[Flow] = deque()
        self._flows: dict[int, Flow] = {}
        self._alarms: list[tuple[int, int, str, Any]] = []
        self._ties = itertools.count()
        self._stillborn = 0
        self._steal_at = 0
        self.closing = False
        self.broken: BaseException | None = None
        # --- output, emptied by the owner ---
        self.orders: list[Order] = []
        self.touched: set[Flow] = set()
        self.news: list[News] = []
        # --- counters for statistics() ---
        self.items_done = 0
        #: outcomes that are not ok; those that are have a counter without the price of hashing an enum
        self.by_kind: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self._ok = 0
        self.retries = 0
        self.put_backs = 0
        self.taken_back = 0
        self.workers_started = 0
        self.busy_ns = 0

    # --- flows ------------------------------------------------------------------------------------

    def open(self, flow: Flow) -> None:
        """A flow begins."""
        self._flows[flow.number] = flow
        if self.broken is not None:
            flow.broken = self.broken

    def forget(self, flow: Flow) -> None:
        """A flow is over for its consumer."""
        self._flows.pop(flow.number, None)

    def room(self, flow: Flow) -> int:
        """Chunks that this flow should pull now, so that nobody waits for input."""
        free = len(self._idle) * DEPTH + len(self._spare)
        if not self.items_done:
            # Nobody is ready yet, perhaps: have the first chunks waiting for those who start.
            free = max(free, self.workers)
        return free + min(self.workers, RESERVE) - len(flow.pending)

    @property
    def hungry(self) -> bool:
        """Somebody has nothing to do."""
        return bool(self._idle) or not self.items_done

    def add(self, chunk: Chunk, now: int) -> None:
        """Freshly pulled items."""
        flow = chunk.flow
        if flow.cancelled:
            return
        flow.add(chunk)
        self._enlist(flow)
        self._assign(now, seek=False)

    def cancel(self, flow: Flow, now: int) -> None:
        """Nobody wants this flow's outcomes any more."""
        if flow.cancelled:
            return
        dropped = sum(len(chunk.items) for chunk in flow.pending)
        self.by_kind[Kind.CANCELLED] += dropped
        flow.cancel()
        self.touched.add(flow)
        for desk in list(self.desks.values()):
            if any(chunk.flow is flow for chunk in desk.chunks):
                self._revoke_cancelled(desk, now)
        self.forget(flow)

    def cancel_chunk(self, chunk: Chunk, now: int) -> None:
        """Nobody wants this one call any more."""
        chunk.cancelled = True
        if chunk in chunk.flow.pending:
            chunk.flow.pending.remove(chunk)
            self._settle_cancelled(chunk)
            return
        for desk in self.desks.values():
            if chunk in desk.chunks:
                self._revoke_cancelled(desk, now)
                return

    def stop(self, flow: Flow, now: int) -> None:
        """Start nothing more of this flow; what runs finishes. Unstarted items count as cancelled."""
        flow.stopped = flow.exhausted = True
        for chunk in list(flow.pending):
            self._give_up(chunk, 0, len(chunk.items))
        flow.pending.clear()
        kept = []
        for alarm in self._alarms:
            if alarm[2] == "retry" and alarm[3].flow is flow:
                self._give_up(alarm[3], 0, 1)
            else:
                kept.append(alarm)
        heapq.heapify(kept)
        self._alarms = kept
        for desk in self.desks.values():
            mine = [chunk for chunk in desk.chunks if chunk.flow is flow]
            if not mine:
                continue
            glance = self._glance(desk.worker)
            running = glance is not None and glance.started_ns and glance.sequence == mine[0].sequence
            position = glance.position + 1 if running and glance is not None else 0
            self._limit(desk, mark(mine[0].sequence, position))
        self.touched.add(flow)

    def _give_up(self, chunk: Chunk, start: int, stop: int) -> None:
        """Settle unstarted items of a stopped flow as cancelled."""
        number = stop - start
        self.by_kind[Kind.CANCELLED] += number
        failures = [
            Failure(n, Kind.CANCELLED, TaskCancelled("it was not started: the stream was stopped"))
            for n in range(number)
        ]
        size = chunk.size_bytes * number // max(1, len(chunk.items))
        segment = Segment(
            chunk.first + start,
            number,
            chunk.items[start:stop],
            values=[],
            failures=failures,
            attempt=0,
            size_bytes=size,
            future=chunk.future,
        )
        self._settle(segment, chunk.flow)

    def _revoke_cancelled(self, desk: Desk, now: int) -> None:
        first = next((c for c in desk.chunks if c.cancelled or c.flow.cancelled), None)
        if first is None:
            return
        self._limit(desk, mark(first.sequence, 0))
        self._alarm(now + int(self.limits.grace_s * 1e9), "grace", desk)

    # --- workers ----------------------------------------------------------------------------------

    def fill(self, now: int) -> None:
        """Bring the pool to full strength."""
        alive = sum(1 for d in self.desks.values() if d.life in (Life.STARTING, Life.READY) and d.doom is None)
        if self.closing or self.broken is not None:
            return
        for _ in range(self.workers - alive):
            desk = Desk(next(self._numbers), now)
            self.desks[desk.worker] = desk
            self.workers_started += 1
            self.orders.append(Launch(desk.worker))
            self._alarm(now + int(self.limits.setup_s * 1e9), "setup", desk)

    def ready(self, worker: int, now: int) -> None:
        """A worker has started and its setup is done."""
        desk = self.desks.get(worker)
        if desk is None or desk.life is not Life.STARTING:
            return
        self._stillborn = 0
        if self.closing:
            desk.move(Life.LEAVING)
            self.orders.append(Stop(worker))
            return
        desk.move(Life.READY)
        if desk.open:
            self._idle[desk] = None
        self._assign(now)

    def setup_failed(self, error: BaseException) -> None:
        """The setup function failed: every flow gets the error, once."""
        self.break_off(error)

    def gone(self, event: WorkerGone, now: int) -> None:
        """A worker's process has ended; give each item it held what it deserves."""
        desk = self.desks.pop(event.worker, None)
        if desk is None:
            return
        self._idle.pop(desk, None)
        self._spare.pop(desk, None)
        started = desk.life is not Life.STARTING
        desk.move(Life.GONE)
        doom = desk.doom
        kind, error, reason = event.kind, event.error, event.reason
        sequence, position = (event.running.sequence, event.running.position) if event.running else (0, 0)
        if doom is not None:
            kind, error, reason = doom.kind, doom.error, doom.reason
            sequence, position = doom.sequence, doom.position
        self.news.append(WorkerEnded(desk.worker, reason))
        phase = event.running.phase if event.running else PHASE_IDLE
        for chunk in reversed(desk.chunks):
            # From the last to the first, so that what is put back stands in its old order.
            if chunk.sequence != sequence:
                self._put_back(chunk, chunk.done, len(chunk.items), blame=0)
            elif position < chunk.done:
                # It finished the item in the moment it was ended: the outcome counts, nobody is to blame.
                self._put_back(chunk, chunk.done, len(chunk.items), blame=0)
            elif phase != PHASE_RUNNING and (len(chunk.items) - chunk.done > 1 or position >= len(chunk.items)):
                # It died over the whole chunk (unpickling it, pickling its results): one by one will tell.
                self._put_back(chunk, chunk.done, len(chunk.items), blame=1, alone=True)
            else:
                position = max(position, chunk.done)
                self._put_back(chunk, position + 1, len(chunk.items), blame=0)
                if event.innocent and doom is None and chunk.put_backs < MOST_PUT_BACKS:
                    self._put_back(chunk, position, position + 1, blame=1)
                else:
                    seconds_ns = max(0, now - event.running.started_ns) if event.running else 0
                    self._fail(chunk, Failure(position, kind, error), desk.worker, now, seconds_ns)
                # Finished, but its outcome was not sealed yet: run again, not charged as an attempt.
                self._put_back(chunk, chunk.done, position, blame=0)
        desk.chunks.clear()
        if not started and doom is None and not event.innocent:
            self._stillborn += 1
            if self._stillborn >= MOST_STILLBORN:
                self.break_off(
                    BrokenPool(
                        f"{self._stillborn} workers in a row died before they were ready; the last: {reason} "
                        "See what the setup function does, and whether the machine has memory and processes left "
                        "(`allcores doctor`)."
                    )
                )
        self.fill(now)
        self._assign(now)

    def break_off(self, error: BaseException) -> None:
        """No outcome can be had any more: everybody who waits gets `error`."""
        if self.broken is None:
            self.broken = error
        for flow in list(self._flows.values()):
            flow.broken = error
            self.touched.add(flow)

    # --- results ----------------------------------------------------------------------------------

    def results(self, event: Results, now: int) -> None:
        """A worker reports finished items, or that it is done with a chunk."""
        desk = self.desks.get(event.worker)
        if desk is None:
            return
        if event.leaving and desk.life is Life.READY:
            desk.move(Life.LEAVING)
            self._idle.pop(desk, None)
            self._spare.pop(desk, None)
        chunk = desk.find(event.sequence)
        if chunk is None:
            return
        if event.count and event.start >= chunk.done:
            self._take_results(desk, chunk, event, now)
        if event.ended:
            desk.chunks.remove(chunk)
            if chunk.done < len(chunk.items):
                # It stopped at its limit, or is leaving: the rest was never started.
                self._put_back(chunk, chunk.done, len(chunk.items), blame=0, alone=event.unloadable)
            self._reopen(desk)
        if event.leaving:
            for held in reversed(desk.chunks):
                self._put_back(held, held.done, len(held.items), blame=0)
            desk.chunks.clear()
            self.fill(now)
        if event.ended or event.leaving:
            self._assign(now)

    def _take_results(self, desk: Desk, chunk: Chunk, event: Results, now: int) -> None:
        flow = chunk.flow
        if event.start + event.count > len(chunk.items):
            raise AssertionError(f"worker {desk.worker} ran items of {chunk} that were taken back from it")
        share = chunk.size_bytes * event.count // max(1, len(chunk.items))
        size = max(share, event.size_bytes)
        flow.chunker.observe(event.count, event.total_ns, size)
        self.busy_ns += event.total_ns
        chunk.done = event.start + event.count
        if flow.cancelled or chunk.cancelled:
            self._settle_cancelled(chunk, event.count)
            return
        flow.bytes_out += size - share
        if not event.failures:
            self.items_done += event.count
            self._ok += event.count
            self._settle(
                Segment(
                    chunk.first + event.start,
                    event.count,
                    chunk.items if event.count == len(chunk.items) else chunk.items[event.start : chunk.done],
                    payload=event.payload,
                    values=event.values,
                    durations=event.durations,
                    worker=desk.worker,
                    attempt=chunk.attempt,
                    size_bytes=size,
                    future=chunk.future,
                ),
                flow,
            )
            return
        self._take_mixed(desk, chunk, event, size, now)

    def _take_mixed(self, desk: Desk, chunk: Chunk, event: Results, size: int, now: int) -> None:
        """Some of the items failed: retry those that may be, settle the runs between them."""
        flow = chunk.flow
        values = deque(event.values or ())
        failed = {failure.offset: failure for failure in event.failures or ()}
        share = size // event.count
        run: list[Any] = []
        run_failures: list[Failure] = []
        run_start = event.start

        def close(end: int) -> None:
            nonlocal run, run_failures, run_start
            number = end - run_start
            if number:
                self.items_done += number
                self._ok += len(run)
                offset = run_start - event.start
                self._settle(
                    Segment(
                        chunk.first + run_start,
                        number,
                        chunk.items[run_start:end],
                        values=run,
                        failures=run_failures or None,
                        durations=event.durations[offset : offset + number] if event.durations else None,
                        worker=desk.worker,
                        attempt=chunk.attempt,
                        size_bytes=share * number,
                        future=chunk.future,
                    ),
                    flow,
                )
            run, run_failures, run_start = [], [], end + 1

        for position in range(event.start, event.start + event.count):
            failure = failed.get(position)
            if failure is None:
                run.append(values.popleft())
            elif self._retry(chunk, failure, now):
                close(position)
            else:
                self.by_kind[failure.kind] += 1
                run_failures.append(failure._replace(offset=position - run_start))
        close(event.start + event.count)

    def _fail(self, chunk: Chunk, failure: Failure, worker: int, now: int, seconds_ns: int) -> None:
        """Settle or retry one item that has no result."""
        if chunk.flow.cancelled or chunk.cancelled:
            self._settle_cancelled(chunk, 1)
            return
        if self._retry(chunk, failure, now):
            return
        self.items_done += 1
        self.by_kind[failure.kind] += 1
        position = failure.offset
        size = chunk.size_bytes // max(1, len(chunk.items))
        self._settle(
            Segment(
                chunk.first + position,
                1,
                [chunk.items[position]],
                values=[],
                failures=[failure._replace(offset=0)],
                durations=[seconds_ns],
                worker=worker,
                attempt=chunk.attempt,
                size_bytes=size,
                future=chunk.future,
            ),
            chunk.flow,
        )

    def _retry(self, chunk: Chunk, failure: Failure, now: int) -> bool:
        retry = chunk.flow.retry
        if chunk.attempt > retry.times or chunk.flow.stopped:
            return False
        if failure.kind is Kind.TIMED_OUT:
            allowed = retry.on_timeout
        elif failure.kind is Kind.WORKER_LOST:
            allowed = retry.on_worker_lost
        else:
            allowed = failure.kind is Kind.FAILED and isinstance(failure.error, retry.on)
        if not allowed:
            return False
        again = chunk.part(failure.offset, failure.offset + 1)
        again.attempt += 1
        wait_s = retry.delay_s(chunk.attempt, self._rng)
        self.retries += 1
        self.news.append(
            TaskRetried(chunk.flow.number, again.first, chunk.attempt, failure.kind, failure.error, wait_s)
        )
        self._alarm(now + int(wait_s * 1e9), "retry", again)
        return True

    def count(self, kind: Kind) -> int:
        """Outcomes of this kind so far."""
        return self._ok if kind is Kind.OK else self.by_kind[kind]

    def _settle(self, segment: Segment, flow: Flow) -> None:
        flow.settle(segment)
        self.touched.add(flow)

    def _settle_cancelled(self, chunk: Chunk, number: int = 1) -> None:
        self.by_kind[Kind.CANCELLED] += number
        chunk.flow.settled += number
        if chunk.flow.calls:
            chunk.flow.consumed += number
        self.touched.add(chunk.flow)

    def _put_back(self, chunk: Chunk, start: int, stop: int, *, blame: int, alone: bool = False) -> None:
        """Items [start:stop] go to the front of their flow; `alone` makes a chunk of each."""
        if start >= stop:
            return
        if chunk.flow.cancelled or chunk.cancelled:
            self._settle_cancelled(chunk, stop - start)
            return
        if chunk.flow.stopped:
            self._give_up(chunk, start, stop)
            return
        self.put_backs += stop - start
        put_backs = chunk.put_backs + blame
        if alone:
            for position in range(stop - 1, start - 1, -1):
                chunk.flow.pending.appendleft(chunk.part(position, position + 1, put_backs=put_backs))
        else:
            chunk.flow.pending.appendleft(chunk.part(start, stop, put_backs=put_backs))
        self._enlist(chunk.flow)

    # --- handing out ------------------------------------------------------------------------------

    def _enlist(self, flow: Flow) -> None:
        if not flow.queued and flow.pending:
            flow.queued = True
            self._rotation.append(flow)

    def _next_chunk(self) -> Chunk | None:
        rotation = self._rotation
        while rotation:
            flow = rotation[0]
            if flow.cancelled or not flow.pending:
                rotation.popleft()
                flow.queued = False
                continue
            if len(rotation) > 1:
                rotation.rotate(-1)
            return flow.pending.popleft()
        return None

    def _assign(self, now: int, *, seek: bool = True) -> None:
        idle, spare = self._idle, self._spare
        while idle or spare:
            chunk = self._next_chunk()
            if chunk is None:
                break
            if idle:
                desk = next(iter(idle))
                del idle[desk]
                spare[desk] = None
            else:
                desk = next(iter(spare))
                if len(desk.chunks) + 1 >= DEPTH:
                    del spare[desk]
            desk.last_sequence += 1
            chunk.sequence = desk.last_sequence
            chunk.worker = desk.worker
            desk.chunks.append(chunk)
            if chunk.flow.timeout_ns is not None and not desk.watched:
                desk.watched = True
                self._alarm(now + chunk.flow.timeout_ns, "deadline", desk)
            self.orders.append(Send(desk.worker, chunk))
        if seek and idle and not self._rotation:
            self._seek_spoils(now)

    def _reopen(self, desk: Desk) -> None:
        """Its queue is shorter now: note what it can take."""
        if desk.life is not Life.READY or desk.doom is not None:
            return
        if desk.limit != NO_LIMIT:
            if desk.chunks:
                return
            desk.confirming = False
            self._limit(desk, NO_LIMIT)
        if not desk.chunks:
            self._spare.pop(desk, None)
            if self.closing:
                desk.move(Life.LEAVING)
                self.orders.append(Stop(desk.worker))
            else:
                self._idle[desk] = None
        elif len(desk.chunks) < DEPTH:
            self._spare[desk] = None

    def _limit(self, desk: Desk, limit: int) -> None:
        if limit != NO_LIMIT:
            limit = min(limit, desk.limit)
            self._idle.pop(desk, None)
            self._spare.pop(desk, None)
        if limit != desk.limit:
            desk.limit = limit
            self.orders.append(SetLimit(desk.worker, limit))

    # --- taking back ------------------------------------------------------------------------------

    def _seek_spoils(self, now: int) -> None:
        """Somebody is idle and nothing waits: take unstarted work from whoever has most of it."""
        if now < self._steal_at:
            return
        best: tuple[float, Desk, int] | None = None
        for desk in self.desks.values():
            if not desk.chunks or not desk.open:
                continue
            flow = desk.chunks[0].flow
            # While the input goes on, its consumer will feed us; taking back is for the end.
            if not flow.calls and not flow.exhausted and flow.credit > 0:
                continue
            found = spoils(desk, self._glance(desk.worker), now)
            if found is not None and (best is None or found[0] > best[0]):
                best = (found[0], desk, found[1])
        if best is None:
            return
        self._steal_at = now + STEAL_PAUSE_NS
        _, desk, limit = best
        desk.confirming = True
        self._limit(desk, limit)
        self._alarm(now + CONFIRM_NS, "confirm", desk)
        self._alarm(self._steal_at, "seek", None)

    def _confirm(self, desk: Desk, now: int) -> None:
        if not desk.confirming or desk.life is not Life.READY or desk.limit == NO_LIMIT:
            return
        desk.confirming = False
        glance = self._glance(desk.worker)
        if glance is None or mark(glance.sequence, glance.position) >= desk.limit:
            # It may have passed the limit before it saw it: its own report will tell.
            return
        idle = max(1, len(self._idle))
        for chunk in reversed(desk.chunks):
            kept = split(chunk, desk.limit)
            taken = chunk.items[kept:]
            if not taken:
                continue
            self.taken_back += len(taken)
            size = -(-len(taken) // idle)
            for start in range(kept + (len(taken) - 1) // size * size, kept - 1, -size):
                part = chunk.part(start, min(start + size, len(chunk.items)))
                if part.flow.cancelled or part.cancelled:
                    self._settle_cancelled(part, len(part.items))
                elif part.flow.stopped:
                    self._give_up(part, 0, len(part.items))
                else:
                    part.flow.pending.appendleft(part)
                    self._enlist(part.flow)
            chunk.size_bytes = chunk.size_bytes * kept // len(chunk.items)
            del chunk.items[kept:]
        self._assign(now)

    # --- time -------------------------------------------------------------------------------------

    def _alarm(self, when: int, what: str, subject: Any) -> None:
        heapq.heappush(self._alarms, (when, next(self._ties), what, subject))

    @property
    def next_alarm_ns(self) -> int | None:
        """When `tick` has to be called again; None if nothing is due."""
        return self._alarms[0][0] if self._alarms else None

    @property
    def waiting_for_time(self) -> bool:
        """A retry is due later: only time can bring it about."""
        return any(what == "retry" for _, _, what, _ in self._alarms)

    def tick(self, now: int) -> None:
        """Time has passed."""
        while self._alarms and self._alarms[0][0] <= now:
            _, _, what, subject = heapq.heappop(self._alarms)
            if what == "retry":
                chunk: Chunk = subject
                if chunk.flow.cancelled or chunk.cancelled:
                    self._settle_cancelled(chunk)
                else:
                    chunk.flow.pending.appendleft(chunk)
                    self._enlist(chunk.flow)
                    self._assign(now)
            elif what == "seek":
                if self._idle and not self._rotation:
                    self._seek_spoils(now)
            elif subject.life in (Life.GONE, Life.LEAVING) or subject.doom is not None:
                continue
            elif what == "deadline":
                self._check_deadline(subject, now)
            elif what == "confirm":
                self._confirm(subject, now)
            elif what == "grace":
                self._check_grace(subject, now)
            elif what == "setup" and subject.life is Life.STARTING:
                error = SetupError(
                    f"Worker {subject.worker} was not ready after {self.limits.setup_s:g} s: its setup function hangs, "
                    "or needs longer than Limits(setup_s=...) allows."
                )
                self.doom(subject, Doom(Kind.WORKER_LOST, error, "its setup took too long", 0, 0), now)
                self.break_off(error)

    def _check_deadline(self, desk: Desk, now: int) -> None:
        """Has the item that this worker runs used up its seconds?"""
        desk.watched = False
        due: int | None = None
        glance = self._glance(desk.worker)
        chunk = desk.find(glance.sequence) if glance is not None and glance.started_ns else None
        if chunk is not None and glance is not None and chunk.flow.timeout_ns is not None:
            due = glance.started_ns + chunk.flow.timeout_ns
            if due <= now:
                seconds = chunk.flow.timeout_ns / 1e9
                what = self._describe(chunk, min(glance.position, len(chunk.items) - 1))
                error = TaskTimeout(
                    f"{what} ran longer than timeout={seconds:g} s in worker {desk.worker}, which was ended.",
                    timeout=seconds,
                    index=chunk.first + glance.position,
                    attempts=chunk.attempt,
                    worker=desk.worker,
                )
                self.doom(
                    desk,
                    Doom(Kind.TIMED_OUT, error, f"{what} timed out", glance.sequence, glance.position),
                    now,
                )
                return
        if due is None:
            timeouts = [c.flow.timeout_ns for c in desk.chunks if c.flow.timeout_ns is not None]
            if not timeouts:
                return
            due = now + min(timeouts)
        desk.watched = True
        # A little late rather than a little early: an early look would only have to come again.
        self._alarm(due + 100_000, "deadline", desk)

    def _check_grace(self, desk: Desk, now: int) -> None:
        """Its grace is over: does it still run something that was cancelled?"""
        if not desk.chunks:
            return
        glance = self._glance(desk.worker)
        chunk = desk.find(glance.sequence) if glance is not None and glance.started_ns else None
        if chunk is None or glance is None:
            chunk = desk.chunks[0]
        if chunk.cancelled or chunk.flow.cancelled:
            error = WorkerLost(f"{self._describe(chunk, 0)} was cancelled.", worker=desk.worker)
            self.doom(desk, Doom(Kind.CANCELLED, error, "what it ran was cancelled", 0, 0), now)

    def doom(self, desk: Desk, doom: Doom, now: int) -> None:
        """End a worker; what becomes of its items is settled when it is gone."""
        desk.doom = doom
        self._idle.pop(desk, None)
        self._spare.pop(desk, None)
        self.orders.append(Kill(desk.worker, doom.reason))
        self.fill(now)

    def close(self) -> None:
        """No new workers; those that hold nothing may go."""
        self.closing = True
        for desk in self.desks.values():
            if desk.life is Life.STARTING and desk.doom is None:
                # Its setup may take for ever; nobody waits for it any more.
                self.orders.append(Kill(desk.worker, "the pool was closed while it started"))
            elif desk.life is Life.READY and not desk.chunks:
                desk.move(Life.LEAVING)
                self._idle.pop(desk, None)
                self._spare.pop(desk, None)
                self.orders.append(Stop(desk.worker))


__all__ = ["DEPTH", "Dispatcher"]
