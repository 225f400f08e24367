"""What is compressed is read to the end that it marks itself, and not an item is lost without a word."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from allcores.sources.compression import SUFFIXES, decompressing, wrap_to_write
from allcores.sources.open import from_inputs
from allcores.sources.text import BadInput
from allcores.sources.text_files import Lines

zstandard = pytest.importorskip("zstandard")

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
#: a frame of zstd that holds nothing of the file
SKIPPABLE = struct.pack("<II", 0x184D2A50, 5) + b"hello"


def write(folder: Path, suffix: str, data: bytes) -> str:
    path = folder / f"lines.txt{suffix}"
    path.write_bytes(data)
    return str(path)


def text_of(suffix: str, data: bytes) -> bytes:
    return decompressing(io.BytesIO(data), f"x{suffix}").read()  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_was_cut_anywhere_is_refused(tmp_path: Path, suffix: str) -> None:
    """Whether it is one stream or several, and an empty file, too; between two streams nobody can tell."""
    streams = [COMPRESS[suffix](part) for part in (b"one\n", b"", b"two\n" * 50)]
    whole = b"".join(streams)
    ends = {len(streams[0]): 1, len(streams[0] + streams[1]): 1, len(whole): 51}
    for size in range(len(whole) + 1):
        if size in ends:
            assert text_of(suffix, whole[:size]).count(b"\n") == ends[size]
            continue
        with pytest.raises(EOFError):
            text_of(suffix, whole[:size])
    with pytest.raises(BadInput, match=r"cannot read .*, line \d+: it ends in the middle of .* truncated"):
        list(Lines(write(tmp_path, suffix, whole[:-1])))
    with pytest.raises(BadInput, match="it is empty"):
        list(Lines(write(tmp_path, suffix, b"")))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("rest", [b"garbage that is no stream", b"\0\0\0\0garbage", b"x"])
def test_what_follows_and_is_no_stream_is_refused(tmp_path: Path, suffix: str, rest: bytes) -> None:
    """It may be a stream whose beginning is damaged."""
    path = write(tmp_path, suffix, COMPRESS[suffix](b"one\n") + rest)
    with pytest.raises(BadInput, match="cannot read"):
        list(from_inputs([path]))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_flipped_bit_gives_other_lines_in_no_case(suffix: str) -> None:
    """Of formats with a checksum."""
    data = bytearray(COMPRESS[suffix](b"".join(b"line %d\n" % n for n in range(100))))
    text = text_of(suffix, bytes(data))
    for place in range(0, len(data), 5):
        data[place] ^= 4
        try:
            assert suffix == ".zst" or text_of(suffix, bytes(data)) == text
        except Exception:
            pass  # refused, which is as good
        data[place] ^= 4


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("size", [1, 13, 64, 4096, 300_000])
def test_zeros_alone_are_no_empty_file(tmp_path: Path, suffix: str, size: int) -> None:
    """What a crash of the machine leaves of a file; one format's predecessor takes them for a stream without bytes."""
    with pytest.raises(BadInput, match="cannot read"):
        list(from_inputs([write(tmp_path, suffix, bytes(size))]))


@pytest.mark.parametrize(("suffix", "padding"), [(".gz", b"\0" * 700), (".xz", b"\0" * 8)])
def test_zeros_between_streams_are_no_end(suffix: str, padding: bytes) -> None:
    """Where the format allows them: a stream behind them counts."""
    one, two = COMPRESS[suffix](b"one\n"), COMPRESS[suffix](b"two\n")
    assert text_of(suffix, one + padding + two + padding) == b"one\ntwo\n"


def test_frames_of_zstd_that_hold_nothing() -> None:
    """Skippable frames stand anywhere, and may be cut as well."""
    one = zstandard.compress(b"one\n")
    assert text_of(".zst", SKIPPABLE + one + SKIPPABLE + one + SKIPPABLE) == b"one\n" * 2
    assert text_of(".zst", SKIPPABLE) == b""
    with pytest.raises(EOFError):
        text_of(".zst", one + SKIPPABLE[:-1])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_what_we_write_we_read(suffix: str, size: int) -> None:
    """An output without a line is a stream, too; a large one comes in many pieces."""
    file = io.BytesIO()
    out, finish = wrap_to_write(file, f"x{suffix}")
    data = (b"a line\n" * (size // 7 + 1))[:size]
    out.write(data)
    finish()
    assert text_of(suffix, file.getvalue()) == data


def test_thousands_of_small_streams() -> None:
    """As many log files are made of."""
    assert text_of(".gz", COMPRESS[".gz"](b"line\n") * 5_000) == b"line\n" * 5_000


@pytest.mark.parametrize("window_log", [10, 28])
def test_a_window_of_zstd_may_be_large(window_log: int) -> None:
    """As `zstd --long` makes them; the library by itself takes 128 MB, and a whole archive would be refused."""
    frame = b"\x28\xb5\x2f\xfd" + bytes((0, (window_log - 10) << 3)) + b"\x21\0\0" + b"one\n"
    assert text_of(".zst", frame) == b"one\n"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("text", [b'{"a": 1}\n', b"x"])
def test_text_with_the_name_of_what_is_compressed_is_told_as_such(tmp_path: Path, suffix: str, text: bytes) -> None:
    path = write(tmp_path, suffix, text)
    with pytest.raises(BadInput, match=f"line 1: it (does not begin as {suffix} does|ends in the middle)"):
        list(from_inputs([path]))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["lines.txt", "lines.jsonl", "lines.csv"])
def test_what_is_compressed_is_told_by_its_beginning(tmp_path: Path, name: str, suffix: str) -> None:
    """Another encoding would read it as lines of anything."""
    path = tmp_path / name
    path.write_bytes(COMPRESS[suffix](b"a,b\n" * 100))
    with pytest.raises(BadInput, match=f"line 1: .* not utf-8; it begins as {suffix} does: give it a name that ends"):
        list(from_inputs([str(path)]))


@pytest.mark.parametrize("name", ["a.jsonl.lz4", "a.csv.Z", "a.txt.zstd", "a.parquet.br"])
def test_what_is_compressed_otherwise_is_told_by_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"one\n")
    with pytest.raises(BadInput, match=f"{name} is compressed in another way than .gz, .bz2, .xz, .zst, by its name"):
        from_inputs([str(tmp_path / name)])


@pytest.mark.parametrize("name", ["xyz.z", "a.lz4.txt", "notes.bz"])
def test_other_names_are_files_of_lines(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"one\n")
    assert list(from_inputs([str(tmp_path / name)])) == ["one"]
