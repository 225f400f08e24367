"""What a pool on a cluster outlives, and what it says before it begins: nodes of this very process."""

from __future__ import annotations

from functools import partial

import pytest
from tests.process.nodes_here import NodesHere

from allcores import Pool
from allcores.adapters.cluster import node
from allcores.backends import open as opener


@pytest.fixture(autouse=True)
def nodes_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opener.CLUSTERS, "dask", ("tests.process.nodes_here", "given", "json", "dask"))
    # The pool of a node that was given up ends when it hears nothing.
    monkeypatch.setattr(node, "LEASE_S", 6.0)


def double(number: int) -> int:
    return 2 * number


def add(one: int, other: int) -> int:
    return one + other


def test_a_function_that_nobody_has_any_more_is_let_go_of() -> None:
    """Here and on the node: with what it holds, of a program that makes one for each map."""
    cluster = NodesHere("a", lambda name, number: False)
    with Pool(backend="dask", address=cluster) as pool:
        for more in range(5):
            assert pool.map(partial(add, more), [1]) == [1 + more]
        assert pool.map(double, [1]) == [2]
        # What is to be forgotten travels with the next message.
        assert pool.map(double, [2]) == [4]
        (here,) = node._nodes.values()
        assert here._work is not None
        assert len(here._work._functions) <= 2
    cluster.join()
