"""Loads a 10 MB model once per worker, then predicts with it; with the standard library alone."""

import multiprocessing
import os
import tempfile
from array import array
from pathlib import Path

model = None  # the only way from the initializer to the function is a global variable


def load(path):
    """Runs once in each worker."""
    global model
    with open(path.with_suffix(".loads"), "a") as log:
        log.write(f"{os.getpid()}\n")
    model = array("d")
    model.frombytes(path.read_bytes())


def predict(x):
    """The model's answer for `x`."""
    return sum(model[x % 1000 :: 1000])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.bin")
        path.write_bytes(array("d", range(1_250_000)).tobytes())
        with multiprocessing.Pool(initializer=load, initargs=(path,)) as pool:
            total = sum(pool.imap(predict, range(2000), chunksize=50))
            print(f"2000 predictions, sum {total:.0f}")
        loads = len(path.with_suffix(".loads").read_text().splitlines())
        print(f"{path.stat().st_size} bytes, loaded {loads} times by {multiprocessing.cpu_count()} workers")
