"""What a search has measured so far: a line for each measurement, written at once. A kill loses the one that ran.

    crc32 of the rest, 8 hexadecimal digits, a space, and JSON; the first line says what is searched

A line that is not whole, and what follows it, was not written to its end: it is cut off, and measured again.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from typing import Any

from allcores.errors import UsageError
from allcores.system import own_files
from allcores.tuned.files import Place


class SearchJournal:
    """The journal of one search, held by its lock.

    Args:
        place: Whose.
        head: What is searched: a journal with another head is begun anew.

    Attributes:
        lines: What was measured before this process, in its order.
        replaced: There was a journal of another search.

    Raises:
        UsageError: It cannot be trusted, read or written.
    """

    def __init__(self, place: Place, head: dict[str, Any]) -> None:
        self._path = place.journal
        self.lines: list[dict[str, Any]] = []
        self.replaced = False
        found, whole = lines_of(place.bytes_of(self._path) or b"")
        if found and found[0] == json.loads(json.dumps(head)):
            self.lines = found[1:]
        else:
            self.replaced = bool(found)
            whole = 0
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | own_files.REOPEN, 0o600)
            os.ftruncate(self._fd, whole)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            raise UsageError(f"{self._path} cannot be written: {error.strerror}") from None
        if not whole:
            self.add(head)

    def add(self, line: dict[str, Any]) -> None:
        """Keep a measurement.

        Raises:
            UsageError: It cannot be written.
        """
        text = json.dumps(line)
        rest = f"{zlib.crc32(text.encode()):08x} {text}\n".encode()
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            raise UsageError(f"{self._path} cannot be written: {error.strerror}") from None

    def end(self) -> None:
        """Remove it: what was searched was found, or its measurements are good for nothing."""
        self.close()
        own_files.remove_own_file(self._path)

    def close(self) -> None:
        """Leave it, for the same search to go on; idempotent."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1


def lines_of(data: bytes) -> tuple[list[dict[str, Any]], int]:
    """The lines that were written whole, up to the first that was not, and how many bytes they are."""
    found: list[dict[str, Any]] = []
    at = 0
    while (end := data.find(b"\n", at)) >= 0:
        checksum, _, text = data[at:end].partition(b" ")
        try:
            if int(checksum, 16) != zlib.crc32(text):
                break
            line = json.loads(text)
        except ValueError:
            break
        if not isinstance(line, dict):
            break
        found.append(line)
        at = end + 1
    return found, at
