"""Files of lines, JSON Lines and CSV as sources.

Every source is lazy: it opens a file when iteration reaches it and holds one line at a time, so a file larger than
memory is fine. What cannot be read becomes `BadInput`, one sentence that names the file and the line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from allcores.errors import UsageError
from allcores.sources.base import BadRecords, Cursor, CursorSource, Report, read_from_start
from allcores.sources.compression import without_compression
from allcores.sources.csv_text import CsvRecords
from allcores.sources.cursors import NO_ITEM, LineCursor
from allcores.sources.text import (
    STDIN,
    BadInput,
    check_encoding,
    count_lines,
    is_blank,
    json_item,
    names_read_once,
)

#: parts that a place in a file of CSV has without a separator
_PLACE_PARTS = 3


@dataclass(frozen=True, slots=True)
class Lines(CursorSource):
    """Each line of a file is an item, without its line end. Empty lines are items, too.

    Attributes:
        path: The file, or "-" for standard input (which can be read once).
        encoding: Of the text; one in which a newline is the byte 10 (so not UTF-16).
        bad_records: "fatal" (default) or "skip": what becomes of a line that will not decode.
    """

    path: str
    encoding: str = "utf-8"
    bad_records: BadRecords = "fatal"

    def __post_init__(self) -> None:
        check_encoding(self.encoding)

    def __iter__(self) -> Iterator[str]:
        return read_from_start(self)

    def total(self) -> int | None:
        return count_lines(self.path)

    def open_cursor(self, place: Any, items: int, report: Report | None) -> Cursor:
        """See `CursorSource`."""
        return _LinesCursor(self, place, items, report)


class _LinesCursor(LineCursor):
    def _parsed(self) -> Iterator[Any]:
        return self._made(self._text)

    def _skimmed(self) -> Iterator[Any]:
        return self._made(_line_seen)


def _line_seen(number: int, raw: bytes) -> bool:
    """A line that is only counted."""
    return True


@dataclass(frozen=True, slots=True)
class JsonLines(CursorSource):
    """Each line of a file is a JSON value, and an item. Blank lines are skipped."""

    path: str
    encoding: str = "utf-8"
    bad_records: BadRecords = "fatal"

    def __post_init__(self) -> None:
        check_encoding(self.encoding)

    def __iter__(self) -> Iterator[Any]:
        return read_from_start(self)

    def total(self) -> int | None:
        return count_lines(self.path, self.encoding)

    def open_cursor(self, place: Any, items: int, report: Report | None) -> Cursor:
        """See `CursorSource`."""
        return _JsonLinesCursor(self, place, items, report)


class _JsonLinesCursor(LineCursor):
    def _parsed(self) -> Iterator[Any]:
        return self._made(self._value)

    def _skimmed(self) -> Iterator[Any]:
        return self._made(self._document)

    def _document(self, number: int, raw: bytes) -> Any:
        """A line that holds something."""
        text = self._text(number, raw)
        return NO_ITEM if is_blank(text) else text

    def _value(self, number: int, raw: bytes) -> Any:
        text = self._document(number, raw)
        return text if text is NO_ITEM else json_item(self.path, number, text)


@dataclass(frozen=True, slots=True)
class Csv(CursorSource):
    """Each record of a file of comma-separated values is an item: a dict of strings, by the names of the first line.

    A record may span lines, in quotes.

    Attributes:
        separator: What stands between fields; None goes by the suffix: a tabulator for .tsv, else a comma. If that
            makes one field of the header, and another of comma, semicolon, tabulator and bar makes several, and as many
            of the record behind it, it is that one.
        bad_records: As above, and for a record with more or fewer fields than there are names.
    """

    path: str
    encoding: str = "utf-8"
    bad_records: BadRecords = "fatal"
    separator: str | None = None

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise UsageError(f"separator={self.separator!r} must be one character, and no quote or line end")

    @property
    def delimiter(self) -> str:
        """What separates the fields, as far as the file's name tells."""
        tabbed = without_compression(self.path).lower().endswith(".tsv")
        return self.separator or ("\t" if tabbed else ",")

    def __iter__(self) -> Iterator[dict[str, str]]:
        return read_from_start(self)

    def total(self) -> int | None:
        return None  # a record may span lines

    def open_cursor(self, place: Any, items: int, report: Report | None) -> Cursor:
        """See `CursorSource`."""
        return _CsvCursor(self, place, items, report)

    def check(self) -> str:
        """Read no more than the header, and what is behind it if the header does not tell what separates its names.

        Returns:
            What separates the fields.

        Raises:
            BadInput: If it is none.
        """
        cursor = _CsvCursor(self, None, 0, None)
        try:
            return cursor.read_header()
        finally:
            cursor.close()

    def told(self) -> str:
        """What separates the fields, also by the first records of a file that can be read again."""
        if self.separator is None and names_read_once(self.path) is None:
            with contextlib.suppress(BadInput):  # reading tells of it
                return self.check()
        return self.delimiter

    def describe(self) -> dict[str, str]:
        """What makes it the same input, for a run that is resumed."""
        separator = self.separator
        if separator is None and (told := self.told()) != self.delimiter:
            separator = told
        path = self.path if self.path == STDIN else os.path.abspath(self.path)
        facts = {"path": path, "encoding": self.encoding, "bad_records": self.bad_records}
        return facts if separator is None else {**facts, "separator": separator}


class _CsvCursor(LineCursor):
    def __init__(self, source: Csv, place: Any, items: int, report: Report | None) -> None:
        self._tells = source.separator is None
        self._expected = self._delimiter = source.delimiter
        super().__init__(source, place, items, report)

    def read_header(self) -> str:
        """Read records up to the one with the names.

        Returns:
            What separates the fields.

        Raises:
            BadInput: If the file is not of its format.
        """
        records = self._records()
        for _ in records:
            if records.header is not None:
                break
        return records.delimiter

    def _here(self) -> list[Any]:
        # A separator that was told by the first records is a part of it, for these are not read again.
        told = [] if self._delimiter == self._expected else [self._delimiter]
        return [*super()._here(), *told]

    def _stand_at(self, place: Any) -> None:
        *known, self._delimiter = place if len(place) > _PLACE_PARTS else [*place, self._expected]
        super()._stand_at(known)

    def _records(self) -> CsvRecords:
        """From here on."""
        return CsvRecords(
            self.path, self.encoding, self._delimiter, self._readline,
            line=self._line, header=self._header, tells=self._tells,
        )  # fmt: skip

    def _parsed(self) -> Iterator[Any]:
        records = self._records()
        for record in records:
            if record.trouble is not None:
                self._bad(record.trouble)
            if record.trouble is not None or not record.fields:
                self._leave(record.raws)
                self._header, self._delimiter = records.header, records.delimiter
                continue
            self._take(record.raws)
            assert records.header is not None
            yield dict(zip(records.header, record.fields, strict=True))
