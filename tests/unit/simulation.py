"""A whole pool without a process: workers that do what worker/runner.py does, store by store, on a clock of our own.

The dispatcher and its flows are the real ones. Everything they talk to is here: workers, pipes, outboxes, the
status board, deaths, consumers that pull input and take outcomes. A worker may be stopped between any two
stores, also while the dispatcher reads its slot; it may be late; it may die anywhere.

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
from typing import Any, TypeVar

from allcores.engine.chunker import Chunker
from allcores.engine.desk import Life
from allcores.engine.dispatcher import Dispatcher
from allcores.engine.events import (
    Failure,
    Glance,
    Kill,
    Launch,
    Peek,
    Results,
    Send,
    SetLimit,
    Stop,
    TaskPostponed,
    TaskRetried,
    WorkerGone,
)
from allcores.engine.flow import Chunk, Flow, Function, Segment
from allcores.engine.pressure import MOST_POSTPONED
from allcores.engine.roster import DEPTH_SHORT
from allcores.engine.watch import PEEK_NS
from allcores.errors import TaskTimeout, WorkerLost
from allcores.feeder import MOST_CHUNKS
from allcores.limits import Limits, Retry
from allcores.outcome import Kind
from allcores.stream import open_segment
from allcores.transport.marks import (
    NO_LIMIT,
    PHASE_IDLE,
    PHASE_LOADING,
    PHASE_RUNNING,
    PHASE_SEALING,
    PHASE_SETUP,
    mark,
)
from allcores.worker.runner import BURST_NS, GROUP, MANY, MOST_STRIDE, SEAL_NS

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
    #: how often it was put back for want of memory
    postponed: int = 0
    #: the worker that is in the middle of it
    runs_in: int | None = None
    #: it returned, and its result is safe
    sealed: bool = False
    #: (start, end) of the times in which it alone was to blame for what its worker did
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
    """A death. to_blame: the task that may be charged for it, None if nobody may."""

    def __init__(self, to_blame: Task | None) -> None:
        super().__init__(to_blame)
        self.to_blame = to_blame


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
    """What worker/main.py and worker/runner.py do, as a generator: each `yield` is a place to be interrupted at.

    A yielded number is how long the step takes, in ns.
    """

    def __init__(self, number: int, world: World, *, setup_ns: int, items_limit: int | None) -> None:
        self.number = number
        self.world = world
        # --- its slot on the board ---
        self.phase = PHASE_IDLE
        self.sequence = 0
        self.current = 0
        self.started = 0
        self.claimed = 0
        self.limit = NO_LIMIT
        # --- pipe and outbox ---
        self.inbox: deque[tuple[int, list[Task], bool, bool, int]] = deque()
        self.told_to_stop = False
        self.pipe: deque[Results | str] = deque()
        self.outbox: list[Results] = []
        # --- ours ---
        self.alive = True
        self.condemned = False
        #: the parent wants to look into its outbox
        self.peeked_at = False
        self.innocent = False
        self.wakes_at = world.clock + setup_ns
        #: who may be charged if the process ended now
        self.to_blame: Task | None = None
        self._span_from = 0
        self._items_left = items_limit
        self._leaving = False
        self._flushed = world.clock
        self._report_ns = 0
        self._life = self._live()

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
            self.wakes_at = min(FOREVER, self.world.clock + next(self._life))
        except StopIteration:
            self.die()

    def wake(self) -> None:
        if self.wakes_at == FOREVER and self.phase != PHASE_RUNNING:
            self.wakes_at = self.world.clock

    def die(self) -> None:
        self.alive = False

    def close_span(self) -> None:
        """The parent knows of the death only now: for it, the item ran until here."""
        if self.to_blame is not None:
            self.to_blame.spans.append((self._span_from, self.world.clock))

    def _blame(self, task: Task | None, since: int | None = None) -> None:
        """From now on `task` is to blame for what happens here."""
        if task is self.to_blame:
            return
        self.close_span()
        self._span_from = self.world.clock if since is None else since
        self.to_blame = task

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

    def _run(self, sequence: int, items: list[Task], detailed: bool, untimed: bool, report_ns: int) -> Iterator[int]:
        self._report_ns = report_ns
        only = items[0] if len(items) == 1 else None
        base = mark(sequence, 0)
        self.started = self.world.clock
        self._blame(only if base < self.limit else None, self.started)
        yield 0
        self.current = 0
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
        self._blame(only, self.started)
        yield 0
        bomb = next((task for task in items if task.next_deed is Deed.BOMB), None)
        if bomb is not None:
            self.world.note(f"worker {self.number} dies as it unpickles {items}")
            bomb.executions += 1
            self._blame(bomb)
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
            self.phase = PHASE_RUNNING
            self._blame(items[0] if base < self.limit else None, self.started)
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
                self.current = position
                self._blame(task, then)
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
            self._blame(None)
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
                self._blame(poison)
                self.die()
                yield FOREVER
            self._pack(event, done, start, detailed)
        yield from self._put(event)
        self.phase = PHASE_RUNNING
        self._blame(None)
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
        self._blame(None)
        self.started = 0
        yield 0
        self.phase = PHASE_IDLE
        yield from self._flush()


def value_of(task: Task) -> tuple[str, int]:
    """What the function returns for a task."""
    return "value", task.index


class Client:
    """Who called a verb: pulls input as a `Feeder` does, takes outcomes as a `Stream` does, and checks them."""

    def __init__(self, world: World, flow: Flow, tasks: list[Task]) -> None:
        self.world = world
        self.flow = flow
        self.tasks = tasks
        #: calls that were submitted, by task
        self.chunks: dict[int, Chunk] = {}
        self.cancelled_calls: set[int] = set()
        #: it may be the one to give up, when the script says so
        self.fickle = False
        self.given_up = False
        #: it waits to be woken
        self.asleep = False
        self.peak_items = 0
        self.peak_bytes = 0

    @property
    def over(self) -> bool:
        """It has all that it will get."""
        if self.given_up:
            return True
        if self.flow.calls:
            waiting = [task for task in self.tasks if task.outcome is None and task.index not in self.cancelled_calls]
            return not waiting
        return self.flow.finished

    @property
    def may_consume(self) -> bool:
        if self.asleep or self.flow.calls or self.given_up:
            return False
        return bool(self.flow.ready) or not (self.over or self.may_pull)

    @property
    def may_pull(self) -> bool:
        flow = self.flow
        if self.asleep or self.given_up or flow.exhausted or flow.broken is not None:
            return False
        if flow.calls:
            return True
        return self.world.dispatcher.room(flow) > 0 and flow.want(self.world.dispatcher.workers) > 0

    def pull(self, at_most: int | None = None) -> None:
        """One chunk of input, or one submitted call."""
        flow, dispatcher = self.flow, self.world.dispatcher
        wanted = 1 if flow.calls else flow.want(dispatcher.workers)
        if not flow.calls:
            lone = flow.pulled == flow.consumed
            assert lone or flow.bytes_out < flow.bytes_limit, f"pulls although {flow.bytes_out} bytes are out"
        number = wanted if at_most is None else min(wanted, at_most)
        chunks = []
        index = flow.pulled
        room = 1 if flow.calls else min(dispatcher.room(flow), MOST_CHUNKS, max(1, flow.credit // wanted))
        for _ in range(room if at_most is None else 1):
            items = self.tasks[index : index + number]
            if items:
                chunk = Chunk(flow, FUNCTION, index, items, future=items[0] if flow.calls else None)
                chunk.size_bytes = sum(task.size_bytes for task in items)
                chunks.append(chunk)
                index += len(items)
                if flow.calls:
                    self.chunks[items[0].index] = chunk
            if len(items) < number:
                break
        if chunks:

            def add(now: int) -> None:
                for chunk in chunks:
                    dispatcher.add(chunk, now)

            self.world.turn(add)
        if len(items) < number or (flow.calls and flow.pulled == len(self.tasks)):
            flow.exhausted = True
            dispatcher.touched.add(flow)
            self.world.turn(lambda now: None)
        self._weigh()

    def _weigh(self) -> None:
        flow = self.flow
        self.peak_items = max(self.peak_items, flow.pulled - flow.consumed)
        self.peak_bytes = max(self.peak_bytes, flow.bytes_out)
        assert flow.calls or self.peak_items <= flow.items_limit, "more items are out than there is credit for"

    def consume(self) -> None:
        """Take what is ready, or fall asleep."""
        segment = self.flow.take()
        if segment is not None:
            self.check(segment)
            return
        flow, dispatcher = self.flow, self.world.dispatcher
        if not flow.exhausted and flow.credit <= 0 and dispatcher.room(flow) > 0:
            self.world.turn(dispatcher.starved)
        self.asleep = not self.over and not self.may_pull and not flow.ready
        # A stream does not wait then, it looks again.
        assert not (self.asleep and dispatcher.starving(flow)), f"the reader of flow {flow.number} spins"

    def check(self, segment: Segment) -> None:
        """The promises about outcomes."""
        flow = self.flow
        assert segment.count == len(segment.items), f"{segment.count} outcomes for {segment.items}"
        values = list(open_segment(segment))
        failures = {failure.offset: failure for failure in segment.failures or ()}
        assert len(values) + len(failures) == segment.count, "outcomes are missing, or too many"
        assert list(failures) == sorted(failures), "failures are not sorted"
        assert segment.durations is None or len(segment.durations) == segment.count, "seconds are missing"
        for offset, task in enumerate(segment.items):
            assert task.outcome is None, f"{task} has two outcomes"
            assert flow.calls or task.index == segment.start + offset, f"{task} got the index of another item"
            if flow.ordered and not flow.calls and task.index:
                assert self.tasks[task.index - 1].outcome is not None, f"{task} came before its turn"
            failure = failures.get(offset)
            if failure is None:
                value = values.pop(0)
                assert value == value_of(task), f"{task} got {value}"
                task.outcome = Kind.OK
            else:
                task.outcome = failure.kind
                self.check_charge(task, failure.kind, failure.error)
            assert segment.attempt <= flow.retry.times + 1, f"{task} was tried {segment.attempt} times"
            assert flow.calls is (segment.future is not None)
            assert segment.future is None or segment.future is task

    def check_charge(self, task: Task, kind: Kind, error: BaseException) -> None:
        """An attempt of `task` was counted as failed: was it its own fault?"""
        if kind is Kind.FAILED:
            assert isinstance(error, Raised) and error.task is task, f"{task} is charged for {error!r}"
        elif kind is Kind.WORKER_LOST:
            if isinstance(error, WorkerLost):
                assert "memory ran out" in str(error) and task.postponed == MOST_POSTPONED
                return
            assert isinstance(error, Lost), f"{task} is charged for {error!r}"
            assert error.to_blame is task, f"{task} is charged, but {error.to_blame} is to blame"
        elif kind is Kind.TIMED_OUT:
            assert isinstance(error, TaskTimeout) and self.flow.timeout_ns is not None
            assert error.index == (None if self.flow.calls else task.index), (
                f"{task} is charged for the time of items[{error.index}]"
            )
            longest = max((end - start for start, end in task.spans), default=0)
            # The time on the board is that of a burst of quick items.
            assert longest >= self.flow.timeout_ns - BURST_NS, f"{task} is charged for {longest} ns"
        else:
            assert kind is Kind.CANCELLED and self.flow.stopped, f"{task} ended as {kind}"

    def cancel(self) -> None:
        """Give the whole flow up."""
        self.given_up = True
        self.world.note(f"flow {self.flow.number} is cancelled")
        self.world.turn(lambda now: self.world.dispatcher.cancel(self.flow, now))

    def cancel_call(self, index: int) -> None:
        """Give one call up, as its future's `cancel` does."""
        if index in self.cancelled_calls or self.tasks[index].outcome is not None:
            return
        self.cancelled_calls.add(index)
        self.world.note(f"call {index} is cancelled")
        chunk = self.chunks[index]
        self.world.turn(lambda now: self.world.dispatcher.cancel_chunk(chunk, now))

    def stop(self) -> None:
        """Start nothing more, as `Stream.stop` does."""
        self.world.note(f"flow {self.flow.number} is stopped")
        self.world.turn(lambda now: self.world.dispatcher.stop(self.flow, now))


