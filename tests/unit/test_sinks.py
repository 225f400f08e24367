"""Sinks that publish whole: what they write, and that nothing is there before it is all there."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allcores.errors import UsageError
from allcores.sinks.base import Block, Entries, Lost, WholeSink
from allcores.sinks.directory import FolderOfFiles
from allcores.sinks.json_lines import JsonLinesFile
from allcores.sinks.json_text import NotJson
from allcores.sinks.open import sink_of
from allcores.sinks.tables import CsvFile, SqliteTable
from allcores.sources.open import from_inputs
from allcores.sources.text import opened

ROWS: list[dict[str, Any]] = [
    {"n": 1, "text": 'ä, "quoted"\nline'},
    {"n": 2, "more": [1, {"a": None}]},
    {"n": 3, "text": None, "yes": True},
]


def entries_of(sink: WholeSink, values: list[Any], size: int = 2) -> Entries:
    """Values as blocks of `size`, encoded as the sink's workers would."""
    encode = sink.wrap(lambda value: value)

    def give() -> Iterator[Block]:
        for start in range(0, len(values), size):
            part = values[start : start + size]
            yield Block(start, len(part), "".join(encode(value) + "\n" for value in part).encode())

    return give


def broken(entries: Entries) -> Entries:
    """The same, but the disk fails in the middle."""

    def give() -> Iterator[Block | Lost]:
        yield next(iter(entries()))
        raise OSError(5, "Input/output error")

    return give


def publish(sink: WholeSink, values: list[Any]) -> None:
    sink.publish(entries_of(sink, values), mark="m", sync=True)


@pytest.mark.parametrize("name", ["o.jsonl", "o.jsonl.gz", "o.jsonl.bz2", "o.jsonl.xz", "o.jsonl.zst"])
def test_json_lines_compressed_as_named(tmp_path: Path, name: str) -> None:
    """Read back the same; the same values give the same bytes."""
    if name.endswith(".zst"):
        pytest.importorskip("zstandard")
    one, other = str(tmp_path / name), str(tmp_path / f"other.{name}")
    publish(sink_of(one), ROWS)
    publish(sink_of(other), ROWS)
    assert list(from_inputs([one])) == ROWS
    assert Path(one).read_bytes() == Path(other).read_bytes()
    with opened(one) as (file, _):
        assert len(file.read().splitlines()) == 3


def test_records_hold_everything(tmp_path: Path) -> None:
    """Attempts, seconds and worker of what returned, and the failures between."""
    sink = JsonLinesFile(tmp_path / "o.jsonl", records=True)
    parts: list[Block | Lost] = [
        Block(0, 2, b"1\n2\n", [(1, 3, 0.5), (2, -1, 0.25)]),
        Lost(2, {"index": 2, "kind": "failed"}),
        Block(3, 1, b'"x"\n', [(1, 0, 0.0)]),
    ]
    sink.publish(lambda: parts, mark="m", sync=False)
    assert [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()] == [
        {"index": 0, "kind": "ok", "value": 1, "attempts": 1, "seconds": 0.5, "worker": 3},
        {"index": 1, "kind": "ok", "value": 2, "attempts": 2, "seconds": 0.25, "worker": None},
        {"index": 2, "kind": "failed"},
        {"index": 3, "kind": "ok", "value": "x", "attempts": 1, "seconds": 0.0, "worker": 0},
    ]


def test_csv_has_all_names(tmp_path: Path) -> None:
    """Also those that only a late row has; what is nested is JSON."""
    sink = CsvFile(tmp_path / "o.csv")
    publish(sink, ROWS)
    with open(tmp_path / "o.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"n": "1", "text": ROWS[0]["text"], "more": "", "yes": ""},
        {"n": "2", "text": "", "more": '[1, {"a": null}]', "yes": ""},
        {"n": "3", "text": "", "more": "", "yes": "true"},
    ]
    with pytest.raises(NotJson, match="value is a list, but"):
        publish(sink, [{"n": 1}, [2]])
    assert (tmp_path / "o.csv").read_text().startswith("n,text")


