"""slices/: where slices begin and end, what a source refuses, and what stays open."""

from __future__ import annotations

import builtins
import importlib
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from allcores import SliceError, UsageError, slices
from allcores.slices import Slice, Slices
from allcores.slices.source import SLICE_BYTES, rows_per_slice
from allcores.system.file_beginnings import UTF_16, compression_by_content
from allcores.transport.references import MOST_OPEN, Arrivals, OpenFiles, Reference

# --- how much is a slice ---


@given(row_bytes=st.integers(1, 1 << 40), multiple=st.integers(1, 10_000))
def test_rows_by_themselves(row_bytes: int, multiple: int) -> None:
    """As many as fit into the usual size, in whole chunks of the file; one chunk, if that alone is larger."""
    rows = rows_per_slice(None, row_bytes, multiple=multiple)
    assert rows % multiple == 0
    assert rows == multiple or rows * row_bytes <= SLICE_BYTES
    assert (rows + multiple) * row_bytes > SLICE_BYTES


@given(rows=st.integers(1, 1 << 40), multiple=st.integers(1, 10_000))
def test_rows_that_were_asked_for(rows: int, multiple: int) -> None:
    """Rounded up to whole chunks of the file, and not one chunk more."""
    given = rows_per_slice(rows, 8, multiple=multiple)
    assert given % multiple == 0 and rows <= given < rows + multiple


@pytest.mark.parametrize("rows", [0, -1, 1.5, "10", True])
def test_rows_that_make_no_sense(rows: Any, tmp_path: Path) -> None:
    """Say what is allowed."""
    (tmp_path / "raw").write_bytes(bytes(100))
    with pytest.raises(UsageError, match=r"rows=.* must be a whole number, 1 or more"):
        slices.memmap(tmp_path / "raw", "uint8", rows=rows)


