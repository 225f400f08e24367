"""What values become in outputs, and that what an output cannot hold fails its own item at once."""

from __future__ import annotations

import array
import csv
import dataclasses
import datetime
import errno
import json
import math
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import allcores
from allcores import failpoints
from allcores.cli.main import main
from allcores.errors import JournalError, UsageError
from allcores.sinks.json_text import NotJson, to_json
from allcores.sinks.rows import RowFunction, RowRules
from allcores.sources.open import from_inputs

HALF = "name\udcff.txt"


@pytest.fixture(scope="module")
def pool() -> Iterator[allcores.Pool]:
    with allcores.Pool(1, backend="serial") as made:
        yield made


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLCORES_HOME", str(tmp_path / "home"))
    return tmp_path


# --- JSON ---


@dataclasses.dataclass
class Point:
    x: Any


STANDARD: list[tuple[Any, Any]] = [
    (datetime.datetime(2024, 5, 1, 12, 0, 0, 5), "2024-05-01T12:00:00.000005"),
    (datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC), "2024-05-01T00:00:00+00:00"),
    (datetime.date(2024, 5, 1), "2024-05-01"),
    (datetime.time(12, 30), "12:30:00"),
    (datetime.timedelta(days=2, seconds=1), "PT172801S"),
    (datetime.timedelta(milliseconds=-1500), "-PT1.5S"),
    (array.array("d", [1, 2]), [1.0, 2.0]),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ({1: "a", 2: "b"}, {"1": "a", "2": "b"}),
    ({"a": Point({"b": (1, 2)})}, {"a": {"x": {"b": [1, 2]}}}),
]


@pytest.mark.parametrize(("value", "found"), STANDARD)
def test_standard_values(value: Any, found: Any) -> None:
    """Times are ISO 8601 text; a name is text, whatever key it was."""
    assert json.loads(to_json(value)) == found
    assert json.loads(to_json([{"in": value}])) == [{"in": found}]


NUMPY: list[tuple[Callable[[Any], Any], Any]] = [
    (lambda np: np.datetime64("2024-05-01T12:00:00.000000001"), "2024-05-01T12:00:00.000000001"),
    (lambda np: np.datetime64("2024-05-01T12:00:00", "us"), "2024-05-01T12:00:00.000000"),
    (lambda np: np.datetime64("2024-05-01"), "2024-05-01"),
    (lambda np: np.datetime64("12024-05-01T01"), "12024-05-01T01"),
    (
        lambda np: np.array(["2024-01-01", "2024-01-02"], "M8[ns]"),
        ["2024-01-01T00:00:00.000000000", "2024-01-02T00:00:00.000000000"],
    ),
    (lambda np: np.array("2024-01-01", "M8[D]"), "2024-01-01"),
    (lambda np: np.timedelta64(1_500_000_001, "ns"), "PT1.500000001S"),
    (lambda np: np.timedelta64(10**18, "s"), "PT1000000000000000000S"),
    (lambda np: np.timedelta64(-2, "M"), "-P2M"),
    (lambda np: np.array([[1, 0]], "m8[25us]"), [["PT0.000025S", "PT0S"]]),
    (lambda np: np.array([(1, "2024-01-01")], [("a", "i4"), ("b", "M8[D]")]), [{"a": 1, "b": "2024-01-01"}]),
    (
        lambda np: np.array([(1, (2, 3))], [("a", "i4"), ("b", [("c", "i4"), ("d", "i4")])])[0],
        {"a": 1, "b": {"c": 2, "d": 3}},
    ),
    (lambda np: np.rec.array([(1, 2.5)], names="a,b"), [{"a": 1, "b": 2.5}]),
    (lambda np: np.array([datetime.date(2024, 1, 1), None], object), ["2024-01-01", None]),
    (lambda np: np.ma.array(np.array([1, 2], "M8[D]"), mask=[0, 1]), ["1970-01-02", None]),
    (lambda np: [np.float32(1.5), np.int8(2), np.bool_(True), np.str_("x"), np.arange(2)], [1.5, 2, True, "x", [0, 1]]),
]


@pytest.mark.parametrize(("make", "found"), NUMPY)
def test_numpy_values(make: Callable[[Any], Any], found: Any) -> None:
    """Times, durations and records keep their meaning, in every unit; numbers are numbers."""
    np = pytest.importorskip("numpy")
    assert json.loads(to_json({"x": make(np)})) == {"x": found}


