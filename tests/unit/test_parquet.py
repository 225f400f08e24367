"""Rows of Parquet files as items; what cannot be one is a sentence that names it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allcores import slices
from allcores.errors import SliceError, UsageError
from allcores.sources.open import from_inputs
from allcores.sources.parquet import Parquet
from allcores.sources.text import BadInput

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(folder: Path, table: Any) -> str:
    path = str(folder / "rows.parquet")
    pq.write_table(table, path)
    return path


def far_date() -> Any:
    return pa.array([0, 4_000_000, 1], pa.int32()).cast(pa.date32())


def far_time() -> Any:
    return pa.array([0, 10**18, 1], pa.int64()).cast(pa.timestamp("us"))


def no_text() -> Any:
    return pa.array([b"a", b"\xff", b"b"], pa.binary()).view(pa.string())


@pytest.mark.parametrize("make", [far_date, far_time, no_text])
def test_a_value_that_python_has_nothing_for(tmp_path: Path, make: Any) -> None:
    """Its row and column, and the way out; a file of other columns can be read."""
    path = write(tmp_path, pa.table({"n": [1, 2, 3], "odd": make()}))
    with pytest.raises(BadInput, match=r"row 1, column 'odd' .*--columns") as caught:
        list(from_inputs([path]))
    assert "\n" not in str(caught.value)
    assert list(from_inputs([path], columns=["n"])) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_names_that_occur_twice(tmp_path: Path) -> None:
    """At once, unless the columns that were chosen are others."""
    path = write(tmp_path, pa.Table.from_arrays([pa.array([n]) for n in range(3)], names=["a", "b", "a"]))
    with pytest.raises(BadInput, match=r"the name 'a' occurs twice .columns 1 and 3"):
        from_inputs([path])
    with pytest.raises(BadInput, match="the name 'a' occurs twice"):
        list(Parquet(path, ("a", "b")))
    assert list(from_inputs([path], columns=["b"])) == [{"b": 1}]


def test_damaged_files(tmp_path: Path) -> None:
    """Whatever the library raises, reading rows and slices of a damaged file ends with a sentence, or not at all."""
    path = write(tmp_path, pa.table({"n": list(range(1_000)), "text": [str(n) for n in range(1_000)]}))
    with open(path, "rb") as file:
        whole = file.read()
    chance = random.Random(1)
    for size in (0, 4, len(whole) // 2, len(whole) - 1):
        check(path, whole[:size])
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 20])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        check(path, bytes(damaged))


def check(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
    reads: list[Callable[[], Any]] = [
        lambda: list(from_inputs([path])),
        lambda: [each.load() for each in slices.parquet(path)],
    ]
    for read in reads:
        try:
            read()
        except (UsageError, SliceError) as error:
            assert path in str(error) and "\n" not in str(error)
    Parquet(path).total()


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    """Cannot be read from its end, as Parquet has to be."""
    os.mkfifo(tmp_path / "fifo.parquet")
    with pytest.raises(BadInput, match="no regular file"):
        from_inputs([str(tmp_path / "fifo.parquet")])
    with pytest.raises(BadInput, match="no regular file"):
        from_inputs(["-"], format="parquet")
