"""Files of chat, opened and read record by record: JSON Lines, JSON, CSV and plain text, compressed or not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Literal

from allcores.errors import UsageError
from allcores.nlp.reading.formats import NAMES, BadMessage, document_of, records_of
from allcores.nlp.reading.items import Item, items_of_line
from allcores.nlp.records import id_of, new_record
from allcores.sources.compression import without_compression
from allcores.sources.csv_text import CsvRecords
from allcores.sources.text import (
    LINE_BYTES_MAX,
    STDIN,
    BadInput,
    bad_line,
    first_line,
    is_too_long,
    json_value_at,
    no_text,
    opened,
    place,
    read_trouble,
    too_long,
)

#: how a file holds its messages
ChatFormat = Literal["jsonl", "json", "csv", "tsv", "text"]
FORMATS: tuple[str, ...] = ("jsonl", "json", "csv", "tsv", "text")

#: what stands between two documents of a list
_GAP = re.compile(r"[ \t\r\n,]*")
#: what to do about two columns of one name
_NAMED_TWICE = "give one of them another name"
_SUFFIXES: Mapping[str, ChatFormat] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".txt": "text",
    ".text": "text", ".log": "text",
}  # fmt: skip


def format_of(path: str) -> ChatFormat:
    """The format of a file by its suffix; standard input is JSON Lines.

    Raises:
        UsageError: If the suffix says nothing.
    """
    if path == STDIN:
        return "jsonl"
    suffix = os.path.splitext(without_compression(path))[1].lower()
    if suffix not in _SUFFIXES:
        raise UsageError(
            f"{path}: its suffix does not say what it is: name a format (--format), one of {', '.join(FORMATS)}"
        )
    return _SUFFIXES[suffix]


def read_file(path: str, format: ChatFormat, names: Mapping[str, str] | None, name: str) -> Iterator[Item]:
    """The messages of a file, in order, as items; what is bad in it is a record with its error.

    Args:
        path: The file.
        format: Of it.
        names: Of fields, where they are not the usual ones.
        name: What rows call the file, see `reading.names`.

    Raises:
        BadInput: If it cannot be opened, or its compression is damaged.
    """
    with opened(path) as (file, _):
        yield from _READERS[format](path, name, file, names)


def lines_of(path: str, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers, without line ends and byte order mark.

    Raises:
        BadInput: If it cannot be read, its compression is damaged, or it is no text by its beginning.
    """
    number = 0
    while True:
        number += 1
        try:
            raw = file.readline(LINE_BYTES_MAX)
        except (OSError, EOFError, ValueError) as error:
            raise read_trouble(path, number, error) from None
        except Exception as error:  # of a library for a compressed format: it has its own types
            raise read_trouble(path, number, error) from None
        if not raw:
            return
        if is_too_long(raw):
            raise too_long(path, number)
        if number == 1:
            _check_is_text(path, raw)
            raw = first_line(number, raw)
        yield number, raw[:-2] if raw.endswith(b"\r\n") else raw.removesuffix(b"\n")


def _check_is_text(path: str, data: bytes) -> None:
    """Raise BadInput if a file is none by its first bytes: each of its lines would be a row with an error."""
    if (what := no_text(path, data)) is not None:
        raise bad_line(path, 1, what)


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        raise BadMessage(f"not UTF-8: byte 0x{raw[at]:02x} at position {at + 1} of the line") from None


def documents(path: str, format: ChatFormat) -> Iterator[tuple[int, Any]]:
    """The JSON documents of a file, each with its line; a `BadMessage` stands for what is none.

    Args:
        path: The file.
        format: "jsonl" or "json".

    Raises:
        BadInput: If it cannot be opened, or its compression is damaged.
    """
    with opened(path) as (file, _):
        yield from (_documents_of_lines if format == "jsonl" else _documents_of_whole)(path, file)


def document_of_line(raw: bytes) -> Any:
    """The JSON document of a line; a `BadMessage` stands for what is none."""
    if not raw.strip():
        return BadMessage("the line is empty")
    try:
        return document_of(_decoded(raw))
    except BadMessage as error:
        return error


def _documents_of_lines(path: str, file: BinaryIO) -> Iterator[tuple[int, Any]]:
    for number, raw in lines_of(path, file):
        yield number, document_of_line(raw)


