"""The file behind a timeline: lines of JSON, written as the run goes, readable after any end.

docs/timeline-format.md describes each row. Lines go out whole, by one write; the last one may be torn.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from typing import Any

from allcores.errors import UsageError

FORMAT = "allcores.timeline"
VERSION = 1
#: wbits of zlib for the format of gzip
_GZIP = 31


class Lines:
    """Where a timeline's lines go: a file, gzipped if its name ends in .gz, or compressed memory (path None).

    Raises: UsageError if the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = None if path is None else os.fspath(path)
        self._waiting: list[str] = []
        self._kept: list[bytes] = []
        self._packer = zlib.compressobj(6, wbits=_GZIP) if path is None or str(self.path).endswith(".gz") else None
        self._descriptor: int | None = None
        if self.path is not None:
            try:
                self._descriptor = os.open(
                    self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o666
                )
            except OSError as error:
                raise UsageError(f"The timeline {self.path!r} cannot be written: {error.strerror}.") from None

    def move(self, path: str | os.PathLike[str]) -> None:
        """From memory into a file, gzipped, what was written so far included. Raises: UsageError, OSError."""
        file = Lines(path)
        self.path, self._descriptor = file.path, file._descriptor
        kept, self._kept = self._kept, []
        assert self._descriptor is not None
        for data in kept:
            while data:
                data = data[os.write(self._descriptor, data) :]

    def add(self, row: Any) -> None:
        """Note a row; it is written with the next flush."""
        self._waiting.append(json.dumps(row, separators=(",", ":"), default=str))

    @property
    def waiting(self) -> int:
        """Rows that are not written yet."""
        return len(self._waiting)

    def flush(self, *, last: bool = False) -> None:
        """Write what waits. Raises OSError."""
        waiting, self._waiting = self._waiting, []
        data = "".join(f"{line}\n" for line in waiting).encode()
        if self._packer is not None and (data or last):
            data = self._packer.compress(data) + self._packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
        if self._descriptor is None:
            if self.path is None and data:
                self._kept.append(data)
            return
        while data:
            data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        """Write what waits, and close the file. Raises OSError."""
        try:
            self.flush(last=True)
        finally:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

    def abandon(self) -> None:
        """Close the file as it is."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def content(self) -> bytes:
        """What was written to memory, gzipped."""
        return b"".join(self._kept)


def rows_of(content: bytes, name: str) -> Iterator[Any]:
    """The rows in a timeline's bytes, gzipped or not; a torn end is left out.

    Raises: UsageError if it is not a timeline, or of a later version.
    """
    if content[:2] == b"\x1f\x8b":
        content = _unzipped(content)
    lines = content.split(b"\n")
    # What comes after the last line break is torn, or nothing.
    lines.pop()
    header: Any = None
    for number, line in enumerate(lines):
        try:
            row = json.loads(line)
        except ValueError:
            if number == 0:
                break
            # A disk that was full in the middle of a line: what follows is whole again.
            continue
        if number == 0:
            header = row
            _check_header(header, name)
        yield row
    if header is None:
        raise UsageError(f"{name!r} is no timeline of allcores: record one with Pool(observers=[Timeline({name!r})]).")


def _check_header(header: Any, name: str) -> None:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UsageError(f"{name!r} is no timeline of allcores: its first line does not say so.")
    if header.get("version") != VERSION:
        raise UsageError(
            f"{name!r} is a timeline of version {header.get('version')}, and this allcores reads version {VERSION}: "
            "use the one that wrote it, or a later one."
        )


def _unzipped(content: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=_GZIP)
    parts: list[bytes] = []
    try:
        # In pieces: what comes before a damaged place is kept.
        for start in range(0, len(content), 65_536):
            parts.append(unpacker.decompress(content[start : start + 65_536]))
    except zlib.error:
        pass
    return b"".join(parts)


def find(path: str | os.PathLike[str]) -> str:
    """The timeline that `path` means: the file itself, or the one in a run's folder.

    Raises: UsageError if there is none.
    """
    given = os.fspath(path)
    if not os.path.isdir(given):
        return given
    for name in ("timeline.jsonl", "timeline.jsonl.gz"):
        if os.path.isfile(os.path.join(given, name)):
            return os.path.join(given, name)
    raise UsageError(f"The folder {given!r} has no timeline.jsonl: the run in it was not recorded.")


def load(path: str | os.PathLike[str]) -> tuple[str, bytes]:
    """Name and bytes of a timeline. Raises: UsageError if it cannot be read."""
    name = find(path)
    try:
        with open(name, "rb") as file:
            return name, file.read()
    except OSError as error:
        raise UsageError(f"The timeline {name!r} cannot be read: {error.strerror}.") from None
