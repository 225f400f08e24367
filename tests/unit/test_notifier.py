"""Observers get events one at a time, in the order in which they were queued, whichever thread tells them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from allcores.backends.base import WorkerInit
from allcores.backends.open import open_backend
from allcores.events import MapEnded, PoolEvent, Progress
from allcores.limits import Limits
from allcores.pool import notifier
from allcores.pool.call_future import CallFuture
from allcores.pool.notifier import Notifier


def made(*observers: Any) -> Notifier:
    place = open_backend("serial", workers=0, worker_init=WorkerInit(), limits=Limits(), start_method=None, share=1)
    return Notifier(place, observers)


PROGRESS, ENDED = Progress(1, 3, 0, 3), MapEnded(1, 3, 0, False)


def test_what_another_thread_tells_comes_first() -> None:
    """A thread that takes an event and is paused is not overtaken: the order is that of the queue."""
    told: list[PoolEvent] = []
    began, go_on = threading.Event(), threading.Event()

    def observe(event: PoolEvent) -> None:
        if isinstance(event, Progress):
            began.set()
            assert go_on.wait(60)
        told.append(event)

    those = made(observe)
    those.queue([PROGRESS])
    other = threading.Thread(target=those.notify)
    other.start()
    assert began.wait(60)
    number = those.queue([ENDED])
    those.notify()
    assert told == []
    go_on.set()
    those.wait_told(number)
    assert told == [PROGRESS, ENDED]
    other.join(60)


def test_an_observer_that_takes_long_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread may hold what the observer waits for."""
    monkeypatch.setattr(notifier, "TOLD_NS", 1_000_000)
    began, go_on = threading.Event(), threading.Event()
    told: list[PoolEvent] = []

    def observe(event: PoolEvent) -> None:
        began.set()
        assert go_on.wait(60)
        told.append(event)

    those = made(observe)
    number = those.queue([PROGRESS, ENDED])
    other = threading.Thread(target=those.notify)
    other.start()
    assert began.wait(60)
    those.wait_told(number)
    assert told == []
    go_on.set()
    other.join(60)
    assert told == [PROGRESS, ENDED]


def test_what_an_observer_causes_comes_after_what_it_is_told() -> None:
    told: list[PoolEvent] = []

    def observe(event: PoolEvent) -> None:
        if event is PROGRESS:
            number = those.queue([ENDED])
            those.notify()
            those.wait_told(number)
        told.append(event)

    those = made(observe)
    those.queue([PROGRESS])
    those.notify()
    assert told == [PROGRESS, ENDED]


@pytest.mark.parametrize("kind", [ValueError, SystemExit, GeneratorExit])
@pytest.mark.parametrize("leaves", [False, True])
def test_an_observer_that_raises_is_dropped_whatever_it_raises(kind: type[BaseException], leaves: bool) -> None:
    """Also one that has left by itself, as the bar of one map does at its end: nobody else is to notice."""
    told: list[PoolEvent] = []

    def breaks(event: PoolEvent) -> None:
        if leaves:
            those.observers.remove(breaks)
        raise kind

    those = made(breaks, told.append)
    number = those.queue([PROGRESS, ENDED])
    with pytest.warns(RuntimeWarning, match=kind.__name__):
        those.notify()
    those.wait_told(number)
    assert (told, len(those.observers)) == ([PROGRESS, ENDED], 1)


@pytest.mark.parametrize("left", ["outcome", "event"])
def test_what_an_interrupt_leaves_is_told_by_the_pools_own_thread(left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other threads wait for it, and nothing else of the pool may happen for long."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    those, woken, told = made(), list[bool](), list[PoolEvent]()
    those.observers.append(told.append)
    monkeypatch.setattr(those._backend, "wake", lambda: woken.append(True))
    first, second = CallFuture(), CallFuture()
    first.add_done_callback(interrupt)
    those.due.append((first, ValueError()))
    if left == "outcome":
        those.due.append((second, ValueError()))
    else:
        those.queue([PROGRESS])
    with pytest.raises(KeyboardInterrupt):
        those.notify()
    assert woken and first.done()
    those.notify()
    assert second.done() if left == "outcome" else told == [PROGRESS]
