"""Compressed files as streams of bytes, told by their suffix: .gz, .bz2, .xz, and .zst (the extra `zstd`)."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO, Any, BinaryIO, cast

from allcores.errors import NotSupported

SUFFIXES = (".gz", ".bz2", ".xz", ".zst")


def compression_of(path: str) -> str | None:
    """The suffix that says how `path` is compressed; None if it is not."""
    lower = path.lower()
    return next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), None)


def without_compression(path: str) -> str:
    """`path` without the suffix of its compression."""
    suffix = compression_of(path)
    return path if suffix is None else path[: -len(suffix)]


def open_to_read(path: str) -> BinaryIO:
    """The bytes in a file, decompressed. Raises: OSError, NotSupported if a library is missing."""
    match compression_of(path):
        case None:
            return open(path, "rb")
        case ".gz":
            import gzip

            return io.BufferedReader(cast(Any, gzip.open(path, "rb")), 1 << 18)
        case ".bz2":
            import bz2

            return cast(BinaryIO, bz2.open(path, "rb"))
        case ".xz":
            import lzma

            return cast(BinaryIO, lzma.open(path, "rb"))
    return io.BufferedReader(_ZstdFile(path), 1 << 18)


class _ZstdFile(io.RawIOBase):
    """A .zst file, decompressed. It can go forward, which is all that a seek asks of it here."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")  # noqa: SIM115  (closed by close)
        try:
            self._reader = _zstandard(path).ZstdDecompressor().stream_reader(self._file, read_across_frames=True)
        except BaseException:
            self._file.close()
            raise

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._reader.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def wrap_to_write(file: IO[bytes], path: str) -> tuple[IO[bytes], Callable[[], None]]:
    """A stream that compresses into `file` as the suffix of `path` asks, and what finishes it.

    The same bytes always give the same file: no time and no name is written into it.
    """
    match compression_of(path):
        case None:
            return file, file.flush
        case ".gz":
            import gzip

            out: Any = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6)
        case ".bz2":
            import bz2

            out = bz2.BZ2File(file, "wb")
        case ".xz":
            import lzma

            out = lzma.LZMAFile(file, "wb")  # noqa: SIM115  (closed by whoever asked for it)
        case _:
            out = _zstandard(path).ZstdCompressor().stream_writer(file, closefd=False)
    return out, out.close


def _zstandard(path: str) -> Any:
    try:
        import zstandard
    except ImportError:
        sentence = f"{path} is compressed with zstd, which needs a library: pip install 'allcores[zstd]'"
        raise NotSupported(sentence) from None
    return zstandard
