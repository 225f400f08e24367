"""A run of the benchmarks that is ended keeps what it has measured."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks import run
from benchmarks.quiet import Quiet
from benchmarks.rows import Row
from benchmarks.settings import Settings


def asked(only: frozenset[str] | None) -> Settings:
    return Settings(quick=True, quiet=Quiet(0.0), rounds=1, wanted=None, only=only)


@pytest.mark.parametrize("ended_in", [None, "streams", "starts"])
def test_rows_are_kept_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended_in: str | None) -> None:
    def module(name: str) -> Any:
        group = name.rpartition(".")[2]

        def rows(settings: Settings) -> list[Row]:
            if group == ended_in:
                raise KeyboardInterrupt
            return [Row(each, each, "s", "") for each in (*run.GROUPS[group], "not asked for")]

        return SimpleNamespace(rows=rows)

    monkeypatch.setattr(importlib, "import_module", module)
    target = tmp_path / "figures.json"
    found, interrupted = run.measured(asked(frozenset({"imap", "pools", "import"})), target)
    expected = {None: ["imap", "pools", "import"], "streams": [], "starts": ["imap"]}[ended_in]
    assert [row.name for row in found] == expected
    assert interrupted is (ended_in is not None)
    kept = json.loads(target.read_text())["rows"] if target.exists() else []
    assert [row["name"] for row in kept] == expected
    assert [path.name for path in tmp_path.iterdir()] == (["figures.json"] if expected else [])


def test_an_ended_run_writes_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "measured", lambda *_: ([], True))
    page = tmp_path / "page.md"
    monkeypatch.setattr("sys.argv", ["run.py", "--report", str(page)])
    monkeypatch.setattr("compileall.compile_dir", lambda *_, **__: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert run.main() == 130
    assert "no page is written" in capsys.readouterr().out
    assert not page.exists()
