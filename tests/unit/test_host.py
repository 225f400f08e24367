"""pool/driver.py as the host of a backend: events in, commands out. The backend is a script: no thread, no process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from allcores.backends.base import (
    BackendBroken,
    BackendEvent,
    BackendStopped,
    Host,
    LaunchesEnded,
    MemoryExceeded,
    PreloadBegan,
    PreloadEnded,
    SetupFailed,
    WorkerInit,
    WorkerReady,
)
from allcores.backends.serial import SerialBackend
from allcores.errors import BrokenPool, SetupError, WorkerLost
from allcores.events import PoolEvent, WorkerEnded, WorkerStarted
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.pool.driver import Driver
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.messages import Command, Kill, Launch, Results, Send, WorkerGone


class ScriptedBackend(SerialBackend):
    """Does nothing by itself: notes its commands, and posts what the test says."""

    def __init__(self) -> None:
        super().__init__(WorkerInit())
        self.commands: list[Command] = []
        self.functions_forgotten: list[int] = []
        self.woken = 0

    def start(self, host: Host) -> None:
        super().start(host)
        self.host = host

    def execute(self, commands: Sequence[Command]) -> None:
        self.commands += commands

    def forget_function(self, number: int) -> None:
        self.functions_forgotten.append(number)

    def wake_by(self, when_ns: int) -> None:
        self.sleeps_until = None
        self.woken += 1

    def taken(self, kind: type[Any]) -> list[Any]:
        """Commands of this kind since the last look."""
        found = [command for command in self.commands if isinstance(command, kind)]
        self.commands = [command for command in self.commands if not isinstance(command, kind)]
        return found

    def post(self, *events: BackendEvent) -> None:
        self.host.post(events)


class Play:
    """A driver of two workers around a scripted backend."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.observed: list[PoolEvent] = []
        self.backend = ScriptedBackend()
        self.driver = Driver(2, limits or Limits(), self.backend, [self.observed.append], "play")
        self.host: Host = self.driver

    def chunk(self, *items: object) -> Chunk:
        """Open a map and hand a chunk of it to the scheduler."""
        map_state = self.driver.open(lambda number: MapState(number, chunker=Chunker(len(items))), lambda: None)
        chunk = Chunk(map_state, self.driver.functions.named(abs, "one"), 0, list(items))
        map_state.pulled = len(items)
        self.driver.add(chunk)
        return chunk

    def observed_of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.observed if isinstance(event, kind)]


@pytest.fixture
def play() -> Iterator[Play]:
    play = Play()
    yield play
    play.driver.close()


def test_a_worker_that_is_ready_is_given_what_waits(play: Play) -> None:
    chunk = play.chunk(1, 2)
    assert [command.worker for command in play.backend.taken(Launch)] == [1, 2]
    assert not play.backend.taken(Send)
    play.backend.post(WorkerReady(1, 4711))
    assert play.backend.taken(Send) == [Send(1, chunk)]
    assert play.observed_of(WorkerStarted) == [WorkerStarted(1, 4711)]


def test_events_of_one_transaction_are_applied_in_their_order(play: Play) -> None:
    chunk = play.chunk(1, 2)
    play.backend.post(WorkerReady(1, 1))
    (send,) = play.backend.taken(Send)
    results = Results(1, send.chunk.sequence, 0, 2, 1000, values=[1, 2], ended=True)
    gone = WorkerGone(1, None, Kind.WORKER_LOST, WorkerLost("it ended"), "it ended")
    play.backend.post(results, gone)
    assert chunk.map_state.settled == 2, "what it finished counts before its end does"
    assert play.observed_of(WorkerEnded) == [WorkerEnded(1, "it ended")]
    assert [command.worker for command in play.backend.taken(Launch)] == [1, 2, 3]


def test_what_a_worker_is_used_for(play: Play) -> None:
    chunk = play.chunk(1, 2)
    with play.host.lock:
        starting = play.host.assignment(1, 1)
        assert starting is not None and starting.starting and not starting.holds_work
        assert play.host.assignment(99, 1) is None
        assert not play.host.holds_work and play.host.idle_workers == 0
    play.backend.post(WorkerReady(1, 1), WorkerReady(2, 2))
    with play.host.lock:
        (worker,) = [number for number in (1, 2) if play.host.assignment(number, 1).holds_work]  # type: ignore[union-attr]
        assert play.host.assignment(worker, chunk.sequence) == (chunk, chunk, True, False, False, False)
        assert play.host.assignment(worker, chunk.sequence + 1) == (None, chunk, True, False, False, False)
        assert play.host.holds_work and play.host.idle_workers == 1


