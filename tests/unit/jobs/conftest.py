"""The same tests on both databases: each gets a store of its own, and may open it once more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.process.jobs import postgresql

from allcores.jobs.commit_socket import CommitClient
from allcores.jobs.store import JobStore
from allcores.jobs.submissions import Prepared


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    if (reason := postgresql.why_not()) is not None:
        pytest.skip(reason)
    with postgresql.server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a store that is not there yet."""
    if request.param == "sqlite":
        return str(tmp_path / "jobs.sqlite")
    server: postgresql.Server = request.getfixturevalue("postgresql_server")
    return server.new_database()


@pytest.fixture
def opened(where: str) -> Iterator[Callable[[], JobStore]]:
    """Opens the store; closed after the test."""
    stores = []

    def open_once_more() -> JobStore:
        stores.append(JobStore.open(where, synchronous="NORMAL"))
        return stores[-1]

    yield open_once_more
    for each in stores:
        each.close()


@pytest.fixture
def store(opened: Callable[[], JobStore]) -> JobStore:
    return opened()


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many submissions are handed over to the supervisor each time."""
    counts: list[int] = []
    kept = CommitClient.submit

    def submit(one: CommitClient, rows: Sequence[Prepared]) -> Any:
        counts.append(len(rows))
        return kept(one, rows)

    monkeypatch.setattr(CommitClient, "submit", submit)
    return counts
