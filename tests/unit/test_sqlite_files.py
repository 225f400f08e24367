"""Connections to SQLite files: none stays open that nobody has."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

import pytest
from tests.process.interrupting import python_handler

from allcores.system import sqlite_files


class Pressed(set[sqlite3.Connection]):
    """Notes a connection; then Ctrl-C comes."""

    def add(self, each: sqlite3.Connection) -> None:
        super().add(each)
        self.last = each
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_as_one_is_opened_leaves_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    opened = Pressed()
    monkeypatch.setattr(sqlite_files, "_open", opened)
    with python_handler(), pytest.raises(KeyboardInterrupt):
        sqlite_files.connect(str(path), writable=True, busy_s=0.1)
    assert not opened
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened.last.execute("SELECT 1")
