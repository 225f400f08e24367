"""Files of lines, in slices of whole lines.

A line belongs to the slice in which its first byte lies. So where the slices end can be told without reading the
file, and each worker finds the line ends near the borders of its slice by itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import IO

from allcores.errors import UsageError
from allcores.formatting import size_text
from allcores.slices.source import SLICE_BYTES, SlicedFile, Slices, Stamp, whole
from allcores.system import deferral
from allcores.system.file_beginnings import UTF_16, compression_by_content

#: Bytes after the end of a slice in which the end of its last line is looked for. A longer line is refused: most likely
#: it is no file of lines, and would fill the memory.
LINE_BYTES_MAX = 256 * 1024 * 1024
#: Bytes that are read at a time in search of a line's end.
STRIDE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class LineFile(SlicedFile):
    """A file of lines that end with the byte 10."""

    stamp: Stamp

    def open(self) -> IO[bytes]:
        return open(self.stamp.path, "rb", buffering=0)

    def read(self, handle: IO[bytes], start: int, stop: int) -> bytes:
        """The lines that begin in [start:stop], with their ends; b"" if none does."""
        begin = _after_newline(handle, start - 1, stop) if start else 0
        if begin is None or begin >= stop:
            return b""
        if stop == self.stamp.size:
            end: int | None = stop
        else:
            end = _after_newline(handle, stop - 1, min(stop + LINE_BYTES_MAX, self.stamp.size))
            if end is None and stop + LINE_BYTES_MAX < self.stamp.size:
                raise ValueError(
                    f"a line is longer than {size_text(LINE_BYTES_MAX)}, so this is hardly a file of lines"
                )
        handle.seek(begin)
        wanted = (end or self.stamp.size) - begin
        parts: list[bytes] = []
        while wanted and (part := handle.read(wanted)):
            parts.append(part)
            wanted -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def label(self, start: int, stop: int) -> str:
        return f"{self.stamp.name}[bytes {start}:{stop}]"


def _after_newline(file: IO[bytes], position: int, limit: int) -> int | None:
    """Where the line after the first newline in [position:limit] begins; None if there is none."""
    file.seek(position)
    while position < limit:
        part = file.read(min(STRIDE_BYTES, limit - position))
        if not part:
            return None
        found = part.find(b"\n")
        if found >= 0:
            return position + found + 1
        position += len(part)
    return None


def lines(path: str | os.PathLike[str], slice_bytes: int | None) -> Slices:
    """See `allcores.slices.lines`."""
    stamp = Stamp.of(path)
    try:
        with open(stamp.path, "rb", buffering=0) as file:
            start = file.read(16)
    except OSError as error:
        if deferral.raised_by_handler(error):
            raise
        raise UsageError(f"cannot read {stamp.name}: {error.strerror or error}") from None
    if compression_by_content(start):
        raise UsageError(
            f"{stamp.name} is compressed, so it cannot be read from the middle: unpack it first, or stream its lines"
            " (gzip.open(path) and its like are inputs, too)"
        )
    if start.startswith(UTF_16):
        raise UsageError(f"{stamp.name} is UTF-16, whose lines do not end with the byte 10: save it as UTF-8")
    return Slices(
        LineFile(stamp), stamp.size, SLICE_BYTES if slice_bytes is None else whole(slice_bytes, "slice_bytes")
    )
