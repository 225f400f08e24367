"""How long the start of a pool takes, and the replacement of a worker that crashed."""

from __future__ import annotations

import json
import os
import statistics
import struct
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.contenders import Contender
from benchmarks.processes import Program, ProgramFailed
from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings
from benchmarks.tasks import add_one, die_and_tell


def _fresh(contender: str, imports: dict[str, list[float]]) -> float:
    """ms to the first result in a program of its own."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "answer.json"
        program = Program("benchmarks.first_result", contender, str(target))
        deadline = time.monotonic() + 30
        try:
            # The program may not end by itself (a pool left open); its answer is enough.
            while not target.exists():
                if time.monotonic() > deadline:
                    raise ProgramFailed("no first result within 30 s")
                if program.wait(0.05) is not None and not target.exists():
                    raise ProgramFailed(f"ended with exit code {program.process.returncode}")
            answer = json.loads(target.read_text())
        finally:
            program.end()
    imports.setdefault(contender, []).append(answer["import_s"] * 1000)
    return float(answer["seconds"]) * 1000


def replacement_ms(contender: Contender, crashes: int) -> float:
    """ms from a worker's death to the answer of its replacement; the median of `crashes`.

    The pool has one worker. The task that crashes writes the time down as its last act; then one item
    is sent, and the clock stops when its result is back here. CLOCK_MONOTONIC is one for all processes.
    """
    contender.call(add_one, 1)
    taken: list[float] = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(crashes):
            os.pwrite(file.fileno(), bytes(8), 0)
            contender.after_crash(die_and_tell, file.name, add_one)
            answered = time.monotonic_ns()
            (died,) = struct.unpack("=q", os.pread(file.fileno(), 8, 0))
            assert died, "the worker did not crash"
            taken.append((answered - died) / 1e6)
    return statistics.median(taken)


def pools_ms(contender: Contender, count: int) -> float:
    """ms for each of `count` pools that are open at the same time: made, one result, closed."""
    started = time.perf_counter()
    pools = []
    try:
        for _ in range(count):
            pools.append(type(contender)(contender.workers))
            assert pools[-1].call(add_one, 1) == 2, "wrong result"
    finally:
        for pool in pools:
            pool.close()
    return (time.perf_counter() - started) / count * 1000


def rows(settings: Settings) -> list[Row]:
    """`first-result`, `pools`, `replacement`."""
    first = Row(
        "first-result",
        "First result after making a pool, in a fresh program with four running threads",
        "ms",
        "From before the pool is made to the result of one call; two workers; the import of the library "
        "is not "
        "counted (it stands in the remark). `fork` in a program with threads is quick and unsafe: the "
        "child may "
        "inherit a lock that nobody will release.",
    )
    names = settings.names()
    methods = {
        "allcores": ["allcores"],
        "multiprocessing": ["multiprocessing:fork", "multiprocessing:forkserver", "multiprocessing:spawn"],
        "executor": ["executor:fork", "executor:forkserver", "executor:spawn"],
    }
    variants = [variant for name in names for variant in methods.get(name, [name])]
    imports: dict[str, list[float]] = {}
    if not settings.quick:
        for name in variants:  # once for the disk's sake
            try:
                _fresh(name, {})
            except ProgramFailed as error:
                settings.say(f"warming up: {name}: {error}")
    in_turn(first, {name: partial(_fresh, name, imports) for name in variants}, settings.rounds, settings)
    for name, taken in imports.items():
        first.notes.setdefault(name, f"import {statistics.median(taken):.0f} ms")
    first.judge("first result of allcores, ms", first.samples.get("allcores", ()), most=150.0)

    count = settings.size(40, 4)
    pools = Row(
        "pools",
        f"{count} pools that are open at the same time",
        "ms a pool",
        "Two workers each; every pool is made, gives one result, and is closed once all have. joblib, Ray and Dask "
        "have one for a program.",
    )
    with settings.hosts(settings.names(without=("joblib", "ray", "dask"))) as hosts:
        measures = {
            name: partial(host.measure, "starts:pools_ms", count=count, limit_s=120.0) for name, host in hosts.items()
        }
        in_turn(pools, measures, settings.rounds, settings)
    for name in hosts:
        if name != "allcores":
            pools.judge(f"{name} / allcores", pools.ratios(name, "allcores"), least=1.0)

    crashes = settings.size(10, 2)
    replaced = Row(
        "replacement",
        "A worker killed by SIGKILL in the middle of a task: time until its replacement has answered",
        "ms",
        f"One worker; the median of {crashes} crashes a round. Whoever loses the pool with the worker "
        "(ProcessPoolExecutor, joblib, mpire) makes a new one, which is counted.",
    )
    with settings.hosts(settings.names(without=("ray", "dask")), workers=1) as hosts:
        measures = {
            name: partial(host.measure, "starts:replacement_ms", crashes=crashes, limit_s=40.0)
            for name, host in hosts.items()
        }
        in_turn(replaced, measures, settings.rounds, settings)
    replaced.judge("replacement of a crashed worker of allcores, ms", replaced.samples.get("allcores", ()), most=30.0)
    return [first, pools, replaced]
