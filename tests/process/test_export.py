"""`allcores runs export`: what a run has done is never locked up in its journal."""

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

import allcores
from allcores import slices
from allcores.cli.exits import Exit
from allcores.cli.main import main
from allcores.runs import directory, index
from allcores.runs import export as runs_export
from allcores.sinks.many_rows import ManyRows
from allcores.sinks.open import sink_of
from allcores.sources.files import Files
from allcores.sources.open import from_inputs
from allcores.sources.sliced_inputs import SlicedInput
from allcores.sources.sql import SqlQuery


@pytest.fixture
def pool() -> Iterator[allcores.Pool]:
    with allcores.Pool(backend="serial") as pool:
        yield pool


def begin(pool: allcores.Pool, function: Any, items: Any, output: str, **journal: Any) -> Path:
    """A run that comes to some end; its folder."""
    pool.run(function, items, output, journal=allcores.Journal(folder="runs", **journal), on_error="skip")
    return max((each for each in Path("runs").iterdir() if each.is_dir()), key=lambda each: each.name)


def export(run: Path, output: str, *words: str) -> int:
    return main(["runs", "--runs-dir", "runs", "export", run.name, "-o", output, *words])


def lines(path: str) -> list[Any]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def picky(n: int) -> dict[str, Any]:
    if n == 5:
        raise ValueError("not five")
    return {"n": n}


def second(row: dict[str, str]) -> str:
    return row["v"]


