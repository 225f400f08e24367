"""The unit of CSV is the record: one that is bad is left out as a whole, and costs no other."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.errors import UsageError
from allcores.sinks.base import Block
from allcores.sinks.tables import CsvFile
from allcores.sources import csv_text
from allcores.sources.base import open_cursor
from allcores.sources.digest import Digest
from allcores.sources.open import from_inputs
from allcores.sources.text import BadInput
from allcores.sources.text_files import Csv


def rows_of(folder: Path, content: bytes, **options: Any) -> tuple[list[list[str]], list[int | None]]:
    """Values of the rows that are given, and lines of what is left out."""
    path = folder / "rows.csv"
    path.write_bytes(content)
    left_out: list[BadInput] = []
    cursor = open_cursor(Csv(str(path), bad_records="skip", **options), report=left_out.append)
    try:
        return [list(row.values()) for row in cursor], [each.line for each in left_out]
    finally:
        cursor.close()


SKIPPED: list[tuple[str, bytes, list[list[str]], list[int]]] = [
    ("no text inside of quotes", b'1,"line one\nprice \xff 5\nline three"\n2,b\n', [["2", "b"]], [3]),
    ("no text in the first line", b'1,"\xff one\n9,9\nthree"\n2,b\n', [["2", "b"]], [2]),
    ("no text in the last line", b'1,"one\n9,9\n\xff"\n2,b\n', [["2", "b"]], [4]),
    ("too many fields", b'1,"a\n8,8\nb",3\n2,b\n', [["2", "b"]], [2]),
    ("a lost quote, none behind", b'1,a\n2,"lost\n3,c\n4,d\n', [["1", "a"], ["3", "c"], ["4", "d"]], [3]),
    ("a lost quote, some behind", b'1,a\n2,"lost\n3,c\n4,"d"\n', [["1", "a"], ["3", "c"], ["4", "d"]], [3]),
    ("all have quotes", b'"1","a"\n"2","lost\n"3","c"\n"4","d\ne"\n', [["1", "a"], ["3", "c"], ["4", "d\ne"]], [3]),
    ("two lost quotes", b'2,"lost\n3,"lost\n4,"d"\n', [["4", "d"]], [2, 3]),
    ("a lost quote at the end", b'1,a\n2,"lost', [["1", "a"]], [3]),
    ("not doubled", b'1,"he said "hi" twice"\n2,b\n', [["2", "b"]], [2]),
    ("not doubled, over lines", b'1,"he said "hi" to\nus, and left"\n2,b\n', [["2", "b"]], [2, 3]),
    (
        "quotes that are none",
        b'1, "a "b"\n2,"c\n3, "d"\n4, 5"\n5, e\n',
        [["1", ' "a "b"'], ["3", ' "d"'], ["4", ' 5"'], ["5", " e"]],
        [3],
    ),
    ("doubtful, too", b'2,"c\n4,x"y\n5,"x"\n', [["5", "x"]], [2, 3]),
    ("odd line ends", b'1,"a\n2,b\r\r\n3,c\n', [["2", "b"], ["3", "c"]], [2]),
    ("a carriage return", b"1,a\rb\n2,b\n", [["2", "b"]], [2]),
]


@pytest.mark.parametrize(
    ("content", "rows", "lines"), [each[1:] for each in SKIPPED], ids=[each[0] for each in SKIPPED]
)
def test_a_bad_record_is_left_out_as_a_whole(
    tmp_path: Path, content: bytes, rows: list[list[str]], lines: list[int]
) -> None:
    """No line of it becomes a row, no row behind it is lost, and each line that is left out for its sake is told."""
    for ends in (b"\n", b"\r\n"):
        given = content.replace(b"\n", ends)
        expected = [[value.replace("\n", ends.decode()) for value in row] for row in rows]
        assert rows_of(tmp_path, b"n,text" + ends + given) == (expected, lines)
    with pytest.raises(BadInput, match=f"rows.csv, line {lines[0]}: (not CSV|byte|3 fields)"):
        list(from_inputs([str(tmp_path / "rows.csv")]))


def test_line_ends_in_quotes_stay(tmp_path: Path) -> None:
    """Each as it is: what is in quotes is the field."""
    rows, _ = rows_of(tmp_path, b'n,text\r\n1,"a\r\nb\nc\rd"\r\n2,"e\n\r\n"')
    assert rows == [["1", "a\r\nb\nc\rd"], ["2", "e\n\r\n"]]


CELLS = st.text(st.sampled_from('a",\n\r \u3000\x85'), max_size=6)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    """Quotes, separators and every kind of line end in a cell come back as they were."""
    path = tmp_path_factory.getbasetemp() / "written.csv"
    lines = "".join(json.dumps({"n": n, "text": text}) + "\n" for n, text in rows).encode()
    CsvFile(path).publish(lambda: [Block(0, len(rows), lines, None)], mark="test", sync=False)
    assert [tuple(row.values()) for row in Csv(str(path))] == rows


def test_long_cells(tmp_path: Path) -> None:
    """Longer than the limit of the module csv, which is left as it was; on one line and over many."""
    before = csv.field_size_limit()
    cells = ["x" * 131_073, "line of text\n" * 100_000]
    content = "n,text\n" + "".join(f'{n},"{cell}"\n' for n, cell in enumerate(cells))
    assert rows_of(tmp_path, content.encode()) == ([["0", cells[0]], ["1", cells[1]]], [])
    assert csv.field_size_limit() == before
    with pytest.raises(csv.Error):
        next(csv.reader(["x" * (before + 1)]))


def test_a_record_without_an_end_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a lost quote in a large file does not fill the memory; the rows behind it are not lost."""
    monkeypatch.setattr(csv_text, "RECORD_BYTES_MAX", 2_000)
    rows, lines = rows_of(tmp_path, b'n,text\n1,"lost\n' + b"".join(b"%d,x\n" % n for n in range(2, 1_000)))
    assert len(rows) == 998 and lines == [2]


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (b"a,b,a", "line 1: the name 'a' occurs twice .columns 1 and 3"),
        (b"a,,b,", "the name '' occurs twice .columns 2 and 4"),
        (b"a,b\xff", "line 1: byte 0xff"),
        (b'a,"b', "line 1: not CSV"),
    ],
)
@pytest.mark.parametrize("bad_records", ["fatal", "skip"])
def test_a_header_that_is_none_ends_it(tmp_path: Path, header: bytes, sentence: str, bad_records: Any) -> None:
    """Whatever becomes of bad records: the next line must not take its place, and no column is lost."""
    path = tmp_path / "rows.csv"
    path.write_bytes(header + b"\n1,2,3\n4,5,6\n")
    with pytest.raises(BadInput, match=sentence):
        next(iter(Csv(str(path), bad_records=bad_records)))
    good = tmp_path / "good.csv"
    good.write_text("a\n1\n")
    with pytest.raises(BadInput, match=sentence):  # at once, and not after all the work of the inputs before
        from_inputs([str(good), str(path)], bad_records=bad_records)


