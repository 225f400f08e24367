"""What Dask's adapter asks of a client, with one that does as a test says."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from tests.process.nodes_here import NodesHere
from tests.process.waiting import PATIENCE_S, wait_until

from allcores import Pool
from allcores.adapters.cluster import node
from allcores.adapters.cluster.base import Done, NodeSilent
from allcores.backends import open as opener
from allcores.scheduler import exit_settlement

dask_cluster = pytest.importorskip("allcores.adapters.dask_cluster")


class SlowReply:
    """A future of Dask whose task has ended, and whose reply takes longer than any limit to come."""

    status = "finished"

    def result(self, timeout: float | None = None) -> bytes:
        assert timeout is not None, "it would wait without a bound"
        raise TimeoutError

    def exception(self, timeout: float) -> None:
        raise AssertionError("it has none")


class Client:
    """Has a loop in a thread, as Dask's, and gives a reply when it may."""

    status = "running"

    def __init__(self) -> None:
        self.loop = SimpleNamespace(asyncio_loop=asyncio.new_event_loop())
        self.may = asyncio.Event()
        self.is_closed = False
        self._thread = threading.Thread(target=self.loop.asyncio_loop.run_forever)
        self._thread.start()

    async def gather(self, future: SlowReply, *, asynchronous: bool) -> bytes:
        assert asynchronous
        await self.may.wait()
        return b"reply"

    async def scatter(self, data: bytes, *, workers: list[str], hash: bool, asynchronous: bool) -> str:
        assert asynchronous
        await self.may.wait()
        return f"{len(data)} bytes at {workers}"

    def let(self) -> None:
        self.loop.asyncio_loop.call_soon_threadsafe(self.may.set)

    def close(self, timeout: float) -> None:
        self.is_closed = True

    async def _settle(self) -> None:
        """What was cancelled has its turn to notice, as in Dask's client when it closes."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    def end(self) -> None:
        asyncio.run_coroutine_threadsafe(self._settle(), self.loop.asyncio_loop).result(PATIENCE_S)
        self.loop.asyncio_loop.call_soon_threadsafe(self.loop.asyncio_loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.asyncio_loop.close()


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.end()


def cluster_of(client: Client, *, own: bool) -> Any:
    cluster = dask_cluster.DaskCluster.__new__(dask_cluster.DaskCluster)
    cluster._client, cluster._own = client, client if own else None
    cluster._open, cluster._fetches, cluster._seen = set(), set(), {}
    cluster._looked_s = 0.0
    return cluster


class Told:
    """Takes a reply, or what went wrong."""

    def __init__(self) -> None:
        self.is_there = threading.Event()
        self.what: tuple[bytes | None, BaseException | None] = None, None

    def __call__(self, reply: bytes | None, error: BaseException | None) -> None:
        self.what = reply, error
        self.is_there.set()


def test_a_reply_may_take_as_long_as_the_network_needs(client: Client) -> None:
    """And Dask's one thread for all replies does not wait for it: those of other nodes come meanwhile."""
    cluster, told = cluster_of(client, own=False), Told()
    cluster._answer(SlowReply(), told)
    assert not told.is_there.is_set()
    client.let()
    assert told.is_there.wait(PATIENCE_S)
    assert told.what == (b"reply", None)
    assert not cluster._fetches and not cluster._open


def test_a_reply_that_never_comes_holds_up_no_end(client: Client) -> None:
    """The scheduler is lost: it is noticed elsewhere, and the connection is closed."""
    cluster, told = cluster_of(client, own=True), Told()
    cluster._answer(SlowReply(), told)
    cluster.close()
    assert client.is_closed
    assert told.is_there.wait(PATIENCE_S)
    assert told.what[0] is None and told.what[1] is not None


def test_a_large_request_takes_as_long_as_the_network_needs(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is heard of meanwhile."""
    monkeypatch.setattr(dask_cluster, "LOOK_S", 0.01)
    cluster, looks = cluster_of(client, own=False), []

    def silence(node: str) -> None:
        looks.append(node)
        if len(looks) == 3:
            client.let()

    monkeypatch.setattr(cluster, "_silence", silence)
    assert cluster._sent_ahead("a", b"data") == "4 bytes at ['a']"
    assert len(looks) >= 3


@pytest.mark.parametrize(
    ("seen", "words"),
    [({"a": (1.0, 31.0)}, "it has said nothing for 30 s"), ({}, "it went away while it was sent something")],
    ids=["silent", "gone"],
)
def test_a_large_request_to_a_worker_that_takes_nothing_holds_up_no_other(
    seen: dict[str, Any], words: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is stopped: Dask itself waits for as long as that is."""
    monkeypatch.setattr(dask_cluster, "LOOK_S", 0.01)
    cluster = cluster_of(client, own=False)
    cluster._seen = seen
    with pytest.raises(NodeSilent, match=words):
        cluster._sent_ahead("a", b"data")


class Stuck(NodesHere):
    """The first chunk that is sent to its first node does not arrive."""

    def send(self, node: str, data: bytes, done: Done) -> None:
        if node == "a" and pickle.loads(data).chunks:
            self.names = "b"
            raise NodeSilent("it takes nothing")
        super().send(node, data, done)


def test_what_does_not_arrive_goes_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not held against the items."""
    monkeypatch.setitem(opener.CLUSTERS, "dask", ("tests.process.nodes_here", "given", "json", "dask"))
    monkeypatch.setattr(node, "LEASE_S", 6.0)
    monkeypatch.setattr(exit_settlement, "MAX_NODES_LOST", 0)
    cluster = Stuck("ab", lambda name, number: False)
    with Pool(backend="dask", address=cluster) as pool:
        wait_until(lambda: pool.statistics().workers == 2)
        assert pool.map(str, range(30), chunk=1) == [str(number) for number in range(30)]
    assert cluster.dropped == ["a"]
    cluster.join()
