"""A text that is looked for in megabytes of each job: few of them at a time, and no longer than was said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from allcores.jobs import actions, filters
from allcores.jobs.model import JobFilter, Submission
from allcores.jobs.store import JobStore

JOBS = 60
WANTED = JobFilter(text="needle")


@pytest.fixture
def slow(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> JobStore:
    """One with jobs in which a text is looked for a tenth of a second, each."""
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])

    def slowly(name: str) -> Any:
        looked = getattr(filters.Walk, name)

        def look(walk: filters.Walk, seqs: Any, *more: Any) -> Any:
            now[0] += 0.1 * len(seqs)
            return looked(walk, seqs, *more)

        return look

    store.submit_many([Submission("f", {"text": "needle" if i in (0, JOBS - 1) else "hay"}) for i in range(JOBS)])
    for name in ("jobs", "matching"):
        monkeypatch.setattr(filters.Walk, name, slowly(name))
    for module in (filters, actions):
        monkeypatch.setattr(module, "time", clock)
    return store


def test_a_page_ends_soon_after_its_time(slow: JobStore) -> None:
    page = slow.page(WANTED, seconds=0.5)
    assert (len(page.jobs), page.searched_all) == (1, False) and page.searched <= 10
    found, searched = list(page.jobs), page.searched
    while page.older is not None:
        page = slow.page(WANTED, after=page.older, seconds=0.5)
        found += page.jobs
        searched += page.searched
    assert (len(found), searched, page.searched_all) == (2, JOBS, True)


def test_counting_ends_soon_after_its_time(slow: JobStore) -> None:
    for seconds, count, all_of_them in ((0.5, 1, False), (1_000.0, 2, True)):
        snapshot = slow.snapshot(WANTED, seconds=seconds)
        assert (snapshot.count, snapshot.counted_all) == (count, all_of_them)


def test_what_is_done_to_many_ends_soon_after_its_time(slow: JobStore) -> None:
    """And once more goes on."""
    snapshot = slow.snapshot(WANTED, seconds=1_000.0)
    with slow.reading() as connection:
        beyond: int | None = None
        parts: list[int] = []
        while not parts or beyond is not None:
            seen, beyond = actions.seen_in(connection, slow.dialect, snapshot, beyond)
            parts.append(len(seen))
    assert len(parts) > 5 and sum(parts) == 2
    assert slow.cancel(snapshot, "ann").count == 2
