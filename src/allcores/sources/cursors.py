"""A reading of a source that knows where it is: it can tell, pass over items, and go on there another day.

    source    anything that gives items, again and again: `open_cursor(source)` makes a reading of it
    cursor    one reading: the items from where it stands, their count, a digest, and a place

The digest is of the input as it was read: bytes of a file, or items where there is no file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO, Protocol

from allcores.sources.compression import compression_of
from allcores.sources.csv_text import CsvRecords
from allcores.sources.digest import Digest
from allcores.sources.text import (
    LINE_BYTES_MAX,
    STDIN,
    BadInput,
    decoded,
    gives_once,
    is_blank,
    is_too_long,
    json_item,
    names_read_once,
    opened,
    read_trouble,
)
from allcores.sources.text_files import Chain, Csv, Files, JsonLines, Lines

#: what is told of a record that is bad and is skipped
Report = Callable[[BadInput], None]
#: a line makes no item
_NO_ITEM = object()


class Cursor(Protocol):
    """One reading of a source.

    items: how many were read or passed over, so the index of the next. digest: of the input so far; whoever
    reads may put another one in its place. one_shot: it cannot be read a second time.
    """

    items: int
    digest: Digest
    one_shot: bool

    def __iter__(self) -> Iterator[Any]:
        """The items from here on. `items` counts an item before it is given."""

    def skip(self, count: int) -> int:
        """Pass over the next `count` items; how many there were."""

    def place(self) -> Any:
        """Where it stands, as plain JSON, for `open_cursor`; None if it could not go on there."""

    def close(self) -> None:
        """Let go of files."""


def open_cursor(source: Iterable[Any], *, place: Any = None, items: int = 0, report: Report | None = None) -> Cursor:
    """A reading of `source` from its start, or from a `place` that another reading told behind `items` items."""
    if isinstance(source, Chain):
        return _ChainCursor(source, place, items, report)
    if isinstance(source, (Lines, JsonLines, Csv)):
        return _LineCursor(source, place, items, report)
    if isinstance(source, Files):
        return _FileCursor(source)
    return ItemCursor(source)


def facts_of(source: Iterable[Any]) -> list[list[Any]] | None:
    """What tells quickly that a source's files are still the same: path, size, time, number of each; else None."""
    parts = source.parts if isinstance(source, Chain) else (source,)
    facts: list[list[Any]] = []
    for part in parts:
        path = getattr(part, "path", None)
        if path is None or path == STDIN:
            return None
        try:
            there = os.stat(path)
        except OSError:
            return None
        if gives_once(there.st_mode):
            return None
        facts.append([os.path.abspath(path), there.st_size, there.st_mtime_ns, there.st_ino])
    return facts


class ItemCursor:
    """A reading of any iterable; it has no places."""

    def __init__(self, source: Iterable[Any]) -> None:
        self.items = 0
        self.digest = Digest()
        self._source = source
        self._iterator = iter(source)
        self.one_shot = self._iterator is source

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterator:
            self.items += 1
            self.digest.add_item(item)
            yield item

    def skip(self, count: int) -> int:
        return sum(1 for _ in islice(iter(self), count))

    def place(self) -> Any:
        return None

    def close(self) -> None:
        close_reading(self._iterator, unless=self._source)


def close_reading(reading: Iterator[Any], *, unless: Iterable[Any]) -> None:
    """End a reading that was left midway, so that it lets go of files and databases now; not of one given to us.

    Args:
        reading: What was iterated over.
        unless: The source. If it is the reading itself, it is somebody else's, who may want to go on.
    """
    close = getattr(reading, "close", None)
    if reading is not unless and callable(close):
        with contextlib.suppress(ValueError):  # it is being read at this moment, by a thread that is left behind
            close()


class _FileCursor(ItemCursor):
    """Paths are items; their digest has size and time of each file, too."""

    def __iter__(self) -> Iterator[Any]:
        for path in self._iterator:
            self.items += 1
            try:
                there = os.stat(path)
                facts = f"{path}\0{there.st_size}\0{there.st_mtime_ns}\n"
            except OSError:
                facts = f"{path}\0\n"
            self.digest.add(facts.encode("utf-8", "surrogateescape"))
            yield path