def test_a_worker_that_uses_too_much_memory_is_ended_once(play: Play) -> None:
    chunk = play.chunk(1)
    play.backend.post(WorkerReady(1, 1))
    play.backend.taken(Launch)
    too_large = MemoryExceeded(1, chunk.sequence, 0, WorkerLost("too large"))
    play.backend.post(too_large, too_large, MemoryExceeded(99, 1, 0, WorkerLost("unknown")))
    assert [command.worker for command in play.backend.taken(Kill)] == [1]
    with play.host.lock:
        ending = play.host.assignment(1, chunk.sequence)
    assert ending is not None and ending.ending
    play.backend.post(WorkerGone(1, None, Kind.WORKER_LOST, WorkerLost("killed"), "killed"))
    assert chunk.map_state.failed == 1


@pytest.mark.parametrize(
    "event", [SetupFailed(SetupError("it raised")), BackendBroken(BrokenPool("no more"))], ids=["setup", "broken"]
)
def test_everybody_who_waits_is_told_that_no_outcome_can_be_had(play: Play, event: BackendEvent) -> None:
    chunk = play.chunk(1)
    assert play.host.broken is None
    play.backend.post(event)
    assert play.host.broken is event.error  # type: ignore[union-attr]
    assert chunk.map_state.broken is play.host.broken


def test_workers_that_were_never_started_are_not_waited_for(play: Play) -> None:
    play.backend.post(BackendBroken(BrokenPool("no more")), LaunchesEnded(frozenset({2})))
    with play.host.lock:
        assert play.host.assignment(1, 0) is None
        assert play.host.assignment(2, 0) is not None


def test_a_preload_and_its_end(play: Play) -> None:
    play.backend.post(PreloadBegan())
    assert play.driver.scheduler.state.preloading_ns is not None
    play.backend.post(PreloadEnded("preload or setup"))
    assert play.driver.scheduler.state.preloading_ns is None
    assert play.driver.scheduler.state.setup_step == "preload or setup"


def test_a_backend_that_has_stopped_is_asked_for_nothing(play: Play) -> None:
    play.backend.taken(Launch)
    assert not play.host.closing
    play.backend.post(BackendStopped(), WorkerGone(1, None, Kind.WORKER_LOST, WorkerLost("killed"), "killed"))
    assert play.host.closing
    assert not play.backend.taken(Launch)


def test_events_within_a_command_are_part_of_the_same_transaction() -> None:
    """As the serial backend does it, whose worker is ready as soon as it is launched."""

    class Prompt(ScriptedBackend):
        def execute(self, commands: Sequence[Command]) -> None:
            super().execute(commands)
            launched = [command.worker for command in commands if isinstance(command, Launch)]
            self.host.apply([WorkerReady(worker, None) for worker in launched], 1)

    backend = Prompt()
    observed: list[PoolEvent] = []
    driver = Driver(2, Limits(), backend, [observed.append], "prompt")
    with driver.lock:
        assert driver.idle_workers == 2
    driver.notify()
    assert [event for event in observed if isinstance(event, WorkerStarted)] == [
        WorkerStarted(1, None),
        WorkerStarted(2, None),
    ]
    driver.close()


def test_a_backend_that_sleeps_beyond_the_next_timer_is_woken(play: Play) -> None:
    play.backend.post(WorkerReady(1, 1))
    with play.host.lock:
        play.backend.sleeps_until = 1 << 62
    play.chunk(1)
    assert play.backend.woken == 1
    with play.host.lock:
        assert play.host.next_timer_ns is not None
        play.backend.sleeps_until = play.host.next_timer_ns
    play.backend.post(WorkerReady(2, 2))
    assert play.backend.woken == 1


def test_a_map_that_is_dropped_in_the_middle_of_a_decision_is_ended_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else may happen for long, and workers would be busy with it meanwhile: the backend makes a turn."""
    play = Play()
    play.backend.taken(Launch)
    play.backend.post(WorkerReady(1, None))
    chunk = play.chunk("a")
    woken: list[bool] = []
    monkeypatch.setattr(play.backend, "wake", lambda: woken.append(True))
    with play.driver.lock:
        play.driver.end(chunk.map_state)
        assert woken and not chunk.map_state.cancelled
    play.driver.on_timer()
    assert chunk.map_state.cancelled
