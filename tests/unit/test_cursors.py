"""A reading of a source can be gone on with at any item, and says the same of the input wherever it is asked."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tracing import traced

from allcores import Pipeline
from allcores.errors import NotSupported, UsageError
from allcores.runs.fingerprint import differences, fingerprint_of_source
from allcores.sources import cursors, text
from allcores.sources.base import open_cursor
from allcores.sources.chain import Chain, facts_of, is_read_once
from allcores.sources.digest import Digest
from allcores.sources.files import Files
from allcores.sources.open import from_inputs, source_of
from allcores.sources.parquet import Parquet
from allcores.sources.text import BadInput
from allcores.sources.text_files import Csv, JsonLines, Lines

TEXT = {
    "lines.txt": "a\n\nb\r\nß\nlast",
    "values.jsonl": '1\n\n{"a": [2]}\n  \n"x"\n',
    "rows.csv": 'name,text\na,"two\nlines"\nb,plain\n\nc,\n',
}


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, newline="")
    return str(path)


@pytest.mark.parametrize("name", [*TEXT, "lines.txt.gz", "values.jsonl.gz"])
def test_goes_on_at_any_item(tmp_path: Path, name: str) -> None:
    """Items, count and digest are those of one reading, wherever it was cut and resumed, and however it skipped."""
    path = write(tmp_path, name, TEXT[name.removesuffix(".gz")])
    source = Chain([from_inputs([path]), from_inputs([path])])
    whole = list(source)
    assert len(whole) >= 6
    for cut in range(len(whole) + 1):
        first = open_cursor(source)
        reading = iter(first)
        assert [next(reading) for _ in range(cut)] == whole[:cut]
        place, digest = json.loads(json.dumps(first.place())), first.digest.value()
        skipping = open_cursor(source)
        assert skipping.skip(cut) == cut and skipping.digest.value() == digest
        first.digest, skipping.digest = Digest(digest), Digest(digest)
        again = open_cursor(source, place=place, items=cut)
        again.digest = Digest(digest)
        assert list(again) == list(reading) == list(skipping) == whole[cut:]
        assert first.digest.value() == again.digest.value() == skipping.digest.value()
        assert again.items == len(whole)
        for cursor in (first, skipping, again):
            cursor.close()


@given(st.lists(st.one_of(st.integers(), st.text(), st.tuples(st.floats()))), st.lists(st.integers(0, 20)))
def test_a_digest_does_not_depend_on_when_it_is_asked_for(items: list[object], asked: list[int]) -> None:
    """Nor on whether equal items are one object."""
    one, other = Digest("seed"), Digest("seed")
    for number, item in enumerate(items):
        one.add_item(item)
        other.add_item(json.loads(json.dumps(item)) if isinstance(item, str) else item)
        if number in asked:
            one.value()
    assert one.value() == other.value()
    one.add_item(None)
    assert one.value() != other.value()


@pytest.mark.parametrize(
    ("name", "text", "line", "left"),
    [
        ("bad.jsonl", "1\n{oops\n3\n", 2, [1, 3]),
        ("bad.csv", "a,b\n1,2\n1,2,3\n3,4\n", 3, [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
    ],
)
def test_a_bad_record_ends_it_or_is_reported(
    tmp_path: Path, name: str, text: str, line: int, left: list[object]
) -> None:
    """By file and line; what is skipped has no index."""
    path = write(tmp_path, name, text)
    with pytest.raises(BadInput, match=f"line {line}") as caught:
        list(from_inputs([path]))
    assert caught.value.line == line
    reports: list[BadInput] = []
    cursor = open_cursor(from_inputs([path], bad_records="skip"), report=reports.append)
    assert list(cursor) == left and cursor.items == len(left)
    assert [each.line for each in reports] == [line]
    cursor.close()


def test_bytes_that_will_not_decode_are_skipped(tmp_path: Path) -> None:
    """Of lines, too."""
    path = tmp_path / "latin.txt"
    path.write_bytes(b"a\n\xff\nb\n")
    assert list(Lines(str(path), bad_records="skip")) == ["a", "b"]


def test_a_cut_compressed_file_is_one_sentence(tmp_path: Path) -> None:
    """No EOFError from inside of a library."""
    path = tmp_path / "cut.txt.gz"
    path.write_bytes(gzip.compress(b"line\n" * 100_000)[:-20])
    with pytest.raises(BadInput, match="cannot read"):
        list(from_inputs([str(path)]))


BLANKS = ["", " ", "\t", "\u3000", "\xa0", "\x1c", "\x1f \x85", "\u2028", "\ufeff", "\u200b", "\r", "\x0c \u3000"]


@given(
    st.lists(st.sampled_from([*BLANKS, "1", '"a"', " 2 ", "\u30003", "{"]), max_size=8),
    st.booleans(),
    st.sampled_from(["fatal", "skip"]),
    st.sampled_from(["", ".gz"]),
)
def test_what_is_passed_over_is_no_item_for_anybody(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], mark: bool, bad_records: Any, suffix: str
) -> None:
    """Whoever reads, counts or skips: a line of any white space has no index, nor has one of a byte order mark."""
    name = f"values.jsonl{suffix}"
    path = write(tmp_path_factory.getbasetemp(), name, "\ufeff" * mark + "\n".join(lines))
    source = JsonLines(path, bad_records=bad_records)
    whole = []
    reading = open_cursor(source)
    with contextlib.suppress(BadInput):
        for item in reading:
            whole.append(item)
            place = reading.place()
            skipping, again = open_cursor(source), open_cursor(source, place=place, items=len(whole))
            assert skipping.skip(len(whole)) == len(whole) and skipping.place() == place
            assert skipping.digest.value() == reading.digest.value()
            with contextlib.suppress(BadInput):
                assert again.skip(1) == skipping.skip(1) and again.place() == skipping.place()
            skipping.close()
            again.close()
    reading.close()
    if "{" not in lines and not suffix and not {"\ufeff", "\u200b"} & set(lines):
        assert source.total() == len(whole)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [("x.txt", b"good", b"bad" * 90), ("x.jsonl", b"1", b"2" * 90), ("x.csv", b"n", b'"n' * 90)],
)
def test_a_line_that_is_too_long_is_left_out_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, good: bytes, bad: bytes
) -> None:
    """Its end is no item, and its bytes count: reading goes on behind it."""
    for module in (cursors, text):
        monkeypatch.setattr(module, "LINE_BYTES_MAX", 16)
    path = tmp_path / name
    path.write_bytes(good + b"\n" + bad + b"\n" + good + b"\n" + bad + b"\n" + good)
    reports: list[BadInput] = []
    source = from_inputs([str(path)], bad_records="skip")
    cursor = open_cursor(source, report=reports.append)
    items = list(cursor)
    assert len(items) == (2 if name == "x.csv" else 3)
    assert [each.line for each in reports] == [2, 4] and cursor.place()[:2] == [path.stat().st_size, 5]
    cursor.close()


BAD_BEHIND_TWO = {
    "x.txt": b"1\n2\n\xff\n3\n",
    "x.jsonl": b"1\n2\n\n{\n3\n",
    "y.jsonl": b"1\n2\n\xff\n3\n",
    "x.csv": b"n\n1\n2\n\n3,4\n5\n",
    "y.csv": b'n\n1\n2\n"3"4\n5\n',
}


@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("name", BAD_BEHIND_TWO)
def test_a_record_that_ended_the_reading_ends_the_next_one(tmp_path: Path, name: str, chained: bool) -> None:
    """The place of a reading that ended is before the record that ended it: it is never passed over in silence."""
    path = tmp_path / name
    path.write_bytes(BAD_BEHIND_TWO[name])
    source: Any = from_inputs([str(path)])
    if chained:
        source = Chain([Lines(write(tmp_path, "empty.txt", "")), source])
    first = open_cursor(source)
    with pytest.raises(BadInput):
        list(first)
    again = open_cursor(source, place=json.loads(json.dumps(first.place())), items=first.items)
    again.digest = Digest(first.digest.value())
    with pytest.raises(BadInput):
        list(again)
    assert first.items == again.items == 2 and first.place() == again.place()
    first.close()
    again.close()


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv"])
def test_what_follows_the_last_item_is_not_in_its_digest(tmp_path: Path, name: str) -> None:
    """A mark at the end is met by a reading that stops at the last item, as one of a pipe does that is compared."""
    bad = "{" if name == "x.jsonl" else "3,4"
    path = write(tmp_path, name, f"1\n2\n\n3\n\n\n{bad}\n\n")
    blank = write(tmp_path, "blank.jsonl", "\n\n")
    single: Any = from_inputs([path], bad_records="skip")
    for source in (single, Chain([single, JsonLines(blank)]), Chain([single, JsonLines(blank), single])):
        whole, stopped = open_cursor(source), open_cursor(source)
        count = len(list(whole))
        reading = iter(stopped)
        for _ in range(count):
            next(reading)
        assert whole.items == stopped.items == count
        assert whole.place() == stopped.place() and whole.digest.value() == stopped.digest.value()
        again = open_cursor(source, place=whole.place(), items=count)
        assert list(again) == []
        for cursor in (whole, stopped, again):
            cursor.close()


def test_a_pipe_is_read_once_whatever_its_name(tmp_path: Path) -> None:
    """What has been read of it is gone, so the open file is asked; a regular file under such a name is one."""
    fifo, file = str(tmp_path / "fifo.jsonl"), write(tmp_path, "file.jsonl", "1\n")
    os.mkfifo(fifo)
    link = str(tmp_path / "link.jsonl")
    os.symlink(fifo, link)
    for name in (fifo, link):
        source = JsonLines(name)
        assert is_read_once(source) and is_read_once(Chain([JsonLines(file), source])) and facts_of(source) is None
        assert source.total() is None
        end = os.open(fifo, os.O_RDWR)
        os.write(end, b"1\n2\n")
        cursor = open_cursor(source)
        reading = iter(cursor)
        assert cursor.one_shot and next(reading) == 1 and cursor.place() is None
        os.close(end)
        assert list(reading) == [2]
        cursor.close()
    with open(file, "rb") as opened:
        source = JsonLines(f"/dev/fd/{opened.fileno()}")
        assert not is_read_once(source) and list(source) == list(source) == [1]
    assert is_read_once(Lines("/dev/null")) and not is_read_once(Lines(str(tmp_path / "none")))


def test_a_pipe_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    """The second would wait for ever, or get nothing."""
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    os.symlink(fifo, tmp_path / "link")
    with pytest.raises(BadInput, match=r"can only be read once, and .*fifo is the same"):
        from_inputs([fifo, str(tmp_path / "link")])


def test_standard_input_that_does_not_block_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that has it may have made it so; nothing there yet is not the end."""
    read, write_end = os.pipe()
    os.set_blocking(read, False)
    with open(read) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        given = iter(Lines("-"))
        late = threading.Timer(0.05, lambda: os.write(write_end, b"b\n") and os.close(write_end))  # type: ignore[func-returns-value]
        os.write(write_end, b"a\n")
        assert next(given) == "a"
        late.start()
        assert list(given) == ["b"]
        late.join()


