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


def row(number: int) -> dict[str, Any]:
    return {"n": number, "text": KILOBYTE}


def test_large_rows_of_a_parquet_file_are_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are written, and as they are read."""
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("allcores.sinks.parquet.BATCH_BYTES", 10 * 1024)
    monkeypatch.setattr("allcores.sources.parquet.BATCH_BYTES", 10 * 1024)
    path = tmp_path / "out.parquet"
    with allcores.Pool(backend="serial") as pool:
        pool.run(row, range(100), path, journal=False)
        with parquet.ParquetFile(path) as file:
            assert file.metadata.num_rows == 100
            assert file.metadata.num_row_groups >= 9
        sizes = []
        batches = parquet.ParquetFile.iter_batches

        def seen(self: Any, batch_size: int, **options: Any) -> Any:
            sizes.append(batch_size)
            return batches(self, batch_size, **options)

        monkeypatch.setattr(parquet.ParquetFile, "iter_batches", seen)
        pool.run(len, path, tmp_path / "again.jsonl", journal=False)
    assert len((tmp_path / "again.jsonl").read_text().splitlines()) == 100
    assert len(sizes) == 1 and 1 <= sizes[0] <= 100
