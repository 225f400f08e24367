"""A whole pool without a process: workers that do what the real ones do, store by store, on a manual clock.

The scheduler and its maps are the real ones. Everything they talk to is here: workers, pipes, outboxes, the
status board, deaths, consumers that pull input and take outcomes. A worker may be stopped between any two
stores, also while the scheduler reads its slot; it may be late; it may die anywhere.

Each choice (who moves next, who dies) is one byte of a script. When the script is used up, the world goes on
in the most ordinary way, so every run ends, and a script that fails shrinks to a short story. The world checks
its promises at each step and as a run ends; a broken one is an AssertionError that says which.
"""

from __future__ import annotations

import enum
import pickle
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from allcores.errors import InternalError, TaskTimeout, WorkerLost
from allcores.events import TaskPreempted, TaskRetried
from allcores.limits import Limits, Retry
from allcores.outcome import Failure, Kind
from allcores.pool.input_reader import MOST_CHUNKS
from allcores.pool.segment_values import open_segment
from allcores.scheduler.batch_size import Batch, BatchChunker
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.function import Function
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.memory_policy import MAX_PREEMPTIONS
from allcores.scheduler.messages import (
    Kill,
    Launch,
    Peek,
    Results,
    Send,
    SetLimit,
    Stop,
    WorkerGone,
    WorkerProgress,
)
from allcores.scheduler.scheduler import Scheduler
from allcores.scheduler.segment import Segment
from allcores.scheduler.timeouts import PEEK_NS
from allcores.scheduler.worker_state import Lifecycle
from allcores.transport.positions import (
    NO_LIMIT,
    PHASE_IDLE,
    PHASE_LOADING,
    PHASE_RUNNING,
    PHASE_SEALING,
    PHASE_SETUP,
    mark,
)
from allcores.worker.chunk_runner import BURST_NS, GROUP, MANY, MOST_STRIDE, SEAL_NS

MICRO, MILLI = 1_000, 1_000_000
#: time does not jump further than this while somebody could move, ns
SOON_NS = 100 * MILLI
#: after that the fickle give up what hangs, ns
PATIENCE_NS = 500 * MILLI
#: time of a step that waits for somebody else
FOREVER = 1 << 62
FUNCTION = Function(1, None, b"", "one", "function")


class Deed(enum.Enum):
    """What an item does to its worker."""

    RETURN = enum.auto()
    RAISE = enum.auto()
    #: never returns
    HANG = enum.auto()
    #: ends its process
    CRASH = enum.auto()
    #: ends its process as it is unpickled
    BOMB = enum.auto()
    #: raises as it is unpickled
    SPOILED = enum.auto()
    #: its result ends the process as it is pickled
    POISON = enum.auto()


@dataclass(eq=False)
class Task:
    """One item of the input. deeds: of its first, second ... execution; the last one stays."""

    index: int
    deeds: tuple[Deed, ...] = (Deed.RETURN,)
    duration_ns: int = 100 * MICRO
    size_bytes: int = 10
    result_bytes: int = 10
    executions: int = 0
    #: how often it was requeued for want of memory
    preempted: int = 0
    #: the worker that is in the middle of it
    runs_in: int | None = None
    #: it returned, and its result is safe
    sealed: bool = False
    #: (start, end) of the times in which it alone could be charged for what its worker did
    spans: list[tuple[int, int]] = field(default_factory=list)
    outcome: Kind | None = None

    @property
    def deed(self) -> Deed:
        return self.deeds[min(max(self.executions - 1, 0), len(self.deeds) - 1)]

    @property
    def next_deed(self) -> Deed:
        return self.deeds[min(self.executions, len(self.deeds) - 1)]

    def __repr__(self) -> str:
        return f"<Task {self.index} {'/'.join(deed.name for deed in self.deeds)}>"


class Raised(Exception):
    """What a task's function raised."""

    def __init__(self, task: Task) -> None:
        super().__init__(task.index)
        self.task = task


class Lost(Exception):
    """A death. charged: the task that may be charged for it, None if nobody may."""

    def __init__(self, charged: Task | None) -> None:
        super().__init__(charged)
        self.charged = charged


T = TypeVar("T")


