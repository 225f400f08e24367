"""Runs all ways of a work in rounds of shuffled order, each in a process of its own, and compares what they give."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from allcores.nlp.compare.ways import Way, ways_of
from allcores.nlp.compare.works import Work
from allcores.system import procfs

#: seconds between two looks at the memory of a run
LOOK_S = 0.25
#: seconds that one run may take
LONGEST_S = 3_600.0
#: difference of two numbers that counts as none: sums of floats depend on how many threads add them
NEAR = 1e-5


@dataclass(slots=True)
class Measured:
    """What was measured of one way.

    Attributes:
        name: Of the way.
        seconds: Of each round: from the start of the process's work, models loaded, to the last result.
        first_s: Of each round: to the first result.
        peak_bytes: The most memory of the process and its children that was seen, shared pages counted once (PSS).
        same: Its results are those of the loop; None if that could not be compared.
        trouble: Why it was not run, or not to its end.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    same: bool | None = None
    trouble: str | None = None

    @property
    def middle_s(self) -> float | None:
        """Median of its seconds; None if it has none."""
        return median(self.seconds) if self.seconds else None


@dataclass(slots=True)
class Comparison:
    """One work, all ways.

    Attributes:
        work: What was done.
        texts: How many.
        workers: Of ways that use several.
        rounds: How often each was run.
        ways: What was measured; the loop first.
    """

    work: Work
    texts: int
    workers: int
    rounds: int
    ways: list[Measured]

    def speedup(self, way: Measured) -> float | None:
        """Median over the rounds of the loop's seconds over the way's; None if either is missing."""
        pairs = zip(self.ways[0].seconds, way.seconds, strict=False)
        ratios = [loop / seconds for loop, seconds in pairs]
        return median(ratios) if ratios else None

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "what": self.work.name,
            "messages": self.texts,
            "workers": self.workers,
            "rounds": self.rounds,
            "ways": [
                {
                    "way": way.name,
                    "seconds": way.seconds,
                    "first_seconds": way.first_s,
                    "speedup": self.speedup(way),
                    "peak_memory_bytes": way.peak_bytes,
                    "same_results": way.same,
                    "trouble": way.trouble,
                }
                for way in self.ways
            ],
        }


def compare(
    work: Work,
    texts: Sequence[str],
    *,
    workers: int,
    rounds: int,
    seed: int = 0,
    say: Callable[[str], object] = lambda sentence: None,
) -> Comparison:
    """Run all ways.

    Args:
        work: What to do.
        texts: With what.
        workers: For ways that use several.
        rounds: How often each way is run; in each round all of them, in shuffled order.
        seed: Of the order.
        say: Told of each run that begins.
    """
    ways = ways_of(work)
    measured = {way.name: Measured(way.name) for way in ways}
    for way in ways:
        if not way.is_installed:
            measured[way.name].trouble = f"{way.needs} is not installed"
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="allcores-compare-") as folder:
        for number in range(rounds):
            order = [way for way in ways if measured[way.name].trouble is None]
            chance.shuffle(order)
            for way in order:
                say(f"{work.name}, round {number + 1} of {rounds}: {way.name}")
                _run(work, way, texts, workers, _results(folder, ways, way), measured[way.name])
        expected = _results(folder, ways, ways[0])
        for way in ways:
            path = _results(folder, ways, way)
            if path.exists() and expected.exists():
                measured[way.name].same = are_same(expected, path)
    return Comparison(work, len(texts), workers, rounds, [measured[way.name] for way in ways])


def _results(folder: str, ways: Sequence[Way], way: Way) -> Path:
    return Path(folder, f"{ways.index(way)}.jsonl")


class NotDone(Exception):
    """A way was not done with its work, and why."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One run.

    Attributes:
        seconds: To the last result.
        first_s: To the first one.
        peak_bytes: See `Measured`.
    """

    seconds: float
    first_s: float
    peak_bytes: int


def _run(work: Work, way: Way, texts: Sequence[str], workers: int, results: Path, measured: Measured) -> None:
    try:
        timed = run_once(work, way, texts, workers, results)
    except NotDone as error:
        measured.trouble = str(error)
        return
    measured.seconds.append(timed.seconds)
    measured.first_s.append(timed.first_s)
    measured.peak_bytes = max(measured.peak_bytes, timed.peak_bytes)


def run_once(work: Work, way: Way, texts: Sequence[str], workers: int, results: Path) -> Timed:
    """Run one way in a process of its own.

    Args:
        work: What to do.
        way: How.
        texts: With what.
        workers: For a way that uses several.
        results: File for the results, a line of JSON each.

    Raises:
        NotDone: It failed, or took too long.
    """
    request = {
        "work": work.name,
        "way": way.name,
        "texts": list(texts),
        "workers": workers,
        "results": str(results),
    }
    environment = {**os.environ, **dict(way.environment)}
    process = subprocess.Popen(
        [sys.executable, "-m", "allcores.nlp.compare.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    watch = _MemoryWatch(process.pid)
    try:
        out, err = process.communicate(json.dumps(request), timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        raise NotDone(f"it was not done after {LONGEST_S:g} s") from None
    finally:
        watch.end()
        _end(process)
    try:
        answer = json.loads(out.rstrip().rpartition("\n")[2])
        return Timed(float(answer["seconds"]), float(answer["first_s"]), watch.peak)
    except (ValueError, KeyError, TypeError):
        last = err.strip().rpartition("\n")[2] or f"it ended with {process.returncode}"
        raise NotDone(last[:300]) from None


def _end(process: subprocess.Popen[str]) -> None:
    """End a run with whatever it has started: it has a session of its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None and not stream.closed:
            stream.close()


class _MemoryWatch:
    """Looks at the memory of a process and its children until it is ended."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="allcores-memory", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(LOOK_S):
            self.peak = max(self.peak, procfs.tree_proportional_bytes(self._pid))


def are_same(expected: Path, found: Path) -> bool:
    """Whether two files hold the same results, floats within `NEAR`."""
    if expected == found:
        return True
    with expected.open(encoding="utf-8") as one, found.open(encoding="utf-8") as other:
        for first, second in zip(one, other, strict=False):
            if first != second and not _near(json.loads(first), json.loads(second)):
                return False
        return not one.readline() and not other.readline()


def _near(first: Any, second: Any) -> bool:
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_near(first[name], second[name]) for name in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_near, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return abs(first - second) <= NEAR
    return bool(first == second)