def _documents_of_whole(path: str, file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """A file that is one JSON document, or a list of them, as ShareGPT's are; it is read as a whole."""
    try:
        data = b"".join(iter(lambda: file.read(1 << 20), b""))
    except Exception as error:
        raise read_trouble(path, 1, error) from None
    _check_is_text(path, data)
    try:
        text = _decoded(first_line(1, data))
    except BadMessage as error:
        yield 1, error
        return
    start = len(text) - len(text.lstrip())
    if text[start : start + 1] == "[":
        yield from _listed(text, start + 1)
        return
    try:
        yield 1 + text.count("\n", 0, start), document_of(text)
    except BadMessage as error:
        yield 1, error


def _listed(text: str, place: int) -> Iterator[tuple[int, Any]]:
    """The documents of a list, each with the line on which it begins."""
    decoder = json.JSONDecoder()
    line, counted = 1, 0
    first = True
    while True:
        gap = _GAP.match(text, place)
        assert gap is not None
        place = gap.end()
        line, counted = line + text.count("\n", counted, place), place
        closed = text[place : place + 1] == "]"
        commas = gap[0].count(",")
        if place < len(text) and commas != (0 if first or closed else 1):
            # Its documents are there all the same, but other programs do not read such a file.
            yield line, BadMessage(f"not JSON ({'a comma is missing' if not commas else 'a comma too many'})")
        first = False
        if closed:
            behind = text[place + 1 :]
            if rest := behind.lstrip():
                line += behind.count("\n", 0, len(behind) - len(rest))
                yield line, BadMessage("not JSON (Extra data); the rest of the file is not read")
            return
        try:
            try:
                document, place = json_value_at(text, place)
            except json.JSONDecodeError:
                raise
            except ValueError as error:
                # It has a name twice, and costs this document alone.
                document, (_, place) = BadMessage(f"no usable JSON ({error})"), decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            what = "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", error)
            yield line, BadMessage(f"not JSON ({what}); the rest of the file is not read")
            return
        yield line, document


def _json_lines(path: str, name: str, file: BinaryIO, names: Mapping[str, str] | None) -> Iterator[Item]:
    for number, raw in lines_of(path, file):
        if not raw.strip():
            yield new_record(name, number, error="reading: the line is empty")
            continue
        try:
            text = _decoded(raw)
        except BadMessage as error:
            yield new_record(name, number, error=f"reading: {error}")
            continue
        yield from items_of_line(text, name, number, names)


def _json_file(path: str, name: str, file: BinaryIO, names: Mapping[str, str] | None) -> Iterator[Item]:
    last, count = 0, 0
    for line, document in _documents_of_whole(path, file):
        last, count = line, count + 1 if line == last else 1
        if isinstance(document, BadMessage):
            yield new_record(name, line, id=id_of(name, line, count), error=f"reading: {document}")
        else:
            yield from records_of(document, name, line, names, count)


def _plain_text(path: str, name: str, file: BinaryIO, names: Mapping[str, str] | None) -> Iterator[Item]:
    for number, raw in lines_of(path, file):
        try:
            yield "text", name, number, _decoded(raw)
        except BadMessage as error:
            yield new_record(name, number, error=f"reading: {error}")


def _separated(separator: str) -> Callable[..., Iterator[Item]]:
    def read(path: str, name: str, file: BinaryIO, names: Mapping[str, str] | None) -> Iterator[Item]:
        records = CsvRecords(
            path, "utf-8", separator, _line_reader(path, file), line=0, header=None,
            tells=True, refuses_unclear=False,  # that no column has the text is told below
            on_encoding="save the file as UTF-8", on_names=_NAMED_TWICE,
        )  # fmt: skip
        header: list[str] | None = None
        for record in records:
            if header is None and record.trouble is None and records.header is not None:
                header = _usual([each.strip() for each in records.header], names)
                _check_header(header, path, names)
            elif record.trouble is not None:
                yield new_record(name, record.line, error=f"reading: {_reason(record.trouble, path, record.line)}")
            elif header is None or not record.fields:
                yield new_record(name, record.line, error="reading: the line is empty")
            else:
                yield "fields", name, record.line, dict(zip(header, record.fields, strict=True))

    return read


def _line_reader(path: str, file: BinaryIO) -> Callable[[], bytes]:
    """Gives the next line, or tells which one cannot be read."""
    number = 0

    def readline() -> bytes:
        nonlocal number
        number += 1
        try:
            return file.readline(LINE_BYTES_MAX)
        except Exception as error:  # of a library for a compressed format: it has its own types
            raise read_trouble(path, number, error) from None

    return readline


def _reason(trouble: BadInput, path: str, line: int) -> str:
    """What is wrong with a record, without the place of its first line, which the row has."""
    return str(trouble).removeprefix(f"{place(path, line)}: ")


def _usual(header: list[str], names: Mapping[str, str] | None) -> list[str]:
    """The names of columns, of which those that are usual ones but for capitals and spaces are these.

    So spreadsheets have them (`Message`, `Reply To`). What the caller has named, and what another column is called
    already, stays as it is.
    """
    named = set((names or {}).values())
    usual = named | {name for each in NAMES.values() for name in each}
    found: list[str] = []
    for name in header:
        plain = "_".join(name.lower().split())
        is_free = plain in usual and name not in named and plain not in (*header, *found)
        found.append(plain if is_free else name)
    return found


def _check_header(header: list[str], path: str, names: Mapping[str, str] | None) -> None:
    wanted = (names or {}).get("text")
    wished = (wanted,) if wanted else NAMES["text"]
    if not set(wished) & set(header):
        shown = ", ".join(repr(each) for each in header[:12])
        raise UsageError(
            f"{path}: no column has the text (looked for {', '.join(wished)}, found {shown}): name it with --column"
            " text=NAME"
        )
    twice = {each for each in header if header.count(each) > 1}
    if twice:
        raise UsageError(f"{path}: the column {sorted(twice)[0]!r} is there twice: {_NAMED_TWICE}")


_READERS: Mapping[str, Callable[..., Iterator[Item]]] = {
    "jsonl": _json_lines, "json": _json_file, "csv": _separated(","), "tsv": _separated("\t"), "text": _plain_text,
}  # fmt: skip
