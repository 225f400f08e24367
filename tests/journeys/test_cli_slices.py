"""`allcores run` over files that are read in slices."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.process.scripts import Ended
from tests.process.warm import Interpreter

from allcores.cli.exits import Exit
from allcores.cli.main import main

h5py = pytest.importorskip("h5py")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROOT = Path(__file__).resolve().parents[2]
WORK = """
def total(array):
    return array.sum()

def ends(array):
    return array[[0, -1]]

def price(table):
    import pyarrow.compute
    return {"rows": table.num_rows, "columns": table.column_names, "sum": pyarrow.compute.sum(table["price"])}

def hashed(array):
    return {"shape": array.shape, "first": {1, 2}}

def picky(array):
    return 1 // int(array[0])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    np.save(tmp_path / "big.npy", np.arange(10))
    with h5py.File(tmp_path / "big.h5", "w") as file:
        file.create_dataset("images", data=np.arange(10.0), chunks=(2,))
        file.create_dataset("deep/labels", data=np.arange(3))
    table = pa.table({"price": range(10), "name": ["x"] * 10})
    pq.write_table(table, tmp_path / "table.parquet", row_group_size=4)
    return tmp_path


Run = Callable[..., Ended]


@pytest.fixture
def run(warm: Interpreter, folder: Path) -> Run:
    """`python -m allcores run` with words, in the folder."""
    return functools.partial(warm.run, "run", folder=folder)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["total", "big.npy"], [45]),
        (["total", "big.npy", "--rows", "4"], [6, 22, 17]),
        (["ends", "big.h5:/images", "--rows", "3"], [[0.0, 3.0], [4.0, 7.0], [8.0, 9.0]]),
        (["total", "big.h5:deep/labels", "big.npy"], [3, 45]),
        (["total", "--input", "big.h5:deep/labels", "--input", "big.npy"], [3, 45]),
        (
            ["price", "table.parquet", "--format", "row-groups", "--columns", "price"],
            [{"rows": rows, "columns": ["price"], "sum": sum_} for rows, sum_ in [(4, 6), (4, 22), (2, 17)]],
        ),
    ],
)
def test_values_of_slices(run: Run, folder: Path, words: list[str], values: list[object]) -> None:
    """The function gets arrays and tables; what it returns of theirs is written as plain JSON."""
    done = run(f"work.py:{words[0]}", *words[1:], "-o", "out.jsonl")
    assert done.code == Exit.OK, done.err
    assert [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()] == values


@pytest.mark.quick
def test_the_suffix_can_be_overruled(run: Run, folder: Path) -> None:
    """By --format, for files with names of their own, and with colons in them."""
    os.rename(folder / "big.npy", folder / "12:30")
    done = run("work.py:total", "12:30", "--format", "npy", "--quiet")
    assert (done.code, done.out) == (Exit.OK, "45\n"), done.err


def test_a_slice_that_fails_is_recorded(run: Run, folder: Path) -> None:
    """Its record says which slice it was, and one that cannot be read shows a sentence, no traceback."""
    words = ["work.py:picky", "big.npy", "--rows", "5", "--on-error", "record"]
    done = run(*words, "--quiet")
    assert done.code == Exit.SOME_FAILED
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record["kind"] for record in records] == ["failed", "ok"]
    assert records[0]["item"] == "big.npy[0:5]" and "ZeroDivisionError" in records[0]["error"]
    assert "runner.py" not in records[0]["traceback"]
    packed = folder / "packed.h5"
    with h5py.File(packed, "w") as file:
        file.create_dataset("images", data=np.arange(10.0), chunks=(2,), fletcher32=True)
        place = file["images"].id.get_chunk_info(0).byte_offset
    with open(packed, "r+b") as raw:
        raw.seek(place)
        raw.write(b"\xff")
    done = run("work.py:total", "packed.h5", "--rows", "2", "--quiet")
    assert done.code == Exit.STOPPED
    assert "packed.h5:/images[0:2] cannot be read" in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["total", "no.npy"], "cannot read no.npy: No such file"),
        (["total", "no.h5:/images"], "cannot read no.h5:/images: No such file"),
        (["total", "big.h5:/image"], "/image is no data set of big.h5: did you mean /images?"),
        (["total", "big.h5"], "name a data set of big.h5: it has /deep/labels, /images"),
        (["total", "work.py", "--format", "hdf5"], "cannot open work.py as HDF5"),
        (["total", "work.py", "--format", "npy"], "work.py is no .npy file"),
        (["total", "work.py", "--format", "row-groups"], "cannot open work.py as Parquet"),
        (["total", "-", "--format", "npy"], "standard input cannot be read in slices"),
        (
            ["price", "table.parquet", "--format", "row-groups", "--columns", "prise"],
            "no column 'prise': did you mean 'price'?",
        ),
        (["price", "table.parquet", "--rows", "5"], "rows are chosen for .npy and HDF5 inputs only"),
        (["total", "big.npy", "--columns", "price"], "columns are chosen for Parquet inputs only"),
        (["total", "big.h5:/images", "-o", "big.h5"], "big.h5 would hold lines of JSON"),
    ],
)
def test_an_input_that_cannot_be_sliced(
    folder: Path, words: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One sentence, exit code 2, and the output is left alone."""
    monkeypatch.chdir(folder)
    # Another test of this process may have imported one of that name.
    monkeypatch.delitem(sys.modules, "work", raising=False)
    assert main(["run", f"work.py:{words[0]}", *words[1:]]) == Exit.USAGE
    out, err = capfd.readouterr()
    assert sentence in err and len(err.splitlines()) == 1
    assert out == ""


def test_a_value_that_json_cannot_hold(run: Run, folder: Path) -> None:
    """Is a failure of its slice, in one sentence."""
    done = run("work.py:hashed", "big.npy")
    assert done.code == Exit.STOPPED
    assert "value['first'] is a set" in done.err and "Traceback" not in done.err


def test_a_missing_library_names_the_extra(folder: Path) -> None:
    """As the command's one sentence."""
    (folder / "without").mkdir()
    (folder / "without" / "h5py.py").write_text("raise ModuleNotFoundError('No module named h5py', name='h5py')")
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'without'}{os.pathsep}{ROOT / 'src'}"}
    command = [sys.executable, "-m", "allcores", "run", "work.py:total", "big.h5:/images"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == Exit.USAGE
    assert "needs h5py: pip install 'allcores[hdf5]'" in done.stderr and len(done.stderr.splitlines()) == 1