class _LineCursor:
    """A reading of a file of lines, JSON Lines or CSV; its place and its digest go as far as the last item."""

    def __init__(self, source: Lines | JsonLines | Csv, place: Any, items: int, report: Report | None) -> None:
        self.items = items
        self._digest = Digest()
        #: place and digest of the last item, while lines behind it were read that make none
        self._behind: tuple[list[Any], Digest] | None = None
        self._source = source
        self._report = report
        #: bytes and lines read so far; the names in the first line of a CSV file
        self._offset: int = 0
        self._line: int = 0
        self._header: list[str] | None = None
        if place is not None:
            self._offset, self._line, self._header = place
        self._manager = opened(source.path)
        self._file: BinaryIO | None
        self._file, self.one_shot = self._manager.__enter__()
        if self._offset:
            try:
                self._go_to(self._offset)
            except BaseException:
                self.close()
                raise
        self._given = self._parsed()

    def __iter__(self) -> Iterator[Any]:
        for item in self._given:
            self.items += 1
            yield item

    def skip(self, count: int) -> int:
        if count <= 0:
            return 0
        source = self._source
        if isinstance(source, Csv) or source.bad_records != "fatal":
            return sum(1 for _ in islice(iter(self), count))
        # What makes an item is asked of the same function that reading asks; only the values are not made.
        make = _line_seen if isinstance(source, Lines) else self._document
        done = sum(1 for _ in islice(self._made(make), count))
        self.items += done
        return done

    def place(self) -> Any:
        if self.one_shot:
            return None
        return self._here() if self._behind is None else self._behind[0]

    @property
    def digest(self) -> Digest:
        """Of the input up to the last item, as the place is."""
        return self._digest if self._behind is None else self._behind[1]

    @digest.setter
    def digest(self, digest: Digest) -> None:
        self._digest = digest
        self._behind = None

    def _here(self) -> list[Any]:
        return [self._offset, self._line, self._header]

    def forward(self, place: Any, items: int) -> bool:
        """Go to a place without looking at lines, only taking the bytes into the digest; False if it is not there."""
        offset, line, header = place
        if not self._pass(offset - self._offset, self._digest.add):
            return False
        self._offset, self._line, self._header, self.items = offset, line, header, items
        self._behind = None
        return True

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._manager.__exit__(None, None, None)

    def _go_to(self, offset: int) -> None:
        assert self._file is not None
        if compression_of(self._source.path) is None and not self.one_shot:
            self._file.seek(offset)
        else:  # what is compressed has to be read
            self._pass(offset)

    def _pass(self, count: int, add: Callable[[bytes], None] | None = None) -> bool:
        """Read bytes without looking at them; False if there are fewer."""
        assert self._file is not None
        while count > 0:
            try:
                block = self._file.read(min(count, 1 << 20))
            except Exception as error:  # whatever a library raises for data that are damaged
                raise read_trouble(self._source.path, self._line + 1, error) from None
            if not block:
                return False
            if add is not None:
                add(block)
            count -= len(block)
        return True

    def _readline(self) -> bytes:
        assert self._file is not None
        try:
            return self._file.readline(LINE_BYTES_MAX)
        except Exception as error:
            raise read_trouble(self._source.path, self._line + 1, error) from None

    def _take(self, raws: Iterable[bytes]) -> None:
        """Count the lines of an item, and take them into the digest."""
        for raw in raws:
            self._line += 1
            self._count(raw)
            while len(raw) >= LINE_BYTES_MAX and is_too_long(raw):  # only its beginning was read
                raw = self._readline()
                self._count(raw)
        self._behind = None

    def _leave(self, raws: Iterable[bytes]) -> None:
        """Count lines that make no item, as above. Where the last item ended is kept: that is the place."""
        behind = self._behind or (self._here(), self._digest.copy())
        self._take(raws)
        self._behind = behind

    def _count(self, raw: bytes) -> None:
        self._offset += len(raw)
        self._digest.add(raw)

    def _made(self, make: Callable[[int, bytes], Any]) -> Iterator[Any]:
        """What `make` makes of each line and its number, but for what is `_NO_ITEM`."""
        while raw := self._readline():
            try:
                item = make(self._line + 1, raw)
            except BadInput as error:
                self._bad(error)
                item = _NO_ITEM
            if item is _NO_ITEM:
                self._leave((raw,))
                continue
            self._take((raw,))
            yield item

    def _text(self, number: int, raw: bytes) -> str:
        return decoded(self._source.path, number, raw, self._source.encoding)

    def _document(self, number: int, raw: bytes) -> Any:
        """A line of JSON Lines that holds something."""
        text = self._text(number, raw)
        return _NO_ITEM if is_blank(text) else text

    def _value(self, number: int, raw: bytes) -> Any:
        text = self._document(number, raw)
        return text if text is _NO_ITEM else json_item(self._source.path, number, text)

    def _parsed(self) -> Iterator[Any]:
        source = self._source
        if isinstance(source, Csv):
            return self._rows(source)
        return self._made(self._text if isinstance(source, Lines) else self._value)

    def records(self, source: Csv) -> CsvRecords:
        """The records of a CSV file, from here on."""
        delimiter = source.delimiter
        return CsvRecords(source.path, source.encoding, delimiter, self._readline, line=self._line, header=self._header)

    def _rows(self, source: Csv) -> Iterator[Any]:
        records = self.records(source)
        for record in records:
            if record.trouble is not None:
                self._bad(record.trouble)
            if record.trouble is not None or not record.fields:
                self._leave(record.raws)
                self._header = records.header
                continue
            self._take(record.raws)
            assert records.header is not None
            yield dict(zip(records.header, record.fields, strict=True))

    def _bad(self, error: BadInput) -> None:
        """End, or go on. The lines are not counted yet: who goes on at the place of a reading that ended meets them."""
        if self._source.bad_records == "fatal":
            raise error
        if self._report is not None:
            self._report(error)


