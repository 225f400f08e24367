"""Items that give any number of rows: each kind of output has them one by one, and its own only."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.errors import UsageError
from allcores.outcome import Kind, Outcome
from allcores.runs.rows_outcome import RowsOutcome
from allcores.runs.spec import RunSpec
from allcores.sinks.base import Block, Entries, Lost, WholeSink
from allcores.sinks.json_text import NotJson, to_json
from allcores.sinks.many_rows import ManyRows, for_readers, joined, taken_apart
from allcores.sinks.open import sink_of

#: of each item the rows, with the numbers of their outputs
ITEMS: list[list[tuple[int, Any]]] = [
    [(0, {"n": 0}), (1, {"side": "a\x1eb"}), (0, {"n": 1})],
    [],
    [(1, {"side": "two"})],
    [(0, {"n": 2, "text": "line\nline"})],
]


def entries_of(sink: ManyRows, items: list[list[tuple[int, Any]]], size: int = 3) -> Entries:
    """The items as blocks of at most `size`, encoded as the outputs' workers would."""
    encode = [each.wrap(lambda value: value) for each in sink.outputs]
    lines = [joined([(output, encode[output](value)) for output, value in rows]) for rows in items]

    def give() -> Iterator[Block | Lost]:
        for start in range(0, len(lines), size):
            part = lines[start : start + size]
            yield Block(start, len(part), ("\n".join(part) + "\n").encode())

    return give


def publish(sink: ManyRows, items: list[list[tuple[int, Any]]] = ITEMS, size: int = 3) -> None:
    sink.publish(entries_of(sink, items, size), mark="m", sync=False)


def read(sink: WholeSink) -> list[Any]:
    """The rows of an output of any kind."""
    path = Path(sink.path)
    if path.is_dir():
        return [json.loads(each.read_text()) for each in sorted(path.iterdir()) if each.name != ".allcores"]
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    if path.suffix == ".db":
        with sqlite3.connect(path) as db:
            db.row_factory = sqlite3.Row
            rows = [dict(row) for row in db.execute("SELECT * FROM outcomes")]
        db.close()
        return [{k: v for k, v in row.items() if v is not None} for row in rows]
    if path.suffix == ".parquet":
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(path).to_pylist()
        return [{k: v for k, v in row.items() if v is not None} for row in rows]
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.parquet", "o.db"])
@pytest.mark.parametrize("size", [1, 3, 10])
def test_rows_one_by_one(tmp_path: Path, name: str, size: int) -> None:
    """However they lie in the journal; what is for another output is there and not here."""
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    sink = ManyRows(sink_of(str(tmp_path / name)), [sink_of(str(tmp_path / f"side.{name}"))])
    publish(sink, ITEMS, size)
    as_text = name.endswith(".csv")
    assert read(sink.sink) == [
        {"n": "0" if as_text else 0},
        {"n": "1" if as_text else 1},
        {"n": "2" if as_text else 2, "text": "line\nline"},
    ]
    assert read(sink.sides[0]) == [{"side": "a\x1eb"}, {"side": "two"}]


@pytest.mark.parametrize("size", [1, 2, 10])
def test_a_folder_numbers_rows(tmp_path: Path, size: int) -> None:
    """A file for each row, called by the number of the row, for an item may have several."""
    sink = ManyRows(sink_of(f"{tmp_path}/o/"))
    publish(sink, [[(0, "a"), (0, "b")], [], [(0, "c")], [(0, ("named.txt", "d"))]], size)
    assert sorted(each.name for each in (tmp_path / "o").iterdir()) == [
        ".allcores",
        *(f"{n:08}.txt" for n in range(3)),
        "named.txt",
    ]
    assert (tmp_path / "o/00000002.txt").read_text() == "c"


def test_records_tell_the_item(tmp_path: Path) -> None:
    """A record for each row; one for each failure, behind the rows that its item had before."""
    sink = ManyRows(sink_of(str(tmp_path / "o.jsonl"), records=True))
    failure: dict[str, Any] = {"index": 1, "kind": "failed", "rows": joined([(0, "5")]), "stage": 2}
    failure["more_failures"] = [{"index": 1, "kind": "timed_out"}]
    entries: list[Block | Lost] = [
        Block(0, 1, b"1\x1e2\n", [(3, 1, 0.5)]),
        Lost(1, failure),
        Block(2, 2, b"\n3\n", [(1, -1, 0.0), (1, -1, 0.0)]),
    ]
    assert sink.takes_failures and sink.wants_details
    sink.publish(lambda: iter(entries), mark="m", sync=False)
    records = read(sink.sink)
    assert [(each["index"], each["kind"], each.get("value")) for each in records] == [
        (0, "ok", 1),
        (0, "ok", 2),
        (1, "ok", 5),
        (1, "failed", None),
        (1, "timed_out", None),
        (3, "ok", 3),
    ]
    assert records[0]["attempts"] == 3 and records[3] == {"index": 1, "kind": "failed", "stage": 2}


def test_rows_of_an_item_that_failed_are_written(tmp_path: Path) -> None:
    """What it gave before it failed, in its place, by each output."""
    sink = ManyRows(sink_of(str(tmp_path / "o.csv")), [sink_of(str(tmp_path / "side.jsonl"))])
    rows = joined([(0, '{"n": 2}'), (1, '"x"')])
    entries: list[Block | Lost] = [
        Block(0, 1, b'{"n": 1}\n'),
        Lost(1, {"index": 1, "kind": "failed", "rows": rows}),
        Lost(2, {"index": 2, "kind": "failed"}),
        Block(3, 1, b'{"n": 3}\n'),
    ]
    sink.publish(lambda: iter(entries), mark="m", sync=False)
    assert read(sink.sink) == [{"n": "1"}, {"n": "2"}, {"n": "3"}]
    assert read(sink.sides[0]) == ["x"]


