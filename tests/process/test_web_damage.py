"""A row of one job that is damaged breaks no page: what could be read is shown."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from tests.process.console import bearer, console, store_of

from allcores.jobs.model import Finished, JobError, Progress, State

ODD = '\'{"done": "x", "failed": null, "total": "y", "started": "z", "at": "q", "run": 5, "note": 7}\''


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("jobs", "started", "'x'"),
        ("jobs", "wait", "'x'"),
        ("jobs", "failure", "X'FF'"),
        ("jobs", "task", "X'FF'"),
        ("jobs", "error", "'[1'"),
        ("progress", "body", ODD),
        ("progress", "body", "'[]'"),
        ("attempts", "started", "'x'"),
        ("attempts", "finished", "'y'"),
        ("attempts", "error", "'{}'"),
        ("attempts", "note", "X'FF'"),
    ],
)
def test_each_page_is_there_all_the_same(tmp_path: Path, table: str, column: str, value: str) -> None:
    with console(tmp_path) as app:
        store, client = store_of(app), app.test_client()
        job, other = (store.submit("square", {"n": n}).job for n in range(2))
        with store.become_supervisor():
            first, second = store.claim(2, ["square"])
            store.report_progress(first, Progress(1, 0, 3, 5.0, 6.0, None, "a note"))
            store.finish(second, Finished(State.FAILED, error=JobError("ValueError", "no")))
        with contextlib.closing(sqlite3.connect(store.name)) as connection, connection:
            connection.execute(f"UPDATE allcores_{table} SET {column} = {value}")
            assert connection.execute("SELECT changes()").fetchone() != (0,)
        paths = ("/", "/list", "/failed", "/workers", "/api/jobs", "/api/counts", "/metrics")
        for path in (*paths, *(f"{place}/{each.id}" for place in ("/job", "/api/jobs") for each in (job, other))):
            assert client.get(path, headers=bearer()).status_code == 200, path
