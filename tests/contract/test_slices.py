"""Slices of files arrive as data, and fail one by one, whatever runs the tasks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract import slice_tasks as tasks
from tests.process.waiting import Watcher, begin_records, wait_full_strength

from allcores import Kind, Pool, SliceError, slices
from allcores.slices import Slices

h5py = pytest.importorskip("h5py")
parquet_library = pytest.importorskip("pyarrow.parquet")

PROCESSES = ("template", "spawn", "fork")

pytestmark = pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")


@pytest.fixture(scope="module", params=(*PROCESSES, "threads", "serial"))
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def workers(place: str) -> Iterator[Pool | None]:
    """Processes live through all tests. What they keep open is theirs."""
    if place not in PROCESSES:
        yield None
        return
    watcher = Watcher()
    with Pool(2, start_method=place, observers=[watcher]) as pool:
        wait_full_strength(pool, watcher)
        begin_records(pool)
        yield pool


@pytest.fixture
def pool(place: str, workers: Pool | None) -> Iterator[Pool]:
    """Without processes, files stay open in this one until the pool is closed: the leak check sees that they are."""
    if workers is not None:
        yield workers
        return
    with Pool(2, backend=place) as pool:
        yield pool


def test_an_array_arrives_in_slices(pool: Pool, tmp_path: Path) -> None:
    """Each call gets an array of its rows; together they are the file, also when they travel in chunks."""
    source = slices.npy(tasks.npy(tmp_path), rows=70)
    for chunk in (None, 4):
        looks = pool.map(tasks.look, source, chunk=chunk)
        assert [shape for _, shape, _ in looks] == [(70, 3, 2)] * 14 + [(20, 3, 2)]
        assert np.array_equal(tasks.put_together(looks), tasks.ARRAY)


@pytest.mark.parametrize("verb", ["map", "imap", "submit"])
def test_a_file_is_free_when_its_slices_are_done(pool: Pool, tmp_path: Path, verb: str) -> None:
    """Whoever has the last result may write to the file, though the workers live on: HDF5 locks what is open."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.zeros((20, 2))
    for round in range(3):
        source = slices.hdf5(path, "numbers", rows=1 + round)
        if verb == "submit":
            for each in source:
                pool.submit(tasks.look, each).result()
        else:
            assert len(list(getattr(pool, verb)(tasks.look, source))) == len(source)
        with h5py.File(path, "r+") as file:
            file["numbers"][0] = round + 1.0


def test_a_mapped_slice_cannot_be_written_to(pool: Pool, tmp_path: Path) -> None:
    """The file is everybody's; a second attempt must see what the first one saw."""
    [outcome, *_] = pool.outcomes(tasks.write_to, slices.npy(tasks.npy(tmp_path)))
    assert isinstance(outcome.error, ValueError) and "read-only" in str(outcome.error)


def test_an_array_in_fortran_order(pool: Pool, tmp_path: Path) -> None:
    """Its rows are spread over the file, and arrive all the same."""
    np.save(tmp_path / "f.npy", np.asfortranarray(tasks.ARRAY))
    looks = pool.map(tasks.look, slices.npy(tmp_path / "f.npy", rows=300))
    assert np.array_equal(tasks.put_together(looks), tasks.ARRAY)


def test_raw_numbers_arrive_in_slices(pool: Pool, tmp_path: Path) -> None:
    """Of the type and shape, and from the place, that were named."""
    (tmp_path / "raw").write_bytes(b"header!" + tasks.ARRAY.tobytes())
    shaped = slices.memmap(tmp_path / "raw", "int32", tasks.ARRAY.shape, offset=7, rows=300)
    assert np.array_equal(tasks.put_together(pool.map(tasks.look, shaped)), tasks.ARRAY)
    flat = slices.memmap(tmp_path / "raw", np.int32, offset=7, rows=4000)
    assert pool.map(tasks.length, flat) == [4000, 2000]


def test_a_data_set_arrives_in_slices_of_whole_chunks(pool: Pool, tmp_path: Path) -> None:
    """No chunk of the file is decompressed twice."""
    source = slices.hdf5(tasks.hdf5(tmp_path), "deep/array", rows=100)
    looks = pool.map(tasks.look, source)
    assert [shape[0] for _, shape, _ in looks] == [128] * 7 + [104]
    assert np.array_equal(tasks.put_together(looks), tasks.ARRAY)


def test_row_groups_arrive_as_tables(pool: Pool, tmp_path: Path) -> None:
    """With all columns, or those that were chosen."""
    path = tasks.parquet(tmp_path)
    tables = pool.map(tasks.look_at_table, slices.parquet(path))
    assert {kind for kind, _ in tables} == {"Table"}
    assert [len(table["number"]) for _, table in tables] == [300, 300, 300, 100]
    assert [n for _, table in tables for n in table["square"]] == [n * n for n in range(tasks.ROWS)]
    assert pool.map(tasks.look_at_table, slices.parquet(path, columns=["number"]))[3] == (
        "Table",
        {"number": list(range(900, 1000))},
    )