_ROWS = st.lists(st.tuples(st.integers(0, 3), st.text(max_size=5).map(to_json)), max_size=5)


@given(_ROWS)
def test_a_line_gives_back_its_rows(rows: list[tuple[int, str]]) -> None:
    """Whatever characters they hold, and in one line of text."""
    line = joined(rows)
    assert "\n" not in line
    assert list(taken_apart(line)) == rows


@given(_ROWS)
def test_readers_of_a_record_get_its_rows_apart(rows: list[tuple[int, str]]) -> None:
    record = {"index": 1, "kind": "failed", "item": {"rows": "x"}}
    assert for_readers(to_json(record)) == to_json(record)
    shown = json.loads(for_readers(to_json({**record, "rows": joined(rows)})))
    assert shown == {**record, "rows": [{"output": output, "row": row} for output, row in rows]}


def test_what_runs_in_the_workers(tmp_path: Path) -> None:
    """A function that returns a list, each value of which has to be a row."""
    line = ManyRows(sink_of(str(tmp_path / "o.csv"))).wrap(lambda n: [{"n": each} for each in range(n)])
    assert [list(taken_apart(line(n))) for n in (0, 2)] == [[], [(0, '{"n": 0}'), (0, '{"n": 1}')]]
    with pytest.raises(NotJson, match="is a table"):
        ManyRows(sink_of(str(tmp_path / "o.csv"))).wrap(lambda n: [n])(1)


def test_a_row_of_a_strange_sink_is_refused() -> None:
    """It would be taken for two."""
    for row in ("a\x1eb", "a\x1fb", "a\nb", ""):
        with pytest.raises(NotJson, match="one line of text"):
            joined([(0, row)])


def test_two_parts_cannot_have_one_output(tmp_path: Path) -> None:
    """Nor one that only has another name; two tables of a database are two."""
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="two parts"):
        ManyRows(sink_of(str(tmp_path / "o.csv")), [sink_of(str(tmp_path / "link/o.csv"))])
    ManyRows(sink_of(str(tmp_path / "o.db:one")), [sink_of(str(tmp_path / "o.db:two"))])


def test_no_output_lies_in_a_folder_that_is_another(tmp_path: Path) -> None:
    """That would be replaced, and refuses what it has not."""
    folder = sink_of(f"{tmp_path}/out/")
    for name in ("out/side.jsonl", "out/deeper/"):
        inside = sink_of(f"{tmp_path}/{name}")
        for first, other in ((folder, inside), (inside, folder)):
            with pytest.raises(UsageError, match="another output, which is replaced whole"):
                ManyRows(first, [other])
    ManyRows(folder, [sink_of(f"{tmp_path}/out.jsonl"), sink_of(f"{tmp_path}/out2/")])


def test_outputs_of_sides_are_looked_at_before_a_run(tmp_path: Path) -> None:
    """One that is an input would cost it."""
    (tmp_path / "in.jsonl").write_text("1\n")
    from allcores.sources.open import source_of

    sink = ManyRows(sink_of(str(tmp_path / "o.jsonl")), [sink_of(str(tmp_path / "in.jsonl"))])
    with pytest.raises(UsageError, match=r"in\.jsonl is an input"):
        RunSpec(len, source_of(tmp_path / "in.jsonl"), sink).check()


def test_a_name_is_given_once(tmp_path: Path) -> None:
    """Over all rows of all items, also of earlier sessions and of items that failed."""
    sink = ManyRows(sink_of(f"{tmp_path}/o/"))
    encode = sink.sink.wrap(lambda value: value)
    once = RunSpec(len, [], sink).names_once(
        [
            Block(0, 1, (joined([(0, encode(("a", ""))), (0, encode(("b", "")))]) + "\n").encode()),
            Lost(1, {"rows": joined([(0, encode(("c", "")))])}),
        ]
    )
    assert once is not None

    items = count(2)

    def rows(*names: str) -> str:
        return joined([(0, encode((name, ""))) for name in names])

    assert once(Outcome(next(items), Kind.OK, rows("d", "e"))).ok
    for names, kept in ((["f", "b"], ["f"]), (["c"], []), (["g", "g"], ["g"]), (["e"], []), (["f"], [])):
        outcome = once(Outcome(next(items), Kind.OK, rows(*names)))
        assert not outcome.ok and outcome.extra == ({"rows": rows(*kept)} if kept else {})  # type: ignore[attr-defined]
    # One that had failed before has a failure more; one that is tried again may give what it gave.
    failed: Outcome[str] = Outcome(next(items), Kind.FAILED, error=ValueError("no"))
    outcome = once(RowsOutcome(*map(failed.__getattribute__, Outcome.__match_args__), extra={"rows": rows("h", "a")}))
    assert str(outcome.error) == "no" and outcome.extra["rows"] == rows("h")  # type: ignore[attr-defined]
    assert "gave the name" in outcome.extra["more_failures"][0]["message"]  # type: ignore[attr-defined]
    assert once(Outcome(1, Kind.OK, rows("c"))).ok
    assert RunSpec(len, [], ManyRows(sink_of(str(tmp_path / "o.csv")))).names_once([]) is None
