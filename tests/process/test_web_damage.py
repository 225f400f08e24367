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
        ("counters", "n", "'x'"),
        ("counters", "n", "-5"),
        ("counters", "n", "9223372036854775807"),
        ("counters", "bytes", "X'FF'"),
        ("ends", "n", "'x'"),
        ("ends", "n", "-3"),
        ("ends", "bucket", "'x'"),
        ("audit", "at", "'x'"),
        ("audit", "count", "'x'"),
        ("audit", "by", "X'FF'"),
        ("audit", "detail", "'[1]'"),
        ("changes", "number", "'x'"),
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
        store.write_audit("ann", "thing")
        with contextlib.closing(sqlite3.connect(store.name)) as connection, connection:
            connection.execute(f"UPDATE allcores_{table} SET {column} = {value}")
            assert connection.execute("SELECT changes()").fetchone() != (0,)
        paths = ("/", "/list", "/failed", "/workers", "/audit", "/api/audit", "/api/jobs", "/api/counts", "/metrics")
        for path in (*paths, *(f"{place}/{each.id}" for place in ("/job", "/api/jobs") for each in (job, other))):
            assert client.get(path, headers=bearer()).status_code == 200, path


def test_pages_say_that_counts_are_damaged_until_they_are_mended(tmp_path: Path) -> None:
    with console(tmp_path) as app:
        store, client = store_of(app), app.test_client()
        store.submit("square", {"n": 1})
        with contextlib.closing(sqlite3.connect(store.name)) as connection, connection:
            connection.execute("UPDATE allcores_counters SET n = 'x'")
        words = "counters of jobs are damaged, and what is no count is left out"
        assert words in client.get("/list", headers=bearer()).text
        with store.become_supervisor():
            store.maintain()
        text = client.get("/list", headers=bearer()).text
        assert words not in text and "1 jobs kept" in text
