"""What stages cost: three of `x + 1` as one task, as three, and as others do it; and what a long stream leaves.

    python -m benchmarks.pipelines seconds fused 1000000      # one way, in this program

Each measurement is a program of its own, which begins with nothing and ends with the last record: pools and their start
are part of it, as they are of a program that runs a pipeline once.
"""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks.rows import Row, in_turn  # noqa: E402
from benchmarks.settings import Settings  # noqa: E402
from benchmarks.tasks import add_one  # noqa: E402

WORKERS = 2
#: items that travel together where a peer has to be told
CHUNK = 64
#: seconds that one measurement may take
LIMIT_S = 300.0


def one_stage(items: Iterable[int]) -> Iterator[int]:
    """A single stage, to compare with: fused stages should cost little more."""
    from allcores import Pipeline

    yield from Pipeline().map(add_one).imap(items, workers=WORKERS)


def imap(items: Iterable[int]) -> Iterator[int]:
    """The same without a pipeline."""
    from allcores import Pool

    with Pool(WORKERS) as pool:
        yield from pool.imap(add_one, items)


def fused(items: Iterable[int]) -> Iterator[int]:
    """Three steps that are one task."""
    from allcores import Pipeline

    yield from Pipeline().map(add_one).map(add_one).map(add_one).imap(items, workers=WORKERS)


def apart(items: Iterable[int]) -> Iterator[int]:
    """Three stages, between which each record travels."""
    from allcores import Pipeline

    pipeline = Pipeline().map(add_one).map(add_one, fuse=False).map(add_one, fuse=False)
    yield from pipeline.imap(items, workers=WORKERS)


def pypeln(items: Iterable[int]) -> Iterator[int]:
    """A process per stage, as its manual has it; results come in any order."""
    process = importlib.import_module("pypeln.process")
    stage: Any = items
    for _ in range(3):
        stage = process.map(add_one, stage, workers=1, maxsize=1000)
    yield from stage


def executors(items: Iterable[int]) -> Iterator[int]:
    """By hand: the results of one executor's map are the input of the next one's. It reads its whole input at once."""
    with ProcessPoolExecutor(1) as first, ProcessPoolExecutor(1) as second:
        stage: Iterable[int] = items
        for executor in (first, second, first):
            stage = executor.map(add_one, stage, chunksize=CHUNK)
        yield from stage


#: way -> what runs it, how much each of its records grows, and the part of the items that it is given
WAYS: dict[str, tuple[Callable[[Iterable[int]], Iterator[int]], int, float]] = {
    "one stage": (one_stage, 1, 1),
    "imap": (imap, 1, 1),
    "fused": (fused, 3, 1),
    "apart": (apart, 3, 1),
    "pypeln": (pypeln, 3, 0.005),
    "executors": (executors, 3, 1),
}


def seconds(way: str, items: int) -> float:
    """From nothing to the last record."""
    run, grown, _ = WAYS[way]
    begun = time.perf_counter()
    total = sum(run(range(items)))
    taken = time.perf_counter() - begun
    assert total == items * (items - 1) // 2 + grown * items, "wrong results"
    return taken


def growth_mb(way: str, items: int) -> float:
    """MB by which this program has grown at its largest, beyond what a short stream leaves."""
    from benchmarks.memory import forget_peak, status_mb

    run, grown, _ = WAYS[way]
    assert sum(run(range(1_000))) == 499_500 + grown * 1_000, "wrong results"
    exact = forget_peak()
    before = largest = status_mb("VmRSS")
    total = 0
    for position, record in enumerate(run(itertools.islice(itertools.count(), items))):
        total += record
        if position % 50_000 == 0:
            largest = max(largest, status_mb("VmRSS"))
    assert total == items * (items - 1) // 2 + grown * items, "wrong results"
    if exact:
        largest = max(largest, status_mb("VmHWM"))
    return largest - before


def _measured(what: str, way: str, items: int) -> float:
    """In a program of its own. For seconds: per million items."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pipelines", what, way, str(items)],
        cwd=ROOT,
        env=None,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}")
    value = float(done.stdout.split()[-1])
    return value * 1e6 / items if what == "seconds" else value


def rows(settings: Settings) -> list[Row]:
    """`pipelines`, `pipelines-memory`."""
    items = settings.size(1_000_000, 20_000)
    stages = Row(
        "pipelines",
        "Three stages of `x + 1`, as one task and apart",
        "seconds per million records",
        f"{items:,} records, {WORKERS} workers, each in a program of its own, the start of workers included. `one "
        "stage` and `imap` do one addition, the others three. `executors`: two ProcessPoolExecutors by hand, chunks of "
        f"{CHUNK}; pypeln: a process for each stage, in any order, over a 200th of the records.",
    )
    ways = [way for way in WAYS if settings.wanted is None or WAYS[way][0] in MINE or way in settings.wanted]
    if "pypeln" in ways and importlib.util.find_spec("pypeln") is None:
        ways.remove("pypeln")
        stages.notes["pypeln"] = "not installed"
    measures = {way: partial(_measured, "seconds", way, int(items * WAYS[way][2])) for way in ways}
    in_turn(stages, measures, settings.rounds, settings)
    stages.judge("three stages as one task over one stage", stages.ratios("fused", "one stage"), most=1.3)
    stages.judge("pypeln over three stages apart", stages.ratios("pypeln", "apart"), least=5)
    stages.judge("two executors by hand over three stages apart", stages.ratios("executors", "apart"), least=3)

    long = settings.size(10_000_000, 20_000)
    memory = Row(
        "pipelines-memory",
        f"Growth of the program's memory over a pipeline of {long:,} records",
        "MB",
        "Resident memory at its largest minus that before the stream. Measured once.",
    )
    if sys.platform != "linux":
        settings.say("pipelines-memory: needs /proc/self/status; skipped")
        return [stages]
    if settings.wants("pipelines", memory.name):
        in_turn(memory, {way: partial(_measured, "growth", way, long) for way in ("fused", "apart")}, 1, settings)
        for way in ("fused", "apart"):
            memory.judge(f"growth, {way}, MB", memory.samples.get(way, ()), most=20.0)
    return [stages, memory]


MINE = (one_stage, imap, fused, apart)


def main() -> None:
    """One measurement, by the words that `_measured` gives."""
    what, way, items = sys.argv[1:]
    print(seconds(way, int(items)) if what == "seconds" else growth_mb(way, int(items)))


if __name__ == "__main__":
    main()
