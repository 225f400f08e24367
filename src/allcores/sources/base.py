"""What every source is, and a reading of one that knows where it is.

    source    anything that gives items, again and again: `open_cursor(source)` makes a reading of it
    cursor    one reading: the items from where it stands, their count, a digest, and a place

The digest is of the input as it was read: bytes of a file, or items where there is no file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Literal, Protocol, TypeVar

from allcores.sources.digest import Digest
from allcores.sources.text import BadInput, names_read_once

#: what becomes of a record that cannot be read: the end of the whole, or it is left out and reported
BadRecords = Literal["fatal", "skip"]
#: what is told of a record that is bad and is skipped
Report = Callable[[BadInput], None]

T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """Items, one after the other."""

    def __iter__(self) -> Iterator[T_co]: ...

    def total(self) -> int | None:
        """The number of items, as far as it can be told quickly; else None."""


class Cursor(Protocol):
    """One reading of a source.

    Attributes:
        items: How many were read or passed over, so the index of the next.
        digest: Of the input so far; whoever reads may put another one in its place.
        one_shot: It cannot be read a second time.
        torn: Count, digest and place do not go together: it was ended (by Ctrl-C, say) while it took an item. It may be
            read no more.
    """

    items: int
    digest: Digest
    one_shot: bool

    @property
    def torn(self) -> bool: ...

    def __iter__(self) -> Iterator[Any]:
        """The items from here on. `items` counts an item before it is given."""

    def skip(self, count: int) -> int:
        """Pass over the next `count` items; how many there were."""

    def place(self) -> Any:
        """Where it stands, as plain JSON, for `open_cursor`; None if it could not go on there."""

    def close(self) -> None:
        """Let go of files."""


class CursorSource:
    """A source that makes its own cursor, which knows more than how many items there were."""

    __slots__ = ()

    def open_cursor(self, place: Any, items: int, report: Report | None) -> Cursor:
        """See the function `open_cursor`."""
        raise NotImplementedError


def open_cursor(source: Iterable[Any], *, place: Any = None, items: int = 0, report: Report | None = None) -> Cursor:
    """A reading of `source` from its start, or from a `place` that another reading told behind `items` items.

    Args:
        source: A `CursorSource`, or any iterable, which has no places.
        place: What `Cursor.place` told; None is the start.
        items: Items before that place.
        report: Called with each record that is bad and is skipped.
    """
    if isinstance(source, CursorSource):
        return source.open_cursor(place, items, report)
    return ItemCursor(source)


def read_from_start(source: CursorSource, report: Report | None = None) -> Iterator[Any]:
    """All items of a source; files are closed with the iterator.

    Args:
        report: Called with each record that is bad and is skipped.
    """
    cursor = source.open_cursor(None, 0, report)
    try:
        yield from cursor
    finally:
        cursor.close()


class ItemCursor:
    """A reading of any iterable; it has no places."""

    def __init__(self, source: Iterable[Any]) -> None:
        self.items = 0
        self.digest = Digest()
        self._source = source
        self._iterator = iter(source)
        self.one_shot = self._iterator is source or is_given_once(source)
        self.torn = False

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterator:
            self.torn = True
            self.items += 1
            self._take(item)
            self.torn = False
            yield item

    def _take(self, item: Any) -> None:
        """Into the digest."""
        self.digest.add_item(item)

    def skip(self, count: int) -> int:
        return sum(1 for _ in islice(iter(self), count))

    def place(self) -> Any:
        return None

    def close(self) -> None:
        close_reading(self._iterator, unless=self._source)


def is_given_once(source: Iterable[Any]) -> bool:
    """True if a source can be read only once: an iterator, or what reads standard input, a pipe or a device.

    Files are told by `path`, and by `paths` where there are several.
    """
    path, paths = getattr(source, "path", None), getattr(source, "paths", None)
    named = [path, *paths] if isinstance(paths, (list, tuple)) else [path]
    return isinstance(source, Iterator) or any(
        isinstance(each, str) and names_read_once(each) is not None for each in named
    )


def close_reading(reading: Iterator[Any], *, unless: Iterable[Any]) -> None:
    """End a reading that was left midway, so that it lets go of files and databases now; not of one given to us.

    Args:
        reading: What was iterated over.
        unless: The source. If it is the reading itself, the caller has it, and may want to go on.
    """
    close = getattr(reading, "close", None)
    if reading is not unless and callable(close):
        with contextlib.suppress(ValueError):  # it is being read at this moment, by a thread that is left behind
            close()
