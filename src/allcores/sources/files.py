"""Paths that match a pattern, as items."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from allcores.sources.base import Cursor, CursorSource, ItemCursor, Report
from allcores.sources.file_names import all_inside, has_wildcard, matching_files
from allcores.sources.text import BadInput
from allcores.system import deferral

#: paths; up to here the files that match a pattern are counted beforehand
COUNT_PATHS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Files(CursorSource):
    """Each file that matches a pattern is an item: its path, as a string.

    Sorted within each folder, so the order is the same on every machine; `**` matches any number of
    folders, does not enter linked folders, and names that start with a dot have to be asked for.
    """

    pattern: str

    def __iter__(self) -> Generator[str]:
        found = False
        try:
            for path in matching_files(self.pattern):
                found = True
                yield path
        except ValueError as error:  # a PatternError, or a name that no file can have
            raise BadInput(str(error), path=self.pattern) from None
        except OSError as error:
            if deferral.raised_by_handler(error):
                raise
            folder = error.filename or self.pattern
            raise BadInput(f"cannot list {folder}: {error.strerror}", path=self.pattern) from None
        if not found:
            raise BadInput(self._nothing(), path=self.pattern)

    def total(self) -> int | None:
        count = 0
        try:
            for _ in matching_files(self.pattern):
                count += 1
                if count > COUNT_PATHS_MAX:
                    return None
        except (OSError, ValueError):
            return None  # the iteration itself will tell
        return count

    def open_cursor(self, place: Any, items: int, report: Report | None) -> Cursor:
        """See `CursorSource`. It has no places."""
        return _FileCursor(self)

    def _nothing(self) -> str:
        if os.path.isdir(self.pattern):
            return f"{self.pattern} is a folder: for the files in it, write '{all_inside(self.pattern)}'"
        kind = "matches" if has_wildcard(self.pattern) else "is called"
        try:
            place = f"in {os.getcwd()}"
        except OSError:
            place = "the working folder is gone"
        return f"no file {kind} '{self.pattern}' ({place})"


class _FileCursor(ItemCursor):
    """Paths are items; their digest has size and time of each file, too."""

    def _take(self, item: Any) -> None:
        try:
            there = os.stat(item)
            facts = f"{item}\0{there.st_size}\0{there.st_mtime_ns}\n"
        except OSError:
            facts = f"{item}\0\n"
        self.digest.add(facts.encode("utf-8", "surrogateescape"))
