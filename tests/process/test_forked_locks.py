"""A process that the program forks, by whichever thread: no lock is held there, and threads of its own do the work."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.process.pool_tasks import square
from tests.process.waiting import PATIENCE_S

from allcores import Pool
from allcores.adapters.multiprocessing import Pool as DropIn
from allcores.pool.pool import driver_of
from allcores.shared_memory.allocator import Block

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def in_child(do: Callable[[], object], lock: Any = None) -> str:
    """What it returns, in words, in a child that is forked while another thread holds a lock."""
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            assert over.wait(PATIENCE_S)

    if lock is not None:
        other = threading.Thread(target=hold)
        other.start()
        assert held.wait(PATIENCE_S)
    reads, writes = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(int(PATIENCE_S))
            os.write(writes, repr(do()).encode())
        except BaseException as error:
            os.write(writes, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writes)
    with open(reads) as told:
        found = told.read()
    os.waitpid(pid, 0)
    over.set()
    if lock is not None:
        other.join(PATIENCE_S)
    return found


def asynchronously(pool: Any) -> object:
    return pool.map_async(square, [3]).get()


def lazily(pool: Any) -> object:
    return [*pool.imap(square, [3])]


def with_a_callback(pool: Any) -> object:
    told: list[int] = []
    pool.apply_async(square, (3,), callback=told.append).get()
    return told


@pytest.mark.parametrize("verb", [asynchronously, lazily, with_a_callback])
def test_the_drop_in_works_in_a_child_as_in_its_parent(verb: Callable[[Any], object]) -> None:
    """Its threads are the parent's: so far only `map` came to an end there."""
    with DropIn(1, context=multiprocessing.get_context("fork")) as pool:
        assert verb(pool) == [9]
        assert in_child(lambda: verb(pool)) == "[9]"
        assert in_child(lambda: verb(pool), pool._work._lock) == "[9]"
        assert verb(pool) == [9]
    pool.join()


def test_the_drop_in_ends_in_a_child_that_does_not_use_it() -> None:
    """What is not finished there is the parent's, which is not waited for."""
    with DropIn(1, context=multiprocessing.get_context("fork")) as pool:
        pending = pool.apply_async(square, (3,), callback=lambda _: None)

        def end() -> None:
            pool.close()
            pool.join()

        assert in_child(end, pool._work._lock) == "None"
        assert pending.get(PATIENCE_S) == 9
    pool.join()


def test_statistics_in_a_child() -> None:
    with Pool(1, backend="threads") as pool:
        assert in_child(lambda: pool.statistics().workers_started, pool._actor_processes._lock) == "1"


def test_statistics_in_a_signals_handler_while_they_are_asked_for() -> None:
    """The handler runs once the lock is free, on the thread that has it."""
    found: list[int] = []
    with Pool(1, backend="threads") as pool:
        before = signal.signal(signal.SIGINT, lambda *_: found.append(pool.statistics().workers_started))
        try:
            with pool._actor_processes._lock:
                signal.raise_signal(signal.SIGINT)
                assert not found
            assert found == [1]
        finally:
            signal.signal(signal.SIGINT, before)


def test_the_end_of_a_view_in_a_child() -> None:
    """Of a result that lies in shared memory: what has mapped it is kept for the next time, behind a lock."""
    with Pool(1) as pool:
        memory = driver_of(pool).backend.parent_memory()
        if memory is None:
            pytest.skip("no shared memory here")
        taken = memory.encoder.take(1 << 16)
        assert taken is not None
        lease, _ = taken
        ended: list[str] = []
        views = [memory.arena.view(Block(*lease.block), lambda: ended.append("ended"), private=True)]

        def let_go() -> list[str]:
            views.clear()
            return ended

        assert in_child(let_go, memory.arena._lock) == "['ended']"
        assert not ended
