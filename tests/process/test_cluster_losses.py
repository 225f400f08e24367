"""What a pool on a cluster does when nodes are there, and silent."""

from __future__ import annotations

import pytest
from tests.process.nodes_here import NodesHere
from tests.process.waiting import wait_until

from allcores import Pool, SetupError
from allcores.adapters.cluster import backend, node
from allcores.backends import open as opener


@pytest.fixture(autouse=True)
def nodes_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opener.CLUSTERS, "dask", ("tests.process.nodes_here", "given", "json", "dask"))
    monkeypatch.setattr(backend, "ANSWER_NS", 3_000_000_000)
    # The pool of a node that was given up ends when it hears nothing.
    monkeypatch.setattr(node, "LEASE_S", 6.0)


def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("first_lost", [1, 2, 3])
def test_a_node_that_does_not_answer_is_given_up(first_lost: int) -> None:
    """Also if the cluster still has it: what it held goes to the other."""
    cluster = NodesHere("ab", lambda name, number: name == "a" and number >= first_lost)
    with Pool(backend="dask", address=cluster) as pool:
        assert pool.map(double, range(300)) == [2 * number for number in range(300)]
        assert pool.submit(double, 4).result() == 8
        if first_lost < 3:  # else it may not have been asked so often
            wait_until(lambda: cluster.dropped == ["a"])
    cluster.join()


def test_a_pool_that_cannot_be_made_in_time_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came with the request would be lost without a word."""
    monkeypatch.setattr(node, "ORDER_S", 0.0)
    cluster = NodesHere("a", lambda name, number: False)
    with Pool(backend="dask", address=cluster) as pool, pytest.raises(SetupError, match="machine is too busy"):
        pool.map(double, range(3))
    cluster.join()