def _line_seen(number: int, raw: bytes) -> bool:
    """A line that is only counted."""
    return True


def check_header(source: Csv) -> None:
    """Read no more of a CSV file than its header. Raises: BadInput if it is none."""
    cursor = _LineCursor(source, None, 0, None)
    try:
        records = cursor.records(source)
        for _ in records:
            if records.header is not None:
                break
    finally:
        cursor.close()


class _ChainCursor:
    """A reading of several sources, one after the other, with one digest."""

    def __init__(self, source: Chain, place: Any, items: int, report: Report | None) -> None:
        self.items = items
        self.one_shot = is_read_once(source)
        self._digest = Digest()
        #: place and digest of the last item, while its part was left and no other item was read
        self._behind: tuple[Any, Digest] | None = None
        self._parts = list(source.parts)
        self._report = report
        number, inner, before = (0, None, 0) if place is None else place
        self._number = number
        #: items of the parts before
        self._before = before
        self._cursor = open_cursor(self._parts[number], place=inner, items=items - before, report=report)
        self._cursor.digest = self._digest

    @property
    def digest(self) -> Digest:
        return self._cursor.digest if self._behind is None else self._behind[1]

    @digest.setter
    def digest(self, digest: Digest) -> None:
        self._digest = digest
        self._behind = None
        self._cursor.digest = digest

    def __iter__(self) -> Iterator[Any]:
        while True:
            cursor = self._cursor
            for item in cursor:
                self.items += 1
                self._behind = None
                yield item
                if cursor is not self._cursor:
                    break  # meanwhile `skip` went on to another part
            if cursor is self._cursor and not self._next_part():
                return

    def skip(self, count: int) -> int:
        done = 0
        while done < count:
            passed = self._cursor.skip(count - done)
            if passed:
                self._behind = None
            done += passed
            self.items = self._before + self._cursor.items
            if done < count and not self._next_part():
                break
        return done

    def place(self) -> Any:
        if self._behind is not None:
            return self._behind[0]
        inner = self._cursor.place()
        return None if inner is None else [self._number, inner, self._before]

    def close(self) -> None:
        self._cursor.close()

    def _next_part(self) -> bool:
        if self._number + 1 >= len(self._parts):
            return False
        if self._behind is None:
            self._behind = (self.place(), self.digest.copy())
        self._cursor.close()
        self._number += 1
        self._before += self._cursor.items
        self._digest.add(b"\0next input\0")
        self._cursor = open_cursor(self._parts[self._number], report=self._report)
        self._cursor.digest = self._digest
        return True


def is_read_once(source: Iterable[Any]) -> bool:
    """True if a source can be read only once: an iterator, or a file that is standard input, a pipe or a device."""
    parts = source.parts if isinstance(source, Chain) else (source,)
    return any(isinstance(part, Iterator) or _names_read_once(part) for part in parts)


def _names_read_once(part: Any) -> bool:
    path = getattr(part, "path", None)
    return isinstance(path, str) and names_read_once(path) is not None