def test_lines_arrive_whole(pool: Pool, tmp_path: Path) -> None:
    """Each line once, in the slice in which it begins."""
    path = tasks.lines(tmp_path)
    parts = pool.map(tasks.itself, slices.lines(path, slice_bytes=1000))
    assert len(parts) == 9
    assert all(part.endswith(b"\n") for part in parts)
    assert b"".join(parts) == Path(path).read_bytes()


def test_slices_of_several_files_are_one_input(pool: Pool, tmp_path: Path) -> None:
    """They are items like others: chained, picked, and among items that are none."""
    array, table = slices.npy(tasks.npy(tmp_path), rows=500), slices.parquet(tasks.parquet(tmp_path))
    items = itertools.chain(array, table[1:3], ["plain"])
    assert pool.map(tasks.length, items, chunk=3) == [500, 500, 300, 300, 5]


def test_slices_are_arguments(pool: Pool, tmp_path: Path) -> None:
    """Of submitted calls and of starmap, by place and by name; a plain chunk after them is left alone."""
    source = slices.npy(tasks.npy(tmp_path), rows=500)
    first, second = tasks.total(tasks.ARRAY[:500]), tasks.total(tasks.ARRAY[500:])
    assert pool.starmap(tasks.numbered_total, enumerate(source)) == [(0, first), (1, second)]
    assert pool.submit(tasks.numbered_total, 7, array=source[1], plus=1).result() == (7, second + 1)
    assert pool.map(tasks.itself, [[1], (2, 3)]) == [[1], (2, 3)]


@pytest.mark.quick
def test_the_setup_value_comes_first(tmp_path: Path) -> None:
    """As for any item."""
    with Pool(1, setup=int, setup_args=("5",)) as pool:
        assert pool.map(tasks.numbered_total, slices.npy(tasks.npy(tmp_path))) == [(5, tasks.total(tasks.ARRAY))]


# --- what cannot be read ---

SOURCES: dict[str, Callable[[Path], Slices]] = {
    "npy": lambda folder: slices.npy(tasks.npy(folder), rows=250),
    "hdf5": lambda folder: slices.hdf5(tasks.hdf5(folder), rows=256),
    "parquet": lambda folder: slices.parquet(tasks.parquet(folder)),
    "lines": lambda folder: slices.lines(tasks.lines(folder), slice_bytes=2400),
}
CHANGES: dict[str, tuple[Callable[[str], Any], str]] = {
    "gone": (os.unlink, "the file is gone"),
    "truncated": (lambda path: os.truncate(path, os.stat(path).st_size // 2), "bytes when the source was made"),
    "written to": (lambda path: os.utime(path, ns=(1, 1)), "written to after the source was made"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", SOURCES)
def test_a_file_that_has_changed(pool: Pool, kind: str, change: str, tmp_path: Path) -> None:
    """Each slice fails by itself and names the file, the slice, the cause and the way out; also after it was open."""
    source = SOURCES[kind](tmp_path)
    assert len(pool.map(tasks.length, source)) == len(source) == 4
    spoil, cause = CHANGES[change]
    spoil(source.file.stamp.path)
    outcomes = list(pool.outcomes(tasks.length, source, chunk=4))
    assert [outcome.kind for outcome in outcomes] == [Kind.FAILED] * 4
    for outcome, item in zip(outcomes, source, strict=True):
        error = outcome.error
        assert isinstance(error, SliceError)
        assert (error.path, error.start, error.stop) == (source.file.stamp.path, item.start, item.stop)
        assert str(error).startswith(f"{item!r} cannot be read: ") and source.file.stamp.path in str(error)
        assert cause in str(error) and "make the source again" in str(error)
    assert pool.map(tasks.length, [[1, 2]]) == [2]


def spoiled_hdf5(folder: Path) -> Slices:
    path = tasks.hdf5(folder)
    with h5py.File(path) as file:
        place = file["deep/array"].id.get_chunk_info(5).byte_offset
    tasks.spoil(path, place)
    return slices.hdf5(path, rows=256)


def spoiled_parquet(folder: Path) -> Slices:
    path = tasks.parquet(folder)
    column = parquet_library.read_metadata(path).row_group(1).column(0)
    tasks.spoil(path, column.dictionary_page_offset or column.data_page_offset)
    return slices.parquet(path)


@pytest.mark.parametrize("make", [spoiled_hdf5, spoiled_parquet])
def test_a_damaged_slice_fails_alone(pool: Pool, make: Callable[[Path], Slices], tmp_path: Path) -> None:
    """The others of its chunk, and of its file, are fine."""
    source = make(tmp_path)
    outcomes = list(pool.outcomes(tasks.length, source, chunk=4, retries=1))
    assert [outcome.ok for outcome in outcomes] == [True, False, True, True]
    failed = outcomes[1]
    assert isinstance(failed.error, SliceError) and failed.attempts == 2
    assert repr(source[1]) in str(failed.error) and "damaged" in str(failed.error) and "restore" in str(failed.error)
    assert repr(failed.item) == repr(source[1])