class World:
    """A dispatcher and all that it talks to.

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
        self.dispatcher = Dispatcher(workers, limits or Limits(), self.glance, rng=random.Random(1))
        self.workers: dict[int, SimulatedWorker] = {}
        self.clients: list[Client] = []
        self.story: list[str] = []
        self.kills = kills
        self.templates = templates
        self.steps_left = most_steps
        self._squeezes = 200 if squeezes == -1 else squeezes or 0
        self._filled = squeezes == -1
        if squeezes is not None:
            self.dispatcher.valve.watch(self._read_memory, self._weigh)
        self._setup_ns = setup_ns
        self._items_limit = items_limit
        self._in_turn = False
        self._turns = 0
        self.turn(lambda now: self.dispatcher.fill(now))

    # --- the cast ---

    def map(self, tasks: list[Task], *, chunk: int | None = None, total: bool = True, **options: Any) -> Client:
        """A flow over `tasks`, and its consumer."""
        flow = Flow(
            len(self.clients) + 1,
            chunker=Chunker(chunk),
            total=len(tasks) if total else None,
            **options,
        )
        return self._welcome(flow, tasks)

    def calls(self, tasks: list[Task], *, timeout_ns: int | None = None, retry: Retry | None = None) -> Client:
        """A flow of submitted calls."""
        flow = Flow(len(self.clients) + 1, chunker=Chunker(1), calls=True, timeout_ns=timeout_ns, retry=retry)
        return self._welcome(flow, tasks)

    def _welcome(self, flow: Flow, tasks: list[Task]) -> Client:
        client = Client(self, flow, tasks)
        self.clients.append(client)
        self.dispatcher.open(flow)
        return client

    def note(self, text: str) -> None:
        self.story.append(f"{(self.clock - 1_000_000_000) / 1e6:10.3f} ms  {text}")

    # --- turns of the driver ---

    def turn(self, step: Any) -> None:
        """Let the dispatcher decide, then carry out what it ordered. Its time is that of the turn's beginning."""
        assert not self._in_turn
        self._in_turn = True
        step(self.clock)
        while self.dispatcher.orders:
            orders, self.dispatcher.orders = self.dispatcher.orders, []
            for order in orders:
                self._obey(order)
        self._in_turn = False
        for flow in list(self.dispatcher.touched):
            for client in self.clients:
                if client.flow is flow:
                    self._wake(client)
        self.dispatcher.touched.clear()
        news, self.dispatcher.news = self.dispatcher.news, []
        for each in news:
            if isinstance(each, TaskPostponed):
                task = self.clients[each.flow - 1].tasks[each.index]
                task.postponed += 1
                assert each.times == task.postponed <= MOST_POSTPONED and not task.sealed
            elif isinstance(each, TaskRetried):
                client = self.clients[each.flow - 1]
                assert each.attempt <= client.flow.retry.times
                client.check_charge(client.tasks[each.index], each.kind, each.error)
                assert 0 <= each.wait_s <= client.flow.retry.wait_max_s
        self._check_desks()

    def _wake(self, client: Client) -> None:
        if client.flow.calls:
            while (segment := client.flow.take()) is not None:
                assert segment.items[0].index not in client.cancelled_calls, "a cancelled call has an outcome"
                client.check(segment)
        elif client.flow.ready or client.flow.finished or self.dispatcher.wants_input(client.flow):
            client.asleep = False

    def _obey(self, order: Any) -> None:
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
            assert self.dispatcher.desks[order.worker].life is Life.READY
            assert order.chunk.items and not order.chunk.done, f"{order} is not whole"
            assert not order.chunk.flow.cancelled and not order.chunk.cancelled, f"{order} that nobody wants"
            assert order.chunk.attempt <= order.chunk.flow.retry.times + 1, f"{order} is one attempt too many"
            flow = order.chunk.flow
            untimed = flow.timeout_ns is None and not flow.detailed
            report_ns = flow.chunker.target_ns
            worker.inbox.append((order.chunk.sequence, list(order.chunk.items), flow.detailed, untimed, report_ns))
            worker.wake()
        elif isinstance(order, SetLimit):
            worker.limit = order.limit
        elif isinstance(order, Peek):
            worker.peeked_at = True
        elif isinstance(order, Kill):
            doom = self.dispatcher.desks[order.worker].doom
            if "memory" in order.reason and doom is not None and not doom.postponed:
                others = [desk for desk in self.dispatcher.desks.values() if desk.chunks]
                assert [desk.worker for desk in others] == [order.worker], f"it was not alone: {others}"
            worker.condemned = True
        elif isinstance(order, Stop):
            assert not worker.inbox
            worker.told_to_stop = True
            worker.wake()

    def _check_desks(self) -> None:
        ready = 0
        for desk in self.dispatcher.desks.values():
            assert len(desk.chunks) <= DEPTH_SHORT, f"{desk} holds more than {DEPTH_SHORT} chunks"
            sequences = [chunk.sequence for chunk in desk.chunks]
            assert sequences == sorted(set(sequences)), f"{desk} holds chunks out of order"
            ready += desk.life in (Life.STARTING, Life.READY) and desk.doom is None
        if not self.dispatcher.closing and self.dispatcher.broken is None:
            waiting = [client for client in self.clients if client.flow.pending and not client.flow.cancelled]
            busy = any(desk.chunks for desk in self.dispatcher.desks.values())
            held = self.dispatcher.valve.narrow and busy
            assert held or not (waiting and self.dispatcher.idle), (
                f"{list(self.dispatcher.idle)} idle while chunks wait"
            )
            assert ready == self.dispatcher.workers, f"{ready} of {self.dispatcher.workers} workers"

    def _read_memory(self) -> tuple[int, int]:
        """A reading of the memory, as the script will have it."""
        if not self._squeezes:
            return (0 if self._filled else self.TOTAL), self.TOTAL
        self._squeezes -= 1
        share = self.script.pick(100, 0, 4, 7, 11, 30)
        self.note(f"{share} % of the memory are available")
        return share * self.TOTAL // 100, self.TOTAL

    def _weigh(self, worker: int) -> int:
        return 0 if not self._squeezes and self._filled else self.script.pick(self.RESERVE, 0, self.RESERVE // 3)

    def glance(self, number: int) -> Glance | None:
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
        position = worker.current
        self._meanwhile(worker, haste, 3)
        started = worker.started
        self._meanwhile(worker, haste, 4)
        return Glance(sequence, position, started, phase, claimed)

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
                found.append(("bury", worker))
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
        alarm = self.dispatcher.next_alarm_ns
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
            if client.asleep or client.given_up:
                continue
            may_pull = client.may_pull
            if not client.flow.calls and (client.flow.ready or not (may_pull or client.over)):
                found.append(("consume", client))
            if may_pull:
                found.append(("pull", client))
        if event < FOREVER and (not found or event < clock + SOON_NS):
            found.append(("advance", None))
        return found

    def next_event(self) -> int | None:
        """When something can happen by itself; None if never."""
        times = [worker.wakes_at for worker in self.workers.values() if worker.alive and worker.wakes_at < FOREVER]
        alarm = self.dispatcher.next_alarm_ns
        if alarm is not None:
            times.append(alarm)
        later = [time for time in times if time > self.clock]
        return min(later, default=None)

    def play(self, move: str, subject: Any) -> None:
        """Make one move."""
        if move == "deliver":
            self._deliver(subject)
        elif move == "bury":
            self._bury(subject)
        elif move == "peek":
            self._peek(subject)
        elif move == "tick":
            self.turn(self.dispatcher.tick)
        elif move == "step":
            subject.step()
        elif move == "reap":
            self.note(f"worker {subject.number} is ended")
            subject.die()
        elif move == "kill":
            self.note(f"worker {subject.number} is killed by a stranger at {subject.to_blame}")
            subject.die()
        elif move == "consume":
            subject.consume()
        elif move == "pull":
            subject.pull()
        elif move == "advance":
            until = self.next_event()
            assert until is not None
            self.clock = until

    def _deliver(self, worker: SimulatedWorker) -> None:
        message = worker.pipe.popleft()
        self.note(f"worker {worker.number} says {_brief(message)}")
        if isinstance(message, Results):
            self.turn(lambda now: self.dispatcher.results(message, now))
        else:
            self.turn(lambda now: self.dispatcher.ready(worker.number, now))

    def _peek(self, worker: SimulatedWorker) -> None:
        """Read what waits in the outbox, as ProcessBackend does: a copy, which repeats what comes through the pipe."""
        worker.peeked_at = False
        if worker.started and worker.phase == PHASE_RUNNING and self.clock - worker.started >= PEEK_NS // 2:
            for event in list(worker.outbox):
                self.note(f"worker {worker.number} is seen to have {_brief(event)}")
                self.turn(lambda now, event=event: self.dispatcher.results(event, now))

    def _bury(self, worker: SimulatedWorker) -> None:
        worker.close_span()
        while worker.pipe:
            self._deliver(worker)
        for event in worker.outbox:
            self.note(f"worker {worker.number} has left {_brief(event)}")
            self.turn(lambda now, event=event: self.dispatcher.results(event, now))
        glance = Glance(worker.sequence, worker.current, worker.started, worker.phase, worker.claimed)
        running = glance if glance.started_ns and glance.phase >= PHASE_LOADING else None
        to_blame = None if worker.innocent else worker.to_blame
        death = WorkerGone(worker.number, running, Kind.WORKER_LOST, Lost(to_blame), "it died", worker.innocent)
        self.note(f"worker {worker.number} is gone at {running}, to blame is {to_blame}")
        del self.workers[worker.number]
        self.turn(lambda now: self.dispatcher.gone(death, now))

    # --- runs ---

    def run(self) -> None:
        """Follow the script, then go on in the ordinary way until everybody has what they came for."""
        try:
            while not self.script.over:
                self._wild_step()
            self.settle()
        except AssertionError as error:
            error.add_note("\n".join(self.story))
            raise

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
                worker.innocent = True
                worker.die()
        elif kind == 3:
            self.cancel_something(byte // 4)

    def cancel_something(self, choice: int) -> None:
        """One of the clients that came to give up does so."""
        willing = [client for client in self.clients if client.fickle and not client.given_up]
        if not willing:
            return
        client = willing[choice % len(willing)]
        if client.flow.calls:
            if client.chunks:
                client.cancel_call(list(client.chunks)[choice // len(willing) % len(client.chunks)])
        elif choice & 1 and not client.flow.stopped:
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
                if not client.flow.calls:
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
        if move == "deliver":
            return subject.alive and bool(subject.pipe)
        if move == "bury":
            return subject.number in self.workers
        if move in ("step", "reap", "peek"):
            return bool(subject.alive)
        return True

    @property
    def quiet(self) -> bool:
        """Everybody has got what they came for, and all workers are back."""
        return (
            all(client.over for client in self.clients)
            and not any(desk.chunks or desk.life is not Life.READY for desk in self.dispatcher.desks.values())
            and not any(worker.pipe or not worker.alive for worker in self.workers.values())
            and not self.dispatcher.waiting_for_time
        )

    def check_end(self) -> None:
        """What must hold when everything is over."""
        dispatcher = self.dispatcher
        for client in self.clients:
            flow = client.flow
            assert not flow.pending, f"flow {flow.number} has left {list(flow.pending)}"
            if client.given_up:
                continue
            assert not client.asleep, f"nobody woke the reader of flow {flow.number}"
            assert flow.settled == flow.pulled, f"{flow.settled} of {flow.pulled} settled"
            assert flow.calls or flow.consumed == flow.pulled
            assert flow.bytes_out == 0, f"{flow.bytes_out} bytes of credit are lost"
            if not flow.stopped:
                assert flow.pulled == len(client.tasks)
            for task in client.tasks[: flow.pulled]:
                assert task.outcome is not None or task.index in client.cancelled_calls, f"{task} has no outcome"
        pulled = sum(client.flow.pulled for client in self.clients)
        kinds = {kind.value: dispatcher.count(kind) for kind in Kind}
        assert sum(kinds.values()) == pulled, f"{kinds} for {pulled} items"
        desks = list(dispatcher.desks.values())
        assert len(desks) == dispatcher.workers, f"{len(desks)} of {dispatcher.workers} workers are left"
        assert all(desk.open for desk in desks), f"some cannot be given work: {desks}"
        assert dispatcher.hungry


def _brief(message: Results | str) -> str:
    if isinstance(message, str):
        return message
    flags = "".join(f" {name}" for name in ("ended", "leaving", "unloadable") if getattr(message, name))
    failed = f" {len(message.failures)} failed" if message.failures else ""
    return f"chunk {message.sequence} [{message.start}:{message.start + message.count}]{failed}{flags}"


# --- worlds of all kinds --------------------------------------------------------------------------

#: what the items of one flow are like, the plainest first
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
            total=pick(True, False),
            ordered=pick(True, False),
            timeout_ns=timeout_ns,
            retry=retry,
            detailed=pick(False, True),
            items_limit=pick(65_536, 4, 20),
            bytes_limit=pick(1 << 28, 500),
        )
    client.fickle = fickle
