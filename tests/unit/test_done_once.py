"""What two threads may do in the same moment is done once: one is paused behind its look, and the other does it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from allcores import Pool
from allcores.backends.base import ChangesLost
from allcores.backends.processes.worker_logs import WorkerLogReceiver
from allcores.events import PoolEnded, PoolEvent
from allcores.pool.driver import Driver
from allcores.pool.lost_changes import LostChanges, LostChangeWarning
from allcores.pool.pool import driver_of
from allcores.shared_memory import parent_side
from allcores.shared_memory.parent_side import ParentMemory


def elsewhere(do: Callable[[], object]) -> None:
    """On another thread, to its end."""
    other = threading.Thread(target=do)
    other.start()
    other.join()


class Paused:
    """Whoever comes by first lets another thread do something."""

    def __init__(self, do: Callable[[], object]) -> None:
        self._do: Callable[[], object] | None = do

    def __call__(self) -> None:
        do, self._do = self._do, None
        if do is not None:
            elsewhere(do)


class Untold(deque[Any]):
    def __init__(self, pause: Callable[[], None]) -> None:
        super().__init__()
        self._pause = pause

    def __len__(self) -> int:
        found = super().__len__()
        if found:
            self._pause()
        return found


def test_a_lost_change_is_told_by_one_of_two_threads(recwarn: pytest.WarningsRecorder) -> None:
    those = LostChanges()
    those.untold = Untold(Paused(those.tell))
    those.note(ChangesLost("work", ["found"]))
    those.tell()
    assert [each.category for each in recwarn] == [LostChangeWarning]


class Observers(list[Any]):
    pause: Callable[[], None]

    def __contains__(self, each: object) -> bool:
        found = super().__contains__(each)
        self.pause()
        return found


def test_an_observer_is_removed_by_one_of_two_threads() -> None:
    with Pool(1, backend="serial", logs=False) as pool:
        driver, told = driver_of(pool), list[PoolEvent]()
        observers = driver._notifier.observers = Observers([told.append])
        observers.pause = Paused(lambda: list.remove(observers, told.append))
        driver.remove_observer(told.append)
        driver.remove_observer(told.append)
        assert not observers


def test_the_end_of_a_pool_is_told_by_one_of_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[PoolEvent] = []
    pool = Pool(1, backend="serial", observers=[told.append])
    pause = Paused(pool.close)

    def is_ended(driver: Driver) -> bool:
        found: bool = driver.__dict__.get("ended", False)
        if driver.closed and not driver.lock.mine:
            pause()
        return found

    ended = property(is_ended, lambda driver, ended: vars(driver).update(ended=ended))
    monkeypatch.setattr(Driver, "_ended", ended, raising=False)
    pool.close()
    assert sum(isinstance(each, PoolEnded) for each in told) == 1


def test_a_worker_is_torn_down_by_one_of_two_threads() -> None:
    torn_down: list[str] = []
    pool = Pool(1, backend="serial", teardown=lambda: torn_down.append("once"))
    assert pool.map(abs, [-1]) == [1]
    backend: Any = driver_of(pool).backend
    pause = Paused(pool.close)

    class Backend(type(backend)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            found = super().__getattribute__(name)
            if name == "_in_process_worker" and self._host.closing and not self._host.lock.mine:
                pause()
            return found

    backend.__class__ = Backend
    pool.close()
    assert torn_down == ["once"]


@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_the_shared_memory_of_a_pool_is_made_and_closed_once(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ParentMemory | None] = []
    closed: list[ParentMemory] = []
    alone, close_alone = parent_side.alone, ParentMemory.close_alone

    def make() -> ParentMemory | None:
        pause()
        made.append(alone())
        return made[-1]

    def close(memory: ParentMemory) -> None:
        closed.append(memory)
        close_alone(memory)

    monkeypatch.setattr(parent_side, "alone", make)
    monkeypatch.setattr(ParentMemory, "close_alone", close)
    with Pool(1, backend=backend) as pool:
        driver = driver_of(pool)
        # A thread that holds the lock makes it alone: the other one would wait for that.
        pause = Paused(lambda: driver.lock._lock.locked() or pool.counter())
        pool.counter()
        pool.counter()
    assert closed == made
    assert len(made) == 1


class Receiver(WorkerLogReceiver):
    """Notes what it is to handle."""

    def __init__(self) -> None:
        super().__init__("pool", records=True, prints=True)
        self.handled: list[bytes] = []

    def _log(self, worker: int, body: bytes) -> None:
        self.handled.append(body)


def test_records_are_handled_by_one_thread_whoever_brings_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool's own thread and those that wait for their calls read workers' pipes, each some of them."""
    receiver, begun = Receiver(), list[threading.Thread]()

    class Thread(threading.Thread):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            if options.get("target") == receiver._run:
                begun.append(self)
                pause()
            super().__init__(*arguments, **options)

    pause = Paused(lambda: receiver.take(2, 0, b"its"))
    monkeypatch.setattr(threading, "Thread", Thread)
    receiver.take(1, 0, b"ours")
    receiver.take(1, 0, b"the next")
    receiver.close()
    assert len(begun) == 1
    assert sorted(receiver.handled) == [b"its", b"ours", b"the next"]


def test_where_no_thread_can_be_had_each_record_is_handled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the interpreter ends."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    receiver = Receiver()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    receiver.take(1, 0, b"ours")
    assert receiver.handled == [b"ours"]
    receiver.take(1, 0, b"the next")
    assert receiver.handled == [b"ours", b"the next"]
    receiver.close()
