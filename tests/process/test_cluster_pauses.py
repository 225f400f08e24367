"""Nodes that are stopped for a while, and what they held: a machine that is paused, a laptop whose lid is closed."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tests.process.nodes_here import NodesHere
from tests.process.waiting import PATIENCE_S, Bell, Gate, ring, wait_at, wait_until

from allcores import BrokenPool, Pool
from allcores.adapters.cluster import link, node, node_table
from allcores.adapters.cluster.messages import LEASE_S, Opening, Request
from allcores.backends import open as opener
from allcores.scheduler import exit_settlement


@pytest.fixture(autouse=True)
def nodes_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opener.CLUSTERS, "dask", ("tests.process.nodes_here", "given", "json", "dask"))


class Steps:
    """Stands for what a thread sleeps by: it sleeps until it is told to go on."""

    def __init__(self) -> None:
        self._asleep, self._go = threading.Semaphore(0), threading.Semaphore(0)

    def wait(self, seconds: float) -> None:
        self._asleep.release()
        assert self._go.acquire(timeout=PATIENCE_S)

    def step(self) -> None:
        """Have it go on, until it sleeps again."""
        self._go.release()
        assert self._asleep.acquire(timeout=PATIENCE_S)

    def begun(self) -> None:
        """Until it sleeps for the first time."""
        assert self._asleep.acquire(timeout=PATIENCE_S)

    def end(self) -> None:
        """Have it go on."""
        self._go.release()


def request(serial: int, **what: Any) -> Request:
    return Request("k", serial, None, [], [], [], [], [], [], False, False)._replace(**what)


def test_a_node_that_was_stopped_keeps_its_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could ask it meanwhile. One that nobody asks while it runs ends it."""
    ahead, steps = [0.0], Steps()
    monkeypatch.setattr(node, "monotonic", lambda: monotonic() + ahead[0])
    monkeypatch.setattr(node, "_ended", steps)
    monkeypatch.setattr(node.Node, "_open", lambda self, opening: None)
    node.exchange(pickle.dumps(request(1, opening=Opening(b"", 1, "", ""))))
    here = node._nodes["k"]
    steps.begun()
    for _ in range(3):
        ahead[0] += 170.0
        steps.step()
        assert node._nodes == {"k": here}
    for _ in range(6):
        ahead[0] += LEASE_S / 10
        steps.step()
    assert node._nodes == {"k": here}
    ahead[0] += LEASE_S / 5
    steps.end()
    wait_until(lambda: not node._nodes)
    steps.end()
    wait_until(lambda: all(each.name != "allcores-lease" for each in threading.enumerate()))


def test_a_node_that_was_stopped_has_as_much_more_time_to_make_its_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be said that it takes too long, which is the end of the whole pool."""
    ahead = [0.0]
    monkeypatch.setattr(node, "monotonic", lambda: monotonic() + ahead[0])
    monkeypatch.setattr(node.Node, "_open", lambda self, opening: None)
    here = node.Node("k", Opening(b"", 1, "", "", open_s=60.0))
    tells = here._tells
    asked: list[int] = []

    def stopped(serial: int) -> bool:
        asked.append(serial)
        if len(asked) == 2:
            ahead[0] += 170.0
        return tells(serial)

    monkeypatch.setattr(here, "_tells", stopped)
    assert here.exchange(request(1, hold=True)).failed is None
    assert ahead[0] > 0


def told(bell: str, gate: str) -> str:
    ring(bell)
    wait_at(gate)
    return "done"


def test_what_a_silent_node_held_is_not_at_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However often, and it is not read by another process first; the node is used when it says something again."""
    monkeypatch.setattr(exit_settlement, "MAX_NODES_LOST", 0)
    doubted: list[link.Link] = []
    monkeypatch.setattr(link.Link, "doubt", doubted.append)
    cluster = NodesHere("a", lambda name, number: False)
    cluster.silent = "it has said nothing for 30 s"
    with (
        Bell(tmp_path / "bell") as bell,
        Gate(tmp_path / "gate") as gate,
        Pool(backend="dask", address=cluster) as pool,
    ):
        call = pool.submit(told, bell.path, gate.path)
        bell.hear()
        cluster.names = ""
        wait_until(lambda: cluster.dropped == ["a"])
        gate.open()
        cluster.names = "a"
        assert call.result(PATIENCE_S) == "done"
        assert not doubted
    cluster.join()


def test_a_node_that_falls_silent_each_time_is_used_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or what makes it silent would go on for ever."""
    cluster = NodesHere("a", lambda name, number: True)
    cluster.silent = "it has said nothing for 30 s"
    with Pool(backend="dask", address=cluster) as pool:
        call = pool.submit(str, 1)
        for losses in range(1, node_table.MOST_FAILURES + 1):
            wait_until(lambda losses=losses: cluster.sent("a") >= 2 * losses - 1)  # type: ignore[misc]
            cluster.names = ""
            wait_until(lambda losses=losses: len(cluster.dropped) == losses)  # type: ignore[misc]
            if losses < node_table.MOST_FAILURES:
                cluster.names = "a"
        monkeypatch.setattr(node_table, "NO_NODE_NS", 1)
        cluster.names = "a"
        with pytest.raises(BrokenPool, match="it has said nothing for 30 s"):
            call.result(PATIENCE_S)
    cluster.join()


def test_what_was_on_a_node_that_does_not_answer_is_not_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exit_settlement, "MAX_NODES_LOST", 0)
    monkeypatch.setattr(node_table, "ANSWER_NS", 1_000_000_000)
    cluster = NodesHere("ab", lambda name, number: name == "a" and number >= 2)
    with Pool(backend="dask", address=cluster) as pool:
        assert pool.map(str, range(300), chunk=1) == [str(number) for number in range(300)]
        wait_until(lambda: "a" in cluster.dropped)
    cluster.join()


def test_a_request_that_waits_for_its_turn_while_its_node_is_stopped_is_carried_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one before it was being carried out at that moment: nothing of it is lost."""
    monkeypatch.setattr(node, "ORDER_S", 0.0)
    monkeypatch.setattr(node.Node, "_open", lambda self, opening: None)
    here = node.Node("k", Opening(b"", 1, "", ""))
    asked: list[float] = []

    def stopped() -> float:
        """The clock has gone on by three minutes when it is asked for the third time; then the other one is over."""
        asked.append(monotonic())
        if len(asked) == 3:
            here.exchange(request(1))
        return asked[-1] + 170.0 * (len(asked) >= 3)

    monkeypatch.setattr(node, "monotonic", stopped)
    assert here.exchange(request(2)).serial > 0
    assert len(asked) > 3