def test_one_empty_name_is_a_name(tmp_path: Path) -> None:
    """As pandas writes it for an index."""
    path = tmp_path / "rows.csv"
    path.write_text(",a\n0,1\n")
    assert list(Csv(str(path))) == [{"": "0", "a": "1"}]


@pytest.mark.parametrize("separator", ["ab", '"', "\n"])
def test_a_separator_is_one_character(separator: str) -> None:
    """Which is told at once."""
    with pytest.raises(UsageError, match="one character"):
        Csv("x.csv", separator=separator)


PIECES = ["1,a\n", '2,"b\nc"\r\n', '3,"d', '"e"', "\n", ",", '"', "f\xff\n", '4,"g ""h"""\n', "5,6,7\n", "\r", " \n"]


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_places_and_digests_of_any_file(tmp_path_factory: pytest.TempPathFactory, pieces: list[str]) -> None:
    """Reading can be gone on with behind any row, whatever was left out before; and forward says the same."""
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(("n,text\n" + "".join(pieces)).encode("latin-1"))
    source = Csv(str(path), bad_records="skip")
    whole = list(source)
    for cut in range(len(whole) + 1):
        first, skipping, forward = (open_cursor(source) for _ in range(3))
        reading = iter(first)
        assert [next(reading) for _ in range(cut)] == whole[:cut] and skipping.skip(cut) == cut
        place, digest = json.loads(json.dumps(first.place())), first.digest.value()
        assert forward.forward(place, cut)  # type: ignore[attr-defined]
        assert digest == skipping.digest.value() == forward.digest.value()
        again = open_cursor(source, place=place, items=cut)
        again.digest = first.digest = forward.digest = Digest(digest)
        assert list(again) == list(reading) == list(skipping) == list(forward) == whole[cut:]
        for cursor in (first, skipping, forward, again):
            cursor.close()


@pytest.mark.parametrize(("name", "text"), [("a.csv", b"a,b\r1,2\r"), ("a.csv", b'"a"\r"1"'), ("a.jsonl", b"1\r2\r")])
def test_line_ends_that_are_carriage_returns_alone_are_told_with_the_way_out(
    name: str, text: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(BadInput, match=r"line 1: .* its lines end with carriage returns alone: .* \(tr '\\r' '\\n'"):
        list(from_inputs([str(tmp_path / name)]))


def test_one_carriage_return_says_nothing_of_others(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\n1,2\r3")
    with pytest.raises(BadInput, match=r"line 2: .*is a quote missing"):
        list(from_inputs([str(tmp_path / "a.csv")]))


@pytest.mark.parametrize("content", ["a,b\n1,2\n".encode("utf-16-le"), b"PK\x03\x04\x14\0\0\0\n", b"a\0\n1\n"])
def test_names_with_nuls_are_none(content: bytes, tmp_path: Path) -> None:
    """Of an encoding without its mark, say: they would be names, and all values would have NULs, without a word."""
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(BadInput, match=r"line 1: there are NULs in its names; is this a file of text.*utf-16le"):
        from_inputs([str(tmp_path / "a.csv")])
