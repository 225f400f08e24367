"""A scheduler with workers that a test speaks for."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import settings
from tests.unit.simulation import MILLI

from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.function import Function
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.messages import Peek, Results, Send, WorkerGone, WorkerProgress
from allcores.scheduler.scheduler import Scheduler
from allcores.scheduler.segment import Segment
from allcores.transport.positions import PHASE_IDLE, PHASE_RUNNING

FUNCTION = Function(1, None, b"", "one", "function")
SECOND = 1_000 * MILLI


class Boom(Exception):
    """What a worker died of."""


class Harness:
    """A scheduler with a board that the test writes, and a clock that the test moves."""

    def __init__(self, workers: int = 1, *, ready: bool = True, **limits: Any) -> None:
        self.board: dict[int, WorkerProgress] = {}
        self.scheduler = Scheduler(workers, Limits(**limits), self.board.get, rng=random.Random(1))
        self.state = self.scheduler.state
        self.now = SECOND
        self.maps = 0
        self.scheduler.fill(self.now)
        if ready:
            self.commands()
            # In reverse: of the idle, the one that came last is the first to be given work.
            for worker in reversed(self.state.worker_states):
                self.ready(worker)

    def commands(self, *, peeks: bool = False) -> list[Any]:
        """What was ordered since the last look."""
        commands, self.state.commands = self.state.commands, []
        return [order for order in commands if peeks or not isinstance(order, Peek)]

    def sent(self) -> list[tuple[int, int, int, int]]:
        """Of the orders since the last look, what was sent: worker, first item, items, attempt."""
        return [
            (order.worker, order.chunk.first, len(order.chunk.items), order.chunk.attempt)
            for order in self.commands()
            if isinstance(order, Send)
        ]

    def map_state(self, **options: Any) -> MapState:
        self.maps += 1
        options.setdefault("chunker", Chunker(1))
        map_state = MapState(self.maps, **options)
        self.scheduler.open(map_state)
        return map_state

    def add(self, map_state: MapState, items: int = 1, *, size_bytes: int = 0) -> Chunk:
        first = map_state.pulled
        chunk = Chunk(map_state, FUNCTION, first, list(range(first, first + items)))
        chunk.future = object() if map_state.calls else None
        chunk.size_bytes = size_bytes
        self.scheduler.add(chunk, self.now)
        return chunk

    def end_of_input(self, *maps: MapState) -> None:
        for map_state in maps:
            map_state.exhausted = True

    def ready(self, worker: int) -> None:
        self.scheduler.ready(worker, self.now)

    def results(self, worker: int, sequence: int, start: int, count: int, *, ended: bool = True, **more: Any) -> None:
        failed = {failure.offset for failure in more.get("failures") or ()}
        values = [position for position in range(start, start + count) if position not in failed]
        # Long enough that chunks are no short ones.
        total_ns = more.pop("total_ns", count * 6 * MILLI)
        event = Results(worker, sequence, start, count, total_ns, values=values, ended=ended, **more)
        self.scheduler.results(event, self.now)

    def at(
        self,
        worker: int,
        sequence: int,
        position: int,
        *,
        since: int | None = None,
        phase: int = PHASE_RUNNING,
        claimed: int = 0,
        together: int = 1,
    ) -> WorkerProgress:
        """Write a worker's slot."""
        started = 0 if phase == PHASE_IDLE else self.now if since is None else since
        self.board[worker] = WorkerProgress(sequence, position, started, phase, claimed, together)
        return self.board[worker]

    def gone(self, worker: int, *, unattributed: bool = False, idle: bool = False, **more: bool) -> None:
        """The worker's process has ended where its slot says."""
        running = None if idle else self.board.get(worker)
        event = WorkerGone(worker, running, Kind.WORKER_LOST, Boom(worker), "it died", unattributed, **more)
        self.scheduler.gone(event, self.now)

    def tick(self, after_ns: int = 0) -> None:
        self.now += after_ns
        self.scheduler.tick(self.now)

    def pass_time(self, until_ns: int, *, alarms: int = 1000) -> None:
        """Let `until_ns` pass; ring each alarm when it is due."""
        until = self.now + until_ns
        while (alarm := self.scheduler.next_timer_ns) is not None and alarm <= until:
            alarms -= 1
            assert alarms, "alarms without end"
            self.now = max(self.now, alarm)
            self.tick()
        self.now = until


def take_all(map_state: MapState) -> list[tuple[int, int, list[Kind]]]:
    """Segments that are ready, as (start, count, kinds of failures)."""
    return [
        (segment.start, segment.count, [failure.kind for failure in segment.failures or ()])
        for segment in iter(map_state.take, None)
    ]


def lonely(map_state: MapState) -> Segment:
    segment = map_state.take()
    assert segment is not None
    assert map_state.take() is None
    return segment


#: more than usual, and as many as HYPOTHESIS_PROFILE=search asks for
many = settings(max_examples=max(200, settings().max_examples))
