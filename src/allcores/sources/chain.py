"""Several sources as one, and what is asked of a source part by part."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, MappingView, Sequence, Set
from dataclasses import dataclass
from typing import Any

from allcores.sources.base import Cursor, CursorSource, Report, Source, is_given_once, open_cursor, read_from_start
from allcores.sources.digest import Digest
from allcores.sources.text import STDIN, gives_once


@dataclass(frozen=True, slots=True)
class Chain(CursorSource):
    """The items of several sources, one source after the other."""

    parts: Sequence[Source[Any]]

    def __iter__(self) -> Iterator[Any]:
        for part in self.parts:
            yield from part

    def total(self) -> int | None:
        total = 0
        for part in self.parts:
            count = part.total()
            if count is None:
                return None
            total += count
        return total

    def open_cursor(self, place: Any, items: int, report: Report | None) -> Cursor:
        """See `CursorSource`."""
        return _ChainCursor(self, place, items, report)


class _ChainCursor:
    """A reading of several sources, one after the other, with one digest."""

    def __init__(self, source: Chain, place: Any, items: int, report: Report | None) -> None:
        self.items = items
        self.one_shot = is_read_once(source)
        self._digest = Digest()
        #: place and digest of the last item, while its part was left and no other item was read
        self._behind: tuple[Any, Digest] | None = None
        #: the digest is flushed for that, and is torn meanwhile
        self._copying = False
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

    @property
    def torn(self) -> bool:
        if self._behind is not None:  # it is as it was behind the last item, whatever happens until the next
            return False
        return self._copying or self._cursor.torn or self.items != self._before + self._cursor.items

    def __iter__(self) -> Iterator[Any]:
        while True:
            cursor = self._cursor
            for item in cursor:
                self._behind = None
                self.items += 1
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
            self._copying = True
            self._behind = (self.place(), self.digest.copy())
            self._copying = False
        self._cursor.close()
        self._number += 1
        self._before += self._cursor.items
        self._digest.add(b"\0next input\0")
        self._cursor = open_cursor(self._parts[self._number], report=self._report)
        self._cursor.digest = self._digest
        return True


def parts_of(source: Iterable[Any]) -> Iterable[Any]:
    """The sources that one is a chain of; itself if it is none."""
    return source.parts if isinstance(source, Chain) else (source,)


def reported(source: Iterable[Any], report: Report) -> Iterable[Any]:
    """The items of a source, from its start; `report` is told of each record that is bad and is skipped."""
    skips = any(getattr(part, "bad_records", None) == "skip" for part in parts_of(source))
    return read_from_start(source, report) if skips and isinstance(source, CursorSource) else source


def is_read_once(source: Iterable[Any]) -> bool:
    """True if a source, or a part of it, can be read only once."""
    return any(map(is_given_once, parts_of(source)))


def begins_anew(source: Iterable[Any]) -> bool:
    """True if it is certain that each reading of a source begins at its start: one of ours, or what is in memory.

    Of any other object nobody knows. It may be around an iterator (`tqdm(rows())`, a cursor of a database), so that a
    second reading goes on where the first has ended.
    """
    certain = isinstance(source, (CursorSource, Sequence, Set, Mapping, MappingView))
    return (certain or getattr(type(source), "begins_anew", False) is True) and not is_read_once(source)


def facts_of(source: Iterable[Any]) -> list[list[Any]] | None:
    """What tells quickly that a source's files are still the same: path, size, time, number of each; else None."""
    facts: list[list[Any]] = []
    for part in parts_of(source):
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
