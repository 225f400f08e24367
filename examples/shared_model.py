"""Loads a 100 MB model once for all workers, and lets each of them crash: none loads it again."""

import os
import tempfile
from array import array
from pathlib import Path

import allcores


def load(path: Path) -> "array[float]":
    """Runs once, in the template; all workers read the same memory."""
    with open(path.with_suffix(".loads"), "a") as log:
        log.write(f"{os.getpid()}\n")
    weights = array("d")
    with open(path, "rb") as file:
        weights.fromfile(file, path.stat().st_size // weights.itemsize)
    return weights


def predict(model: "array[float]", x: int) -> float:
    """The model's answer for `x`; every hundredth question ends the worker."""
    if x % 100 == 99:
        os._exit(1)
    return model[x] + model[-x - 1]


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "model.bin")
    path.write_bytes(array("d", range(12_500_000)).tobytes())
    with allcores.Pool(preload=load, preload_args=(path,)) as pool:
        outcomes = list(pool.outcomes(predict, range(500)))
        answers = [outcome.value for outcome in outcomes if outcome.value is not None]
        print(f"{len(answers)} answers, sum {sum(answers):.0f}; {len(outcomes) - len(answers)} workers were lost")
    loads = len(path.with_suffix(".loads").read_text().splitlines())
    print(f"{path.stat().st_size} bytes, loaded {loads} time")
