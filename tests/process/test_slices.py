"""Who reads a sliced file, how much of it, and what becomes of a worker that does."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.process import slicing
from tests.process.waiting import Bell, Gate

from allcores import Executor, Kind, Pool, SliceError, TaskExited, TaskTimeout, WorkerLost, slices
from allcores.slices import Slices
from allcores.slices.source import Stamp
from allcores.transport.references import MOST_OPEN
from allcores.worker.chunk_runner import resident_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

MB = 1024 * 1024


def bytes_read() -> int:
    """By read calls of this process, from wherever: files, pipes, caches."""
    with open("/proc/self/io", encoding="ascii") as file:
        return int(file.readline().split()[1])


def is_mapped(path: str) -> bool:
    with open("/proc/self/maps", encoding="utf-8") as file:
        return path in file.read()


# --- who reads ---


def big_npy(folder: Path) -> Slices:
    np.save(folder / "big.npy", np.ones(4_000_000))
    return slices.npy(folder / "big.npy", rows=500_000)


def big_hdf5(folder: Path) -> Slices:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "big.h5", "w") as file:
        file.create_dataset("numbers", data=np.ones(4_000_000), chunks=(100_000,))
    return slices.hdf5(folder / "big.h5", rows=500_000)


def big_parquet(folder: Path) -> Slices:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"numbers": np.random.default_rng(1).random(4_000_000)})
    pq.write_table(table, folder / "big.parquet", row_group_size=500_000)
    return slices.parquet(folder / "big.parquet")


def big_lines(folder: Path) -> Slices:
    (folder / "big.txt").write_bytes(b"a line of forty characters, and its end\n" * 800_000)
    return slices.lines(folder / "big.txt", slice_bytes=4_000_000)


MAKERS: dict[str, Callable[[str], Slices]] = {
    ".npy": slices.npy,
    ".h5": slices.hdf5,
    ".parquet": slices.parquet,
    ".txt": slices.lines,
}


@pytest.mark.parametrize("make", [big_npy, big_hdf5, big_parquet, big_lines])
def test_the_program_reads_nothing_of_the_file(make: Callable[[Path], Slices], tmp_path: Path) -> None:
    """It neither reads nor maps the data: 32 MB go through the workers, but a few through the parent."""
    source = make(tmp_path)
    path = source.file.stamp.path
    assert os.path.getsize(path) > 30 * MB
    with Pool(2) as pool:
        pool.map(abs, range(10))
        before = bytes_read()
        # Made again: now the libraries are loaded, and what is read is the file's.
        for outcome in pool.outcomes(len, MAKERS[os.path.splitext(path)[1]](path)):
            assert outcome.ok and outcome.value is not None and outcome.value > 100_000
            assert not is_mapped(path)
            # Not none: the pool looks at the memory of the machine meanwhile, in files of the kernel.
            assert bytes_read() - before < 8 * MB


def test_a_file_larger_than_memory(tmp_path: Path) -> None:
    """20 GB in slices of 2 GB; neither the program nor its workers take more memory than what they touch."""
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 20 << 30)
    source = slices.memmap(path, "uint8", rows=2 << 30)
    assert len(source) == 10
    with Pool(2) as pool:
        pool.map(abs, [1])
        before = resident_bytes()
        assert pool.map(slicing.touch_ends, source) == [0] * 10
        assert resident_bytes() - before < 16 * MB


def test_a_worker_lets_go_of_what_it_has_read(tmp_path: Path) -> None:
    """After 20 slices of 8 MB it holds one of them, not all: the mapping ends with the call."""
    np.save(tmp_path / "a.npy", np.zeros(20 * MB))
    with Pool(1) as pool:
        held = pool.map(slicing.mapped_bytes, slices.npy(tmp_path / "a.npy"))
    assert len(held) == 20
    assert max(held) - held[0] < 8 * MB


def test_descriptors_of_many_files(tmp_path: Path) -> None:
    """A worker that has read 40 files keeps the last few open."""
    h5py = pytest.importorskip("h5py")
    sources = []
    for number in range(20):
        np.save(tmp_path / f"{number}.npy", np.zeros(10))
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["zeros"] = np.zeros(10)
        sources += [slices.npy(tmp_path / f"{number}.npy"), slices.hdf5(tmp_path / f"{number}.h5")]
    with Pool(1) as pool:
        before, *counts = pool.map(slicing.open_descriptors, itertools.chain(["none"], *sources))
    assert len(counts) == 40
    # And one more for the slice that is mapped at that moment.
    assert max(counts) <= before + MOST_OPEN + 1


def test_references_are_small(tmp_path: Path) -> None:
    """What travels is where the slices lie: some bytes each, the file once per chunk."""
    from allcores.transport import pickling

    np.save(tmp_path / "a.npy", np.zeros(100_000))
    source = slices.npy(tmp_path / "a.npy", rows=100)
    assert len(pickling.dumps(list(source))) < 40 * len(source)


@pytest.mark.parametrize("chunksize", [1, 3])
def test_the_executor_loads_them_too(chunksize: int, tmp_path: Path) -> None:
    """Also where several items are one call."""
    np.save(tmp_path / "a.npy", np.zeros(100))
    with Executor(1) as executor:
        assert list(executor.map(len, slices.npy(tmp_path / "a.npy", rows=30), chunksize=chunksize)) == [30, 30, 30, 10]


# --- deaths and deadlines while a slice is read ---


def hard_to_read(folder: Path, way: str, *signs: str) -> Slices:
    (folder / "file").touch()
    return Slices(slicing.HardToRead(Stamp.of(folder / "file"), way, *signs), 6, 1)


@pytest.mark.parametrize("start_method", ["template", "spawn"])
def test_a_slice_that_kills_its_reader(start_method: str, tmp_path: Path) -> None:
    """Costs itself, though it travelled in a chunk with the others."""
    with Pool(1, start_method=start_method) as pool:
        outcomes = list(pool.outcomes(slicing.itself, hard_to_read(tmp_path, "kill"), chunk=6))
    assert [outcome.value for outcome in outcomes] == [0, 1, None, 3, 4, 5]
    assert outcomes[2].kind is Kind.WORKER_LOST
    assert isinstance(outcomes[2].error, WorkerLost) and outcomes[2].error.signal == "SIGKILL"


@pytest.mark.quick
def test_a_slice_that_exits(tmp_path: Path) -> None:
    """As if the function had done it."""
    with Pool(1) as pool:
        outcomes = list(pool.outcomes(slicing.itself, hard_to_read(tmp_path, "exit"), chunk=6))
    assert [outcome.value for outcome in outcomes] == [0, 1, None, 3, 4, 5]
    assert isinstance(outcomes[2].error, TaskExited)


def test_reading_counts_as_the_items_own_time(tmp_path: Path) -> None:
    """A slice whose reading hangs uses up its own deadline, and no other's."""
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
        source = hard_to_read(tmp_path, "hang", bell.path, gate.path)
        with Pool(1) as pool:
            outcomes = list(pool.outcomes(slicing.itself, source, chunk=6, timeout=2))
        bell.hear()
    assert [outcome.value for outcome in outcomes] == [0, 1, None, 3, 4, 5]
    assert isinstance(outcomes[2].error, TaskTimeout)


