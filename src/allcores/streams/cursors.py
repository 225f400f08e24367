"""A reading of a source that knows where it is: it can tell, pass over items, and go on there another day.

    source    anything that gives items, again and again: `open_cursor(source)` makes a reading of it
    cursor    one reading: the items from where it stands, their count, a digest, and a place

The digest is of the input as it was read: bytes of a file, or items where there is no file.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO, Protocol

from allcores.streams.compression import compression_of
from allcores.streams.digests import Digest
from allcores.streams.sources import Chain, Csv, Files, JsonLines, Lines
from allcores.streams.text import LINE_BYTES_MAX, STDIN, BadInput, bad_line, decoded, json_item, opened, read_trouble

#: what is told of a record that is bad and is skipped
Report = Callable[[BadInput], None]


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
        facts.append([os.path.abspath(path), there.st_size, there.st_mtime_ns, there.st_ino])
    return facts


class ItemCursor:
    """A reading of any iterable; it has no places."""

    def __init__(self, source: Iterable[Any]) -> None:
        self.items = 0
        self.digest = Digest()
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
        pass


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
    """A reading of a file of lines, JSON Lines or CSV; its place is the byte behind the last item."""

    def __init__(self, source: Lines | JsonLines | Csv, place: Any, items: int, report: Report | None) -> None:
        self.items = items
        self.digest = Digest()
        self.one_shot = source.path == STDIN
        self._source = source
        self._report = report
        #: bytes and lines read so far; the names in the first line of a CSV file
        self._offset: int = 0
        self._line: int = 0
        self._header: list[str] | None = None
        if place is not None:
            self._offset, self._line, self._header = place
        self._manager = opened(source.path)
        self._file: BinaryIO | None = self._manager.__enter__()
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
        source = self._source
        if isinstance(source, Csv) or source.bad_records != "fatal":
            return sum(1 for _ in islice(iter(self), count))
        blank = isinstance(source, JsonLines)
        done = 0
        if count <= 0:
            return 0
        for raw in self._raw():
            if not (blank and raw.isspace()):
                done += 1
                if done == count:
                    break
        self.items += done
        return done

    def place(self) -> Any:
        return None if self.one_shot else [self._offset, self._line, self._header]

    def forward(self, place: Any, items: int) -> bool:
        """Go to a place without looking at lines, only taking the bytes into the digest; False if it is not there."""
        offset, line, header = place
        assert self._file is not None
        left = offset - self._offset
        while left > 0:
            block = self._file.read(min(left, 1 << 20))
            if not block:
                return False
            self.digest.add(block)
            left -= len(block)
        self._offset, self._line, self._header, self.items = offset, line, header, items
        return True

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._manager.__exit__(None, None, None)

    def _go_to(self, offset: int) -> None:
        assert self._file is not None
        if compression_of(self._source.path) is None:
            self._file.seek(offset)
            return
        while offset > 0:  # what is compressed has to be read
            block = self._file.read(min(offset, 1 << 20))
            if not block:
                return
            offset -= len(block)

    def _raw(self) -> Iterator[bytes]:
        """Lines as bytes; counts them, and takes them into the digest."""
        file, path = self._file, self._source.path
        assert file is not None
        add, readline = self.digest.add, file.readline
        digest = self.digest
        while True:
            try:
                raw = readline(LINE_BYTES_MAX)
            except Exception as error:
                raise read_trouble(path, self._line + 1, error) from None
            if not raw:
                return
            if digest is not self.digest:
                digest = self.digest
                add = digest.add
            self._offset += len(raw)
            self._line += 1
            add(raw)
            yield raw

    def _texts(self) -> Iterator[str]:
        source = self._source
        path, encoding = source.path, source.encoding
        for raw in self._raw():
            try:
                yield decoded(path, self._line, raw, encoding)
            except BadInput as error:
                self._bad(error)

    def _parsed(self) -> Iterator[Any]:
        source = self._source
        if isinstance(source, Lines):
            yield from self._texts()
        elif isinstance(source, JsonLines):
            for text in self._texts():
                if text and not text.isspace():
                    try:
                        item = json_item(source.path, self._line, text)
                    except BadInput as error:
                        self._bad(error)
                        continue
                    yield item
        else:
            yield from self._rows(source)

    def _rows(self, source: Csv) -> Iterator[Any]:
        # csv joins what belongs together across line ends, so each text gets its own back.
        rows = csv.reader((text + "\n" for text in self._texts()), delimiter=source.delimiter, strict=True)
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                self._bad(bad_line(source.path, self._line, f"not CSV ({error})"))
                continue
            if row is None:
                return
            if not row:
                continue
            if self._header is None:
                self._header = row
            elif len(row) != len(self._header):
                self._bad(
                    bad_line(source.path, self._line, f"{len(row)} fields where the header has {len(self._header)}")
                )
            else:
                yield dict(zip(self._header, row, strict=True))

    def _bad(self, error: BadInput) -> None:
        if self._source.bad_records == "fatal":
            raise error
        if self._report is not None:
            self._report(error)


class _ChainCursor:
    """A reading of several sources, one after the other, with one digest."""

    def __init__(self, source: Chain, place: Any, items: int, report: Report | None) -> None:
        self.items = items
        self.one_shot = any(getattr(part, "path", None) == STDIN for part in source.parts)
        self._digest = Digest()
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
        return self._digest

    @digest.setter
    def digest(self, digest: Digest) -> None:
        self._digest = digest
        self._cursor.digest = digest

    def __iter__(self) -> Iterator[Any]:
        while True:
            cursor = self._cursor
            for item in cursor:
                self.items += 1
                yield item
                if cursor is not self._cursor:
                    break  # meanwhile `skip` went on to another part
            if cursor is self._cursor and not self._next_part():
                return

    def skip(self, count: int) -> int:
        done = 0
        while done < count:
            done += self._cursor.skip(count - done)
            self.items = self._before + self._cursor.items
            if done < count and not self._next_part():
                break
        return done

    def place(self) -> Any:
        inner = self._cursor.place()
        return None if inner is None else [self._number, inner, self._before]

    def close(self) -> None:
        self._cursor.close()

    def _next_part(self) -> bool:
        if self._number + 1 >= len(self._parts):
            return False
        self._cursor.close()
        self._number += 1
        self._before += self._cursor.items
        self._digest.add(b"\0next input\0")
        self._cursor = open_cursor(self._parts[self._number], report=self._report)
        self._cursor.digest = self._digest
        return True


def is_read_once(source: Iterable[Any]) -> bool:
    """True if a source can be read only once: an iterator, or standard input."""
    parts = source.parts if isinstance(source, Chain) else (source,)
    return any(getattr(part, "path", None) == STDIN or isinstance(part, Iterator) for part in parts)
