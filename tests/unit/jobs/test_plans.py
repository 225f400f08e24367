"""By which indexes a store finds what it looks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from allcores.jobs import schema
from allcores.jobs.claims import COMING_DUE
from allcores.jobs.store import JobStore


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (str(COMING_DUE["sqlite"]).replace(":now", "1"), "allcores_jobs_delayed"),
        (
            f"SELECT seq FROM allcores_jobs WHERE {schema.READY} AND task = 'f' ORDER BY priority DESC, seq LIMIT 5",
            "allcores_jobs_ready",
        ),
        (
            "SELECT seq FROM allcores_jobs WHERE finished IS NOT NULL ORDER BY finished LIMIT 5",
            "allcores_jobs_finished",
        ),
        ("SELECT seq FROM allcores_jobs WHERE state = 'failed' AND seq < 9 ORDER BY seq DESC LIMIT 5", "jobs_state"),
        ("SELECT seq FROM allcores_tags WHERE tag = 't' AND seq < 9 ORDER BY seq DESC LIMIT 5", "allcores_tags"),
    ],
    ids=["delayed", "ready", "ended", "state", "tag"],
)
def test_what_is_asked_often_has_an_index_and_is_not_sorted(tmp_path: Path, statement: str, index: str) -> None:
    """Of all million jobs: SQLite knows nothing of the values, and takes another index where it may."""
    with JobStore.open(tmp_path / "jobs.sqlite") as store, store.reading() as connection:
        plan = [str(row[3]) for row in connection.execute(text(f"EXPLAIN QUERY PLAN {statement}")).all()]
    assert any(index in line for line in plan), plan
    assert not any("TEMP B-TREE" in line for line in plan), plan