class Script:
    """Bytes that decide; 0 once they are used up: so the first of several options is the plainest."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def over(self) -> bool:
        return self._at >= len(self._data)

    def byte(self) -> int:
        if self._at >= len(self._data):
            return 0
        self._at += 1
        return self._data[self._at - 1]

    def pick(self, *options: T) -> T:
        return options[self.byte() % len(options)]


class SimulatedWorker:
    """What worker/main.py and worker/chunk_runner.py do, as a generator: each `yield` is a place to be interrupted at.

    A yielded number is how long the step takes, in ns.
    """

    def __init__(self, number: int, world: World, *, setup_ns: int, items_limit: int | None) -> None:
        self.number = number
        self.world = world
        # --- its slot on the board ---
        self.phase = PHASE_IDLE
        self.sequence = 0
        #: one word: the position of the item that runs, and how many are in its call
        self.current = (0, 1)
        self.started = 0
        self.claimed = 0
        self.limit = NO_LIMIT
        # --- pipe and outbox ---
        self.inbox: deque[tuple[int, list[Task], bool, bool, int, int]] = deque()
        self.told_to_stop = False
        self.pipe: deque[Results | str] = deque()
        self.outbox: list[Results] = []
        # --- ours ---
        self.alive = True
        self.condemned = False
        #: the parent wants to look into its outbox
        self.peeked_at = False
        self.unattributed = False
        self.wakes_at = world.clock + setup_ns
        #: who may be charged if the process ended now
        self.charged: Task | None = None
        self._span_from = 0
        self._items_left = items_limit
        self._leaving = False
        self._flushed = world.clock
        self._report_ns = 0
        self._lifecycle = self._live()

    # --- seen from the world ---

    @property
    def may_move(self) -> bool:
        return self.alive and self.wakes_at <= self.world.clock

    @property
    def waits(self) -> bool:
        """For the parent: nothing to do."""
        return self.alive and self.wakes_at == FOREVER

    def step(self) -> None:
        if self.wakes_at == FOREVER:
            return
        try:
            self.wakes_at = min(FOREVER, self.world.clock + next(self._lifecycle))
        except StopIteration:
            self.die()

    def wake(self) -> None:
        if self.wakes_at == FOREVER and self.phase != PHASE_RUNNING:
            self.wakes_at = self.world.clock

    def die(self) -> None:
        self.alive = False

    def close_span(self) -> None:
        """The parent knows of the death only now: for it, the item ran until here."""
        if self.charged is not None:
            self.charged.spans.append((self._span_from, self.world.clock))

    def open_span(self, task: Task) -> tuple[int, int] | None:
        """Since when this one is charged, if it is."""
        return (self._span_from, self.world.clock) if self.charged is task else None

    def _charge(self, task: Task | None, since: int | None = None) -> None:
        """From now on `task` is charged for what happens here."""
        if task is self.charged:
            return
        self.close_span()
        self._span_from = self.world.clock if since is None else since
        self.charged = task

    # --- its life ---

    def _live(self) -> Iterator[int]:
        self.started, self.phase = 1, PHASE_SETUP
        yield 0
        self.started, self.phase = 0, PHASE_IDLE
        self.pipe.append("ready")
        while True:
            if self.inbox:
                yield from self._run(*self.inbox.popleft())
                if self._leaving:
                    break
            elif self.told_to_stop:
                break
            else:
                yield FOREVER
        yield from self._flush()

    def _run(
        self, sequence: int, items: list[Task], detailed: bool, untimed: bool, report_ns: int, batch: int
    ) -> Iterator[int]:
        self._report_ns = report_ns
        only = items[0] if len(items) == 1 else None
        base = mark(sequence, 0)
        self.started = self.world.clock
        self._charge(only if base < self.limit else None, self.started)
        yield 0
        self.current = (0, 1)
        yield 0
        self.sequence = sequence
        yield 0
        self.phase = PHASE_LOADING
        yield 0
        self.claimed = base
        yield 0
        if base >= self.limit:
            yield from self._seal(sequence, [], 0, 0, ended=True)
            yield from self._rest()
            return
        self._charge(only, self.started)
        yield 0
        bomb = next((task for task in items if task.next_deed is Deed.BOMB), None)
        if bomb is not None:
            self.world.note(f"worker {self.number} dies as it unpickles {items}")
            bomb.executions += 1
            self._charge(bomb)
            self.die()
            yield FOREVER
        if any(task.next_deed is Deed.SPOILED for task in items):
            if only is None:
                yield from self._put(Results(self.number, sequence, 0, 0, 0, ended=True, unloadable=True))
            else:
                self.started = self.world.clock
                yield 0
                self.phase = PHASE_RUNNING
                yield 0
                self.claimed = base + 1
                yield 0
                done = [(only, Deed.SPOILED, 0)] if base < self.limit else []
                only.executions += len(done)
                yield from self._seal(sequence, done, 0, 0, ended=True)
        else:
            self.started = self.world.clock
            yield 0
            if batch:
                self.current = (0, min(batch, len(items)))
                yield 0
            self.phase = PHASE_RUNNING
            self._charge(items[0] if base < self.limit and self.current[1] == 1 else None, self.started)
            if batch:
                yield from self._run_batches(sequence, items, batch, detailed)
            else:
                yield from self._run_items(sequence, items, detailed, untimed)
        yield from self._rest()

    def _run_items(self, sequence: int, items: list[Task], detailed: bool, untimed: bool) -> Iterator[int]:
        done: list[tuple[Task, Deed, int]] = []
        base = mark(sequence, 0)
        begun = now = self.world.clock
        first = position = 0
        stride = 1
        last = len(items) if self._items_left is None else min(len(items), self._items_left)
        while position < last:
            end = min(position + stride, last)
            self.claimed = base + end
            yield 0
            if base + end > self.limit:
                end = max(position, self.limit - base)
                if end == position:
                    break
            yield 0
            self.started = then = now
            yield 0
            until = now + BURST_NS
            mask = GROUP - 1 if stride >= MANY and untimed else 0
            for task in items[position:end]:
                self.current = (position, 1)
                self._charge(task, then)
                self._begin(task)
                yield 0
                if task.deed is Deed.HANG:
                    yield FOREVER
                yield task.duration_ns
                if task.deed is Deed.CRASH:
                    self.world.note(f"worker {self.number} dies as it runs {task}")
                    self.die()
                    yield FOREVER
                task.runs_in = None
                position += 1
                done.append((task, task.deed, self.world.clock - then))
                then = self.world.clock
                yield 0
                if position & mask:
                    continue
                now = then
                if now > until:
                    break
            now = self.world.clock
            stride = 1 if now > until else min(2 * stride, MOST_STRIDE)
            if now - begun > SEAL_NS and position < last:
                yield from self._seal(sequence, done, first, now - begun, detailed=detailed)
                done = []
                first = position
                begun = now = self.world.clock
        yield from self._seal(sequence, done, first, now - begun, ended=True, detailed=detailed)

    def _run_batches(self, sequence: int, items: list[Task], batch: int, detailed: bool) -> Iterator[int]:
        """What worker/batch_runner.py does."""
        done: list[tuple[Task, Deed, int]] = []
        base = claimed = mark(sequence, 0)
        begun = now = self.world.clock
        first = position = 0
        ends: list[int] = []
        last = len(items) if self._items_left is None else min(len(items), self._items_left)
        while position < last:
            end = ends.pop() if ends else min(position + batch, last)
            if base + end > claimed:
                self.claimed = claimed = base + end
                yield 0
            if base + end > self.limit:
                end = max(position, self.limit - base)
                if end == position:
                    break
            yield 0
            count = end - position
            self.started = then = now
            yield 0
            self.current = (position, count)
            self._charge(items[position] if count == 1 else None, then)
            for task in items[position:end]:
                self._begin(task)
            yield 0
            for task in items[position:end]:
                if task.deed is Deed.HANG:
                    yield FOREVER
                yield task.duration_ns
                if task.deed is Deed.CRASH:
                    self.world.note(f"worker {self.number} dies as it runs {task} in a batch of {count}")
                    self.die()
                    yield FOREVER
                if task.deed is Deed.RAISE:
                    break
            raised = any(task.deed is Deed.RAISE for task in items[position:end])
            for task in items[position:end]:
                task.runs_in = None
            now = self.world.clock
            if raised and count > 1:
                ends += [end, position + (count + 1) // 2]
                continue
            done += [(task, task.deed, (now - then) // count) for task in items[position:end]]
            position = end
            yield 0
            if now - begun > SEAL_NS and position < last:
                yield from self._seal(sequence, done, first, now - begun, detailed=detailed)
                done = []
                first = position
                begun = now = self.world.clock
        yield from self._seal(sequence, done, first, now - begun, ended=True, detailed=detailed)

    def _begin(self, task: Task) -> None:
        assert not task.sealed, f"{task} runs again although its result is known"
        other = self.world.workers.get(task.runs_in) if task.runs_in is not None else None
        assert other is None or not other.alive, f"{task} runs twice at the same time"
        task.runs_in = self.number
        task.executions += 1

    def _seal(
        self,
        sequence: int,
        done: list[tuple[Task, Deed, int]],
        start: int,
        total_ns: int,
        *,
        ended: bool = False,
        detailed: bool = False,
    ) -> Iterator[int]:
        self.phase = PHASE_SEALING
        if len(done) != 1:
            self._charge(None)
        yield 0
        if self._items_left is not None:
            self._items_left -= len(done)
        if ended and self._items_left is not None and self._items_left <= 0:
            self._leaving = True
        event = Results(self.number, sequence, start, len(done), total_ns, ended=ended, leaving=self._leaving)
        if done:
            poison = next((task for task, deed, _ in done if deed is Deed.POISON), None)
            if poison is not None:
                self.world.note(f"worker {self.number} dies as it seals {poison}")
                self._charge(poison)
                self.die()
                yield FOREVER
            self._pack(event, done, start, detailed)
        yield from self._put(event)
        self.phase = PHASE_RUNNING
        self._charge(None)
        yield 0

    def _pack(self, event: Results, done: list[tuple[Task, Deed, int]], start: int, detailed: bool) -> None:
        for task, deed, _ in done:
            task.sealed = deed is Deed.RETURN
        values = [value_of(task) for task, deed, _ in done if deed is Deed.RETURN]
        failures = [
            Failure(start + offset, Kind.FAILED, Raised(task))
            for offset, (task, deed, _) in enumerate(done)
            if deed is not Deed.RETURN
        ]
        if failures or detailed:
            event.values = values
            event.failures = failures or None
            event.durations = [duration for *_, duration in done]
        else:
            event.payloads = [pickle.dumps(values)]
        event.size_bytes = sum(task.result_bytes for task, deed, _ in done if deed is Deed.RETURN)

    def _put(self, event: Results) -> Iterator[int]:
        self.outbox.append(event)
        yield 0
        if self.world.clock - self._flushed > self._report_ns:
            yield from self._flush()

    def _flush(self) -> Iterator[int]:
        self.pipe.extend(self.outbox)
        yield 0  # here the outbox repeats what is in the pipe
        self.outbox.clear()
        self._flushed = self.world.clock

    def _rest(self) -> Iterator[int]:
        self._charge(None)
        self.started = 0
        yield 0
        self.phase = PHASE_IDLE
        yield from self._flush()


def value_of(task: Task) -> tuple[str, int]:
    """What the function returns for a task."""
    return "value", task.index


def check_payload(chunk: Chunk) -> None:
    """Its items are found in the bytes that they were pulled as, and it is known whether others are there, too."""
    if chunk.payload is not None:
        pulled = cast("tuple[Any, ...]", chunk.payload)
        assert list(pulled[chunk.skip : chunk.skip + len(chunk.items)]) == chunk.items, f"{chunk} has other bytes"
        assert chunk.shared is not None or len(pulled) == len(chunk.items), f"{chunk} is not alone in its bytes"
    assert chunk.waits_for is None, f"{chunk} waits no more"


class Client:
    """Who called a verb: pulls input as a `InputReader` does, takes outcomes as a `Stream` does, and checks them."""

    def __init__(self, world: World, map_state: MapState, tasks: list[Task]) -> None:
        self.world = world
        self.map_state = map_state
        self.tasks = tasks
        #: calls that were submitted, by task
        self.chunks: dict[int, Chunk] = {}
        self.cancelled_calls: set[int] = set()
        #: it may be the one to give up, when the script says so
        self.fickle = False
        self.given_up = False
        #: it has had all, and its map is forgotten
        self.left = False
        #: its input makes it wait, so that it pulls only for a worker that is idle
        self.slow = False
        #: it waits to be woken
        self.asleep = False
        self.peak_items = 0
        self.peak_bytes = 0

    @property
    def over(self) -> bool:
        """It has all that it will get."""
        if self.given_up:
            return True
        if self.map_state.calls:
            waiting = [task for task in self.tasks if task.outcome is None and task.index not in self.cancelled_calls]
            return not waiting
        return self.map_state.finished

    @property
    def may_consume(self) -> bool:
        if self.asleep or self.map_state.calls or self.given_up:
            return False
        return bool(self.map_state.ready) or not (self.over or self.may_pull)

    @property
    def may_pull(self) -> bool:
        map_state = self.map_state
        if self.asleep or self.given_up or map_state.exhausted or map_state.broken is not None:
            return False
        if map_state.calls:
            return True
        if self.slow and not self.world.demand.hungry:
            return False
        return self.world.demand.room(map_state) > 0 and map_state.want(self.world.state.workers) > 0

    def pull(self, at_most: int | None = None) -> None:
        """One chunk of input, or one submitted call."""
        map_state, scheduler, demand = self.map_state, self.world.scheduler, self.world.demand
        wanted = 1 if map_state.calls else map_state.want(scheduler.state.workers)
        if not map_state.calls:
            lone = map_state.pulled == map_state.consumed
            assert lone or map_state.bytes_out < map_state.bytes_limit, (
                f"pulls although {map_state.bytes_out} bytes are out"
            )
        number = wanted if at_most is None else min(wanted, at_most)
        chunks = []
        index = map_state.pulled
        room = 1
        if not (map_state.calls or self.slow):
            room = min(demand.room(map_state), MOST_CHUNKS, max(1, map_state.credit // wanted))
        for _ in range(room if at_most is None else 1):
            items = self.tasks[index : index + number]
            if items:
                chunk = Chunk(map_state, FUNCTION, index, items, future=items[0] if map_state.calls else None)
                chunk.payload = cast(bytes, tuple(items))
                chunk.size_bytes = sum(task.size_bytes for task in items)
                chunks.append(chunk)
                index += len(items)
                if map_state.calls:
                    self.chunks[items[0].index] = chunk
            if len(items) < number:
                break
        if chunks:

            def add(now: int) -> None:
                for chunk in chunks:
                    scheduler.add(chunk, now)

            self.world.turn(add)
        if len(items) < number or (map_state.calls and map_state.pulled == len(self.tasks)):
            map_state.exhausted = True
            scheduler.state.dirty_maps.add(map_state)
            self.world.turn(lambda now: None)
        self._resident_tree_bytes()

    def _resident_tree_bytes(self) -> None:
        map_state = self.map_state
        self.peak_items = max(self.peak_items, map_state.pulled - map_state.consumed)
        self.peak_bytes = max(self.peak_bytes, map_state.bytes_out)
        assert map_state.calls or self.peak_items <= map_state.items_limit, (
            "more items are out than there is credit for"
        )

    def consume(self) -> None:
        """Take what is ready, or fall asleep."""
        segment = self.map_state.take()
        if segment is not None:
            self.check(segment)
            return
        map_state, scheduler, demand = self.map_state, self.world.scheduler, self.world.demand
        if not map_state.exhausted and not map_state.may_pull and demand.room(map_state) > 0:
            self.world.turn(scheduler.starved)
        self.asleep = not self.over and not self.may_pull and not map_state.ready
        # A stream does not wait then, it looks again.
        assert not (self.asleep and demand.starving(map_state)), f"the reader of map {map_state.number} spins"

    def check(self, segment: Segment) -> None:
        """The promises about outcomes."""
        map_state = self.map_state
        assert segment.count == len(segment.items), f"{segment.count} outcomes for {segment.items}"
        values = list(open_segment(segment))
        failures = {failure.offset: failure for failure in segment.failures or ()}
        assert len(values) + len(failures) == segment.count, "outcomes are missing, or too many"
        assert list(failures) == sorted(failures), "failures are not sorted"
        assert segment.durations is None or len(segment.durations) == segment.count, "seconds are missing"
        for offset, task in enumerate(segment.items):
            assert task.outcome is None, f"{task} has two outcomes"
            assert map_state.calls or task.index == segment.start + offset, f"{task} got the index of another item"
            if map_state.ordered and not map_state.calls and task.index:
                assert self.tasks[task.index - 1].outcome is not None, f"{task} came before its turn"
            failure = failures.get(offset)
            if failure is None:
                value = values.pop(0)
                assert value == value_of(task), f"{task} got {value}"
                task.outcome = Kind.OK
            else:
                task.outcome = failure.kind
                self.check_charge(task, failure.kind, failure.error)
            assert segment.attempt <= map_state.retry.times + 1, f"{task} was tried {segment.attempt} times"
            assert map_state.calls is (segment.future is not None)
            assert segment.future is None or segment.future is task

    def check_charge(self, task: Task, kind: Kind, error: BaseException) -> None:
        """An attempt of `task` was counted as failed: was it its own fault?"""
        if kind is Kind.FAILED:
            assert isinstance(error, Raised) and error.task is task, f"{task} is charged for {error!r}"
        elif kind is Kind.WORKER_LOST:
            if isinstance(error, WorkerLost):
                assert "memory ran out" in str(error) and task.preempted == MAX_PREEMPTIONS
                return
            assert isinstance(error, Lost), f"{task} is charged for {error!r}"
            assert error.charged is task, f"{task} is charged instead of {error.charged}"
        elif kind is Kind.TIMED_OUT:
            assert isinstance(error, TaskTimeout) and self.map_state.timeout_ns is not None
            assert error.index == (None if self.map_state.calls else task.index), (
                f"{task} is charged for the time of items[{error.index}]"
            )
            # One that raised as it was ended may have been heard of before its worker went on.
            spans = [*task.spans, *(span for each in self.world.workers.values() if (span := each.open_span(task)))]
            longest = max((end - start for start, end in spans), default=0)
            # The time on the board is that of a burst of quick items.
            assert longest >= self.map_state.timeout_ns - BURST_NS, f"{task} is charged for {longest} ns"
        else:
            assert kind is Kind.CANCELLED and self.map_state.stopped, f"{task} ended as {kind}"

    def cancel(self) -> None:
        """Give the whole map up, as the driver does: nothing is left of it but what workers have."""
        self.given_up = True
        self.world.note(f"map {self.map_state.number} is cancelled")

        def end(now: int) -> None:
            self.world.scheduler.cancel(self.map_state, now)
            self.world.scheduler.forget(self.map_state)

        self.world.turn(end)

    def leave(self) -> None:
        """It has all that it will get, and its map is over, as the driver has it."""
        self.left = True
        self.world.turn(lambda now: self.world.scheduler.forget(self.map_state))

    def cancel_call(self, index: int) -> None:
        """Give one call up, as its future's `cancel` does."""
        if index in self.cancelled_calls or self.tasks[index].outcome is not None:
            return
        self.cancelled_calls.add(index)
        self.world.note(f"call {index} is cancelled")
        chunk = self.chunks[index]
        self.world.turn(lambda now: self.world.scheduler.cancel_chunk(chunk, now))

    def stop(self) -> None:
        """Start nothing more, as `Stream.stop` does."""
        self.world.note(f"map {self.map_state.number} is stopped")
        self.world.turn(lambda now: self.world.scheduler.stop(self.map_state, now))


