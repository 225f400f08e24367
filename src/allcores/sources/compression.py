"""Compressed files as streams of bytes, told by their suffix: .gz, .bz2, .xz, and .zst (the extra `zstd`)."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import IO, Any, BinaryIO

from allcores.errors import NotSupported
from allcores.system import deferral
from allcores.system.file_beginnings import COMPRESSED

SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
#: suffixes of other ways to compress, and of other names of these: nothing is read or written in them
OTHER_SUFFIXES = (".lz4", ".lzma", ".lz", ".br", ".z", ".sz", ".snappy", ".zstd", ".gzip", ".bzip2", ".bz")
#: formats in which zeros may follow a stream (blocks of a tape, the padding of .xz)
PADDED = (".gz", ".xz")
#: bytes of text that are held, to be split into lines
BUFFER_BYTES = 256 * 1024
#: bytes that are read at once of a compressed file
BLOCK_BYTES = 128 * 1024
#: bytes that are decompressed at once. Larger saves calls; but each may become 30,000 times as many.
PIECE_BYTES = 2 * 1024


def compression_of(path: str) -> str | None:
    """The suffix that says how `path` is compressed; None if it is not."""
    lower = path.lower()
    return next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), None)


def without_compression(path: str) -> str:
    """`path` without the suffix of its compression."""
    suffix = compression_of(path)
    return path if suffix is None else path[: -len(suffix)]


def decompressing(file: io.RawIOBase, path: str) -> BinaryIO:
    """A buffered reader of an open file, decompressed as the suffix of its path says; closing it closes the file.

    Raises:
        NotSupported: If a library is missing. Reading raises what the library does for damaged data, and EOFError for
            data that stop before the compressed stream ends.
    """
    suffix = compression_of(path)
    raw = file if suffix is None else _Decompressing(file, suffix, _decompressors(suffix, path))
    return io.BufferedReader(raw, BUFFER_BYTES)


def _decompressors(suffix: str, path: str) -> Callable[[], Any]:
    """What makes an object for one compressed stream: `decompress(data)`, `eof` and `unused_data`."""
    match suffix:
        case ".gz":
            import zlib

            return lambda: zlib.decompressobj(zlib.MAX_WBITS | 16)
        case ".bz2":
            import bz2

            return bz2.BZ2Decompressor
        case ".xz":
            import lzma

            # Not whatever it takes for one by its first bytes: zeros are an empty file of the format before.
            return functools.partial(lzma.LZMADecompressor, lzma.FORMAT_XZ)
    module = _zstandard(path)
    # Any window that there can be: the library takes 128 MB by itself, and there are archives with more (zstd --long).
    # Memory is taken only for what a file asks for.
    found: Callable[[], Any] = module.ZstdDecompressor(max_window_size=1 << module.WINDOWLOG_MAX).decompressobj
    return found


class _Decompressing(io.RawIOBase):
    """One or more compressed streams in a file, each read to the end that it marks itself.

    One rule for all formats, since the readers of the libraries differ: some take the end of the data for the end of
    the stream, and some leave out what follows a stream if they do not know it, be it a damaged stream or not.
    """

    def __init__(self, file: io.RawIOBase, suffix: str, new: Callable[[], Any]) -> None:
        """See the class.

        Args:
            new: Makes a decompressor for one stream.
        """
        self._file = file
        self._suffix = suffix
        self._new = new
        self._stream: Any = None
        self._streams = 0
        #: the beginning was decompressed
        self._begun = False
        #: what was read, and how much of it was decompressed
        self._data = b""
        self._used = 0
        #: what was decompressed and not asked for yet
        self._out = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._out:
            if self._used == len(self._data):
                self._data, self._used = self._file.read(BLOCK_BYTES) or b"", 0
                if not self._data:
                    self._check_end()
                    return 0
            if self._stream is None:
                if self._streams and self._suffix in PADDED and self._data[self._used] == 0:
                    self._used += 1
                    continue
                self._stream = self._new()
            stream, piece = self._stream, self._data[self._used : self._used + PIECE_BYTES]
            try:
                self._out = memoryview(stream.decompress(piece))
            except Exception as error:
                if self._begun or self._data.startswith(COMPRESSED[self._suffix]) or deferral.raised_by_handler(error):
                    raise
                sentence = f"it does not begin as {self._suffix} does, so it is something else, or damaged"
                raise ValueError(sentence) from None
            self._begun = True
            self._used += len(piece)
            if stream.eof:
                self._used -= len(stream.unused_data)
                self._stream = None
                self._streams += 1
        count = min(len(buffer), len(self._out))
        buffer[:count], self._out = self._out[:count], self._out[count:]
        return count

    def _check_end(self) -> None:
        if self._stream is not None:
            raise EOFError("it ends in the middle of the compressed data, so it is truncated")
        if not self._streams:
            raise EOFError(f"it is empty, and a compressed file ({self._suffix}) never is")

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