@given(total=st.integers(0, 1000), step=st.integers(1, 300))
def test_slices_are_a_sequence(total: int, step: int) -> None:
    """Of known length, without gaps or overlaps, that can be indexed from both ends and cut."""
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(total)
        source = slices.memmap(file.name, "uint8", rows=step)
    items = list(source)
    assert len(items) == len(source) == -(-total // step)
    assert [row for item in items for row in range(item.start, item.stop)] == list(range(total))
    assert list(source[1:-1]) == items[1:-1] and list(source[::2]) == items[::2]
    assert list(reversed(source)) == items[::-1]
    if items:
        assert source[-1] == items[-1] and source.index(items[-1]) == len(items) - 1
    with pytest.raises(IndexError):
        source[len(items)]


@given(content=st.lists(st.binary(max_size=20)).map(b"\n".join), step=st.integers(1, 50))
def test_lines_are_whole_and_complete(content: bytes, step: int) -> None:
    """However the borders lie, every line comes once; each slice begins after a line end and ends with one."""
    assume(compression_by_content(content) is None and not content.startswith(UTF_16))
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        parts = [item.load() for item in slices.lines(file.name, slice_bytes=step)]
    assert b"".join(parts) == content
    filled = [part for part in parts if part]
    assert all(part.endswith(b"\n") for part in filled[:-1])
    for number, part in enumerate(parts):
        position = sum(map(len, parts[:number]))
        begins = [position, *(position + at + 1 for at, byte in enumerate(part) if byte == 10)]
        assert not part or all(number * step <= at < (number + 1) * step for at in begins if at < position + len(part))


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is refused before it fills the memory."""
    monkeypatch.setattr("allcores.slices.line_file.LINE_BYTES_MAX", 1000)
    (tmp_path / "zeros").write_bytes(bytes(10_000))
    first, second, *_ = slices.lines(tmp_path / "zeros", slice_bytes=2000)
    with pytest.raises(SliceError, match="hardly a file of lines"):
        first.load()
    assert second.load() == b""


# --- what a source refuses ---


def text(folder: Path) -> str:
    (folder / "text").write_text("no array, no table, no data set\n" * 10)
    return str(folder / "text")


def packed(folder: Path, library: str) -> str:
    (folder / "packed").write_bytes(importlib.import_module(library).compress(b"a line\n" * 100))
    return str(folder / "packed")


def utf_16(folder: Path) -> str:
    (folder / "utf-16").write_text("a line\n" * 100, encoding="utf-16")
    return str(folder / "utf-16")


def array(folder: Path, value: Any) -> str:
    np.save(folder / "array.npy", value, allow_pickle=True)
    return str(folder / "array.npy")


def hdf5(folder: Path) -> str:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "a.h5", "w") as file:
        file["images"] = np.zeros((4, 2))
        file["single"] = 1.0
        file["deep/labels"] = np.zeros(3)
    return str(folder / "a.h5")


def parquet(folder: Path) -> str:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"price": [1.0], "place": [{"x": 1}]}), folder / "a.parquet")
    return str(folder / "a.parquet")


def truncated(path: str) -> str:
    os.truncate(path, os.path.getsize(path) - 1)
    return path


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda f: slices.npy(f / "no.npy"), r"cannot read .*no\.npy: No such file"),
        (lambda f: slices.npy(f), "in slices: it is a folder"),
        (lambda f: slices.lines("/dev/null"), "in slices: it is no regular file"),
        (lambda f: slices.npy(text(f)), r"text is no \.npy file"),
        (
            lambda f: slices.npy(truncated(array(f, np.zeros(10)))),
            r"too short: shape \(10,\) of float64 needs 208 bytes",
        ),
        (lambda f: slices.npy(array(f, np.float64(1))), "single value"),
        (lambda f: slices.npy(array(f, np.array([{}]))), "Python objects"),
        (lambda f: slices.memmap(text(f), "float33"), "dtype='float33' is no type"),
        (lambda f: slices.memmap(text(f), "float64", (2, -1)), "each length in shape=-1 must be"),
        (lambda f: slices.memmap(text(f), "float64", offset=-1), "offset=-1 must be a whole number, 0 or more"),
        (lambda f: slices.memmap(text(f), "float64", offset=1), "319 bytes after offset=1, not a multiple of 8"),
        (lambda f: slices.memmap(text(f), "float64", 41), "needs 328 bytes and it has 320"),
        (lambda f: slices.lines(text(f), slice_bytes=0), "slice_bytes=0 must be"),
        (lambda f: slices.lines(packed(f, "gzip")), "packed is compressed, .*: unpack it first, or stream"),
        (lambda f: slices.lines(packed(f, "bz2")), "packed is compressed"),
        (lambda f: slices.lines(packed(f, "lzma")), "packed is compressed"),
        (lambda f: slices.lines(packed(f, "zstandard")), "packed is compressed"),
        (lambda f: slices.lines(utf_16(f)), "utf-16 is UTF-16, .*: save it as UTF-8"),
        (lambda f: slices.hdf5(text(f), "x"), "cannot open .*text as HDF5"),
        (lambda f: slices.hdf5(hdf5(f), "image"), "image is no data set of .*: did you mean /images"),
        (lambda f: slices.hdf5(hdf5(f), "/deep"), "/deep is a group in .*: "),
        (lambda f: slices.hdf5(hdf5(f)), "name a data set of .*a.h5: it has /deep/labels, /images, /single"),
        (lambda f: slices.hdf5(hdf5(f), "single"), "no axis to slice along"),
        (lambda f: slices.parquet(text(f)), "cannot open .*text as Parquet"),
        (lambda f: slices.parquet(parquet(f), columns=["prise"]), "no column 'prise': did you mean 'price'"),
        (lambda f: slices.parquet(parquet(f), columns="price"), r"must be a list of names: \['price'\]"),
    ],
)
def test_a_source_that_cannot_be(make: Callable[[Path], Slices], sentence: str, tmp_path: Path) -> None:
    """One sentence that names the file, when the source is made."""
    pytest.importorskip("h5py")
    pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("zstandard")
    with pytest.raises(UsageError, match=sentence) as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_shape_that_is_none(tmp_path: Path) -> None:
    """Is no array without items: those would be lost without a word."""
    path = array(tmp_path, np.zeros(10))
    with open(path, "r+b") as file:
        content = file.read().replace(b"(10,)", b"(-9,)")
        file.seek(0)
        file.write(content)
    with pytest.raises(UsageError, match=r"is no .npy file"):
        slices.npy(path)


def test_a_data_set_behind_a_link_is_what_the_link_leads_to(tmp_path: Path) -> None:
    """Also one in another file, by whose name there is something else in this one."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["deep/numbers"] = [1.0, 2.0]
    with h5py.File(tmp_path / "main.h5", "w") as file:
        file["deep/numbers"] = [0.0, 0.0]
        file["linked"] = h5py.ExternalLink("other.h5", "/deep/numbers")
        file["soft"] = h5py.SoftLink("/deep/numbers")
    found = {name: slices.hdf5(tmp_path / "main.h5", name)[0] for name in ("linked", "/soft", "deep/numbers")}
    assert {name: each.load().tolist() for name, each in found.items()} == {
        "linked": [1.0, 2.0],
        "/soft": [0.0, 0.0],
        "deep/numbers": [0.0, 0.0],
    }
    assert repr(found["linked"]).endswith("main.h5:/linked[0:2]")


def test_damaged_files_of_hdf5(tmp_path: Path) -> None:
    """Whatever the library raises, and wherever it comes upon the damage: a sentence."""
    path = hdf5(tmp_path)
    with open(path, "rb") as file:
        whole = file.read()
    for start in range(0, len(whole), 64):
        with open(path, "wb") as file:
            file.write(whole[:start] + b"\xff" * 64 + whole[start + 64 :])
        for dataset in (None, "/images", "deep/labels"):
            try:
                for each in slices.hdf5(path, dataset):
                    each.load()
            except (UsageError, SliceError) as error:
                assert path in str(error) and "\n" not in str(error)


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read of it may be half of the one and half of the other."""
    path = text(tmp_path)
    first = slices.lines(path)[0]

    def read(file: Any, handle: Any, start: int, stop: int) -> bytes:
        os.utime(path, ns=(1, 1))
        return b"some of it"

    monkeypatch.setattr(type(first.file), "read", read)
    with pytest.raises(SliceError, match="written to after the source was made"):
        first.load()


def test_a_part_of_a_nested_column(tmp_path: Path) -> None:
    """Is named with a dot."""
    [group] = slices.parquet(parquet(tmp_path), columns=["place.x"])
    assert group.load().to_pydict() == {"place": [{"x": 1}]}


@pytest.mark.parametrize(
    ("call", "library", "extra"),
    [
        (lambda path: slices.npy(path), "numpy", "arrays"),
        (lambda path: slices.memmap(path, "uint8"), "numpy", "arrays"),
        (lambda path: slices.hdf5(path, "x"), "h5py", "hdf5"),
        (lambda path: slices.parquet(path), "pyarrow", "parquet"),
    ],
)
def test_a_missing_library(
    call: Callable[[str], Slices], library: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to install."""
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == library:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)
        return real(name, *rest)

    for room in ("array_file", "hdf5_file", "parquet_file"):
        monkeypatch.delitem(sys.modules, f"allcores.slices.{room}", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=rf"needs {library}: pip install 'allcores\[{extra}\]'"):
        call(text(tmp_path))


