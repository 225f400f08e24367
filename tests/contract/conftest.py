"""Takes the safety net away."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that waits looks around every few seconds, in case nobody woke it. Here nobody may forget to."""
    monkeypatch.setattr("allcores.pool.result_stream.WAIT_S", 1000.0)
    monkeypatch.setattr("allcores.pipelines.execution.WAIT_S", 1000.0)
