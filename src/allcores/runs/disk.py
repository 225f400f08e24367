"""Is it the disk that is full? The advice to make room helps nobody whose trouble is another."""

from __future__ import annotations

import errno
import sqlite3

_FULL = (errno.ENOSPC, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else []))


def is_limited(error: BaseException | None) -> bool:
    """True if an error, or what caused it, says that a file may not grow any more (ulimit -f)."""
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            return True
        error = error.__cause__
    return False


def is_full(error: BaseException | None) -> bool:
    """True if an error, or what caused it, says that there is no room."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        error = error.__cause__
    return False
