"""Loads a 10 MB model once per worker, then predicts with it."""

import os
import tempfile
from array import array
from pathlib import Path

import allcores


def load(path: Path) -> "array[float]":
    """Runs once in each worker; what it returns is handed to every call."""
    with open(path.with_suffix(".loads"), "a") as log:
        log.write(f"{os.getpid()}\n")
    weights = array("d")
    weights.frombytes(path.read_bytes())
    return weights


def predict(model: "array[float]", x: int) -> float:
    """The model's answer for `x`."""
    return sum(model[x % 1000 :: 1000])


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "model.bin")
    path.write_bytes(array("d", range(1_250_000)).tobytes())
    with allcores.Pool(setup=load, setup_args=(path,)) as pool:
        total = sum(pool.imap(predict, range(2000)))
        print(f"2000 predictions, sum {total:.0f}")
        loads = len(path.with_suffix(".loads").read_text().splitlines())
        print(f"{path.stat().st_size} bytes, loaded {loads} times by {pool.workers} workers")