def test_a_table_of_a_database(tmp_path: Path) -> None:
    """Replaced in one transaction; other tables stay."""
    path = tmp_path / "o.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE other (x)")
    db.commit()
    db.close()
    sink = sink_of(f"{path}:found")
    publish(sink, ROWS)
    publish(sink, ROWS)
    with pytest.raises(OSError, match="Input"):
        sink.publish(broken(entries_of(sink, ROWS)), mark="m", sync=True)
    db = sqlite3.connect(path)
    assert db.execute("SELECT n, text, more, yes FROM found").fetchall() == [
        (1, ROWS[0]["text"], None, None),
        (2, None, '[1, {"a": null}]', None),
        (3, None, None, 1),
    ]
    assert db.execute("SELECT count(*) FROM other").fetchall() == [(0,)]
    db.close()


@pytest.mark.parametrize("altered", [False, True])
def test_a_table_of_others_is_not_replaced(tmp_path: Path, altered: bool) -> None:
    """Also one of ours that they have altered, and one that they make after the run began."""
    path = tmp_path / "o.db"
    sink = sink_of(f"{path}:users")
    entries = entries_of(sink, ROWS)
    if altered:
        publish(sink_of(f"{path}:USERS"), ROWS)
    sink.check()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE users ADD COLUMN email" if altered else "CREATE TABLE Users (name)")
        db.commit()
    for step in (sink.check, lambda: sink.publish(entries, mark="m", sync=True)):
        with pytest.raises(UsageError, match="allcores did not make"):
            step()
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM users").fetchone() == (3 * altered,)
    sink_of(f"{path}:others").check()