@pytest.mark.parametrize("encoding", ["utf-16", "idna", "rot13", "zlib", "undefined", "no such", "utf\0"])
def test_an_encoding_that_is_none_for_lines(encoding: str) -> None:
    """Is refused at once, whatever the codec raises; one that only fails on a line is a sentence about that line."""
    try:
        source = Lines("x", encoding=encoding)
    except UsageError:
        return
    assert encoding == "idna" and source.encoding == encoding


@pytest.mark.parametrize(("text", "way"), [("[\n 1,\n 2\n]\n", r"jq -c '\.\[\]'"), ('{\n "a": 1\n}\n', r"jq -c \.")])
def test_a_document_over_many_lines_is_told_of_with_the_way_out(text: str, way: str, tmp_path: Path) -> None:
    path = tmp_path / "document.jsonl"
    path.write_text(text)
    with pytest.raises(
        BadInput, match=f"line 1: not JSON .*each value has to be in a line of its own, as {way} writes"
    ):
        list(JsonLines(str(path)))


@pytest.mark.parametrize("name", ["a.json", "A.JSON", "a.json.gz"])
def test_a_json_file_has_to_say_how_it_holds_items(name: str, tmp_path: Path) -> None:
    """One document over many lines, or a value in each: lines of the first are no items."""
    path = tmp_path / name
    content = b'{"a": 1}\n{"a": 2}\n'
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(BadInput, match=r"does not tell .* --format jsonl .* jq -c '\.\[\]' .*(json|JSON)"):
        from_inputs([str(path)])
    assert list(from_inputs([str(path)], format="jsonl")) == [{"a": 1}, {"a": 2}]
    assert list(from_inputs([str(path)], format="lines")) == ['{"a": 1}', '{"a": 2}']
    with pytest.raises(BadInput, match="No such file"):
        from_inputs([str(tmp_path / "none.json")])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a\nb\n".encode("utf-16"), "begins as UTF-16 does: convert it first"),
        (b"PK\x03\x04\0\0\x08\xff\0\n", "begins as an archive does, which .xlsx files are"),
        (b"\x89PNG\0\n", "is this a file of text"),
        (b"caf\xe9\n", "--encoding latin-1"),
    ],
)
def test_bytes_that_are_no_text_are_told_with_the_way_out_of_theirs(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(BadInput, match=f"line 1: .* not utf-8; .*{words}"):
        list(from_inputs([str(tmp_path / "a.txt")]))


def test_numbers_and_depths_that_json_cannot_hold(tmp_path: Path) -> None:
    """One sentence each."""
    for content in ("9" * 5_000, "[" * 100_000, '"\udcff"'):
        path = tmp_path / "bad.jsonl"
        path.write_bytes(content.encode("utf-8", "surrogateescape") + b"\n1\n")
        with pytest.raises(BadInput, match="line 1: "):
            list(JsonLines(str(path)))
        assert list(JsonLines(str(path), bad_records="skip")) == [1]


@pytest.mark.parametrize("bad", ['{"a": 1, "b": 2, "a": 3}', '[{"b": {"a": [], "a": null}}]'])
def test_two_values_of_one_name_are_not_one(tmp_path: Path, bad: str) -> None:
    """However deep: a dict would hold the last one, and nobody would know of the other."""
    path = write(tmp_path, "names.jsonl", f'{{"a": {{"a": 1}}}}\n{bad}\n3\n')
    with pytest.raises(BadInput, match=r"line 2: not usable JSON .*the name 'a' occurs twice in one object"):
        list(from_inputs([path]))
    assert list(from_inputs([path], bad_records="skip")) == [{"a": {"a": 1}}, 3]


@pytest.mark.parametrize("name", ["a.tar.gz", "b.TGZ", "c.tar", "d.zip", "e.npz", "f.tar.zst"])
def test_an_archive_is_no_file_of_lines(tmp_path: Path, name: str) -> None:
    """Its blocks would be lines; whoever knows better says what it is."""
    path = write(tmp_path, name, "x")
    with pytest.raises(BadInput, match="is an archive, by its name: unpack it"):
        from_inputs([path])
    assert list(from_inputs([path], format="lines")) == ["x"] if name.endswith((".tar", ".zip", ".npz")) else True


def test_a_path_in_bytes_is_not_read_as_numbers() -> None:
    with pytest.raises(UsageError, match="give a path as text"):
        source_of(b"in.txt")


def test_zstd_is_read_and_written(tmp_path: Path) -> None:
    """With its library; without it the error names the extra (see test_extras)."""
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "values.jsonl.zst"
    path.write_bytes(zstandard.compress(b"1\n2\n") + zstandard.compress(b"3\n"))
    assert list(from_inputs([str(path)])) == [1, 2, 3]


def test_files_and_patterns(tmp_path: Path) -> None:
    """A pattern, a folder, a path, an iterable: what a source can be named by."""
    for name in ("b", "a"):
        (tmp_path / name).write_text("")
    assert isinstance(source_of(str(tmp_path / "*")), Files)
    assert [Path(path).name for path in source_of(tmp_path)] == ["a", "b"]
    assert source_of([1]) == [1]
    cursor = open_cursor(source_of(tmp_path))
    list(cursor)
    before = cursor.digest.value()
    (tmp_path / "a").write_text("now it has content")
    cursor = open_cursor(source_of(tmp_path))
    list(cursor)
    assert cursor.digest.value() != before


def test_what_can_be_read_once() -> None:
    """Iterators and standard input; not lists and files."""
    assert is_read_once(iter([1])) and is_read_once(Lines("-")) and is_read_once(Chain([Lines("x"), JsonLines("-")]))
    assert not is_read_once([1]) and not is_read_once(Csv("x"))
    assert facts_of(Lines("-")) is None and facts_of([1]) is None


def test_another_way_of_reading_is_another_input() -> None:
    """A run that is resumed must not read the rest of a file in other columns, or cut at other characters."""
    pairs: list[tuple[Any, Any]] = [
        (Csv("x.csv"), Csv("x.csv", separator=";")),
        (Csv("x.csv"), Csv("x.csv", encoding="latin-1")),
        (Parquet("x.parquet"), Parquet("x.parquet", ("a",))),
        (Parquet("x.parquet", ("a", "b")), Parquet("x.parquet", ("b", "a"))),
    ]
    for one, other in pairs:
        before, now = ({"source": fingerprint_of_source(each)} for each in (one, other))
        assert len(differences(before, now, keyed=False)) == 1
        assert differences(before, before, keyed=False) == []


MISSING: list[tuple[str, Callable[[Path], object]]] = [
    ("parquet", lambda folder: list(from_inputs([write(folder, "x.parquet", "")]))),
    ("zstd", lambda folder: list(from_inputs([write(folder, "x.zst", "")]))),
]


@pytest.mark.parametrize(("extra", "use"), MISSING)
def test_a_missing_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str, use: Callable[[Path], object]
) -> None:
    """By its extra, in one sentence."""
    for module in ("pyarrow", "zstandard", "sqlalchemy"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises((NotSupported, BadInput), match=rf"allcores\[{extra}\]"):
        use(tmp_path)


def interrupted_at(step: int, work: Callable[[], object]) -> bool:
    """Do `work`, with Ctrl-C before the n-th step of Python in our sources; False if it came to its end before that."""
    left = step
    # A descriptor may be lost there, which is the affair of whoever interrupts.
    opening = ("opened", "decompressing", "open_cursor", "__init__", "close", "_listed", "matching_files", "_walk")

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_name in opening or os.sep + "sources" + os.sep not in frame.f_code.co_filename:
            return None
        # Python 3.12 tells of opcodes only once that was asked for before: of lines it always does.
        frame.f_trace_opcodes = True
        if event in ("opcode", "line"):
            left -= 1
            if not left:
                raise KeyboardInterrupt
        return trace

    try:
        with traced(trace):
            work()
    except KeyboardInterrupt:
        return True
    return False


@pytest.mark.parametrize("kind", ["lines", "jsonl", "csv", "skipped", "chain", "list", "files"])
def test_a_reading_that_is_interrupted_anywhere_says_whether_it_was_torn(tmp_path: Path, kind: str) -> None:
    """If it was not, count, place and digest are those of one reading behind so many items."""
    lines, values, rows = (from_inputs([write(tmp_path, name, text)]) for name, text in TEXT.items())
    source: Any = {
        "lines": lines,
        "jsonl": values,
        "csv": rows,
        "skipped": JsonLines(write(tmp_path, "bad.jsonl", "1\nno\n2\n{\n\n3\n"), bad_records="skip"),
        "chain": Chain([lines, values, Lines(write(tmp_path, "empty.txt", "")), lines]),
        "list": ["a", 1, {"b": [2]}, {3}],
        "files": Files(f"{tmp_path}/*"),
    }[kind]
    whole = open_cursor(source)
    known = {0: (whole.place(), whole.digest.value())}
    for number, _ in enumerate(whole, 1):
        known[number] = whole.place(), whole.digest.value()
    whole.close()
    torn = 0
    # Item by item, and each at each of its steps: what comes before it is not traced, which took most of the time.
    for before in range(len(known)):
        step = 0
        going = True
        while going:
            step += 1
            cursor = open_cursor(source)
            reading = iter(cursor)
            for _ in range(before):
                next(reading)
            going = interrupted_at(step, partial(next, reading, None))
            torn += cursor.torn
            if not cursor.torn:
                place, digest = known[cursor.items]
                assert (cursor.place(), cursor.digest.value()) == (place, digest), f"step {step}, item {cursor.items}"
            cursor.close()
    assert torn


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_utf_8_may_be_called_by_its_mark(name: str, mark: bytes, tmp_path: Path) -> None:
    """As pandas' and spreadsheets' files are; a file that others were added to has several."""
    (tmp_path / name).write_bytes(mark + b"1\n" + mark + b"2\n")
    found = list(from_inputs([str(tmp_path / name)], encoding="utf-8-sig"))
    assert found == {"a.txt": ["1", "2"], "a.jsonl": [1, 2], "a.csv": [{"1": "2"}]}[name]


@pytest.mark.parametrize(
    ("library", "make", "way"),
    [
        (
            "pandas",
            lambda of: of.DataFrame({"a": [1, 2]}),
            r"a DataFrame .*: give its rows, frame.to_dict\(\"records\"\)",
        ),
        ("polars", lambda of: of.DataFrame({"a": [1, 2]}), r"a DataFrame .*: give its rows, frame.to_dicts\(\)"),
        ("pyarrow", lambda of: of.table({"a": [1, 2]}), r"a Table .*: give its rows, frame.to_pylist\(\)"),
    ],
)
def test_a_table_in_memory_is_no_source_for_its_parts_are_columns(library: str, make: Any, way: str) -> None:
    """A run over it would be one over the names of its columns."""
    table = make(pytest.importorskip(library))
    with pytest.raises(UsageError, match=way):
        source_of(table)
    with pytest.raises(UsageError, match=way):
        Pipeline().map(str).imap(table)


def test_columns_of_others_are_theirs() -> None:
    class Rows(list[int]):
        columns = ("a",)

        def to_dict(self) -> dict[str, int]:
            return {}

    assert source_of(Rows([1])) == [1]
    series = pytest.importorskip("pandas").Series([1, 2])
    assert source_of(series) is series
