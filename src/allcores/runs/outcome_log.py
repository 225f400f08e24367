"""The log: an append-only file of outcomes that returned, in records with a checksum each.

    record   header (32 bytes, little endian): "ACR1", flags u32, start u64, count u32, bytes u32, crc32 u32, 0 u32
             then, if flags & DETAILS: attempts u32[count], worker i32[count], seconds f64[count]
             then count lines of text, each ended by one newline: the encoded values of consecutive items

A record counts only once the catalogue has committed its row. What lies behind the last of those (a torn
write, a batch that was not committed) is cut off when the run is opened again.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from allcores.errors import JournalError
from allcores.failpoints import failpoint, is_watched
from allcores.system import partial_files
from allcores.system.own_files import REOPEN

MAGIC = b"ACR1"
#: the record has attempts, worker and seconds of each item
DETAILS = 1
_HEADER = struct.Struct("<4sIQIIII")
HEADER_BYTES = _HEADER.size
#: bytes; records are cut so that none is much larger, for a record is read as one piece
RECORD_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """Where a record lies, as the catalogue keeps it.

    Attributes:
        start: Its items.
        count: Its items.
        offset: In the file.
        size: In the file.
    """

    start: int
    count: int
    offset: int
    size: int
    crc: int


@dataclass(frozen=True, slots=True)
class Record:
    """Outcomes of consecutive items that returned.

    Attributes:
        lines: Their values, encoded, each ended by a newline.
        details: (attempts, worker, seconds) of each item, None if they were not wanted.
    """

    start: int
    count: int
    lines: bytes
    details: Sequence[tuple[int, int, float]] | None = None


class Damaged(Exception):
    """A record is not what was written."""


def encode_record(record: Record) -> tuple[bytes, int]:
    """The record as bytes, and its checksum."""
    body = record.lines
    flags = 0
    if record.details is not None:
        flags = DETAILS
        attempts = array("I", (each[0] for each in record.details))
        workers = array("i", (each[1] for each in record.details))
        seconds = array("d", (each[2] for each in record.details))
        if sys.byteorder == "big":
            for part in (attempts, workers, seconds):
                part.byteswap()
        body = attempts.tobytes() + workers.tobytes() + seconds.tobytes() + body
    head = _HEADER.pack(MAGIC, flags, record.start, record.count, len(body), 0, 0)
    crc = zlib.crc32(body, zlib.crc32(head))
    return _HEADER.pack(MAGIC, flags, record.start, record.count, len(body), crc, 0) + body, crc


def decode_record(raw: bytes, row: Row) -> Record:
    """The record that `row` speaks of.

    Raises:
        Damaged: If these are not its bytes.
    """
    if len(raw) != row.size or row.size < HEADER_BYTES:
        raise Damaged
    magic, flags, start, count, size, crc, _ = _HEADER.unpack_from(raw)
    head = _HEADER.pack(magic, flags, start, count, size, 0, 0)
    body = raw[HEADER_BYTES:]
    if (magic, start, count, crc) != (MAGIC, row.start, row.count, row.crc) or size != len(body):
        raise Damaged
    if zlib.crc32(body, zlib.crc32(head)) != crc:
        raise Damaged
    if not flags & DETAILS:
        return Record(start, count, body)
    attempts, workers, seconds = array("I"), array("i"), array("d")
    at = 0
    for part in (attempts, workers, seconds):
        part.frombytes(body[at : at + count * part.itemsize])
        at += count * part.itemsize
        if sys.byteorder == "big":
            part.byteswap()
    return Record(start, count, body[at:], list(zip(attempts, workers, seconds, strict=True)))


class Log:
    """The file, open for appending (by one thread) and reading.

    Args:
        size: Bytes that count; what lies behind is cut off.
        descriptor: Of the file, if it is open already.
    """

    def __init__(self, path: str, size: int, *, writable: bool = True, descriptor: int | None = None) -> None:
        self.path = path
        self.size = size
        flags = (os.O_RDWR | os.O_CREAT) if writable else os.O_RDONLY
        self._fd = os.open(path, flags | REOPEN, 0o600) if descriptor is None else descriptor
        try:
            there = os.fstat(self._fd).st_size
            if there < size:
                self.missing = size - there
            else:
                self.missing = 0
                if writable and there > size:
                    os.ftruncate(self._fd, size)
        except BaseException:
            self.close()
            raise

    def append(self, records: Sequence[Record]) -> list[Row]:
        """Write records behind what there is.

        Raises:
            OSError: Then nothing of it counts.
        """
        rows: list[Row] = []
        parts: list[bytes] = []
        at = self.size
        for record in records:
            raw, crc = encode_record(record)
            rows.append(Row(record.start, record.count, at, len(raw), crc))
            parts.append(raw)
            at += len(raw)
        rest = memoryview(b"".join(parts))
        failpoint("log.write.before")
        place = self.size
        if is_watched() and len(rest) > 1:  # a write that is torn in the middle
            half = len(rest) // 2
            place += _write_at(self._fd, rest[:half], place)
            rest = rest[half:]
            failpoint("log.write.torn")
        _write_at(self._fd, rest, place)
        failpoint("log.write.after")
        self.size = at
        return rows

    def sync(self) -> None:
        """Return once the disk has it."""
        failpoint("log.sync.before")
        _sync(self._fd)
        failpoint("log.sync.after")

    def read(self, row: Row) -> Record:
        """One record.

        Raises:
            Damaged: If a record is not whole.
        """
        parts = []
        left, at = row.size, row.offset
        while left:
            part = _read_at(self._fd, left, at)
            if not part:
                raise Damaged
            parts.append(part)
            left -= len(part)
            at += len(part)
        return decode_record(parts[0] if len(parts) == 1 else b"".join(parts), row)

    def scan(self) -> Iterator[Row]:
        """The records that a log holds, told by the log alone; what is damaged is passed over."""
        end, at = os.fstat(self._fd).st_size, 0
        while at + HEADER_BYTES <= end:
            magic, _, start, count, size, crc, _ = _HEADER.unpack(_read_at(self._fd, HEADER_BYTES, at))
            row = Row(start, count, at, HEADER_BYTES + size, crc)
            try:
                if magic != MAGIC or at + row.size > end:
                    raise Damaged
                self.read(row)
            except Damaged:
                at = self._next_magic(at + 1, end)
                continue
            yield row
            at += row.size

    def _next_magic(self, at: int, end: int) -> int:
        while at < end:
            part = _read_at(self._fd, 1 << 20, at)
            found = part.find(MAGIC)
            if found >= 0:
                return at + found
            if len(part) < len(MAGIC):
                return end
            at += len(part) - len(MAGIC) + 1
        return end

    def cut(self, size: int) -> None:
        """Forget what lies behind `size` bytes: a batch that was not committed."""
        self.size = size
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        """Close the file; idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _write_at(fd: int, data: memoryview, place: int) -> int:
    done = 0
    while done < len(data):
        if hasattr(os, "pwrite"):
            done += os.pwrite(fd, data[done:], place + done)
        else:  # Windows
            os.lseek(fd, place + done, os.SEEK_SET)
            done += os.write(fd, data[done:])
    return done


def _read_at(fd: int, size: int, place: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(fd, size, place)
    os.lseek(fd, place, os.SEEK_SET)
    return os.read(fd, size)


def _sync(fd: int) -> None:
    getattr(os, "fdatasync", os.fsync)(fd)


def sync_folder(path: str) -> None:
    """Return once the disk knows the names in a folder; where folders cannot be synced, at once."""
    try:
        partial_files.sync_folder(path)
    except OSError as error:
        raise JournalError(f"cannot sync the folder {path}: {error.strerror}") from error
