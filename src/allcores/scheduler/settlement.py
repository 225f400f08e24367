"""The ledger: what became of each item, what waits, and what is due when.

The half of the dispatcher that knows nothing of who is idle: it takes results and deaths apart into
outcomes, second attempts and put-backs. Every item is settled exactly once.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from typing import Any

from allcores.errors import TaskCancelled
from allcores.events import PoolEvent, TaskPreempted, TaskRetried
from allcores.outcome import Kind
from allcores.scheduler.activity import ActivityBatcher
from allcores.scheduler.map_state import Chunk, MapState, Segment
from allcores.scheduler.memory_policy import MAX_PREEMPTIONS
from allcores.scheduler.messages import Failure, Results
from allcores.scheduler.worker_state import Lifecycle, WorkerState

#: a worker reports at most 2**64 ns
TIME_BUCKETS = 65
#: Alarms that need not be exact come at multiples of this, ns. Longer: they come late. Shorter: each wakes a thread.
ROUGH_NS = 100_000_000
#: alarms among which those without a meaning are let be
MOST_ALARMS = 32


class Settlement:
    """Base of the dispatcher. `touched`, `news` and the counters are its output."""

    def __init__(self, rng: random.Random | None) -> None:
        self._rng = rng or random.Random()
        #: flows that have pending chunks, served in turn
        self.rotation: deque[MapState] = deque()
        #: (when ns, tie breaker, what, subject), a heap
        self.alarms: list[tuple[int, int, str, Any]] = []
        self._ties = itertools.count()
        #: so many may be set until those without a meaning are dropped
        self._most_alarms = MOST_ALARMS
        #: flows that have something for their consumers
        self.dirty_maps: set[MapState] = set()
        self.new_events: list[PoolEvent] = []
        # --- counters for statistics() ---
        self.items_done = 0
        #: outcomes that are not ok; those that are have a counter without the price of hashing an enum
        self.by_kind: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self._ok = 0
        self.retries = 0
        self.requeues = 0
        self.preempted = 0
        #: some item was put back so often that it is to run alone
        self.some_alone = False
        self.busy_ns = 0
        #: items by the seconds they took: bucket n holds those below 2**n ns. Items of one report count with its mean.
        self.by_time: list[int] = [0] * TIME_BUCKETS
        #: what observers are told of work; None if there are none
        self.activity_batcher: ActivityBatcher | None = None

    # --- results ---

    def take_results(self, worker_state: WorkerState, chunk: Chunk, event: Results, now: int) -> None:
        """Items of `chunk` that are finished, by `desk`'s report."""
        map_state = chunk.map_state
        if event.start + event.count > len(chunk.items):
            raise AssertionError(f"worker {worker_state.worker} ran items of {chunk} that were stolen from it")
        share = chunk.size_bytes * event.count // max(1, len(chunk.items))
        size = max(share, event.size_bytes)
        map_state.chunker.observe(event.count, event.total_ns, size)
        self.busy_ns += event.total_ns
        if event.count:
            self.by_time[(event.total_ns // event.count).bit_length()] += event.count
        chunk.done = event.start + event.count
        if self.activity_batcher is not None:
            failed, start = len(event.failures) if event.failures else 0, event.start
            for count, total_ns in event.parts or ((event.count, event.total_ns),):
                part = size * count // max(1, event.count)
                self.activity_batcher.note(
                    worker_state, chunk, start, count, failed, total_ns, part, event.durations, now
                )
                start += count
        if map_state.cancelled or chunk.cancelled:
            self.settle_cancelled(chunk, event.count)
            return
        map_state.bytes_out += size - share
        if not event.failures:
            self.items_done += event.count
            self._ok += event.count
            self._settle(
                Segment(
                    chunk.first + event.start,
                    event.count,
                    chunk.items if event.count == len(chunk.items) else chunk.items[event.start : chunk.done],
                    payloads=event.payloads,
                    values=event.values,
                    durations=event.durations,
                    worker=worker_state.worker,
                    attempt=chunk.attempt,
                    size_bytes=size,
                    future=chunk.future,
                ),
                map_state,
            )
            return
        self._take_mixed(worker_state, chunk, event, size, now)

    def _take_mixed(self, worker_state: WorkerState, chunk: Chunk, event: Results, size: int, now: int) -> None:
        """Some of the items failed: retry those that may be, settle the runs between them."""
        map_state = chunk.map_state
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
                        worker=worker_state.worker,
                        attempt=chunk.attempt,
                        size_bytes=share * number,
                        future=chunk.future,
                    ),
                    map_state,
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

    def fail(self, chunk: Chunk, failure: Failure, worker: int, now: int, seconds_ns: int) -> None:
        """Settle or retry one item that has no result."""
        if chunk.map_state.cancelled or chunk.cancelled:
            self.settle_cancelled(chunk, 1)
            return
        if self._retry(chunk, failure, now):
            return
        self.items_done += 1
        self.by_kind[failure.kind] += 1
        self.by_time[seconds_ns.bit_length()] += 1
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
            chunk.map_state,
        )

    def _retry(self, chunk: Chunk, failure: Failure, now: int) -> bool:
        retry = chunk.map_state.retry
        if chunk.attempt > retry.times or chunk.map_state.stopped:
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
        self.new_events.append(
            TaskRetried(chunk.map_state.number, again.first, chunk.attempt, failure.kind, failure.error, wait_s)
        )
        self.alarm(now + int(wait_s * 1e9), "retry", again)
        return True

    # --- outcomes ---

    def count(self, kind: Kind) -> int:
        """Outcomes of this kind so far."""
        return self._ok if kind is Kind.OK else self.by_kind[kind]

    def _settle(self, segment: Segment, map_state: MapState) -> None:
        map_state.settle(segment)
        self.dirty_maps.add(map_state)

    def settle_cancelled(self, chunk: Chunk, number: int = 1) -> None:
        """Count `number` items of `chunk` as cancelled: nobody waits for them."""
        self.by_kind[Kind.CANCELLED] += number
        map_state = chunk.map_state
        map_state.settled += number
        if map_state.calls:
            map_state.consumed += number
            share = chunk.size_bytes * number // max(1, len(chunk.items))
            map_state.bytes_out = 0 if map_state.consumed == map_state.pulled else max(0, map_state.bytes_out - share)
        self.dirty_maps.add(chunk.map_state)

    def give_up(self, chunk: Chunk, start: int, stop: int) -> None:
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
        self._settle(segment, chunk.map_state)

    # --- what waits ---

    def requeue(
        self, chunk: Chunk, start: int, stop: int, *, blame: int, alone: bool = False, preempted: int = 0
    ) -> None:
        """Items [start:stop] go to the front of their flow; `alone` makes a chunk of each.

        postponed: 1 if it is for want of memory.
        """
        if start >= stop:
            return
        if chunk.map_state.cancelled or chunk.cancelled:
            self.settle_cancelled(chunk, stop - start)
            return
        if chunk.map_state.stopped:
            self.give_up(chunk, start, stop)
            return
        self.requeues += stop - start
        requeues = chunk.requeues + blame
        if alone:
            for position in range(stop - 1, start - 1, -1):
                chunk.map_state.pending.appendleft(chunk.part(position, position + 1, requeues=requeues))
        else:
            chunk.map_state.pending.appendleft(chunk.part(start, stop, requeues=requeues))
        if preempted:
            self._note_preempted(chunk, start, stop)
        self.enqueue(chunk.map_state)

    def _note_preempted(self, chunk: Chunk, start: int, stop: int) -> None:
        """The chunks of [start:stop], which were just put back, count it."""
        for again in itertools.islice(chunk.map_state.pending, stop - start):
            again.preempted += 1
            self.preempted += 1
            self.some_alone = self.some_alone or again.preempted >= MAX_PREEMPTIONS
            self.new_events.append(TaskPreempted(chunk.map_state.number, again.first, again.preempted, chunk.worker))

    def enqueue(self, map_state: MapState) -> None:
        """Note that a flow has chunks that wait."""
        if not map_state.queued and map_state.pending:
            map_state.queued = True
            self.rotation.append(map_state)

    def next_map(self) -> MapState | None:
        """The flow whose turn it is to hand out a chunk; None if nothing waits."""
        rotation = self.rotation
        while rotation:
            map_state = rotation[0]
            if map_state.pending and not map_state.cancelled:
                return map_state
            rotation.popleft()
            map_state.queued = False
        return None

    def next_chunk(self, map_state: MapState) -> Chunk | None:
        """The next chunk of `flow`, whose turn is over then; None if it was cancelled while it waited."""
        if len(self.rotation) > 1:
            self.rotation.rotate(-1)
        chunk = map_state.pending.popleft()
        if not chunk.cancelled:
            return chunk
        self.settle_cancelled(chunk, len(chunk.items))
        return None

    # --- time ---

    def alarm(self, when: int, what: str, subject: Any) -> None:
        """Have `tick` deal with `subject` at `when`."""
        heapq.heappush(self.alarms, (when, next(self._ties), what, subject))
        if len(self.alarms) > self._most_alarms:
            self.drop_alarms()

    def rough_alarm(self, when: int, what: str, subject: Any) -> None:
        """The same for what may come a little late: several that are due at about the same time wake once."""
        self.alarm(-(-when // ROUGH_NS) * ROUGH_NS, what, subject)

    def drop_alarms(self) -> None:
        """Forget the alarms that have nothing to say any more: of workers that are gone or did what was watched."""
        self.alarms = [alarm for alarm in self.alarms if self.alarm_matters(alarm[0], alarm[2], alarm[3])]
        heapq.heapify(self.alarms)
        # So seldom that each alarm pays for about one look at another.
        self._most_alarms = max(MOST_ALARMS, 2 * len(self.alarms))

    def alarm_matters(self, when: int, what: str, subject: Any) -> bool:
        """Whether `tick` would have anything to do about it."""
        if not isinstance(subject, WorkerState):
            return True
        if subject.lifecycle is Lifecycle.GONE or (what == "setup" and subject.lifecycle is not Lifecycle.STARTING):
            return False
        return what != "deadline" or subject.deadline_ns == when

    def drop_retries(self, map_state: MapState) -> list[Chunk]:
        """Forget the attempts of a flow that are due later; returns them."""
        dropped = [alarm[3] for alarm in self.alarms if alarm[2] == "retry" and alarm[3].map_state is map_state]
        if dropped:
            self.alarms = [alarm for alarm in self.alarms if alarm[2] != "retry" or alarm[3].map_state is not map_state]
            heapq.heapify(self.alarms)
        return dropped

    @property
    def next_alarm_ns(self) -> int | None:
        """When `tick` has to be called again; None if nothing is due."""
        return self.alarms[0][0] if self.alarms else None

    @property
    def waiting_for_time(self) -> bool:
        """A retry is due later: only time can bring it about."""
        return any(what == "retry" for _, _, what, _ in self.alarms)