def test_values_of_other_libraries() -> None:
    """Series and Arrow's arrays are lists, their times text."""
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    assert json.loads(to_json(pandas.Series(pandas.to_datetime(["2024-01-01"])))) == ["2024-01-01T00:00:00"]
    assert json.loads(to_json(pandas.Timestamp("2024-01-01 00:00:00.000000001"))) == "2024-01-01T00:00:00.000000001"
    assert json.loads(to_json(arrow.table({"a": [1, None]}))) == [{"a": 1}, {"a": None}]
    assert json.loads(to_json(arrow.scalar(datetime.date(2024, 1, 1)))) == "2024-01-01"
    with pytest.raises(NotJson, match="no time"):
        to_json(pandas.NaT)


class Lists:
    def tolist(self) -> list[int]:
        return [1]


REFUSED: list[tuple[Callable[[Any], Any], str]] = [
    (lambda np: memoryview(b"ab"), "is a memoryview"),
    (lambda np: b"ab", "is a bytes"),
    (lambda np: Lists(), "is a Lists"),
    (lambda np: np.datetime64("NaT", "s"), "is no time"),
    (lambda np: np.array(["2024", "NaT"], "M8[D]"), "is no time"),
    (lambda np: np.void(b"abc"), "void"),
    (lambda np: np.longdouble(1), "longdouble"),
    (lambda np: np.array([b"x"]), r"value\[0\] is a bytes"),
    (lambda np: np.array([1j]), r"value\[0\] is a complex"),
    (lambda np: {1: "a", "1": "b"}, "two keys that are '1' as text"),
    (lambda np: {"x": [Point({None: 1, "null": 2})]}, r"value\['x'\]\[0\]\['x'\] has two keys"),
    (lambda np: {True: 1, "true": 2}, "two keys"),
    (lambda np: {1.5: 1, "1.5": 2}, "two keys"),
    (lambda np: np.array([{2: 1, "2": 2}], object), "two keys"),
]


@pytest.mark.parametrize(("make", "says"), REFUSED)
def test_refused_values(make: Callable[[Any], Any], says: str) -> None:
    """What has no meaning in JSON, or two, is refused by name rather than guessed."""
    np = pytest.importorskip("numpy")
    with pytest.raises(NotJson, match=says):
        to_json(make(np))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([b"x"], r"value\[0\] is a bytes, which JSON cannot hold: decode what is text \(.decode\(\)\)"),
        ({"a": {1}}, "a set, which JSON cannot hold: return a list of it, sorted"),
        (Decimal("1.10"), r"a Decimal, .*: return it as text \(str\), or as a float"),
        (math.nan, "value is nan, which JSON cannot hold: return None where there is no number"),
        ((n for n in "ab"), "return a list of what it gives"),
        (object(), "return numbers, strings, lists and dicts, or None where there is nothing"),
    ],
)
def test_what_is_refused_has_its_way_out(value: Any, says: str) -> None:
    with pytest.raises(NotJson, match=says):
        to_json(value)


# --- tables ---

WIDE = {f"c{number}": number for number in range(2_001)}
UNFIT: list[tuple[str, Any, str]] = [
    *((name, [1], "is a table") for name in ("o.csv", "o.db", "o.parquet")),
    *((name, {"a": {"b": [HALF]}}, "surrogate") for name in ("o.csv", "o.tsv", "o.csv.gz", "o.db", "o.parquet")),
    *((name, {HALF: 1}, "surrogate") for name in ("o.csv", "o.db", "o.parquet")),
    ("o.parquet", {"a": [1, {"b": 1 << 63}]}, "64 bits"),
    ("o.parquet", {"a": -(1 << 63) - 1}, "64 bits"),
    ("o.parquet", {"a": {"b": ["a", 3]}}, r"value\['a'\]\['b'\] is a list with"),
    ("o.parquet", {"a": [{"b": [1]}, {"b": [None, {}]}]}, "one type"),
    ("o.db", {"a\0b": 1}, "NUL"),
    ("o.db", {"name": 1, "Name": 2}, "one column"),
    ("o.db:select", WIDE, "2,001 names"),
    ("o/", ("x" * 300, "text"), "too long"),
    ("o/", ("ä" * 128, "text"), "too long"),
    ("o/", ("a/b", "text"), "slash"),
    ("o/", ("half\ud800", "text"), "no text"),
    ("o/", ("00000002.txt", "text"), "give another"),
    ("o/", ("same", "text"), "an earlier item has"),
    ("o.jsonl", {1: 1, "1": 2}, "two keys"),
]


