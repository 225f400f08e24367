"""What a run holds at a time is bounded by its size, and not by a number of rows: these may be large."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process.waiting import PATIENCE_S

import allcores
from allcores import failpoints
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


class Item(str):
    """One that can be told to be gone."""


def first(item: Item) -> int:
    return int(item.split()[0])


def test_large_items_do_not_wait_for_the_disk(tmp_path: Path) -> None:
    """Their values do, until it has taken those before; the items are let go of."""
    alive: weakref.WeakSet[Item] = weakref.WeakSet()
    most: list[int] = []
    waiting = threading.Event()

    def items() -> Iterator[Item]:
        for number in range(100):
            item = Item(f"{number} {'x' * 10_000}")
            alive.add(item)
            if number == 99:
                gc.collect()
                most.append(len(alive))
                waiting.set()
            yield item

    def slow(at: str) -> None:
        if at == "commit.begin":
            assert waiting.wait(PATIENCE_S)

    journal = allcores.Journal(folder=tmp_path / "runs", commit_s=0.001, fsync="never")
    limits = allcores.Limits(items_in_flight=10)
    failpoints.install(slow)
    try:
        with allcores.Pool(backend="serial", limits=limits) as pool:
            assert pool.run(first, items(), tmp_path / "out.jsonl", journal=journal, chunk=1).ok == 100
    finally:
        failpoints.install(None)
    assert most[0] < 50
    assert (tmp_path / "out.jsonl").read_text() == "".join(f"{number}\n" for number in range(100))


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
