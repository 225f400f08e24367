"""Functions for slices of files, and the files themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

ROWS = 1000
ARRAY = np.arange(ROWS * 6, dtype="int32").reshape(ROWS, 3, 2)


def look(array: Any) -> tuple[str, tuple[int, ...], bytes]:
    """What arrived: its type, its shape, its bytes."""
    return type(array).__name__, array.shape, np.ascontiguousarray(array).tobytes()


def put_together(looks: list[tuple[str, tuple[int, ...], bytes]]) -> Any:
    """The whole array again."""
    assert {kind for kind, _, _ in looks} == {"ndarray"}
    parts = [np.frombuffer(data, ARRAY.dtype).reshape(shape) for _, shape, data in looks]
    return np.concatenate(parts)


def length(thing: Any) -> int:
    return len(thing)


def total(array: Any) -> int:
    return int(array.sum())


def numbered_total(number: int, array: Any, plus: int = 0) -> tuple[int, int]:
    return number, total(array) + plus


def write_to(array: Any) -> None:
    array[0] = 0


def look_at_table(table: Any) -> tuple[str, dict[str, list[int]]]:
    return type(table).__name__, table.to_pydict()


def itself(thing: Any) -> Any:
    return thing


def npy(folder: Path) -> str:
    np.save(folder / "array.npy", ARRAY)
    return str(folder / "array.npy")


def hdf5(folder: Path, **options: Any) -> str:
    import h5py

    options = {"chunks": (64, 3, 2), "compression": "gzip"} | options
    with h5py.File(folder / "array.h5", "w") as file:
        file.create_dataset("deep/array", data=ARRAY, **options)
    return str(folder / "array.h5")


def parquet(folder: Path) -> str:
    import pyarrow as pa
    from pyarrow import parquet as pq

    table = pa.table({"number": range(ROWS), "square": [n * n for n in range(ROWS)]})
    pq.write_table(table, folder / "table.parquet", row_group_size=300)
    return str(folder / "table.parquet")


def lines(folder: Path) -> str:
    (folder / "lines.txt").write_bytes(b"".join(b"line %d\n" % n for n in range(ROWS)))
    return str(folder / "lines.txt")


def spoil(path: str, position: int, count: int = 16) -> None:
    """Damage the file there."""
    with open(path, "r+b") as file:
        file.seek(position)
        file.write(b"\xff" * count)