@pytest.mark.parametrize(("name", "value", "says"), UNFIT, ids=range(len(UNFIT)))
@pytest.mark.parametrize("journal", [True, False])
def test_what_does_not_fit_fails_its_item(
    place: Path, pool: allcores.Pool, name: str, value: Any, says: str, journal: bool
) -> None:
    """By `on_error`, when it is made; the output is published with all others."""
    if "parquet" in name:
        pytest.importorskip("pyarrow")
    fits = ("same", "text") if name.endswith("/") else {"a": "x"} if ".db" in name or ".csv" in name else {"fits": 1}
    values = [fits, value, ("other", "y") if name.endswith("/") else fits]

    def give(index: int) -> Any:
        return values[index]

    result = pool.run(give, range(3), name, on_error="skip", journal=journal)
    assert (result.ok, result.failed) == (2, 1) and os.path.exists(result.output or "")
    for path in place.glob("o*"):
        path.unlink() if path.is_file() else None
    with pytest.raises(NotJson, match=says):
        pool.run(give, range(3), f"other-{name}", journal=journal)


LEAVES = st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.floats(-9, 9) | st.sampled_from(["", "a"])
PLAIN = st.recursive(
    LEAVES,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.sampled_from("xy"), parts, max_size=2),
    max_leaves=8,
)


@given(PLAIN)
def test_a_row_that_is_let_through_is_one_that_parquet_takes(value: Any) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    rules = RowRules("Parquet", integers_64=True, one_type_lists=True)
    try:
        RowFunction(lambda item: {"v": item}, "o.parquet", rules)(value)
    except NotJson:
        return
    pyarrow.Table.from_pylist([{"v": value}])


def test_two_sessions_know_each_others_names(place: Path, pool: allcores.Pool) -> None:
    """A name that an item of an earlier session gave is taken, too."""

    def stops(item: int) -> Any:
        if item == 2 and not (place / "go").exists():
            raise ValueError("stop")
        return ("second" if item == 1 else "first", "text")

    with pytest.raises(ValueError, match="stop"):
        pool.run(stops, range(3), "o/", chunk=1)
    (place / "go").touch()
    result = pool.run(stops, range(3), "o/", journal=allcores.Journal(resume=True, retry_failed=True), on_error="skip")
    assert (result.ok, result.failed) == (2, 1)
    assert sorted(path.name for path in (place / "o").iterdir()) == [".allcores", "first", "second"]


def test_names_that_differ_in_case_are_one_column(place: Path, pool: allcores.Pool) -> None:
    """In SQLite they are; keywords, quotes and empty names are as good as others."""
    rows: list[Any] = [{"A": 1, 'sel"ect': 2}, {"a": 3, "": 4, "nothing": 5, "rowid": 6}]
    pool.run(rows.__getitem__, range(2), "o.db:table", journal=False)
    db = sqlite3.connect("o.db")
    assert db.execute('SELECT * FROM "table"').fetchall() == [(1, 2, None, None, None), (3, None, 4, 5, 6)]
    db.close()


@pytest.mark.parametrize(
    "name", ["o.jsonl", "o.jsonl.gz", "o.csv", "o.csv.xz", "o.parquet", "o.db:group", "o.db", "o/"]
)
@pytest.mark.parametrize("items", [0, 3])
def test_nothing_at_all_is_an_output(pool: allcores.Pool, name: str, items: int) -> None:
    """No item, and rows without a name: the output is there, valid, and empty."""
    if "parquet" in name:
        pytest.importorskip("pyarrow")
    value: Any = "" if name.endswith("/") else {}
    result = pool.run(lambda item: value, range(items), name)
    assert result.ok == items
    if ".db" in name:
        db = sqlite3.connect("o.db")
        table = name.partition(":")[2] or "outcomes"
        assert db.execute(f'SELECT count(*) FROM "{table}"').fetchone() == (items,)
        db.close()
    elif name.endswith("/"):
        assert len(os.listdir("o")) == items + 1
    elif items == 0:
        assert list(from_inputs([name])) == []


