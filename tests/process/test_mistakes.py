"""A mistake in allcores itself, on one of its own threads: whoever waits is told, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

import pytest
from tests.process.nodes_here import NodesHere

from allcores import Pool
from allcores.adapters.cluster.node_table import NodeTable
from allcores.backends import open as opener
from allcores.backends.in_process import InProcessWorker
from allcores.backends.processes.backend import ProcessBackend
from allcores.errors import BrokenPool, InternalError
from allcores.events import PoolBroken, PoolEvent
from allcores.pool.driver import Driver


def broken_once(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, which fails when one of the pool's own threads comes by for the second time."""
    seen: list[None] = []

    def failing(*args: Any, **options: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            seen.append(None)
            if len(seen) == 2:
                raise KeyError("a mistake")
        return method(*args, **options)

    return failing


MADE = r"made a mistake .*'a mistake'.*please report it"


@pytest.mark.parametrize(("backend", "where", "method"), [
    ("processes", ProcessBackend, "_round"), ("threads", Driver, "on_timer"),
])  # fmt: skip
def test_on_the_thread_that_minds_the_time(
    backend: str, where: type, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Pool(2, backend=backend) as pool:
        assert pool.submit(abs, -1).result() == 1
        monkeypatch.setattr(where, method, broken_once(getattr(where, method)))
        with pytest.raises((InternalError, BrokenPool), match=MADE):
            calls = [pool.submit(time.sleep, 0.01) for _ in range(500)]
            assert not wait(calls, 60).not_done
            calls[-1].result()


@pytest.mark.parametrize(("backend", "where", "method"), [
    ("processes", ProcessBackend, "_round"), ("threads", Driver, "on_timer"),
])  # fmt: skip
def test_a_call_whose_lock_is_held_as_that_thread_ends_has_the_error_once_it_is_let_go(
    backend: str, where: type, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `concurrent.futures.wait` holds it for a moment: that thread has no later round in which to try again."""
    told = threading.Event()

    def observer(event: PoolEvent) -> None:
        if isinstance(event, PoolBroken):
            told.set()

    with Pool(2, backend=backend, observers=[observer]) as pool:
        assert pool.submit(abs, -1).result() == 1
        *_, other, held = [pool.submit(time.sleep, 0.01) for _ in range(500)]
        with held._condition:
            monkeypatch.setattr(where, method, broken_once(getattr(where, method)))
            assert told.wait(60), "the pool is broken"
            with pytest.raises((InternalError, BrokenPool), match=MADE):
                other.result(60)
            assert not held.done()
        with pytest.raises((InternalError, BrokenPool), match=MADE):
            held.result(60)


def test_on_the_thread_that_minds_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opener.CLUSTERS, "dask", ("tests.process.nodes_here", "given", "json", "dask"))
    cluster = NodesHere("a", lambda name, number: False)
    with Pool(backend="dask", address=cluster) as pool:
        assert pool.submit(abs, -1).result() == 1
        monkeypatch.setattr(NodeTable, "check", broken_once(NodeTable.check))
        with pytest.raises((InternalError, BrokenPool), match=MADE):
            for call in [pool.submit(time.sleep, 0.01) for _ in range(500)]:
                call.result(60)
    cluster.join()


def test_on_a_thread_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InProcessWorker, "run", broken_once(InProcessWorker.run))
    with (
        Pool(2, backend="threads") as pool,
        pytest.raises(InternalError, match=MADE),
    ):
        pool.map(abs, range(1000), chunk=1)


@pytest.mark.parametrize("backend", ["processes", "threads"])
def test_a_call_whose_lock_is_held_as_the_pool_is_closed_has_its_outcome_once_it_is_let_go(backend: str) -> None:
    pool = Pool(2, backend=backend)
    held, let_go = pool.submit(abs, -1), threading.Event()

    def hold() -> None:
        with held._condition:
            taken.set()
            let_go.wait(60)

    taken, holder = threading.Event(), threading.Thread(target=hold)
    holder.start()
    assert taken.wait(60)
    # Nothing is left to do, and the outcome of the first call cannot be given to it yet.
    assert [pool.submit(abs, -number).result(60) for number in range(10)] == list(range(10))
    pool.close()
    let_go.set()
    holder.join(60)
    assert wait([held], 60).done
    assert held.cancelled() or held.result() == 1


def test_a_pool_that_cannot_let_go_of_all_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that has closed its descriptors, say. What is told at the end is told all the same."""
    clear_away, finish = ProcessBackend._clear_away, Driver.finish
    said: list[Any] = []
    finished: list[Driver] = []

    def clear_away_badly(backend: ProcessBackend) -> None:
        clear_away(backend)
        raise OSError(9, "Bad file descriptor")

    def note(driver: Driver) -> None:
        finish(driver)
        finished.append(driver)

    monkeypatch.setattr(threading, "excepthook", lambda args: said.append(args.exc_type))
    monkeypatch.setattr(ProcessBackend, "_clear_away", clear_away_badly)
    monkeypatch.setattr(Driver, "finish", note)
    with Pool(1) as pool:
        assert pool.map(abs, [-1]) == [1]
    assert said == [OSError]
    assert len(finished) == 1
