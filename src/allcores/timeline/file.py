"""The file behind a timeline: lines of JSON, written as the run goes, readable after any end.

docs/timeline-format.md describes each row. Lines go out whole, by one write; the last one may be torn.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from allcores.errors import UsageError
from allcores.formatting import size_text
from allcores.system import own_files, posix

FORMAT = "allcores.timeline"
VERSION = 1
#: the number of a map in the place of several, in a span that was merged of theirs
SEVERAL = 0
#: bytes of a timeline, unpacked, its lines, and bytes of a line: far more than a recorder writes. Rows are bounded.
#: Larger would let a small file take all memory, or hours.
MOST_BYTES = 128 * 1024 * 1024
MOST_LINES = 2_000_000
MOST_LINE_BYTES = 8 * 1024 * 1024
#: bytes that are read or unpacked at a time
PIECE_BYTES = 256 * 1024
#: lanes, and the size of a number
MOST_LANES = 65_536
MOST = 1 << 62
#: wbits of zlib for the format of gzip
_GZIP = 31


class Lines:
    """Where a timeline's lines go: a file, gzipped if its name ends in .gz, or compressed memory (path None).

    Raises:
        UsageError: If the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, private: bool = False) -> None:
        """See the class.

        Args:
            private: The file must not be there yet, and nobody else may read it.
        """
        __tracebackhide__ = True
        self.path = None if path is None else os.fspath(path)
        self._whole_path = None if self.path is None else os.path.abspath(self.path)
        self._waiting: list[str] = []
        self._kept: list[bytes] = []
        #: what the file has not got yet: all of it is written before anything else, or a gzipped one ends there
        self._rest = b""
        self._encoder = zlib.compressobj(6, wbits=_GZIP) if path is None or str(self.path).endswith(".gz") else None
        self._descriptor: int | None = None
        if self.path is not None:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0)
                posix.keep_standard()
                self._descriptor = own_files.create(self.path) if private else os.open(self.path, flags, 0o666)
            except OSError as error:
                raise UsageError(f"The timeline {self.path!r} cannot be written: {error.strerror}.") from None

    def move(self, path: str | os.PathLike[str], *, private: bool) -> None:
        """From memory into a file, what was written so far included.

        Args:
            path: The file; gzipped if its name ends in .gz.
            private: See the class.

        Raises:
            UsageError: If that is not possible.
            OSError: If the system refuses it.
        """
        file = Lines(path, private=private)
        self.path, self._whole_path, self._descriptor = file.path, file._whole_path, file._descriptor
        self._rest, self._kept = b"".join(self._kept), []
        if file._encoder is None:
            self._rest, self._encoder = zlib.decompressobj(wbits=_GZIP).decompress(self._rest), None
        if private:
            self._write()

    def add(self, row: Any) -> None:
        """Note a row; it is written with the next flush."""
        self._waiting.append(json.dumps(row, separators=(",", ":"), default=str))

    @property
    def place(self) -> str | None:
        """Where the file is found: as it was named, as long as the working folder is the same."""
        if self.path is None or os.path.abspath(self.path) == self._whole_path:
            return self.path
        return self._whole_path

    @property
    def waiting(self) -> int:
        """Rows that are not written yet."""
        return len(self._waiting)

    def flush(self, *, last: bool = False) -> None:
        """Write what waits. Raises OSError."""
        waiting, self._waiting = self._waiting, []
        data = "".join(f"{line}\n" for line in waiting).encode()
        if self._encoder is not None and (data or last):
            data = self._encoder.compress(data) + self._encoder.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
        if self._descriptor is None:
            if self.path is None and data:
                self._kept.append(data)
            return
        self._rest += data
        self._write()

    def _write(self) -> None:
        assert self._descriptor is not None
        while self._rest:
            self._rest = self._rest[os.write(self._descriptor, self._rest) :]

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


