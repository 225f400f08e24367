"""Pools of a program that gets no more threads: a limit of the machine, or an interpreter that is ending."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.process.nodes_here import NodesHere

from allcores import BrokenPool, Pool
from allcores.backends import open as opener


class Machine:
    """Has threads left, or none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 1_000
        start = threading.Thread.start

        def start_one(thread: threading.Thread) -> None:
            if self.left <= 0:
                raise RuntimeError("can't start new thread")
            self.left -= 1
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_one)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setitem(opener.CLUSTERS, "dask", ("tests.process.nodes_here", "given", "json", "dask"))
    return Machine(monkeypatch)


def pool_threads() -> list[str]:
    """Those of pools of this process that are there still."""
    found = [each for each in threading.enumerate() if each.name.startswith("allcores-few")]
    for each in found:
        each.join(30)
    return [each.name for each in found if each.is_alive()]


def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("backend", ["threads", "processes", "dask"])
def test_a_pool_that_gets_no_thread_of_its_own_says_so(machine: Machine, backend: str) -> None:
    cluster = NodesHere("a", lambda name, number: False)
    options: dict[str, Any] = {"address": cluster} if backend == "dask" else {}
    machine.left = 0
    with pytest.raises(BrokenPool, match=r"^The pool's thread cannot be started: can't start new thread"):
        Pool(2, backend=backend, name="few", **options)
    assert not pool_threads()
    assert cluster.is_closed == (backend == "dask")
    cluster.join()


def test_a_cluster_whose_second_thread_cannot_be_started_is_let_go_of(machine: Machine) -> None:
    cluster = NodesHere("a", lambda name, number: False)
    machine.left = 1
    with pytest.raises(BrokenPool, match=r"^The pool's thread cannot be started"):
        Pool(backend="dask", address=cluster, name="few")
    assert not pool_threads()
    assert cluster.is_closed
    cluster.join()


@pytest.mark.parametrize("left", [1, 2])
def test_a_pool_whose_worker_threads_cannot_be_started_breaks(machine: Machine, left: int) -> None:
    """With one that could be it goes on for a while; in any case nobody is left waiting."""
    machine.left = left
    with pytest.raises(BrokenPool, match="could not be started: can't start new thread"):
        with Pool(2, backend="threads", name="few") as pool:
            for _ in range(1_000):
                assert pool.map(double, range(10)) == [2 * number for number in range(10)]
    assert not pool_threads()


def test_a_worker_thread_that_is_missed_for_a_while_comes_later(machine: Machine) -> None:
    """It is the first of two that cannot be started at first."""
    machine.left = 1
    missed: list[str] = []
    start = threading.Thread.start

    def start_second(thread: threading.Thread) -> None:
        if thread.name.startswith("allcores-worker") and not missed:
            missed.append(thread.name)
            raise RuntimeError("can't start new thread")
        machine.left = 1
        start(thread)

    machine_start = pytest.MonkeyPatch()
    machine_start.setattr(threading.Thread, "start", start_second)
    try:
        with Pool(2, backend="threads", name="few") as pool:
            assert pool.map(double, range(100)) == [2 * number for number in range(100)]
    finally:
        machine_start.undo()
    assert len(missed) == 1
    assert not pool_threads()
