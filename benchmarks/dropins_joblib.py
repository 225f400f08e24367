"""The backend "allcores" of joblib beside its default, loky: the same calls of `Parallel`, in one program."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks.processes import end_all, environment
from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings

WORKERS = 2
BACKENDS = ("allcores", "loky")
NAMES = ("dropins-joblib-tiny", "dropins-joblib-array", "dropins-joblib-grid", "dropins-joblib-first")
MEMORY = "dropins-joblib-memory"


@contextmanager
def _registered() -> Iterator[Any]:
    import joblib
    from joblib.externals.loky import get_reusable_executor

    from allcores.adapters import joblib as adapter

    adapter.register()
    try:
        yield joblib
    finally:
        adapter.close()
        get_reusable_executor().shutdown()


def _timed(joblib: Any, backend: str, call: Callable[[], object]) -> float:
    with joblib.parallel_config(backend, n_jobs=WORKERS):
        started = time.perf_counter()
        call()
        return time.perf_counter() - started


def _tiny(joblib: Any, backend: str, count: int) -> float:
    """µs a task. `delayed` is called once: its own 4 µs for each task are no backend's."""
    delayed = joblib.delayed(abs)
    return _timed(joblib, backend, lambda: joblib.Parallel()(delayed(i) for i in range(count))) / count * 1e6


def _columns(array: Any, column: int) -> float:
    return float(array[:, column].sum())


def _array(joblib: Any, backend: str, rows: int) -> float:
    import numpy

    array = numpy.ones((rows, 20))
    delayed = joblib.delayed(_columns)
    return _timed(joblib, backend, lambda: joblib.Parallel()(delayed(array, column) for column in range(20)))


def _grid(joblib: Any, backend: str, rows: int) -> float:
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV

    matrix, classes = make_classification(rows, 20, random_state=0)
    grid = {"max_depth": [2, 4, 6, 8], "min_samples_leaf": [1, 3]}
    search = GridSearchCV(RandomForestClassifier(10, random_state=0), grid, cv=3, refit=False)
    return _timed(joblib, backend, lambda: search.fit(matrix, classes))


#: A program of its own: the same grid search from the start, and the largest memory (PSS) of all its processes.
_PROGRAM = """
import json, os, sys, threading, time
import joblib
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
if sys.argv[1] == "allcores":
    from allcores.adapters import joblib as adapter
    adapter.register()
matrix, classes = make_classification(int(sys.argv[2]), 20, random_state=0)
peak, done = 0, threading.Event()
def watch():
    global peak
    while not done.wait(0.05):
        total = 0
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if sys.argv[3].encode() not in file.read():
                        continue
                with open(f"/proc/{name}/smaps_rollup") as file:
                    total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
            except (OSError, StopIteration):
                continue
        peak = max(peak, total)
watcher = threading.Thread(target=watch)
watcher.start()
search = GridSearchCV(RandomForestClassifier(10, random_state=0), {"max_depth": [2, 4, 6, 8]}, cv=3, refit=False)
started = time.perf_counter()
with joblib.parallel_config(sys.argv[1], n_jobs=2):
    search.fit(matrix, classes)
seconds = time.perf_counter() - started
done.set()
watcher.join()
print(json.dumps({"seconds": seconds, "mb": peak / 1024}))
"""


def _program(backend: str, rows: int, fact: str) -> float:
    mark = f"dropins-joblib-{backend}-{time.monotonic_ns()}"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, backend, str(rows), mark],
            env=environment(mark),
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
    finally:
        end_all(mark)
    return float(json.loads(done.stdout)[fact])


def rows(settings: Settings) -> list[Row]:
    """`dropins-joblib-*`, those that are asked for; none without joblib and scikit-learn."""
    if importlib.util.find_spec("joblib") is None or importlib.util.find_spec("sklearn") is None:
        return []
    how = f'`joblib.parallel_config("allcores")` beside joblib\'s default backend, {WORKERS} workers each'
    made = [
        Row(NAMES[0], "`joblib.Parallel` over tiny tasks", "µs per task", f"{how}, warm; `delayed(abs)` is made once."),
        Row(NAMES[1], "20 tasks on one array of 80 MB", "s", f"{how}, warm."),
        Row(NAMES[2], "`GridSearchCV` of a forest, 24 fits on 2,000 x 20", "s", f"{how}, warm."),
        Row(NAMES[3], "`GridSearchCV` in a fresh program, 12 fits", "s", f"{how}, which have to start."),
        Row(MEMORY, "The same, memory of all processes at its peak", "MB (PSS)", f"{how}; looked at every 50 ms."),
    ]
    fits = settings.size(2_000, 100)
    measures: tuple[Callable[[Any, str], float], ...] = (
        lambda joblib, backend: _tiny(joblib, backend, settings.size(100_000, 2_000)),
        lambda joblib, backend: _array(joblib, backend, settings.size(500_000, 10_000)),
        lambda joblib, backend: _grid(joblib, backend, fits),
        lambda _, backend: _program(backend, fits, "seconds"),
        lambda _, backend: _program(backend, fits, "mb"),
    )
    with _registered() as joblib:
        for row, measure in zip(made, measures, strict=True):
            if not settings.wants("dropins", "dropins_joblib", row.name):
                continue
            if row.name in NAMES[:3]:
                for backend in BACKENDS:
                    measure(joblib, backend)
            calls = {backend: partial(measure, joblib, backend) for backend in BACKENDS}
            in_turn(row, calls, settings.rounds, settings, shuffled=True)
    for row, least in zip(made, (3.0, 2.0, 1.0, 1.0, 1.0), strict=True):
        if row.samples:
            row.judge("loky / allcores", row.ratios("loky", "allcores"), least=least)
    return [row for row in made if row.samples]