def rows_of(pieces: Iterable[bytes], name: str) -> Iterator[Any]:
    """The rows in a timeline's bytes, gzipped or not, which come in pieces; a torn end is left out.

    Raises:
        UsageError: If it is not a timeline, of a later version, or larger than any.
    """
    header: Any = None
    for line in _lines(_unpacked(pieces, name), name):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            if header is None:
                break
            # A disk that was full in the middle of a line: what follows is whole again.
            continue
        if header is None:
            header = row
            _check_header(header, name)
        yield row
    if header is None:
        raise UsageError(f"{name!r} is no timeline of allcores: record one with Pool(observers=[Timeline({name!r})]).")


def _lines(pieces: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Whole lines; what comes after the last line break is torn, or nothing."""
    rest, count = b"", 0
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        count += len(lines)
        if count > MOST_LINES or len(rest) > MOST_LINE_BYTES:
            what = f"more than {MOST_LINES} lines" if count > MOST_LINES else f"a line of more than {len(rest)} bytes"
            raise UsageError(f"{name!r} has {what}, and no timeline has: it is not read.")
        yield from lines


def _unpacked(pieces: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The same bytes, gunzipped if need be, and no more than `MOST_BYTES`: some kilobytes may unpack to terabytes."""
    total = 0
    for piece in _gunzipped(pieces):
        total += len(piece)
        if total > MOST_BYTES:
            raise UsageError(
                f"{name!r} has more than {size_text(MOST_BYTES)}, and no timeline is that long: it is not read."
                " Allcores did not write it, or it was damaged."
            )
        yield piece


def _gunzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    decoder: Any = None
    for number, piece in enumerate(pieces):
        if number == 0 and piece[:2] == b"\x1f\x8b":
            decoder = zlib.decompressobj(wbits=_GZIP)
        if decoder is None:
            yield piece
            continue
        try:
            while piece and not decoder.eof:
                yield decoder.decompress(piece, PIECE_BYTES)
                piece = decoder.unconsumed_tail
        except zlib.error:
            return  # what comes before a damaged place is kept


def _check_header(header: Any, name: str) -> None:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UsageError(f"{name!r} is no timeline of allcores: its first line does not say so.")
    created, cores = header.get("created"), header.get("cores")
    if not (created is None or (is_number(created) and 0 <= created < 1e11)) or not (
        cores is None or (is_number(cores) and 0 <= cores <= MOST_LANES)
    ):
        raise UsageError(f"The timeline {name!r} has a damaged first line.")
    if header.get("version") != VERSION:
        raise UsageError(
            f"{name!r} is a timeline of version {header.get('version')}, and this allcores reads version {VERSION}: "
            "use the one that wrote it, or a later one."
        )


def is_number(value: Any) -> bool:
    """True for what a timeline may have as a number; JSON as Python reads it has infinite ones, too."""
    return isinstance(value, (int, float)) and -MOST <= value <= MOST


def find(path: str | os.PathLike[str]) -> str:
    """The timeline that `path` means: the file itself, or the one in a run's folder.

    Raises:
        UsageError: If there is none.
    """
    given = os.fspath(path)
    if not os.path.isdir(given):
        return given
    for name in ("timeline.jsonl", "timeline.jsonl.gz"):
        if os.path.isfile(os.path.join(given, name)):
            return os.path.join(given, name)
    raise UsageError(f"The folder {given!r} has no timeline.jsonl: the run in it was not recorded.")


def load(path: str | os.PathLike[str]) -> tuple[str, Iterator[bytes]]:
    """Name and bytes of a timeline, read as they are asked for.

    Raises:
        UsageError: If it cannot be read, then, too.
    """
    name = find(path)
    return name, _read(name)


def _read(name: str) -> Iterator[bytes]:
    try:
        with open(name, "rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except (OSError, ValueError) as error:
        raise UsageError(
            f"The timeline {name!r} cannot be read: {getattr(error, 'strerror', None) or error}."
        ) from None
