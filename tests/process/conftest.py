"""Takes the safety net away; and a folder of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.process.alarms import on_alarm as on_alarm


@pytest.fixture(autouse=True)
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that waits looks around every few seconds, in case nobody woke it. Here nobody may forget to."""
    monkeypatch.setattr("allcores.pool.result_stream.WAIT_S", 1000.0)
    monkeypatch.setattr("allcores.pipelines.execution.WAIT_S", 1000.0)
    monkeypatch.setattr("allcores.adapters.pool_maps.WAIT_S", 1000.0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, which is the working folder, too."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
