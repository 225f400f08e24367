"""What a cache is given, and what can be asked of it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, Union

from allcores.errors import UsageError
from allcores.limits import is_whole, whole
from allcores.system.plain_record import record
from allcores.system.tracebacks import hiding

#: entries take no more than so many bytes, unless more are allowed
MAX_BYTES = 10 * 1024**3
#: entries that are removed in one transaction: others wait no longer for their turn
_PORTION = 1_000

#: a cache, True for the one in the default folder, or a folder
CacheLike = Union["Cache", bool, str, os.PathLike[str]]


@record
class CacheStatistics:
    """What is in a cache, and what it was good for.

    Attributes:
        entries: Results that are kept.
        bytes: What they take.
        hits: Results that were found there, since it began or was cleared.
        misses: Results that were computed because they were not.
        functions: The same by function, as module and qualified name; empty in these.
    """

    entries: int
    bytes: int
    hits: int
    misses: int
    functions: dict[str, CacheStatistics]


class Cache:
    """Results of pure functions on the disk: `pool.map(fn, items, cache=Cache("folder"))` computes each once.

    Kept by what the function does (its code, that of your own functions that it names, and what is bound to it) and by
    the item's content. Several programs and threads may use one folder at the same time. A file that is damaged,
    locked, full or read-only fails no task: results are computed, and one warning says why.

    Args:
        folder: Where results are kept; None: in $ALLCORES_HOME/cache, or allcores in $XDG_CACHE_HOME (~/.cache). It
            has to belong to this user alone: what is in it is unpickled.
        version: Part of every key. Name here what results depend on besides function and item: the file of a model,
            the version of a library.
        max_bytes: What all entries may take, bytes; the ones used least recently go first. None: no bound.

    Attributes:
        folder: Its path.

    Raises:
        UsageError: For arguments that make no sense.
    """

    @hiding
    def __init__(
        self, folder: str | os.PathLike[str] | None = None, *, version: str = "", max_bytes: int | None = MAX_BYTES
    ) -> None:
        if not isinstance(version, str):
            raise UsageError(f"version={version!r} must be a string")
        max_bytes = whole(max_bytes)
        if max_bytes is not None and not is_whole(max_bytes):
            raise UsageError(f"max_bytes={max_bytes!r} must be a whole number, 1 or more, or None for no bound")
        if folder is None:
            from allcores.cache.database import default_folder

            folder = default_folder()
        if isinstance(folder, os.PathLike):
            folder = os.fspath(folder)
        if not isinstance(folder, str) or not folder or "\0" in folder:
            raise UsageError(f"folder={folder!r} must be the path of a folder, or None")
        self.folder = os.path.realpath(os.path.expanduser(folder))
        self.version = version
        self.max_bytes = max_bytes

    @classmethod
    def of(cls, given: CacheLike | None) -> Cache | None:
        """What `cache=` was given, as a cache; None if there is to be none."""
        if given is None or given is False:
            return None
        if isinstance(given, Cache):
            return given
        if given is True:
            return cls()
        if isinstance(given, (str, os.PathLike)):
            return cls(given)
        raise UsageError(f"cache={given!r} must be True, a folder, an allcores.Cache, or None")

    def __repr__(self) -> str:
        return f"<allcores.Cache {self.folder!r}>"

    def __len__(self) -> int:
        return self.statistics().entries

    def __bool__(self) -> bool:
        return True

    @staticmethod
    def name_of(function: Any) -> str:
        """What a function is called in statistics: module and qualified name."""
        from functools import partial

        from allcores.cache.kinds import name_of

        while isinstance(function, partial):
            function = function.func
        return name_of(function)

    @hiding
    def statistics(self) -> CacheStatistics:
        """What is in it. Entries are there once the map that made them has ended.

        Raises:
            UsageError: It cannot be trusted, or not be read.
        """
        rows: list[tuple[Any, ...]] = []
        with self._connection() as db:
            if db is not None:
                rows = db.execute(
                    "SELECT name, sum(entries), sum(bytes), sum(hits), sum(misses) FROM functions"
                    " GROUP BY name ORDER BY name"
                ).fetchall()
                if not all(isinstance(name, str) and all(type(n) is int for n in counts) for name, *counts in rows):
                    raise sqlite3.DatabaseError("its list of functions")
        functions = {
            name: CacheStatistics(entries, size, hits, misses, {}) for name, entries, size, hits, misses in rows
        }
        total = [sum(row[place] for row in rows) for place in range(1, 5)]
        return CacheStatistics(total[0], total[1], total[2], total[3], functions)

    @hiding
    def clear(self, function: Callable[..., Any] | str | None = None) -> int:
        """Remove entries, and forget their hits and misses; also of a cache that is damaged.

        Args:
            function: The function whose results go, as it is now and as it was earlier, or its name as in `statistics`;
                None: all go.

        Returns:
            How many.

        Raises:
            UsageError: It cannot be trusted, or not be written.
        """
        from allcores.cache import database

        name = function if isinstance(function, str) or function is None else self.name_of(function)
        try:
            with self._connection() as db:
                return 0 if db is None else _cleared(db, name)
        except _Damaged:
            if name is not None:
                raise
        try:
            database.remove(self.folder)
        except database.NotUsable as error:
            raise UsageError(str(error)) from None
        return 0

    @hiding
    def is_ready(self) -> bool:
        """Make its file if it is not there; False, after a warning, if it cannot be used.

        Raises:
            UsageError: It cannot be trusted.
        """
        from allcores.cache import database
        from allcores.system import caller, sqlite_files

        try:
            db = database.opened(self.folder)
            assert db is not None
            sqlite_files.close(db)
        except database.NotUsable as error:
            caller.warn(f"{error}. Results are computed, and not kept.")
            return False
        if not database.may_be_written(self.folder):
            caller.warn(f"the cache in {self.folder} can only be read: results that are not in it are not kept.")
        return True

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection | None]:
        from allcores.cache import database
        from allcores.system import sqlite_files

        db = None
        try:
            db = database.opened(self.folder, create=False)
            yield db
        except database.NotUsable as error:
            raise (_Damaged if error.damaged else UsageError)(f"{error}.") from None
        except database.ERRORS as error:
            kind = _Damaged if database.is_damaged(self.folder, error) else UsageError
            raise kind(f"{database.trouble(self.folder, error)}.") from None
        finally:
            if db is not None:
                with contextlib.suppress(sqlite3.Error):
                    sqlite_files.close(db)


class _Damaged(UsageError):
    """The file is not what was written."""


def _cleared(db: sqlite3.Connection, name: str | None) -> int:
    """Remove entries in portions, so that others have their turn; how many there were."""
    if db.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
        raise sqlite3.DatabaseError("its structure")
    where = "1" if name is None else "function IN (SELECT id FROM functions WHERE name = ?)"
    arguments = () if name is None else (name,)
    gone = 0
    while True:
        count = db.execute(
            f"DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries WHERE {where} LIMIT {_PORTION})", arguments
        ).rowcount
        if count <= 0:
            break
        gone += count
    db.execute(f"DELETE FROM functions WHERE entries <= 0 AND {'1' if name is None else 'name = ?'}", arguments)
    # As a script, which goes on to its end; `execute` would free one page.
    db.executescript("PRAGMA incremental_vacuum")
    return gone
