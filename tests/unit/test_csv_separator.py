"""Which character separates fields is told by the first records where it is plain; else it has to be said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from allcores.errors import UsageError
from allcores.runs.fingerprint import fingerprint_of_source
from allcores.sources.base import open_cursor
from allcores.sources.open import from_inputs
from allcores.sources.text import BadInput
from allcores.sources.text_files import Csv

TOLD: list[tuple[str, str, list[dict[str, str]]]] = [
    ("a.csv", "a;b\n1;2\n3;4\n", [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
    ("a.csv", "a\tb\n1\t2\n", [{"a": "1", "b": "2"}]),
    ("a.csv", "a|b\n1|2\n", [{"a": "1", "b": "2"}]),
    ("a.tsv", "a,b\n1,2\n", [{"a": "1", "b": "2"}]),
    # a comma that is a decimal point; quotes around all; line ends of Windows, and a byte order mark
    ("a.csv", "a;b\n1,5;2,5\n", [{"a": "1,5", "b": "2,5"}]),
    ("a.csv", '\ufeff"a";"b"\r\n"1\r\n;";"2"\r\n', [{"a": "1\r\n;", "b": "2"}]),
    ("a.csv", '"a;x";"b\n,"\n1;2\n', [{"a;x": "1", "b\n,": "2"}]),
    ("a.csv", "\n\na;b\n\n1;2\n", [{"a": "1", "b": "2"}]),
    ("a.csv", "a;b", []),
    # two that may be, of which the record behind has one
    ("a.csv", "a;b|c;d\n1;2;3\n", [{"a": "1", "b|c": "2", "d": "3"}]),
    # a comma in the header is one that separates; and a header of one name is one
    ("a.csv", "a;b,c\n1;2,3\n", [{"a;b": "1;2", "c": "3"}]),
    ("a.csv", "text\na;b\n", [{"text": "a;b"}]),
    ("a.csv", '"a;b"\n"1;2"\n', [{"a;b": "1;2"}]),
    ("a.csv", "name; unit\nx\n", [{"name; unit": "x"}]),
    ("a.csv", "", []),
    ("a.csv", "\n", []),
]


@pytest.mark.parametrize(("name", "text", "rows"), TOLD)
def test_the_first_records_tell_it(name: str, text: str, rows: list[dict[str, str]], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert list(Csv(str(path))) == rows
    assert list(from_inputs([str(path)])) == rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a;b;c\n1;2\n", "a semicolon may separate .* has 2 fields then, not 3.*--separator ';', or ','"),
        ("a\tb\n1\t2\t3\n", r"a tab may .*--separator '\\t', or ','"),
        ("a|b;c\n1|2;3\n", "a semicolon or a bar may separate .* does not tell"),
    ],
)
def test_what_is_not_plain_has_to_be_said(text: str, words: str, tmp_path: Path) -> None:
    """Before anything is run."""
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=f"a.csv, line 1: {words}"):
        from_inputs([str(path)])
    assert next(iter(from_inputs([str(path)], separator=",")))


def test_a_separator_is_of_csv(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a;b\n1;2\n")
    with pytest.raises(UsageError, match="a separator is chosen for CSV inputs only"):
        from_inputs([str(tmp_path / "a.txt")], separator=";")
    assert list(from_inputs([str(tmp_path / "a.txt")], separator=";", format="csv")) == [{"a": "1", "b": "2"}]


def test_a_place_knows_what_was_told(tmp_path: Path) -> None:
    """What goes on behind the header does not read it again."""
    path = tmp_path / "a.csv"
    path.write_text("a;b\n1;2\n\n3;4\n")
    first = open_cursor(Csv(str(path)))
    items = iter(first)
    next(items)
    place = json.loads(json.dumps(first.place()))
    first.close()
    for go_on in ("at", "forward"):
        second: Any = open_cursor(Csv(str(path)), place=place if go_on == "at" else None, items=1)
        if go_on == "forward":
            assert second.forward(place, 1)
        assert list(second) == [{"a": "3", "b": "4"}]
        second.close()


def test_what_a_run_has_recorded_of_a_file_with_commas_is_as_it_was(tmp_path: Path) -> None:
    """Its place and its fingerprint; one that semicolons separate is another input than it was by commas."""
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    known = {"kind": "Csv", "path": str(path), "encoding": "utf-8", "bad_records": "fatal"}
    assert fingerprint_of_source(Csv(str(path)))["parts"] == [known]
    cursor = open_cursor(Csv(str(path)))
    assert list(cursor) and cursor.place() == [8, 2, ["a", "b"]]
    cursor.close()
    path.write_text("a;b\n1;2\n")
    assert fingerprint_of_source(Csv(str(path)))["parts"] == [{**known, "separator": ";"}]
    assert fingerprint_of_source(Csv("-"))["parts"] == [{**known, "path": "-"}]
    # a run of earlier: it goes on as it began
    old = open_cursor(Csv(str(path)), place=[4, 1, ["a;b"]], items=0)
    assert list(old) == [{"a;b": "1;2"}]
    old.close()


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.csv", "sep=;\na;b\n1;2\n", [{"a": "1", "b": "2"}]),
        ("a.csv", "\ufeffSEP=|\r\na|b,c\r\n1|2\r\n", [{"a": "1", "b,c": "2"}]),
        ("a.csv", '"sep=\t"\n\na\tb\tc\n1\t2\t3', [{"a": "1", "b": "2", "c": "3"}]),
        ("a.tsv", "sep=,\na,b\n1,2\n", [{"a": "1", "b": "2"}]),
        ("a.csv", "sep=;\na,b\n1,2\n", [{"a,b": "1,2"}]),
        ("a.csv", "sep=;", []),
        ("a.csv", "sep=;\n", []),
        # a name
        ("a.csv", "sep=\n1\n", [{"sep=": "1"}]),
        ("a.csv", "sep=ab\n1\n", [{"sep=ab": "1"}]),
        ("a.csv", "\nsep=;\n1;\n", [{"sep=": "1", "": ""}]),
    ],
)
def test_a_first_line_that_says_the_separator_is_no_header(
    name: str, text: str, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    """As spreadsheets write it. Taken for the header it would make names of nothing, and of the names a record."""
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert list(Csv(str(path))) == rows
    assert list(from_inputs([str(path)])) == rows


def test_what_is_behind_such_a_line_has_its_lines_and_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sep=;\na;b\n1;2\n3;4;5\n6;7\n")
    assert list(Csv(str(path), separator=";", bad_records="skip")) == [{"a": "1", "b": "2"}, {"a": "6", "b": "7"}]
    first = open_cursor(Csv(str(path)))
    items = iter(first)
    assert next(items) == {"a": "1", "b": "2"}
    place = json.loads(json.dumps(first.place()))
    with pytest.raises(BadInput, match="line 4: 3 fields where the header has 2"):
        next(items)
    first.close()
    for go_on in ("at", "forward"):
        second: Any = open_cursor(Csv(str(path), bad_records="skip"), place=place if go_on == "at" else None, items=1)
        if go_on == "forward":
            assert second.forward(place, 1)
        assert list(second) == [{"a": "6", "b": "7"}]
        second.close()
    assert fingerprint_of_source(Csv(str(path)))["parts"][0]["separator"] == ";"