def test_a_database_that_cannot_grow_is_as_it_was(tmp_path: Path) -> None:
    """With nothing beside it: without that file it would be damaged, and the disk stays full as long as it is there."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "o.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE users (name)")
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    try:
        with pytest.raises(OSError, match=r"full|I/O"):
            publish(sink_of(str(path)), [{"x": "x" * 1_000}] * 6_000)
        assert os.listdir(tmp_path) == ["o.db"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["o.csv", "o.parquet", "o.db", "o.jsonl"])
def test_rows_without_a_field_are_rows(name: str, tmp_path: Path) -> None:
    """All of them, or some; none make no row."""
    given: list[list[dict[str, int]]] = [[{}, {}], [{}, {"a": 1}], []]
    for number, values in enumerate(given):
        path = tmp_path / f"{number}{name}"
        publish(sink_of(f"{path}:found" if name == "o.db" else path), values)
        if name == "o.csv":
            with path.open(newline="") as file:
                found = len(list(csv.DictReader(file)))
        elif name == "o.parquet":
            found = pytest.importorskip("pyarrow.parquet").read_table(path).num_rows
        elif name == "o.db":
            with contextlib.closing(sqlite3.connect(path)) as db:
                ((found,),) = db.execute("SELECT count(*) FROM found")
        else:
            found = len(path.read_text().splitlines())
        assert found == len(values)


def test_parquet(tmp_path: Path) -> None:
    """Columns of all rows; and a Parquet file is a source."""
    pytest.importorskip("pyarrow")
    path = str(tmp_path / "o.parquet")
    publish(sink_of(path), [{"n": 1}, {"n": 2.5, "text": "x"}, {"tags": ["a"]}])
    assert list(from_inputs([path])) == [
        {"n": 1.0, "text": None, "tags": None},
        {"n": 2.5, "text": "x", "tags": None},
        {"n": None, "text": None, "tags": ["a"]},
    ]
    with pytest.raises(UsageError, match="one column"):
        publish(sink_of(path), [{"n": 1}, {"n": 2}, {"n": "three"}])


@pytest.mark.parametrize(
    ("number", "truth"),
    [(2.5, True), ([2.5], [None, False]), ({"x": 2.5}, {"x": True}), ({"x": [{"y": 2.5}]}, {"x": [{"y": False}]})],
)
def test_truth_values_are_no_numbers_of_a_parquet_file(tmp_path: Path, number: Any, truth: Any) -> None:
    """In whichever order they come: pyarrow would write 1.0 for a True that stands behind a number."""
    pytest.importorskip("pyarrow")
    for values in ([number, None, truth], [truth, None, number]):
        with pytest.raises(UsageError, match="one column"):
            publish(sink_of(str(tmp_path / "o.parquet")), [{"a": value} for value in values])


def test_a_folder_of_files(tmp_path: Path) -> None:
    """Named by index, or by the function; what was there is replaced only if allcores made it."""
    sink = FolderOfFiles(tmp_path / "out", suffix=".bin")
    publish(sink, ["text", b"\0bytes", ("named.txt", "ä")])
    publish(sink, ["text", b"\0bytes", ("named.txt", "ä")])
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.name != ".allcores"}
    assert found == {"00000000.bin": b"text", "00000001.bin": b"\0bytes", "named.txt": "ä".encode()}
    assert os.listdir(tmp_path) == ["out"]
    with pytest.raises(UsageError, match="an earlier item has"):
        publish(sink, [("same", "1"), ("same", "2")])
    assert len(os.listdir(tmp_path / "out")) == 4
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("")
    with pytest.raises(UsageError, match="not empty"):
        publish(FolderOfFiles(tmp_path / "mine"), ["x"])
    with pytest.raises(TypeError, match="no slash"):
        sink.wrap(lambda value: value)(("../up", "x"))


@pytest.mark.parametrize("name", ["o.jsonl", "o.jsonl.gz", "o.csv", "o/"])
def test_a_publication_that_fails_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    """And nothing beside it."""
    sink = sink_of(str(tmp_path) + "/" + name)
    values = ["a", "b", "c"] if name == "o/" else ROWS
    publish(sink, values)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(OSError, match="Input"):
        sink.publish(broken(entries_of(sink, values)), mark="m", sync=True)
    assert sorted(os.listdir(tmp_path)) == before
    assert list(Path(tmp_path, name).iterdir()) if name == "o/" else Path(tmp_path, name).read_bytes()


def test_the_file_keeps_its_mode_and_a_link_its_target(tmp_path: Path) -> None:
    """Publishing is a new file under the old name, but it should not show."""
    target = tmp_path / "target.jsonl"
    target.write_text("")
    target.chmod(0o640)
    (tmp_path / "o.jsonl").symlink_to(target)
    publish(sink_of(tmp_path / "o.jsonl"), [1])
    assert (tmp_path / "o.jsonl").is_symlink() and target.read_text() == "1\n"
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_path_names_its_sink() -> None:
    """By suffix."""
    assert isinstance(sink_of("x.csv.gz"), CsvFile) and isinstance(sink_of("x.txt"), JsonLinesFile)
    for name, place, named in (("a:b/x.db", "a:b/x.db", "outcomes"), ("a:b/x.db:rows", "a:b/x.db", "rows")):
        found = sink_of(name)
        assert isinstance(found, SqliteTable) and (found.path, found.table) == (place, named)
    table = sink_of("x.sqlite")
    assert isinstance(table, SqliteTable) and table.table == "outcomes"
    with pytest.raises(UsageError, match="JSON lines"):
        sink_of("x.csv", records=True)
    with pytest.raises(UsageError, match="no sink"):
        sink_of(3)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("o.db.gz", "not compressed: name the output .*o.db$"),
        ("o.sqlite.zst", "not compressed"),
        ("o.csv:rows", "name the output .*o.csv$"),
        ("o.parquet:", "only databases have tables"),
        ("o.npy", "would hold lines of JSON"),
        ("o.H5", "would hold lines of JSON"),
        ("o.xlsx", "would hold lines of JSON"),
        ("o.xml", "would hold lines of JSON"),
        ("o.yaml", "would hold lines of JSON"),
        ("o.duckdb", "would hold lines of JSON"),
        ("o.tar.gz", "would hold lines of JSON"),
        ("o.jsonl.lz4", "would not be compressed as its name says: compressed outputs are .gz, .bz2, .xz, .zst"),
        ("o.csv.ZSTD", "would not be compressed as its name says"),
    ],
)
def test_no_name_is_given_to_lines_of_json_that_says_something_else(name: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        sink_of(str(tmp_path / name))


@pytest.mark.parametrize("name", ["o.txt", "o", "2026-11-27T10:00.jsonl", "a.csv:b.jsonl", "o.jsonl.gz"])
def test_any_other_name_is_one_of_json_lines(name: str, tmp_path: Path) -> None:
    assert isinstance(sink_of(str(tmp_path / name)), JsonLinesFile)


@pytest.mark.parametrize(("name", "better"), [("o.json", "o.jsonl"), ("o.json.gz", "o.jsonl.gz")])
def test_a_name_of_one_document_is_told_that_it_has_lines(name: str, better: str) -> None:
    """The line that is named is the program's."""
    with pytest.warns(
        RuntimeWarning, match=f"^{name} will have a line of JSON for each item, .* name it {better}$"
    ) as told:
        assert isinstance(sink_of(name), JsonLinesFile)
    assert told[0].filename == __file__
