"""The pools that these tests use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.contract.backends.support import PLACES, PROCESSES
from tests.process.waiting import Watcher, begin_records, wait_full_strength

from allcores import Limits, Pool


def options(place: str) -> dict[str, Any]:
    return {"start_method": place} if place in PROCESSES else {"backend": place}


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pool(place: str) -> Iterator[Pool]:
    """One pool for all tests that leave its workers as they are."""
    watcher = Watcher()
    # Much grace: on a busy machine, work that a test leaves must not cost a worker.
    with Pool(2, **options(place), observers=[watcher], limits=Limits(grace_s=10)) as pool:
        if place == "serial":
            pool.map(abs, [1])
        else:
            wait_full_strength(pool, watcher)
        begin_records(pool)
        yield pool


@pytest.fixture
def make_pool(place: str) -> Callable[..., Pool]:
    """Pools of the place under test, for tests that need options or end workers."""

    def make(workers: int = 2, **more: Any) -> Pool:
        return Pool(workers, **options(place), **more)

    return make
