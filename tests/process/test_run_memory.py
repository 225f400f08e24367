"""What a run holds at a time is bounded by its size, and not by a number of rows: these may be large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import allcores
from allcores.sinks.base import Block, Entries
from allcores.sinks.json_lines import JsonLinesFile

KILOBYTE = "x" * 1024


def large(number: int) -> str:
    return KILOBYTE


class Weighed(JsonLinesFile):
    """Tells how large the largest block was."""

    most = 0

    def publish(self, entries: Entries, *, mark: str, sync: bool) -> None:
        """See JsonLinesFile."""

        def weighed() -> Any:
            for entry in entries():
                if isinstance(entry, Block):
                    self.most = max(self.most, len(entry.lines))
                yield entry

        super().publish(weighed, mark=mark, sync=sync)


def test_large_values_do_not_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a journal they are written as they come, and do not wait until there are a thousand."""
    monkeypatch.setattr("allcores.runs.run.BLOCK_CHARACTERS", 10 * 1024)
    sink = Weighed(tmp_path / "out.jsonl")
    with allcores.Pool(backend="serial") as pool:
        assert pool.run(large, range(100), sink, journal=False).ok == 100
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 100
    assert sink.most < 20 * 1024
