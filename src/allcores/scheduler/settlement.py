"""What becomes of each item: results are taken apart into outcomes, attempts and requeued items.

Knows nothing of which worker is idle. Every item is settled exactly once. Items of a worker that has exited come from
`exit_settlement`.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from allcores.errors import BatchError, InternalError, TaskCancelled
from allcores.events import TaskPreempted, TaskRetried
from allcores.outcome import Failure, Kind
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.memory_policy import MAX_PREEMPTIONS
from allcores.scheduler.messages import Results
from allcores.scheduler.segment import Segment
from allcores.scheduler.state import SchedulerState
from allcores.scheduler.timers import Timer
from allcores.scheduler.worker_state import Termination, WorkerState

#: in the place of the future of a call that has its outcome
SETTLED = "settled"


class Settlement:
    """Turns reports into outcomes, and requeues what has none."""

    __slots__ = ("_state",)

    def __init__(self, state: SchedulerState) -> None:
        self._state = state

    # --- results ----------------------------------------------------------------------------------

    def take_results(self, worker_state: WorkerState, chunk: Chunk, event: Results, now: int) -> None:
        """Take the items of a chunk that its worker reports as finished."""
        map_state, counters = chunk.map_state, self._state.counters
        if event.start + event.count > len(chunk.items):
            raise InternalError(f"worker {worker_state.worker} ran items of {chunk} that were stolen from it")
        share = chunk.size_bytes * event.count // max(1, len(chunk.items))
        size = max(share, event.size_bytes)
        map_state.chunker.observe(event.count, event.total_ns, size, chunk.batch)
        counters.busy_ns += event.total_ns
        if event.count:
            counters.by_time[(event.total_ns // event.count).bit_length()] += event.count
        chunk.done = event.start + event.count
        activity_batcher = self._state.activity_batcher
        if activity_batcher is not None:
            failed, start = len(event.failures) if event.failures else 0, event.start
            for count, total_ns in event.parts or ((event.count, event.total_ns),):
                part = size * count // max(1, event.count)
                activity_batcher.note(worker_state, chunk, start, count, failed, total_ns, part, event.durations, now)
                start += count
        if map_state.cancelled or chunk.cancelled:
            self.settle_cancelled(chunk, event.count)
            return
        map_state.bytes_out += size - share
        if not event.failures:
            counters.items_done += event.count
            counters.ok += event.count
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
                    total_ns=event.total_ns,
                    future=_taken_future(chunk),
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
                self._state.counters.items_done += number
                self._state.counters.ok += len(run)
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
                        total_ns=event.total_ns * number // event.count,
                        future=_taken_future(chunk),
                    ),
                    map_state,
                )
            run, run_failures, run_start = [], [], end + 1

        unstarted: list[int] = []
        termination = worker_state.termination
        for position in range(event.start, event.start + event.count):
            failure = failed.get(position)
            if failure is not None and failure.kind is Kind.CANCELLED and self._state.nodes:
                # Stolen from a node: it was not started there.
                close(position)
                unstarted.append(position)
                continue
            if failure is not None and termination is not None and self._is_late(termination, chunk, event, position):
                # What it raises because it is being ended (by a handler of SIGTERM, say) says nothing of the item.
                if termination.preempted or termination.together > 1:
                    close(position)
                    preempted = 1 if termination.preempted else 0
                    self.requeue(chunk, position, position + 1, size=1, preempted=preempted)
                    continue
                failure = Failure(position, termination.kind, termination.error)
            if failure is None:
                run.append(values.popleft())
            elif self._retry(chunk, failure, now):
                close(position)
            else:
                self._state.counters.by_kind[failure.kind] += 1
                run_failures.append(failure._replace(offset=position - run_start))
        close(event.start + event.count)
        if unstarted:
            self._requeue_unstarted_of(chunk, unstarted)

    def _requeue_unstarted_of(self, chunk: Chunk, positions: list[int]) -> None:
        """What a node has not started is pending again: in rows without a gap, a part for each node that is idle."""
        parts = len(self._state.idle) + 1
        rows = [[positions[0], positions[0] + 1]]
        for position in positions[1:]:
            if position == rows[-1][1]:
                rows[-1][1] += 1
            else:
                rows.append([position, position + 1])
        for start, stop in reversed(rows):
            self._state.counters.stolen += stop - start
            self.requeue(chunk, start, stop, size=-(-(stop - start) // parts))

    def _is_late(self, termination: Termination, chunk: Chunk, event: Results, position: int) -> bool:
        """Whether an item that failed was at work when its worker's end was decided, as far as can be told."""
        if not termination.charges(chunk.sequence, position):
            return False
        if termination.kind is not Kind.TIMED_OUT or chunk.timeout_ns is None or self._state.concurrent > 1:
            return True
        if event.durations:
            return event.durations[position - event.start] >= chunk.timeout_ns
        # Of several only the sum is known.
        return event.total_ns >= chunk.timeout_ns

    def fail(self, chunk: Chunk, failure: Failure, worker: int, now: int, seconds_ns: int) -> None:
        """Settle or retry one item that has no result."""
        if chunk.map_state.cancelled or chunk.cancelled:
            self.settle_cancelled(chunk, 1)
            return
        # As of attempts that a worker tells of, whether or not there is another.
        self._state.counters.busy_ns += seconds_ns
        self._state.counters.by_time[seconds_ns.bit_length()] += 1
        if self._retry(chunk, failure, now):
            return
        self._state.counters.items_done += 1
        self._state.counters.by_kind[failure.kind] += 1
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
                total_ns=seconds_ns,
                future=_taken_future(chunk),
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
            # What breaks its contract does so again.
            allowed = allowed and not isinstance(failure.error, BatchError)
        if not allowed:
            return False
        again = chunk.part(failure.offset, failure.offset + 1)
        again.attempt += 1
        if again.shared is not None and again.payload is not None:
            # As long as it waits, the bytes of its neighbours do, too, and are to be counted: once for all of them.
            again.waits_for = again.shared
            again.shared.waiting += 1
            if again.shared.waiting == 1:
                chunk.map_state.bytes_out += len(again.payload)
        wait_s = retry.delay_s(chunk.attempt, self._state.rng)
        self._state.counters.retries += 1
        self._state.events.append(
            TaskRetried(chunk.map_state.number, again.first, chunk.attempt, failure.kind, failure.error, wait_s)
        )
        self._state.timers.set(now + int(wait_s * 1e9), Timer.RETRY, again)
        # What this attempt tells of the items may let more of them be pulled.
        self._state.dirty_maps.update(chunk.map_state.together)
        return True

    # --- outcomes ---------------------------------------------------------------------------------

    def _settle(self, segment: Segment, map_state: MapState) -> None:
        map_state.settle(segment)
        self._state.dirty_maps.add(map_state)
        if map_state.series is not None:
            # One that waited for what this tells of the items may begin.
            self._state.dirty_maps.update(map_state.series.maps)

    def settle_cancelled(self, chunk: Chunk, number: int = 1) -> None:
        """Count `number` items of a chunk as cancelled: no consumer waits for them."""
        self._state.counters.by_kind[Kind.CANCELLED] += number
        map_state = chunk.map_state
        map_state.settled += number
        if map_state.calls:
            map_state.consumed += number
            share = chunk.size_bytes * number // max(1, len(chunk.items))
            map_state.bytes_out = 0 if map_state.consumed == map_state.pulled else max(0, map_state.bytes_out - share)
        self._state.dirty_maps.add(chunk.map_state)
        if map_state.series is not None:
            self._state.dirty_maps.update(map_state.series.maps)

    def settle_stopped(self, chunk: Chunk, start: int, stop: int) -> None:
        """Settle unstarted items [start:stop] of a map that was stopped as cancelled."""
        number = stop - start
        self._state.counters.by_kind[Kind.CANCELLED] += number
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
            future=_taken_future(chunk),
        )
        self._settle(segment, chunk.map_state)

    def settle_unpicklable(self, map_state: MapState, segment: Segment) -> None:
        """Settle items that cannot travel, without an attempt."""
        map_state.pulled += segment.count
        counters = self._state.counters
        counters.items_done += segment.count
        for failure in segment.failures or ():
            counters.by_kind[failure.kind] += 1
        self._settle(segment, map_state)

    # --- what is pending --------------------------------------------------------------------------

    def requeue_unstarted(self, part: Chunk) -> None:
        """Make a chunk that no worker has pending again, in front; if it is cancelled or stopped, settle it."""
        map_state = part.map_state
        kept, part.waits_for = part.waits_for, None
        if kept is not None:
            kept.waiting -= 1
            if not kept.waiting:
                map_state.bytes_out = max(0, map_state.bytes_out - len(kept.payload))
        if map_state.cancelled or part.cancelled:
            self.settle_cancelled(part, len(part.items))
        elif map_state.stopped:
            self.settle_stopped(part, 0, len(part.items))
        else:
            map_state.pending.appendleft(part)
            self._state.enqueue(map_state)

    def requeue(
        self,
        chunk: Chunk,
        start: int,
        stop: int,
        *,
        charged: int = 0,
        size: int | None = None,
        preempted: int = 0,
        apart: bool = False,
        begun: bool = False,
    ) -> None:
        """Make items [start:stop] of a chunk pending again, in front of all others of their map.

        Args:
            chunk: Their chunk.
            start: Position of the first.
            stop: Position after the last.
            charged: 1 if this counts against `exit_settlement.MAX_REQUEUES`.
            size: Make a chunk of each so many, and a batch of each chunk; None keeps them together.
            preempted: 1 if it is for want of memory.
            apart: With `size`: what each is sent as has no other items in it, any of which might be the one that
                cannot be unpickled.
            begun: Its worker has begun with it, though with no item that is known.
        """
        if start >= stop:
            return
        if chunk.map_state.cancelled or chunk.cancelled:
            self.settle_cancelled(chunk, stop - start)
            return
        if chunk.map_state.stopped:
            self.settle_stopped(chunk, start, stop)
            return
        self._state.counters.requeues += stop - start
        requeues = chunk.requeues + charged
        parts = 1
        if size is None:
            chunk.map_state.pending.appendleft(chunk.part(start, stop, requeues=requeues))
        else:
            starts = range(start, stop, size)
            parts = len(starts)
            for position in reversed(starts):
                part = chunk.part(position, min(position + size, stop), requeues=requeues)
                part.batch = min(part.batch, size)
                if apart and part.shared is not None:
                    part.have_own(None)
                chunk.map_state.pending.appendleft(part)
        if preempted:
            self._note_preempted(chunk.map_state, parts, chunk.worker)
        if not (start or charged or preempted or begun) and stop == len(chunk.items):
            # Nothing of it was begun. Where workers end after few items it waits behind another map's chunk each time:
            # behind the others once more, it would never have its turn.
            self._state.enqueue_first(chunk.map_state)
        else:
            self._state.enqueue(chunk.map_state)

    def _note_preempted(self, map_state: MapState, chunks: int, worker: int) -> None:
        """Count it in the first `chunks` of a map, which were just requeued."""
        for again in itertools.islice(map_state.pending, chunks):
            again.preempted += 1
            self._state.counters.preempted += len(again.items)
            self._state.some_alone = self._state.some_alone or again.preempted >= MAX_PREEMPTIONS
            self._state.events += (
                TaskPreempted(map_state.number, again.first + position, again.preempted, worker)
                for position in range(len(again.items))
            )

    def next_chunk(self, map_state: MapState) -> Chunk | None:
        """Remove the next chunk of a map, whose turn is over then; None if it was cancelled meanwhile."""
        rotation = self._state.rotation
        if len(rotation) > 1:
            rotation.rotate(-1)
        chunk = map_state.pending.popleft()
        if not chunk.cancelled:
            return chunk
        self.settle_cancelled(chunk, len(chunk.items))
        return None


def _taken_future(chunk: Chunk) -> Any:
    """The future of a call that is settled; None if the chunk is none.

    The chunk does not refer to it any more: where tasks run in the program, the traceback of one that failed leads to
    the chunk, and the future to that traceback.
    """
    future = chunk.future
    if future is not None:
        chunk.future = SETTLED
    return future
