"""A reading of a file line by line, which can tell its place, pass over items, and go on there another day."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO, Protocol

from allcores.sources.base import BadRecords, Report
from allcores.sources.compression import compression_of
from allcores.sources.digest import Digest
from allcores.sources.text import LINE_BYTES_MAX, BadInput, decoded, is_too_long, opened, read_trouble
from allcores.system import deferral

#: a line makes no item
NO_ITEM = object()


class LineSource(Protocol):
    """What a cursor of lines has to know of its file."""

    @property
    def path(self) -> str: ...

    @property
    def encoding(self) -> str: ...

    @property
    def bad_records(self) -> BadRecords: ...


class LineCursor:
    """A reading of a file of lines; its place and its digest go as far as the last item.

    What lines make is said by subclasses, one for each format.
    """

    def __init__(self, source: LineSource, place: Any, items: int, report: Report | None) -> None:
        self.items = items
        self.torn = False
        self._digest = Digest()
        #: place and digest of the last item, while lines behind it were read that make none
        self._behind: tuple[list[Any], Digest] | None = None
        self.path = source.path
        self.encoding = source.encoding
        self._stops_at_bad = source.bad_records == "fatal"
        self._report = report
        #: bytes and lines read so far; the names in the first line of a CSV file
        self._offset: int = 0
        self._line: int = 0
        self._header: list[str] | None = None
        if place is not None:
            self._stand_at(place)
        self._manager = opened(self.path)
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
            self.torn = False
            yield item

    def skip(self, count: int) -> int:
        if count <= 0:
            return 0
        skimmed = self._skimmed() if self._stops_at_bad else None
        if skimmed is None:
            return sum(1 for _ in islice(iter(self), count))
        done = sum(1 for _ in islice(skimmed, count))
        self.items += done
        self.torn = False
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

    def _stand_at(self, place: Any) -> None:
        self._offset, self._line, self._header = place

    def forward(self, place: Any, items: int) -> bool:
        """Go to a place without looking at lines, only taking the bytes into the digest; False if it is not there.

        A line that goes on behind the place is a change: the digest is another one then.
        """
        offset = place[0]
        last = b"\n"
        self.torn = True

        def add(block: bytes) -> None:
            nonlocal last
            self._digest.add(block)
            last = block[-1:]

        if not self._pass(offset - self._offset, add):
            return False
        if last != b"\n":
            # It was the end of the file, and of a line without its end. What was written behind it belongs to that
            # line, which is another one by now: read as a line of its own it would be an item that there never was.
            self._pass(1, self._digest.add)
        self._stand_at(place)
        self.items = items
        self._behind = None
        self.torn = False
        return True

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._manager.__exit__(None, None, None)

    def _go_to(self, offset: int) -> None:
        assert self._file is not None
        if compression_of(self.path) is None and not self.one_shot:
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
                if deferral.raised_by_handler(error):
                    raise
                raise read_trouble(self.path, self._line + 1, error) from None
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
            if deferral.raised_by_handler(error):
                raise
            raise read_trouble(self.path, self._line + 1, error) from None

    def _take(self, raws: Iterable[bytes]) -> None:
        """Count the lines of an item, and take them into the digest. It is torn until the item is counted, too."""
        self.torn = True
        for raw in raws:
            self._line += 1
            self._count(raw)
            while len(raw) >= LINE_BYTES_MAX and is_too_long(raw):  # only its beginning was read
                raw = self._readline()
                self._count(raw)
        self._behind = None

    def _leave(self, raws: Iterable[bytes]) -> None:
        """Count lines that make no item, as above. Where the last item ended is kept: that is the place."""
        self.torn = True  # the digest is, while it is copied
        behind = self._behind or (self._here(), self._digest.copy())
        self._take(raws)
        self._behind = behind
        self.torn = False

    def _count(self, raw: bytes) -> None:
        self._offset += len(raw)
        self._digest.add(raw)

    def _made(self, make: Callable[[int, bytes], Any]) -> Iterator[Any]:
        """What `make` makes of each line and its number, but for what is `NO_ITEM`."""
        while raw := self._readline():
            try:
                item = make(self._line + 1, raw)
            except BadInput as error:
                self._bad(error)
                item = NO_ITEM
            if item is NO_ITEM:
                self._leave((raw,))
                continue
            self._take((raw,))
            yield item

    def _text(self, number: int, raw: bytes) -> str:
        return decoded(self.path, number, raw, self.encoding)

    def _parsed(self) -> Iterator[Any]:
        """The items from here on."""
        raise NotImplementedError

    def _skimmed(self) -> Iterator[Any] | None:
        """One thing for each item from here on, by the same rule, but not its value; None if that is no quicker."""
        return None

    def _bad(self, error: BadInput) -> None:
        """End, or go on. The lines are not counted yet: who goes on at the place of a reading that ended meets them."""
        if self._stops_at_bad:
            raise error
        if self._report is not None:
            self._report(error)
