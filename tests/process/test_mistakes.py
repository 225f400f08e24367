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