class World:
    """A scheduler and all that it talks to.

    kills, templates: how many workers may be killed from outside, and how often all of them at once.
    squeezes: how many readings of the memory say what the script says, after which there is plenty; -1: after which
    others have filled the machine for ever. None: it is not watched.
    """

    #: bytes of the machine, and what is to stay available
    TOTAL, RESERVE = 100_000, 10_000

    def __init__(
        self,
        workers: int = 2,
        *,
        limits: Limits | None = None,
        script: Script | None = None,
        setup_ns: int = 0,
        items_limit: int | None = None,
        kills: int = 0,
        templates: int = 0,
        squeezes: int | None = None,
        most_steps: int = 20_000,
    ) -> None:
        self.script = script or Script(b"")
        self.clock = 1_000_000_000
        self.scheduler = Scheduler(workers, limits or Limits(), self.progress, rng=random.Random(1))
        self.state, self.demand = self.scheduler.state, self.scheduler.demand
        self.workers: dict[int, SimulatedWorker] = {}
        self.clients: list[Client] = []
        self.story: list[str] = []
        self.kills = kills
        self.templates = templates
        self.steps_left = most_steps
        self._squeezes = 200 if squeezes == -1 else squeezes or 0
        self._filled = squeezes == -1
        if squeezes is not None:
            self.scheduler.admission.watch(self._read_memory, self._resident_tree_bytes)
        self._setup_ns = setup_ns
        self._items_limit = items_limit
        self._in_turn = False
        self._turns = 0
        self.turn(lambda now: self.scheduler.fill(now))

    # --- the cast ---

    def map(
        self,
        tasks: list[Task],
        *,
        chunk: int | None = None,
        batch: Batch | None = None,
        total: bool = True,
        **options: Any,
    ) -> Client:
        """A map over `tasks`, and its consumer."""
        bytes_limit = options.get("bytes_limit", 1 << 28)
        map_state = MapState(
            len(self.clients) + 1,
            chunker=Chunker(chunk) if batch is None else BatchChunker(chunk, batch, bytes_limit),
            total=len(tasks) if total else None,
            **options,
        )
        return self._on_ready(map_state, tasks)

    def calls(self, tasks: list[Task], *, timeout_ns: int | None = None, retry: Retry | None = None) -> Client:
        """A map of submitted calls."""
        map_state = MapState(len(self.clients) + 1, chunker=Chunker(1), calls=True, timeout_ns=timeout_ns, retry=retry)
        return self._on_ready(map_state, tasks)

    def _on_ready(self, map_state: MapState, tasks: list[Task]) -> Client:
        client = Client(self, map_state, tasks)
        self.clients.append(client)
        self.scheduler.open(map_state)
        return client

    def note(self, text: str) -> None:
        self.story.append(f"{(self.clock - 1_000_000_000) / 1e6:10.3f} ms  {text}")

    # --- turns of the driver ---

    def turn(self, step: Any) -> None:
        """Let the scheduler decide, then carry out what it ordered. Its time is that of the turn's beginning."""
        assert not self._in_turn
        self._in_turn = True
        step(self.clock)
        while self.state.commands:
            commands, self.state.commands = self.state.commands, []
            for order in commands:
                self._execute(order)
        self._in_turn = False
        for map_state in list(self.state.dirty_maps):
            for client in self.clients:
                if client.map_state is map_state:
                    self._wake(client)
        self.state.dirty_maps.clear()
        events, self.state.events = self.state.events, []
        for each in events:
            if isinstance(each, TaskPreempted):
                task = self.clients[each.map_number - 1].tasks[each.index]
                task.preempted += 1
                assert each.times == task.preempted <= MAX_PREEMPTIONS and not task.sealed
            elif isinstance(each, TaskRetried):
                client = self.clients[each.map_number - 1]
                assert each.attempt <= client.map_state.retry.times
                client.check_charge(client.tasks[each.index], each.kind, each.error)
                assert 0 <= each.wait_s <= client.map_state.retry.wait_max_s
        self._check_worker_states()

    def _wake(self, client: Client) -> None:
        if client.map_state.calls:
            while (segment := client.map_state.take()) is not None:
                assert segment.items[0].index not in client.cancelled_calls, "a cancelled call has an outcome"
                client.check(segment)
        elif client.map_state.ready or client.map_state.finished or self.demand.wants_input(client.map_state):
            client.asleep = False

    def _execute(self, order: Any) -> None:
        self.note(f"order {order}")
        if isinstance(order, Launch):
            assert order.worker not in self.workers
            self.workers[order.worker] = SimulatedWorker(
                order.worker, self, setup_ns=self._setup_ns, items_limit=self._items_limit
            )
            return
        worker = self.workers.get(order.worker)
        assert worker is not None, f"{order} to nobody"
        if isinstance(order, Send):
            assert worker.limit == NO_LIMIT, f"{order} to a worker that has a limit"
            assert not worker.condemned and not worker.told_to_stop, f"{order} to a worker that is to end"
            assert self.state.worker_states[order.worker].lifecycle is Lifecycle.READY
            assert order.chunk.items and not order.chunk.done, f"{order} is not whole"
            assert not order.chunk.map_state.cancelled and not order.chunk.cancelled, f"{order} that nobody wants"
            check_payload(order.chunk)
            assert order.chunk.attempt <= order.chunk.map_state.retry.times + 1, f"{order} is one attempt too many"
            map_state = order.chunk.map_state
            untimed = map_state.timeout_ns is None and not map_state.detailed
            report_ns = map_state.chunker.target_ns
            chunk = order.chunk
            order_of = (chunk.sequence, list(chunk.items), map_state.detailed, untimed, report_ns, chunk.batch)
            worker.inbox.append(order_of)
            worker.wake()
        elif isinstance(order, SetLimit):
            worker.limit = order.limit
        elif isinstance(order, Peek):
            worker.peeked_at = True
        elif isinstance(order, Kill):
            termination = self.state.worker_states[order.worker].termination
            if "memory" in order.reason and termination is not None and not termination.preempted:
                others = [worker_state for worker_state in self.state.worker_states.values() if worker_state.chunks]
                assert [worker_state.worker for worker_state in others] == [order.worker], f"it was not alone: {others}"
            worker.condemned = True
        elif isinstance(order, Stop):
            assert not worker.inbox
            worker.told_to_stop = True
            worker.wake()

    def _check_worker_states(self) -> None:
        ready = 0
        depth, depth_short = self.state.depth, self.state.depth_short
        places = ["idle", *["spare"] * (depth - 1), *["deep"] * (depth_short - depth)]
        for worker_state in self.state.worker_states.values():
            assert len(worker_state.chunks) <= depth_short, f"{worker_state} holds more than {depth_short} chunks"
            sequences = [chunk.sequence for chunk in worker_state.chunks]
            assert sequences == sorted(set(sequences)), f"{worker_state} holds chunks out of order"
            state = self.state
            listed = [name for name in ("idle", "spare", "deep") if worker_state in getattr(state, name)]
            where = places[len(worker_state.chunks) :][:1]
            if worker_state.open and len(worker_state.chunks) < depth_short:
                assert listed == where, f"{worker_state} is listed as {listed}"
            else:
                assert not listed, f"{worker_state} is listed as {listed}"
            ready += (
                worker_state.lifecycle in (Lifecycle.STARTING, Lifecycle.READY) and worker_state.termination is None
            )
        if not self.state.closing and self.state.broken is None:
            waiting = [client for client in self.clients if client.map_state.pending and not client.map_state.cancelled]
            busy = any(worker_state.chunks for worker_state in self.state.worker_states.values())
            held = self.state.narrow and busy
            assert held or not (waiting and self.state.idle), f"{list(self.state.idle)} idle while chunks wait"
            assert ready == self.state.workers, f"{ready} of {self.state.workers} workers"

    def _read_memory(self) -> tuple[int, int]:
        """A reading of the memory, as the script will have it."""
        if not self._squeezes:
            return (0 if self._filled else self.TOTAL), self.TOTAL
        self._squeezes -= 1
        share = self.script.pick(100, 0, 4, 7, 11, 30)
        self.note(f"{share} % of the memory are available")
        return share * self.TOTAL // 100, self.TOTAL

    def _resident_tree_bytes(self, worker: int) -> int:
        return 0 if not self._squeezes and self._filled else self.script.pick(self.RESERVE, 0, self.RESERVE // 3)

    def progress(self, number: int) -> WorkerProgress | None:
        """The worker's slot, read word by word as the board does, while the worker may go on."""
        worker = self.workers.get(number)
        if worker is None:
            return None
        haste = self.script.byte()
        claimed = worker.claimed
        self._meanwhile(worker, haste, 0)
        phase = worker.phase
        self._meanwhile(worker, haste, 1)
        sequence = worker.sequence
        self._meanwhile(worker, haste, 2)
        position, together = worker.current
        self._meanwhile(worker, haste, 3)
        started = worker.started
        self._meanwhile(worker, haste, 4)
        return WorkerProgress(sequence, position, started, phase, claimed, together)

    def _meanwhile(self, worker: SimulatedWorker, haste: int, bit: int) -> None:
        """The worker makes some steps, and may be quicker than our idea of the time."""
        if haste < 128 or not haste >> bit & 1 or not self._in_turn:
            return
        for _ in range(1 + self.script.byte() % 24):
            if not worker.may_move and worker.alive and worker.wakes_at - self.clock < 2 * MILLI:
                self.clock = worker.wakes_at
            if worker.may_move:
                worker.step()

    # --- moves ---

    def moves(self) -> list[tuple[str, Any]]:
        """What may happen now, the most ordinary first. Half of all time is spent here: one look at each."""
        clock = self.clock
        found: list[tuple[str, Any]] = []
        steps: list[tuple[str, Any]] = []
        event = FOREVER
        for worker in self.workers.values():
            if not worker.alive:
                found.append(("reap", worker))
                continue
            if worker.pipe:
                found.append(("deliver", worker))
            if worker.peeked_at:
                found.append(("peek", worker))
            if worker.wakes_at <= clock:
                steps.append(("step", worker))
            elif worker.wakes_at < event:
                event = worker.wakes_at
            if worker.condemned:
                steps.append(("reap", worker))
        alarm = self.scheduler.next_timer_ns
        if alarm is not None:
            if alarm <= clock:
                found.append(("tick", None))
            elif alarm < event:
                event = alarm
        found += steps
        # Readers are threads: none of them is always the first.
        self._turns += 1
        clients = self.clients
        first = self._turns % len(clients) if clients else 0
        for client in clients[first:] + clients[:first]:
            if client.asleep or client.given_up or client.left:
                continue
            may_pull = client.may_pull
            if not client.map_state.calls:
                if client.map_state.finished:
                    found.append(("leave", client))
                elif client.map_state.ready or not may_pull:
                    found.append(("consume", client))
            if may_pull:
                found.append(("pull", client))
        if event < FOREVER and (not found or event < clock + SOON_NS):
            found.append(("advance", None))
        return found

    def next_event(self) -> int | None:
        """When something can happen by itself; None if never."""
        times = [worker.wakes_at for worker in self.workers.values() if worker.alive and worker.wakes_at < FOREVER]
        alarm = self.scheduler.next_timer_ns
        if alarm is not None:
            times.append(alarm)
        later = [time for time in times if time > self.clock]
        return min(later, default=None)

    def play(self, move: str, subject: Any) -> None:
        """Make one move."""
        if move == "deliver":
            self._deliver(subject)
        elif move == "reap":
            self._reap(subject)
        elif move == "peek":
            self._peek(subject)
        elif move == "tick":
            self.turn(self.scheduler.tick)
        elif move == "step":
            subject.step()
        elif move == "reap":
            self.note(f"worker {subject.number} is ended")
            subject.die()
        elif move == "kill":
            self.note(f"worker {subject.number} is killed by a stranger at {subject.charged}")
            subject.die()
        elif move == "consume":
            subject.consume()
        elif move == "pull":
            subject.pull()
        elif move == "leave":
            subject.leave()
        elif move == "advance":
            until = self.next_event()
            assert until is not None
            self.clock = until

    def _deliver(self, worker: SimulatedWorker) -> None:
        message = worker.pipe.popleft()
        self.note(f"worker {worker.number} says {_brief(message)}")
        if isinstance(message, Results):
            self.turn(lambda now: self.scheduler.results(message, now))
        else:
            self.turn(lambda now: self.scheduler.ready(worker.number, now))

    def _peek(self, worker: SimulatedWorker) -> None:
        """Read what waits in the outbox, as ProcessBackend does: a copy, which repeats what comes through the pipe."""
        worker.peeked_at = False
        if worker.started and worker.phase == PHASE_RUNNING and self.clock - worker.started >= PEEK_NS // 2:
            for event in list(worker.outbox):
                self.note(f"worker {worker.number} is seen to have {_brief(event)}")
                self.turn(lambda now, event=event: self.scheduler.results(event, now))

    def _reap(self, worker: SimulatedWorker) -> None:
        worker.close_span()
        while worker.pipe:
            self._deliver(worker)
        for event in worker.outbox:
            self.note(f"worker {worker.number} has left {_brief(event)}")
            self.turn(lambda now, event=event: self.scheduler.results(event, now))
        position, together = worker.current
        progress = WorkerProgress(worker.sequence, position, worker.started, worker.phase, worker.claimed, together)
        running = progress if progress.started_ns and progress.phase >= PHASE_LOADING else None
        charged = None if worker.unattributed else worker.charged
        death = WorkerGone(worker.number, running, Kind.WORKER_LOST, Lost(charged), "it died", worker.unattributed)
        self.note(f"worker {worker.number} is gone at {running}, {charged} is charged")
        del self.workers[worker.number]
        self.turn(lambda now: self.scheduler.gone(death, now))

    # --- runs ---

    def run(self) -> None:
        """Follow the script, then go on in the ordinary way until everybody has what they came for."""
        try:
            while not self.script.over:
                self._wild_step()
            self.settle()
        except (AssertionError, InternalError) as error:
            error.add_note("\n".join(self.story))
            raise

    def run_for(self, steps: int) -> None:
        """So many moves, as the script says."""
        for _ in range(steps):
            self._wild_step()

    def _count(self) -> None:
        self.steps_left -= 1
        assert self.steps_left > 0, "it goes on for ever"

    def _wild_step(self) -> None:
        self._count()
        moves = self.moves()
        byte = self.script.byte()
        if byte >= 250:
            self._misfortune()
            return
        if moves:
            move, subject = moves[byte % len(moves)]
            if move == "pull" and byte & 64:
                subject.pull(1 + self.script.byte() % 4)
            else:
                self.play(move, subject)

    def _misfortune(self) -> None:
        """Something that does not happen every day."""
        byte = self.script.byte()
        alive = [worker for worker in self.workers.values() if worker.alive]
        kind = byte % 4
        if kind <= 1 and self.kills and alive:
            self.kills -= 1
            self.play("kill", alive[byte // 4 % len(alive)])
        elif kind == 2 and self.templates and alive:
            self.templates -= 1
            self.note("the template is lost")
            for worker in alive:
                worker.unattributed = True
                worker.die()
        elif kind == 3:
            self.cancel_something(byte // 4)

    def cancel_something(self, choice: int) -> None:
        """One of the clients that came to give up does so."""
        willing = [client for client in self.clients if client.fickle and not (client.given_up or client.left)]
        if not willing:
            return
        client = willing[choice % len(willing)]
        if client.map_state.calls:
            if client.chunks:
                client.cancel_call(list(client.chunks)[choice // len(willing) % len(client.chunks)])
        elif choice & 1 and not client.map_state.stopped:
            client.stop()
        else:
            client.cancel()

    def settle(self, *, until: Any = None) -> None:
        """Ordinary moves only, each in its turn, until all is quiet."""
        patient_until = self.clock + PATIENCE_NS
        while not (until() if until is not None else self.quiet):
            self._count()
            if self.clock > patient_until and self._give_up_what_hangs():
                patient_until += PATIENCE_NS
            moves = self.moves()
            now = [move for move in moves if move[0] != "advance"]
            if now:
                for move, subject in now:
                    if self._still_may(move, subject):
                        self.play(move, subject)
            elif moves:
                self.play("advance", None)
            else:
                assert self._give_up_what_hangs(), "everybody waits for somebody else"
        if until is None:
            self.check_end()

    def _give_up_what_hangs(self) -> bool:
        """The fickle lose patience; False if there is nobody to lose it."""
        for client in self.clients:
            if client.fickle and not client.over:
                if not client.map_state.calls:
                    client.cancel()
                    return True
                for task in client.tasks:
                    waiting = task.outcome is None and task.index in client.chunks.keys() - client.cancelled_calls
                    if waiting and task.deed is Deed.HANG:
                        client.cancel_call(task.index)
                        return True
        return False

    def _still_may(self, move: str, subject: Any) -> bool:
        if move == "pull":
            return bool(subject.may_pull)
        if move == "consume":
            return bool(subject.may_consume)
        if move == "leave":
            return not (subject.left or subject.given_up)
        if move == "deliver":
            return subject.alive and bool(subject.pipe)
        if move == "reap":
            return subject.number in self.workers
        if move in ("step", "reap", "peek"):
            return bool(subject.alive)
        return True

    @property
    def quiet(self) -> bool:
        """Everybody has got what they came for, and all workers are back."""
        return (
            all(client.over for client in self.clients)
            and not any(
                worker_state.chunks or worker_state.lifecycle is not Lifecycle.READY
                for worker_state in self.state.worker_states.values()
            )
            and not any(worker.pipe or not worker.alive for worker in self.workers.values())
            and not self.scheduler.waiting_for_time
        )

    def check_end(self) -> None:
        """What must hold when everything is over."""
        state, demand = self.state, self.demand
        for client in self.clients:
            map_state = client.map_state
            assert not map_state.pending, f"map {map_state.number} has left {list(map_state.pending)}"
            if client.given_up:
                continue
            assert not client.asleep, f"nobody woke the reader of map {map_state.number}"
            assert map_state.settled == map_state.pulled, f"{map_state.settled} of {map_state.pulled} settled"
            assert map_state.calls or map_state.consumed == map_state.pulled
            assert map_state.bytes_out == 0, f"{map_state.bytes_out} bytes of credit are lost"
            if not map_state.stopped:
                assert map_state.pulled == len(client.tasks)
            for task in client.tasks[: map_state.pulled]:
                assert task.outcome is not None or task.index in client.cancelled_calls, f"{task} has no outcome"
        pulled = sum(client.map_state.pulled for client in self.clients)
        kinds = {kind.value: state.counters.count(kind) for kind in Kind}
        assert sum(kinds.values()) == pulled, f"{kinds} for {pulled} items"
        worker_states = list(state.worker_states.values())
        assert len(worker_states) == state.workers, f"{len(worker_states)} of {state.workers} workers are left"
        assert all(worker_state.open for worker_state in worker_states), f"some cannot be given work: {worker_states}"
        assert demand.hungry


def _brief(message: Results | str) -> str:
    if isinstance(message, str):
        return message
    flags = "".join(f" {name}" for name in ("ended", "leaving", "unloadable") if getattr(message, name))
    failed = f" {len(message.failures)} failed" if message.failures else ""
    return f"chunk {message.sequence} [{message.start}:{message.start + message.count}]{failed}{flags}"


# --- worlds of all kinds --------------------------------------------------------------------------

#: what the items of one map are like, the plainest first
MANNERS: tuple[tuple[Deed, ...], ...] = (
    (Deed.RETURN,),
    (Deed.RETURN, Deed.RAISE),
    (Deed.RETURN, Deed.RETURN, Deed.RETURN, Deed.RAISE, Deed.CRASH, Deed.BOMB, Deed.SPOILED, Deed.POISON),
    tuple(Deed),
)
PACES_NS = ((0,), (0, 10 * MICRO, 150 * MICRO), (150 * MICRO, MILLI), (MILLI, 30 * MILLI), (250 * MICRO, 120 * MILLI))


def world_of(data: bytes, *, squeezed: bool = False) -> World:
    """The world that the first bytes of `data` describe; the rest is its script. squeezed: memory may be short."""
    script = Script(data)
    pick = script.pick
    squeezes = pick(20, 3, -1) if squeezed else None
    world = World(
        pick(2, 1, 3, 4),
        limits=Limits(grace_s=pick(0.1, 0.0), memory_reserve=World.RESERVE),
        script=script,
        setup_ns=pick(0, 3 * MILLI),
        items_limit=pick(None, None, None, 1, 2, 5),
        kills=pick(0, 0, 1, 2),
        templates=pick(0, 0, 0, 1),
        squeezes=squeezes,
    )
    for _ in range(pick(1, 2, 3)):
        _add_client(world, pick)
    return world


def _add_client(world: World, pick: Any) -> None:
    fickle = pick(False, False, True)
    timeout_ns = pick(None, 5 * MILLI, MILLI, 50 * MILLI)
    retry = Retry(
        times=pick(0, 1, 2), wait_s=pick(0.0, 0.005), on_timeout=pick(True, False), on_worker_lost=pick(True, False)
    )
    deeds, paces_ns, sizes = pick(*MANNERS), pick(*PACES_NS), pick((10,), (10, 1000), (0,))
    if timeout_ns is None and not fickle:
        # Somebody has to end what hangs.
        deeds = tuple(deed for deed in deeds if deed is not Deed.HANG)
    else:
        paces_ns = tuple(min(pace_ns, (timeout_ns or FOREVER) // 2) for pace_ns in paces_ns)
    calls = pick(False, False, True)
    tasks = [
        Task(number, (pick(*deeds), pick(*deeds)), pick(*paces_ns), pick(*sizes), pick(*sizes))
        for number in range(pick(3, 1, 0, 8) if calls else pick(3, 1, 0, 12, 24))
    ]
    if calls:
        client = world.calls(tasks, timeout_ns=timeout_ns, retry=retry)
    else:
        client = world.map(
            tasks,
            chunk=pick(None, 1, 3, 8),
            batch=pick(None, None, 2, 3, 8, "auto"),
            total=pick(True, False),
            ordered=pick(True, False),
            timeout_ns=timeout_ns,
            retry=retry,
            detailed=pick(False, True),
            items_limit=pick(65_536, 4, 20),
            bytes_limit=pick(1 << 28, 500),
        )
        client.slow = pick(False, False, True)
    client.fickle = fickle


def slow_world(seed: int) -> World:
    """Several maps; some have slow inputs, so that their readers sleep until a worker is idle; some are given up."""
    dice = random.Random(seed)
    pick = dice.choice
    world = World(
        pick((1, 2, 2, 3)),
        limits=Limits(grace_s=pick((0.1, 1_000.0)), memory_reserve=World.RESERVE),
        script=Script(dice.randbytes(pick((0, 50, 400)))),
        setup_ns=pick((0, 3 * MILLI)),
        items_limit=pick((None, None, 2)),
        kills=pick((0, 1)),
        squeezes=pick((None, None, 3, 20)),
    )
    for _ in range(pick((2, 3, 4))):
        pace_ns = pick((0, 150 * MICRO, MILLI, 30 * MILLI))
        deeds = pick(((Deed.RETURN,), (Deed.RETURN,), (Deed.RETURN, Deed.RAISE), (Deed.RETURN, Deed.CRASH)))
        client = world.map(
            [Task(number, (pick(deeds),), pick((pace_ns, 0))) for number in range(pick((1, 3, 12, 24)))],
            chunk=pick((None, 1, 3)),
            total=pick((True, False)),
            ordered=pick((True, False)),
            retry=Retry(times=pick((0, 1)), wait_s=pick((0.0, 0.005))),
            items_limit=pick((65_536, 4, 20)),
            bytes_limit=pick((1 << 28, 500)),
        )
        client.slow = pick((True, True, False))
    for client in dice.sample(world.clients, dice.randrange(len(world.clients))):
        world.run_for(dice.randrange(60))
        if not client.left:
            pick((client.cancel, client.cancel, client.stop))()
    return world