def test_a_file_that_is_truncated_under_the_function(tmp_path: Path) -> None:
    """The kernel ends the worker with SIGBUS; that item is lost, and the slices behind it say what has happened."""
    path = tmp_path / "victim"
    path.write_bytes(np.repeat(np.arange(6, dtype="uint8"), 8192).tobytes())
    source = slices.memmap(path, "uint8", rows=8192)
    with Pool(1) as pool:
        outcomes = list(pool.outcomes(slicing.truncate_and_touch, source, chunk=1))
    assert [outcome.kind for outcome in outcomes] == [Kind.OK] * 2 + [Kind.WORKER_LOST] + [Kind.FAILED] * 3
    assert isinstance(outcomes[2].error, WorkerLost) and outcomes[2].error.signal == "SIGBUS"
    assert all(isinstance(outcome.error, SliceError) for outcome in outcomes[3:])


def test_only_the_functions_frames_are_shown(tmp_path: Path) -> None:
    """A failure of the function has the traceback that it has with any other item."""
    np.save(tmp_path / "a.npy", np.zeros(10))
    with Pool(1) as pool:
        [outcome] = pool.outcomes(slicing.divide, slices.npy(tmp_path / "a.npy"))
    assert isinstance(outcome.error, ZeroDivisionError)
    text = str(outcome.error.__cause__)
    assert text.count("  File ") == 1 and "slicing.py" in text
