"""A fresh program whose workers need a large model; each library is used in the way that it offers.

    python -m benchmarks.model_program replacement|memory VARIANT COUNT FILE

Writes a number to FILE. replacement: ms from the death of the only worker to the answer of its replacement, the
median of COUNT crashes. memory: bytes of the whole family, shared pages counted by share, with COUNT workers.
The end `-little` of a VARIANT makes the model tiny.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import model_tasks, processes
from benchmarks.model_tasks import correct, correct_with_global, die, keep
from benchmarks.tasks import die_and_tell

#: library:way -> what the report says about it
VARIANTS = {
    "allcores:preload": "",
    "allcores:setup": "loaded in each worker",
    "multiprocessing:initializer": "loaded in each worker, which are forked from the program",
    "multiprocessing:global": "loaded in the program, which must not have threads: workers are forked from it",
    "executor:initializer": "loaded in each worker; a crash ends the pool, a new one is counted",
    "pebble:initializer": "loaded in each worker, which are forked from the program",
}


class Workers:
    """The pool of one variant. call, crash: each waits for the end of it."""

    def __init__(self, variant: str, workers: int, *, little: bool) -> None:
        self.library, _, self.way = variant.partition(":")
        self.workers = workers
        self.little = little
        if self.way == "global":
            keep(little)
        self.open()

    def open(self) -> None:
        fork = multiprocessing.get_context("fork")
        options: dict[str, Any] = {}
        if self.way == "initializer":
            options = {"initializer": keep, "initargs": (self.little,)}
        if self.library == "allcores":
            load = model_tasks.load_little if self.little else model_tasks.load
            self.pool = importlib.import_module("allcores").Pool(self.workers, **{self.way: load})
        elif self.library == "multiprocessing":
            self.pool = fork.Pool(self.workers, **options)
        elif self.library == "executor":
            futures = importlib.import_module("concurrent.futures")
            self.pool = futures.ProcessPoolExecutor(self.workers, mp_context=fork, **options)
        else:
            self.pool = importlib.import_module("pebble").ProcessPool(self.workers, context=fork, **options)

    def send(self, times: int) -> Callable[[], int]:
        """Begin a call; what is returned waits for its result."""
        result: Callable[[], int]
        if self.library == "allcores":
            result = self.pool.submit(correct, times).result
        elif self.library == "multiprocessing":
            result = self.pool.apply_async(correct_with_global, (times,)).get
        elif self.library == "executor":
            result = self.pool.submit(correct_with_global, times).result
        else:
            result = self.pool.schedule(correct_with_global, args=(times,)).result
        return result

    def crash(self, path: str) -> None:
        if self.library == "multiprocessing":
            self.pool.apply_async(die_and_tell, (path,))  # its result never comes
            return
        try:
            if self.library == "allcores":
                self.pool.submit(die, path).result()
            elif self.library == "executor":
                self.pool.submit(die_and_tell, path).result()
            else:
                self.pool.schedule(die_and_tell, args=(path,)).result()
        except Exception:
            if self.library == "executor":
                self.open()


def replacement_ms(variant: str, crashes: int) -> float:
    """See the module."""
    pool = Workers(variant, 1, little=False)
    pool.send(1)()
    taken = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(crashes):
            os.pwrite(file.fileno(), bytes(8), 0)
            pool.crash(file.name)
            pool.send(1)()
            answered = time.monotonic_ns()
            (died,) = struct.unpack("=q", os.pread(file.fileno(), 8, 0))
            assert died, "the worker did not crash"
            taken.append((answered - died) / 1e6)
    return float(statistics.median(taken))


def memory_bytes(variant: str, workers: int, *, little: bool) -> float:
    """See the module. Measured when each worker has done some work."""
    pool = Workers(variant, workers, little=little)
    seen: set[int] = set()
    while len(seen) < workers:
        seen |= {result() for result in [pool.send(20) for _ in range(4 * workers)]}
    return float(sum(map(_proportional_bytes, processes.marked(os.environ[processes.MARK]))))


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it ended meanwhile
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def main() -> None:
    """Measure, write, leave without tidying up: the caller ends what is left."""
    what, variant, count, file = sys.argv[1:]
    if what == "replacement":
        answer = replacement_ms(variant, int(count))
    else:
        answer = memory_bytes(variant.removesuffix("-little"), int(count), little=variant.endswith("-little"))
    target = Path(file)
    target.with_suffix(".part").write_text(str(answer))
    target.with_suffix(".part").rename(target)


if __name__ == "__main__":
    main()