def test_a_file_that_is_being_written(tmp_path: Path) -> None:
    """Is not called damaged: the writer's lock says what it is."""
    fcntl = pytest.importorskip("fcntl")
    item = slices.hdf5(hdf5(tmp_path), "images")[0]
    with open(tmp_path / "a.h5", "rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        with pytest.raises(SliceError, match="another program has the file open for writing; try again"):
            item.load()
    assert len(item.load()) == 4


def test_an_array_of_nothing(tmp_path: Path) -> None:
    """Has no slices."""
    assert len(slices.npy(array(tmp_path, np.zeros((0, 3))))) == 0
    assert len(slices.npy(array(tmp_path, np.zeros((3, 0))))) == 0
    (tmp_path / "empty").touch()
    assert list(slices.lines(tmp_path / "empty")) == []


# --- references ---


def test_a_reference_travels(tmp_path: Path) -> None:
    """It arrives equal, the place where it arrives is told, and the relative path it came from still leads there."""
    (tmp_path / "raw").write_bytes(bytes(range(100)))
    item = slices.memmap(os.path.relpath(tmp_path / "raw"), "uint8", rows=30)[1]
    data = pickle.dumps(item)
    Arrivals.seen = False
    again = pickle.loads(data)
    assert Arrivals.seen
    assert isinstance(again, Slice) and again == item and hash(again) == hash(item) and repr(again) == repr(item)
    assert os.path.isabs(again.file.stamp.path) and repr(item).endswith("raw[30:60]")
    assert list(again.load()) == list(range(30, 60))


class Handle:
    def __init__(self, number: int, closed: list[int]) -> None:
        self.number = number
        self.closed = closed

    def close(self) -> None:
        self.closed.append(self.number)
        if self.number % 2:
            raise OSError("a file system that is gone")


@given(st.lists(st.integers(0, 12)))
def test_open_files_are_bounded(used: list[int]) -> None:
    """The files used last are open, each once; all others are closed, even those that raise."""
    files, opened, closed = OpenFiles(), list[int](), list[int]()
    for position, number in enumerate(used):

        def open_it(number: int = number) -> Handle:
            opened.append(number)
            return Handle(number, closed)

        assert files.handle(number, open_it).number == number
        recent = list(dict.fromkeys(reversed(used[: position + 1])))[:MOST_OPEN]
        assert {each for each in opened if opened.count(each) > closed.count(each)} == set(recent)
        assert len(opened) - len(closed) == len(recent)
    files.close()
    assert sorted(opened) == sorted(closed)


class Constant(Reference):
    """Somebody else's reference."""

    def load(self, files: OpenFiles | None = None) -> int:
        return 5

    def arguments(self) -> tuple[Any, ...]:
        return ()


def test_references_stand_for_arguments() -> None:
    """As the item itself, and as an argument in the other styles of calling; not deeper."""
    files, item = OpenFiles(), Constant()
    assert files.loaded("one", item) == 5
    assert files.loaded("one", [item]) == [item]
    assert files.loaded("star", (1, item)) == [1, 5]
    assert files.loaded("call", ((item, 2), {"x": item})) == ([5, 2], {"x": 5})


def test_the_package_gives_it_late() -> None:
    """`allcores.slices` needs no import of its own, and brings no library along."""
    import subprocess

    code = (
        "import allcores, sys; assert 'allcores.slices' not in sys.modules; allcores.slices.npy;"
        "print(*sorted({'numpy', 'h5py', 'pyarrow'} & set(sys.modules)))"
    )
    src = str(Path(importlib.import_module("allcores").__file__ or "").parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": src}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"
