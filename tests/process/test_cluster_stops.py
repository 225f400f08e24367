"""What is stopped or cancelled on a cluster while a node prepares for it: nodes of this very process."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process.nodes_here import NodesHere
from tests.process.waiting import PATIENCE_S, Bell, Gate, ring, wait_at, wait_until

from allcores import Pool
from allcores.adapters.cluster import node, node_work
from allcores.adapters.cluster.link import Link
from allcores.adapters.cluster.messages import Opening, Reply, Revocation
from allcores.backends import open as opener
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.function import Function
from allcores.scheduler.map_state import Chunk, MapState


@pytest.fixture(autouse=True)
def nodes_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opener.CLUSTERS, "dask", ("tests.process.nodes_here", "given", "json", "dask"))
    monkeypatch.setattr(node, "LEASE_S", 6.0)


class SlowToRead:
    """A function that its reader has when the gate is open: as one that imports modules."""

    def __init__(self, bell: str, gate: str) -> None:
        self.places = bell, gate

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        bell, gate = self.places
        ring(bell)
        wait_at(gate)

    def __call__(self, number: int) -> int:
        return 2 * number


def double(number: int) -> int:
    return 2 * number


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[node_work.Work]]:
    """What the nodes of the test have."""
    found: list[node_work.Work] = []
    begin = node_work.Work.begin

    def noted(self: node_work.Work, chunk: Any) -> None:
        found.append(self)
        begin(self, chunk)

    monkeypatch.setattr(node_work.Work, "begin", noted)
    yield found


def test_what_is_stopped_does_not_wait_while_a_node_imports(tmp_path: Path) -> None:
    """Nothing of it was begun, nor will be; what comes later is."""
    cluster = NodesHere("a", lambda name, number: False)
    with (
        Bell(tmp_path / "bell") as bell,
        Gate(tmp_path / "gate") as gate,
        Pool(backend="dask", address=cluster) as pool,
    ):
        found: list[Any] = []
        stream = pool.outcomes(SlowToRead(bell.path, gate.path), range(8), chunk=2)
        reader = threading.Thread(target=lambda: found.extend(stream))
        reader.start()
        try:
            bell.hear()
            stream.stop()
            reader.join(PATIENCE_S)
            assert not reader.is_alive()
        finally:
            gate.open()
            reader.join()
        assert found == []
        assert pool.map(double, range(4)) == [0, 2, 4, 6]
    cluster.join()


def test_a_node_is_free_of_a_cancelled_call_while_it_imports(tmp_path: Path, work: list[node_work.Work]) -> None:
    cluster = NodesHere("a", lambda name, number: False)
    with (
        Bell(tmp_path / "bell") as bell,
        Gate(tmp_path / "gate") as gate,
        Pool(backend="dask", address=cluster) as pool,
    ):
        call = pool.submit(SlowToRead(bell.path, gate.path), 1)
        try:
            bell.hear()
            assert call.cancel()
            wait_until(lambda: not work[0].holds)
        finally:
            gate.open()
        assert pool.submit(double, 2).result(PATIENCE_S) == 4
    cluster.join()


@pytest.mark.parametrize("calls", [False, True], ids=["a map", "a call"])
def test_what_others_may_have_is_begun_where_it_is_prepared(
    calls: bool, tmp_path: Path, work: list[node_work.Work]
) -> None:
    """Or it would go from node to node, each of which imports for it; and it is stopped there all the same."""
    cluster = NodesHere("a", lambda name, number: False)
    with (
        Bell(tmp_path / "bell") as bell,
        Gate(tmp_path / "gate") as gate,
        Pool(backend="dask", address=cluster) as pool,
    ):
        function = SlowToRead(bell.path, gate.path)
        future = pool.submit(function, 1) if calls else None
        stream = None if calls else pool.imap(function, [1], chunk=1)
        found: list[int] = []
        reader = threading.Thread(target=lambda: found.extend(stream or [future.result(PATIENCE_S)]))  # type: ignore[union-attr]
        reader.start()
        try:
            bell.hear()
            work[0].revoke(Revocation(1, False, True))
            assert work[0].holds == 1
        finally:
            gate.open()
            reader.join()
        assert found == [2]
    cluster.join()


def test_a_chunk_that_is_revoked_before_it_is_packed_is_revoked_with_it() -> None:
    """Another thread has put both there just now: what is cancelled would run to its end."""
    link = Link(1, "a", "k", Opening(b"", 1, "", ""))
    function = Function(1, None, b"", "one", "function")
    chunk = Chunk(MapState(1, chunker=Chunker()), function, 0, [0])
    chunk.sequence = 7
    link.chunks.append(chunk)
    link.revoked += [Revocation(7, True, False), Revocation(6, True, False)]
    first = pickle.loads(link.request(1, bytes) or b"")
    assert (first.chunks, first.revoked) == ([], [])
    chunk.payload = b"p"
    link.replied(1, Reply(1, True, None, 1, 0, []), 2)
    second = pickle.loads(link.request(3, bytes) or b"")
    assert [each.sequence for each in second.chunks] == [7]
    assert second.revoked == [Revocation(7, True, False)]
