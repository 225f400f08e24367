"""The secret of a store's console: made once, kept beside the store for this user alone, the same for all processes."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from allcores.errors import UsageError
from allcores.system import own_files
from allcores.system.partial_files import create_private

_NAME = "console-secret"


def kept_secret(folder: os.PathLike[str]) -> str:
    """The secret in that folder; it is made if there is none. Several processes that make one agree on it.

    Raises:
        UsageError: If the file is not of this user, may be read by others, or cannot be read or written.
    """
    path = Path(folder, _NAME)
    try:
        if (found := _read(path)) is not None:
            return found
        # Who comes second reads what the first one made.
        create_private(str(path), secrets.token_urlsafe(32).encode())
        found = _read(path)
    except OSError as error:
        raise UsageError(f"The console's secret {str(path)!r} cannot be kept: {error.strerror}.") from None
    if found is None:
        raise UsageError(f"The console's secret {str(path)!r} has gone again.")
    return found


def _read(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | own_files.REOPEN)
    except FileNotFoundError:
        return None
    with open(descriptor, encoding="ascii", errors="replace") as file:
        there = os.fstat(descriptor)
        if not stat.S_ISREG(there.st_mode) or not own_files.is_own(there) or there.st_mode & 0o077:
            raise UsageError(
                f"The console's secret {str(path)!r} is not this user's alone: remove it, and a new one is made."
            )
        text = file.read(200).strip()
    if len(text) < 32:
        raise UsageError(f"The console's secret {str(path)!r} is damaged: remove it, and a new one is made.")
    return text