def test_carriage_returns_in_cells(pool: allcores.Pool) -> None:
    """A cell with any line end in it is quoted, so that it is read as one."""
    texts = ["a\rb", "a\nb", "a\r\nb", "\r", "plain"]
    pool.run(lambda item: {"text": texts[item], "n": item}, range(5), "o.csv", journal=False)
    with open("o.csv", newline="", encoding="utf-8") as file:
        assert [row["text"] for row in csv.DictReader(file)] == texts


def test_objects_without_names_in_parquet(pool: allcores.Pool) -> None:
    """Parquet has no such type: their column is JSON text."""
    pytest.importorskip("pyarrow")
    rows: list[Any] = [{"a": {}, "b": 1}, {"a": {"c": [{}]}, "b": 2}, {"b": 3}]
    pool.run(rows.__getitem__, range(3), "o.parquet", journal=False)
    found = [row["a"] for row in from_inputs(["o.parquet"])]
    assert [None if each is None else json.loads(each) for each in found] == [{}, {"c": [{}]}, None]


# --- the way out ---


def test_a_run_that_cannot_be_published_is_exported(
    place: Path, pool: allcores.Pool, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where all items together do not go into the output, the sentence names the way out, and it leads out."""
    pytest.importorskip("pyarrow")
    values: list[Any] = [{"n": 1}, {"n": "one"}, {"m": None}]
    with pytest.raises(UsageError, match=r"one column each.*allcores runs export .* -o FILE"):
        pool.run(values.__getitem__, range(3), "o.parquet")
    for name in ("out.jsonl", "out.csv", "out.db"):
        assert main(["runs", "export", "latest", "-o", name]) == 0
    assert list(from_inputs(["out.jsonl"])) == values
    capfd.readouterr()
    wide: list[Any] = [dict.fromkeys(range(start, start + 1_500), 0) for start in (0, 1_000)]
    with pytest.raises(UsageError, match=r"2,500 names.*runs export"):
        pool.run(wide.__getitem__, range(2), "o.db")


def test_what_does_not_fit_an_export(place: Path, pool: allcores.Pool, capfd: pytest.CaptureFixture[str]) -> None:
    """Values that were made for another output are refused in a sentence."""
    pytest.importorskip("pyarrow")
    values: list[Any] = [{"a": HALF}, {"a": 1 << 70}, {"a": {"b": HALF}}, {"\0": 1}]
    for number, name in [(0, "o.csv"), (0, "o.db"), (0, "o.parquet"), (1, "o.parquet"), (2, "o.csv"), (3, "o.db")]:
        pool.run(lambda item: values[item], [number], "o.jsonl")
        assert main(["runs", "export", "latest", "-o", name]) == 2
        assert "cannot be written" in capfd.readouterr().err
        assert not (place / name).exists() or name == "o.db"


def test_make_room_only_where_there_is_none(pool: allcores.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to do follows from the error."""

    def refuse(moment: str) -> None:
        if moment == "publish.rename.before":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(failpoints, "_hook", refuse)
    with pytest.raises(JournalError, match="Read-only file system") as caught:
        pool.run(str, ["a"], "o.jsonl")
    assert "room" not in str(caught.value)


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv"])
@pytest.mark.parametrize("journal", [True, False])
def test_errors_of_the_function_are_its_own(pool: allcores.Pool, name: str, journal: bool) -> None:
    """An OSError that the function raises is not taken for one of the output."""

    def call(item: str) -> Any:
        raise FileNotFoundError(errno.ENOENT, "the function's own", item)

    with pytest.raises(FileNotFoundError, match="the function's own"):
        pool.run(call, ["a"], name, journal=journal)


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o/"])
def test_a_misfit_has_no_traceback_of_ours(place: Path, name: str) -> None:
    """Its sentence says all there is to say: the frames would be allcores' own."""
    with allcores.Pool(1) as pool:
        pool.run(set, ["a"], name, on_error="skip")
    assert main(["runs", "failures", "latest", "-o", "failures.jsonl"]) == 0
    record = json.loads((place / "failures.jsonl").read_text())
    assert record["error"].endswith("NotJson") and "traceback" not in record
