"""Records of CSV: where each begins and ends, its fields, and what is wrong with one that is none.

A record may span lines, so it is the unit that is read, counted, or left out. Where a record ends is for `csv.reader`
to say: nothing else here looks for quotes, but for the one case in which it cannot know. If a quote is missing or
not doubled, what it makes of the lines behind is a guess. Then only the first line is given up, and reading goes on
at the next one, which is believed again when it holds a record that leaves no doubt.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from allcores.formatting import size_text
from allcores.sources.csv_separator import RECORD_BYTES_MAX, Unclear, csv_module, separator_of
from allcores.sources.text import (
    CARRIAGE_RETURNS,
    NAME_ENCODING,
    BadInput,
    bad_line,
    check_names,
    first_line,
    is_too_long,
    place,
    too_long,
    undecodable,
)

#: bytes that a line costs while it is held, its text apart
_LINE_COST = 40
#: a line that spreadsheets write and read before the header: it says what separates fields
_SAYS_SEPARATOR = re.compile(r'("?)sep=([^"\r\n])\1\r?\n?', re.IGNORECASE)
#: bytes of such a line, at most
_SAYS_BYTES_MAX = 20


class _TooLong(Exception):
    """A record does not end."""


@dataclass(slots=True)
class Record:
    """Lines of a file that belong together, as bytes, and their fields; or what is wrong with them.

    Attributes:
        line: Number of the first one.
        fields: [] if there is nothing to give, for a blank line and for the header.
    """

    raws: list[bytes]
    line: int
    fields: list[str]
    trouble: BadInput | None = None
    #: it is no CSV, so where it ends is not known
    broken: bool = False


class CsvRecords:
    """The records of a file, one after the other; iterate over it.

    Args:
        header: The names in the first record, once it was read. Nothing is held of the file but the record that is
            read, and lines that were given back.
    """

    def __init__(
        self,
        path: str,
        encoding: str,
        delimiter: str,
        readline: Callable[[], bytes],
        *,
        line: int,
        header: list[str] | None,
        tells: bool = False,
        refuses_unclear: bool = True,
        on_encoding: str = NAME_ENCODING,
        on_names: str = "rename one, or read the file as lines (--format lines)",
    ) -> None:
        """See the class.

        Args:
            delimiter: What stands between fields.
            readline: The next line as bytes, b"" at the end.
            line: Lines before.
            tells: Whether the first records may say that it is another one, see `csv_separator`.
            refuses_unclear: Whether a header that may be one name or several ends it; else it is one.
            on_encoding: What to do about bytes that are not of the encoding, for messages.
            on_names: What to do about a name that is there twice.
        """
        self._on_encoding = on_encoding
        self._on_names = on_names
        self.header = header
        #: what stands between fields, as far as it is known
        self.delimiter = delimiter
        self._tells = tells and header is None
        self._refuses_unclear = refuses_unclear
        self._path = path
        self._encoding = encoding
        self._readline = readline
        self._line = line
        #: a line that is none of the records, and goes with the first of them
        self._before: list[bytes] = []
        #: lines that were read and given back
        self._ahead: deque[bytes] = deque()
        #: lines of the record that is read, what they cost, and what is wrong with one
        self._taken: list[bytes] = []
        self._cost = 0
        self._trouble: BadInput | None = None
        #: the line at which quotes went wrong, until a record is believed again
        self._doubt: int | None = None
        self._reader = self._new_reader()

    def __iter__(self) -> Iterator[Record]:
        """See the class.

        Raises:
            BadInput: For a header that is none: without it no record can be read. Also if it is not plain what
                separates its names.
        """
        if self._line == 0 and self.header is None:
            self._take_separator()
        if self._tells:
            self._tell()
        while (record := self._next()) is not None:
            if record.trouble is None and not record.fields:
                yield self._with_line_before(record)
            elif self.header is None:
                if record.trouble is not None:
                    raise record.trouble
                self._check_header(record)
                self.header, record.fields = record.fields, []
                yield self._with_line_before(record)
            else:
                if record.trouble is None and len(record.fields) != len(self.header):
                    found = f"{len(record.fields)} fields where the header has {len(self.header)}"
                    record.trouble = bad_line(self._path, record.line, found)
                if self._doubt is not None:
                    self._check_doubt(record)
                elif record.broken:
                    self._doubt = record.line
                yield record

    def _with_line_before(self, record: Record) -> Record:
        record.raws[:0], self._before = self._before, []
        return record

    def _check_header(self, record: Record) -> None:
        where = place(self._path, record.line)
        if any("\0" in name for name in record.fields):
            way = "if it is UTF-16, convert it first (iconv -f utf-16le -t utf-8)"
            raise bad_line(self._path, record.line, f"there are NULs in its names; is this a file of text? {way}")
        check_names(record.fields, where, path=self._path, advice=self._on_names)

    def _check_doubt(self, record: Record) -> None:
        """Behind quotes that went wrong: believe a record that is beyond doubt, else give up its first line."""
        if record.trouble is None and self._is_beyond_doubt(record):
            self._doubt = None
            return
        self._give_back(record)
        reason = f"left out, for it may belong to the record of line {self._doubt}, whose quotes are wrong"
        record.trouble = bad_line(self._path, record.line, reason)

    def _is_beyond_doubt(self, record: Record) -> bool:
        """Its quotes come in pairs; if it spans lines they also stand nowhere but around fields, or doubled in them."""
        text = b"".join(record.raws).decode(self._encoding)
        if len(record.raws) == 1:
            return text.count('"') % 2 == 0
        separator = re.escape(self.delimiter)
        field = rf'(?:"(?:[^"]|"")*+"|[^"{separator}\r\n]*+)'
        return re.fullmatch(rf"{field}(?:{separator}{field})*+[\r\n]*", text) is not None

    def _give_back(self, record: Record) -> None:
        """Keep the first line of a record, and read the others once more."""
        if len(record.raws) > 1:
            self._ahead.extendleft(reversed(record.raws[1:]))
            self._line -= len(record.raws) - 1
            del record.raws[1:]

    def _take_separator(self) -> None:
        """Pass over a first line that says what separates the fields, and believe it unless that was told otherwise."""
        raw = self._readline()
        text = first_line(1, raw[:_SAYS_BYTES_MAX]).decode(self._encoding, "replace")
        said = _SAYS_SEPARATOR.fullmatch(text)
        if said is None:
            self._ahead.append(raw)
            return
        self._before = [raw]
        self._line = 1
        if self._tells:
            self._tells, self.delimiter = False, said[2]
            self._reader = self._new_reader()

    def _tell(self) -> None:
        """Find out what separates the fields; lines that are read for it are given back."""
        lines: list[bytes] = []
        cost = 0

        def further() -> str | None:
            nonlocal cost
            if cost > RECORD_BYTES_MAX or (lines and is_too_long(lines[-1])):
                return None
            raw = self._following()
            if not raw:
                return None
            lines.append(raw)
            cost += len(raw) + _LINE_COST
            return first_line(self._line + len(lines), raw).decode(self._encoding, "replace")

        try:
            self.delimiter = separator_of(further, self.delimiter)
        except Unclear as unclear:
            if self._refuses_unclear:
                raise bad_line(self._path, self._line + 1, str(unclear)) from None
        self._tells = False
        self._ahead.extendleft(reversed(lines))
        self._reader = self._new_reader()

    def _following(self) -> bytes:
        """The next line, b"" at the end."""
        return self._ahead.popleft() if self._ahead else self._readline()

    def _new_reader(self) -> Any:
        return csv_module.reader(self._texts(), delimiter=self.delimiter, strict=True)

    def _texts(self) -> Iterator[str]:
        """Lines with their ends, which belong to the field if they are in quotes."""
        encoding = self._encoding
        while True:
            raw = self._following()
            if not raw:
                return
            self._taken.append(raw)
            self._cost += len(raw) + _LINE_COST
            number = self._line + len(self._taken)
            if number == 1:
                raw = first_line(number, raw)
            try:
                text = raw.decode(encoding)
            except UnicodeError as error:
                # It is read on all the same, for the sake of the quotes in it: they tell where the record ends.
                text = raw.decode(encoding, "replace")
                self._trouble = self._trouble or undecodable(
                    self._path, number, raw, encoding, error, advice=self._on_encoding
                )
            if is_too_long(raw) or (self._cost > RECORD_BYTES_MAX and len(self._taken) > 1):
                raise _TooLong
            yield text

    def _next(self) -> Record | None:
        """The next record as `csv.reader` sees it; None at the end. Of one that is none the first line is taken."""
        self._taken, self._cost, self._trouble = [], 0, None
        record = Record(self._taken, self._line + 1, [])
        broken = None
        advice = "is a quote missing, or one inside of quotes not doubled?"
        try:
            record.fields = next(self._reader)
        except StopIteration:
            return None
        except csv_module.Error as error:
            broken = str(error)
            if "new-line" in broken:
                broken = "a carriage return in a field without quotes"
                if self._line == 0 and not self._taken[-1].endswith(b"\n"):
                    advice = CARRIAGE_RETURNS  # there is no other line end in all of the file
        except _TooLong:
            broken = f"its end is not within {size_text(RECORD_BYTES_MAX)}"
        self._line += len(self._taken)
        record.trouble = self._trouble
        if broken is not None:
            self._reader = self._new_reader()
            self._give_back(record)
            record.broken = True
            if getattr(record.trouble, "line", None) != record.line:  # bytes that are no text are the better reason
                record.trouble = bad_line(self._path, record.line, f"not CSV ({broken}); {advice}")
            if is_too_long(record.raws[0]):
                record.trouble = too_long(self._path, record.line)
        return record
