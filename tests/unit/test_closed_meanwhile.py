"""What another thread, or a signal's handler, closes while it is being started is closed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from allcores import Pool, PoolClosed
from allcores.pool.actor_workers import ActorWorkers
from allcores.transport import process_role


class Counted:
    """The object of an actor."""

    def one(self) -> int:
        return 1


def elsewhere(do: Callable[[], object]) -> None:
    """On another thread, to its end."""
    other = threading.Thread(target=do)
    other.start()
    other.join()


def here(do: Callable[[], object]) -> None:
    """As a signal's handler."""
    do()


WAYS = pytest.mark.parametrize("way", [elsewhere, here])


@WAYS
def test_a_pool_that_starts_at_its_first_use(way: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    start = Pool._start

    def start_late(self: Pool) -> Any:
        way(pool.close)
        return start(self)

    with monkeypatch.context() as patched:
        patched.setattr(process_role, "only_imports", lambda: True)
        pool = Pool(1, backend="threads", name="late")
    monkeypatch.setattr(Pool, "_start", start_late)
    with pytest.raises(PoolClosed):
        pool.submit(abs, -1)
    assert pool.closed
    assert not [each for each in threading.enumerate() if each.name.startswith("allcores-late")]
    with pytest.raises(PoolClosed):
        pool.submit(abs, -1)


def test_a_pool_as_an_actor_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ActorWorkers] = []
    begin = ActorWorkers.__init__

    def begin_late(self: ActorWorkers, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        made.append(self)
        elsewhere(pool.close)

    pool = Pool(1, backend="threads")
    monkeypatch.setattr(ActorWorkers, "__init__", begin_late)
    with pytest.raises(PoolClosed):
        pool.actor(Counted)
    assert [each.closed for each in made] == [True]


def test_an_actor_that_starts_at_its_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    start = ActorWorkers._start
    with Pool(1, backend="threads") as pool:
        with monkeypatch.context() as patched:
            patched.setattr(process_role, "only_imports", lambda: True)
            actor = pool.actor(Counted)
        drivers: list[Any] = []

        def start_late(self: ActorWorkers) -> Any:
            actor.close()
            drivers.append(start(self))
            return drivers[-1]

        monkeypatch.setattr(ActorWorkers, "_start", start_late)
        with pytest.raises(PoolClosed):
            actor.one()
        assert [each.closed for each in drivers] == [True]


def test_an_actor_that_is_closed_before_it_starts_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look whether it is closed and the lock."""
    started: list[ActorWorkers] = []
    monkeypatch.setattr(ActorWorkers, "_start", started.append)
    with Pool(1, backend="threads") as pool:
        with monkeypatch.context() as patched:
            patched.setattr(process_role, "only_imports", lambda: True)
            actor = pool.actor(Counted)
        workers: Any = actor._workers

        class Closing:
            """The lock: whoever wants it comes late."""

            def __enter__(self) -> None:
                workers._lock = lock
                elsewhere(actor.close)
                lock.acquire()

            def __exit__(self, *_: object) -> None:
                lock.release()

        lock, workers._lock = workers._lock, Closing()
        with pytest.raises(PoolClosed):
            actor.one()
    assert not started
