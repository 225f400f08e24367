"""A node works at what it has of a map in order: the reader waits for the first of it."""

from __future__ import annotations

import threading
from pathlib import Path
from time import monotonic

import pytest
from tests.process.nodes_here import NodesHere
from tests.process.waiting import Bell, Gate, ring, wait_at, wait_until

from allcores import Pool
from allcores.adapters.cluster import node
from allcores.backends import open as opener
from allcores.pool.pool import driver_of

ITEMS, CHUNK = 16, 4


@pytest.fixture(autouse=True)
def nodes_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opener.CLUSTERS, "dask", ("tests.process.nodes_here", "given", "json", "dask"))
    monkeypatch.setattr(node, "LEASE_S", 6.0)


def told(item: tuple[str, str, int]) -> int:
    """Tells that it begins. Of the second chunk the first one waits: with it comes the third."""
    bell, gate, number = item
    if number == CHUNK:
        wait_at(gate)
    ring(bell, number)
    until = monotonic() + 0.015  # a chunk is more than what one of the node's workers gets at a time
    while monotonic() < until:
        pass
    return number


def maps_on_nodes() -> int:
    """Open maps of the nodes' pools."""
    pools = [each._pool for each in list(node._nodes.values())]
    return sum(len(driver_of(pool).maps()) for pool in pools if pool is not None)


def test_chunks_of_a_map_are_worked_at_in_order(tmp_path: Path) -> None:
    cluster = NodesHere("a", lambda name, number: False)
    with (
        Bell(tmp_path / "bell") as bell,
        Gate(tmp_path / "gate") as gate,
        Pool(backend="dask", address=cluster) as pool,
    ):
        items = [(bell.path, gate.path, number) for number in range(ITEMS)]
        found: list[int] = []
        reader = threading.Thread(target=lambda: found.extend(pool.imap(told, items, chunk=CHUNK)))
        reader.start()
        try:
            wait_until(lambda: maps_on_nodes() == 2, "two chunks on the node")
        finally:
            gate.open()
            reader.join()
        assert [word for _, word in bell.hear(ITEMS)] == [str(number) for number in range(ITEMS)]
        assert found == list(range(ITEMS))
    cluster.join()