def test_a_run_that_cannot_be_published(pool: allcores.Pool, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Something is in the way that nobody could see before: the sentence names the way out, and it works."""

    def in_the_way(n: int) -> str:
        os.makedirs("out", exist_ok=True)
        Path("out/precious").touch()
        return str(n)

    with pytest.raises(allcores.UsageError, match="runs export") as caught:
        pool.run(in_the_way, range(3), "out/", journal=allcores.Journal(folder="runs"))
    (run,) = (each for each in Path("runs").iterdir() if each.is_dir())
    assert run.name in str(caught.value) and "make room" not in str(caught.value).lower()
    assert export(run, "out.jsonl", "--json") == Exit.OK
    assert json.loads(capsys.readouterr().out) == {
        "id": run.name, "output": "out.jsonl", "ok": 3, "failures": 0, "missing": 0, "complete": True
    }  # fmt: skip
    assert [each["text"] for each in lines("out.jsonl")] == ["0", "1", "2"] and os.listdir("out") == ["precious"]


@pytest.mark.parametrize("source", ["in.csv", "*.csv", "both", "in.parquet"])
@pytest.mark.parametrize("output", ["in.csv", "link.csv", "in.parquet"])
def test_an_input_of_the_run_is_not_replaced(pool: allcores.Pool, here: Path, source: str, output: str) -> None:
    """It may be all that is left of it; and another file may be replaced, as by `run`."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    Path("in.csv").write_text("v\n1\n")
    parquet.write_table(pyarrow.table({"v": ["1"]}), "in.parquet")
    os.link("in.csv", "link.csv")
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    sources: dict[str, Any] = {
        "*.csv": Files("*.csv"),
        "both": from_inputs(["in.csv", "in.parquet"]),
    }
    run = begin(pool, lambda value: {"v": str(value)}, sources.get(source) or from_inputs([source]), "out.jsonl")
    if output.endswith({"*.csv": ".csv", "both": ""}.get(source, source[2:])):
        with pytest.raises(allcores.UsageError, match=r"is an input|one of the inputs"):
            runs_export.export("runs", run.name, sink_of(output))
        assert export(run, output) == Exit.USAGE
        assert {name: (here / name).read_bytes() for name in before} == before
    else:
        assert export(run, output) == Exit.OK
        assert (here / output).read_bytes() != before[output]


@pytest.mark.parametrize("kind", ["slices", "sliced", "several", "database", "names", "open"])
def test_a_file_that_an_input_reads_without_being_one_is_not_replaced(
    pool: allcores.Pool, here: Path, kind: str
) -> None:
    """Slices of a file, a database, names of files, an open one."""
    pytest.importorskip("sqlalchemy")
    Path("in.jsonl").write_text('"a"\n')
    with contextlib.closing(sqlite3.connect("in.db")) as database:
        database.execute("CREATE TABLE t (v)")
        database.execute("INSERT INTO t VALUES ('a')")
        database.commit()
    of_file = slices.lines("in.jsonl")
    with open("in.jsonl") as opened:
        sources: dict[str, Any] = {
            "slices": of_file,
            "sliced": SlicedInput(of_file),
            "several": list(of_file),
            "database": SqlQuery("sqlite:///in.db", "SELECT v FROM t ORDER BY v"),
            "names": ["in.jsonl"],
            "open": opened,
        }
        run = begin(pool, str, sources[kind], "out.jsonl")
    name = "in.db" if kind == "database" else "in.jsonl"
    before = Path(name).read_bytes()
    with pytest.raises(allcores.UsageError, match=r"is an input of the run"):
        runs_export.export("runs", run.name, sink_of("in.db:other" if kind == "database" else name))
    assert Path(name).read_bytes() == before


@pytest.mark.parametrize("output", ["e.jsonl", "e.csv", "e.db:t", "e/", "e.jsonl.gz"])
def test_a_run_that_is_not_complete(pool: allcores.Pool, here: Path, output: str) -> None:
    """What is settled of it, in any format, in input order; the run can still be resumed."""

    with pytest.raises(ValueError, match="not five"):
        pool.run(picky, range(9), "out.jsonl", journal=allcores.Journal(folder="runs"))
    (run,) = (each for each in Path("runs").iterdir() if each.is_dir())
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert export(run, output) == Exit.OK
    numbers = [0, 1, 2, 3, 4]
    if output == "e.jsonl":
        assert lines(output) == [{"n": n} for n in numbers]
    elif output == "e.csv":
        assert list(csv.reader(Path(output).read_text().splitlines())) == [["n"], *([str(n)] for n in numbers)]
    elif output == "e.db:t":
        db = sqlite3.connect("e.db")
        assert db.execute("SELECT n FROM t").fetchall() == [(n,) for n in numbers]
        db.close()
    elif output == "e/":
        assert {each.name: json.loads(each.read_text()) for each in Path("e").glob("*.txt")} == {
            f"{n:08}.txt": {"n": n} for n in numbers
        }
    assert {name: (run / name).read_bytes() for name in before} == before
    assert export(run, "records.jsonl", "--records") == Exit.OK
    assert [(each["index"], each["kind"]) for each in lines("records.jsonl")] == [
        (n, "failed" if n == 5 else "ok") for n in range(6)
    ]
    resumed = allcores.Journal(folder="runs", resume=run.name)
    result = pool.run(picky, range(9), "out.jsonl", journal=resumed, on_error="skip")
    assert (result.resumed, result.ok) == (6, 8)


def test_files_become_rows(pool: allcores.Pool, here: Path) -> None:
    """Of a run that writes a folder: name and content."""
    values = ["a", ("named", "ä"), b"\xff"]
    run = begin(pool, values.__getitem__, range(3), "out/")
    assert export(run, "e.jsonl") == Exit.OK
    assert lines("e.jsonl") == [
        {"name": "00000000", "text": "a"}, {"name": "named", "text": "ä"}, {"name": "00000002", "base64": "/w=="}
    ]  # fmt: skip
    assert export(run, "again/") == Exit.OK
    assert (here / "again" / "named").read_text() == "ä" and len(os.listdir("again")) == 4


def test_items_with_keys_come_in_the_order_of_the_input(pool: allcores.Pool, here: Path) -> None:
    """As it was last read."""
    rows = [{"k": name, "v": name * 2} for name in "abc"]
    begin(pool, second, rows, "out.jsonl", key="k", resume=True)
    run = begin(pool, second, rows[::-1], "out.jsonl", key="k", resume=True)
    assert export(run, "e.jsonl") == Exit.OK and lines("e.jsonl") == ["cc", "bb", "aa"]


@pytest.mark.parametrize("damage", ["catalogue", "row", "log"])
def test_a_damaged_journal(pool: allcores.Pool, here: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is left of it, and a sentence on what is not."""
    run = begin(pool, str, range(6), "out.jsonl")
    path = run / (directory.LOG if damage == "log" else index.FILE)
    raw = bytearray(path.read_bytes())
    if damage == "catalogue":
        raw[:2000] = b"x" * 2000
    elif damage == "row":
        raw[raw.rindex(b'"function"') + 1] ^= 1
    else:
        again = allcores.Journal(folder="runs", resume=run.name, accept_changes=True)
        pool.run(str, range(9), "out.jsonl", journal=again)
        raw = bytearray(path.read_bytes())
        raw[40] ^= 1
    path.write_bytes(raw)
    assert export(run, "e.jsonl") == Exit.SOME_FAILED
    assert lines("e.jsonl") == [str(n) for n in (range(6, 9) if damage == "log" else range(6))]
    assert "damaged" in capsys.readouterr().err


def test_what_cannot_be_exported_is_said(pool: allcores.Pool, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a sentence; the journal is no place for an output."""
    run = begin(pool, str, range(3), "out.jsonl")
    for output, code in [
        (f"{run}/outcomes.log", Exit.USAGE),
        ("runs/x.jsonl", Exit.USAGE),
        ("out.csv", Exit.USAGE),
        ("-", Exit.USAGE),
        ("nowhere/x.jsonl", Exit.USAGE),
    ]:
        assert export(run, output) == code, output
        assert capsys.readouterr().err.startswith("allcores: ")
    assert main(["runs", "--runs-dir", "runs", "export", "20000101-000000-0000000", "-o", "e.jsonl"]) == Exit.USAGE


def test_make_room_is_said_of_a_full_disk_alone(
    pool: allcores.Pool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else cannot be written needs another remedy."""
    from allcores.sinks import publishing

    for number, said in ((28, True), (122, True), (13, False), (5, False), (36, False)):

        def refuse(*_: Any, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patched:
            patched.setattr(publishing, "wrap_to_write", refuse)
            patched.setattr("allcores.sinks.json_lines.JsonLinesFile.check", lambda _: None)
            with pytest.raises(allcores.JournalError, match=r"resume") as caught:
                pool.run(str, range(3), "out.jsonl", journal=allcores.Journal(folder="runs"))
        assert ("ake room" in str(caught.value)) == said, str(caught.value)


def some(n: int) -> list[dict[str, Any]]:
    """As many rows as the number says; the fifth fails."""
    if n == 5:
        raise ValueError("not five")
    return [{"n": n, "row": row} for row in range(n % 3)]


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("output", ["e.jsonl", "e.csv", "e/"])
def test_items_that_gave_many_rows(pool: allcores.Pool, here: Path, output: str, damaged: bool) -> None:
    """Each row by itself, in any format, also if the catalogue cannot be read any more."""
    run = begin(pool, some, range(9), ManyRows(sink_of("out.jsonl")))  # type: ignore[arg-type]
    wanted = [row for n in range(9) if n != 5 for row in some(n)]
    assert lines("out.jsonl") == wanted
    if damaged:
        (run / index.FILE).write_bytes(b"no database")
    assert export(run, output) == (Exit.SOME_FAILED if damaged else Exit.OK)
    if output.endswith("/"):
        names = sorted(each for each in os.listdir(output) if each != ".allcores")
        assert [json.loads(Path(output, name).read_text()) for name in names] == wanted
    elif output.endswith(".csv"):
        with open(output, newline="") as file:
            assert [{k: int(v) for k, v in row.items()} for row in csv.DictReader(file)] == wanted
    else:
        assert lines(output) == wanted


def test_a_side_that_is_not_there(pool: allcores.Pool, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, with those that are."""
    run = begin(pool, some, range(3), ManyRows(sink_of("out.jsonl"), [sink_of("side.jsonl")]))  # type: ignore[arg-type]
    assert export(run, "e.jsonl", "--side", "2") == Exit.USAGE
    assert "no side 2: it has side 1" in capsys.readouterr().err
    assert export(run, "e.jsonl", "--side", "1") == Exit.OK and not lines("e.jsonl")
