"""The pools that these tests use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.contract.backends.support import CLUSTERS, ONLY, PLACES, PROCESSES
from tests.process.clusters import DaskNodes
from tests.process.waiting import Watcher, begin_records, wait_full_strength

from allcores import Limits, Pool

HERE = Path(__file__).parent
#: the files that are run on clusters, too: all but that on actors, which are refused there (see test_dask_faults)
ON_CLUSTERS = {
    f"test_{name}"
    for name in (
        "arguments",
        "batches",
        "cache",
        "end",
        "failures",
        "functions",
        "laziness",
        "reduce",
        "state",
        "together",
        "verbs",
        "watching",
    )
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks the tests on clusters, whose client opens what it needs when it needs it, and leaves out the others."""
    left_out = []
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is None or callspec.params.get("place") not in CLUSTERS:
            continue
        if item.path.parent != HERE or item.path.stem in ON_CLUSTERS:
            # Ray's processes come and go by its own rules, and orphans of it are the program's that has the cluster.
            item.add_marker(pytest.mark.leaks_allowed if ONLY else pytest.mark.cluster_client)
        else:
            left_out.append(item)
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


class Clusters:
    """One cluster of two nodes for all tests of this folder, started when the first test asks for it.

    It is ended when this process comes to tests of another folder: it keeps a core busy now and then, also at rest.
    """

    def __init__(self) -> None:
        self._open = ExitStack()
        self._addresses: dict[str, str] = {}

    def options(self, place: str) -> dict[str, Any]:
        """What makes a pool of a place."""
        if place in PROCESSES:
            return {"start_method": place}
        if place not in CLUSTERS or ONLY:
            return {"backend": place}
        if place not in self._addresses:
            self._addresses[place] = self._open.enter_context(DaskNodes(2)).address
            # Each node's template starts with its first pool, and stays.
            watcher = Watcher()
            with Pool(2, backend=place, address=self._addresses[place], observers=[watcher]) as pool:
                wait_full_strength(pool, watcher)
        return {"backend": place, "address": self._addresses[place]}

    def close(self) -> None:
        """End them; the next test that asks for one has it started again."""
        self._addresses.clear()
        self._open.close()


_clusters = Clusters()


@pytest.fixture(scope="session")
def clusters() -> Iterator[Clusters]:
    with contextlib.closing(_clusters):
        yield _clusters


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Generator[None, None, None]:
    """Ends the clusters after the last test here, and after the pools of its module."""
    yield
    if nextitem is None or nextitem.path.parent != HERE:
        _clusters.close()


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest, clusters: Clusters) -> str:
    place = str(request.param)
    # A cluster is of all tests, not of the one that happens to come first: it would be accused of leaving it behind.
    clusters.options(place)
    return place


@pytest.fixture(scope="module")
def pool(place: str, clusters: Clusters) -> Iterator[Pool]:
    """One pool for all tests that leave its workers as they are."""
    watcher = Watcher()
    # Much grace: on a busy machine, work that a test leaves must not cost a worker.
    with Pool(2, **clusters.options(place), observers=[watcher], limits=Limits(grace_s=10)) as pool:
        if place == "serial":
            pool.map(abs, [1])
        else:
            wait_full_strength(pool, watcher)
        begin_records(pool)
        yield pool


@pytest.fixture
def make_pool(place: str, clusters: Clusters) -> Callable[..., Pool]:
    """Pools of the place under test, for tests that need options or end workers."""

    def make(workers: int = 2, **more: Any) -> Pool:
        return Pool(workers, **clusters.options(place), **more)

    return make
