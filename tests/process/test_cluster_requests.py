"""Requests to a node that come twice, late, or once its pool has ended."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.process.nodes_here import NodesHere
from tests.process.waiting import wait_until

from allcores import Pool
from allcores.adapters.cluster import node, node_table
from allcores.adapters.cluster.base import Done
from allcores.adapters.cluster.link import Link
from allcores.adapters.cluster.messages import NodeResults, Opening, Reply, Request
from allcores.adapters.cluster.node_changes import NodeChanges
from allcores.backends import open as opener
from allcores.system import caller


def request(key: str, serial: int, **what: Any) -> Request:
    return Request(key, serial, None, [], [], [], [], [], [], False, False)._replace(**what)


def first(key: str) -> bytes:
    return pickle.dumps(request(key, 1, opening=Opening(b"", 1, "", "")))


@pytest.fixture
def no_pools(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nodes without a pool, which end at once."""
    monkeypatch.setattr(node.Node, "_open", lambda self, opening: None)
    ended = threading.Event()
    monkeypatch.setattr(node, "_ended", ended)
    yield
    ended.set()
    for key in list(node._nodes):
        node._end(key)
    wait_until(lambda: not leases())


def leases() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "allcores-lease"]


def test_the_thread_that_watches_over_a_pool_ends_with_it(no_pools: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where another pool goes on: a node may have one for months, and any number of short ones beside it."""
    go = threading.Event()

    class Asleep:
        def wait(self, seconds: float) -> None:
            go.wait(0.01)

    monkeypatch.setattr(node, "_ended", Asleep())
    node.exchange(first("long"))
    for number in range(5):
        node.exchange(first(f"short{number}"))
        node.exchange(pickle.dumps(request(f"short{number}", 2, ends=True)))
    wait_until(lambda: len(leases()) == 1)
    assert list(node._nodes) == ["long"]


def test_a_first_request_that_the_end_has_overtaken_makes_no_pool(no_pools: None) -> None:
    """It would have the node's cores until nobody has asked for it for as long as the program may be silent."""
    node.exchange(pickle.dumps(request("k", 2, ends=True)))
    reply: Reply = pickle.loads(node.exchange(first("k")))
    assert reply.serial == 0
    assert not node._nodes
    for number in range(node.MOST_OVER + 9):
        node._end(f"other{number}")
    assert len(node._over) == node.MOST_OVER


class Twice(NodesHere):
    """Delivers each request twice; what is said to the second one comes, too."""

    def _carry(self, node: str, number: int, data: bytes, done: Done) -> None:
        again = threading.Thread(target=super()._carry, args=(node, number, data, done))
        again.start()
        super()._carry(node, number, data, done)
        again.join()


def noted(item: tuple[str, int]) -> int:
    path, number = item
    with open(path, "a") as file:
        file.write(f"{number}\n")
    return number


def test_a_request_that_comes_twice_is_carried_out_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setitem(opener.CLUSTERS, "dask", ("tests.process.nodes_here", "given", "json", "dask"))
    monkeypatch.setattr(node, "LEASE_S", 6.0)
    cluster = Twice("a", lambda name, number: False)
    path = tmp_path / "numbers"
    with Pool(backend="dask", address=cluster) as pool:
        assert pool.map(noted, [(str(path), number) for number in range(40)]) == list(range(40))
        assert pool.submit(noted, (str(path), 40)).result() == 40
    assert sorted(map(int, path.read_text().split())) == list(range(41))
    cluster.join()


def test_a_request_that_comes_twice_does_not_let_the_next_one_overtake_it(
    no_pools: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = node.Node("k", Opening(b"", 1, "", ""))
    begun, may = threading.Event(), threading.Event()
    done: list[int] = []

    def carry_out(request: Request) -> None:
        if request.serial == 1:
            begun.set()
            assert may.wait(60)
        done.append(request.serial)

    monkeypatch.setattr(here, "_carry_out", carry_out)
    threads = [threading.Thread(target=here.exchange, args=(request("k", serial),)) for serial in (1, 2)]
    threads[0].start()
    assert begun.wait(60)
    here.exchange(request("k", 1))
    threads[1].start()
    wait_until(lambda: here._changed._waiters or done)  # type: ignore[attr-defined]
    may.set()
    for thread in threads:
        thread.join()
    assert done == [1, 2]


class Failing:
    """Stands for a pool whose end has what it holds fail."""

    holds = 0

    def __init__(self, here: node.Node) -> None:
        self.here = here
        self.changes = NodeChanges()

    def close(self) -> None:
        self.here._tell([NodeResults(1, 0, 1, 0, [], None, [(0, "failed", b"", "PoolClosed", "", False)], None, True)])

    def share(self, contents: bytes) -> None:
        raise RuntimeError("it is closed")

    def join(self) -> None:
        pass


@pytest.mark.parametrize("late", [False, True])
def test_what_has_failed_because_the_pool_was_closed_is_not_told(no_pools: None, late: bool) -> None:
    """A node that was not heard of ends its pool just as its program asks again: others do what it held."""
    here = node.Node("k", Opening(b"", 1, "", ""))
    failing: Any = Failing(here)
    here._pool, here._work = failing, failing
    replies: list[Reply] = []
    if late:
        here.close()
        replies.append(here.exchange(request("k", 1, blobs=[(1, b"")])))
    else:
        failing.holds = 1
        asking = threading.Thread(target=lambda: replies.append(here.exchange(request("k", 1, hold=True))))
        failing.report = lambda: None
        asking.start()
        wait_until(lambda: here._changed._waiters)  # type: ignore[attr-defined]
        here.close()
        asking.join()
    assert [(reply.serial, reply.results) for reply in replies] == [(0, [])]


def test_a_reply_that_comes_twice_is_read_and_kept_once() -> None:
    link = Link(1, "a", "k", Opening(b"", 1, "", ""))
    link.request(1, bytes, keep=True)
    reply = Reply(1, True, None, 1, 0, [])
    assert link.replied(1, reply, 2) == [reply]
    assert link.replied(1, reply, 3) == []
    assert not link._early


def test_the_cluster_is_asked_on_where_a_warning_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed standard error, say. Nobody would hear of nodes any more, and the cluster be taken for lost."""
    monkeypatch.setitem(opener.CLUSTERS, "dask", ("tests.process.nodes_here", "given", "json", "dask"))
    monkeypatch.setattr(node_table, "DELAY_NS", 1)
    told: list[str] = []

    def closed(message: str) -> None:
        told.append(message)
        raise ValueError("I/O operation on closed file.")

    monkeypatch.setattr(caller, "tell", closed)
    cluster = NodesHere("a", lambda name, number: False)
    cluster.why = "others have all that it has"
    monkeypatch.setattr(node.Node, "_open", lambda self, opening: None)
    with Pool(backend="dask", address=cluster):
        wait_until(lambda: told)
        asked: list[None] = []

        def nodes() -> dict[str, int]:
            asked.append(None)
            return {"a": 1}

        monkeypatch.setattr(cluster, "nodes", nodes)
        wait_until(lambda: len(asked) > 1)
    cluster.join()
