"""Connections to the database come back, also where Ctrl-C meets who takes or gives one: forks wait for them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection

from allcores.jobs.store import JobStore


def interrupted(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["exec_driver_sql", "rollback"])
def test_one_that_is_taken(store: JobStore, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    job = store.submit("f", {}).job
    with monkeypatch.context() as patched:
        patched.setattr(Connection, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.get(job.id)
    assert store._database._used == 0
    assert store.get(job.id) == job and store.submit("f", {}).job.seq == 2


def test_one_that_is_given_back(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        with store.reading():
            patched.setattr(Connection, "rollback", interrupted)
    assert store._database._used == 0
    assert store.submit("f", {}).job.seq == 1
