"""Calls in this process: in a loop, beside a thread that wants its turn, and in threads."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any

#: seconds between two turns of the thread that wants one
TICK_S = 0.001
#: what a call may raise and has failed then, as an item of a pool has. Ctrl-C is not the function's.
FAILURES = (Exception, SystemExit)


@dataclass(slots=True)
class Loop:
    """A loop over some items.

    Attributes:
        wall_s: Seconds that passed.
        cpu_s: Processor seconds of the process.
        system_s: Those in the kernel.
        switches: Times that this thread gave up its core by itself.
        failed: Calls that raised.
        faults: Pages that the kernel had to find for this thread: most are large objects', made anew.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    system_s: float = 0.0
    switches: int = 0
    failed: int = 0
    faults: int = 0


def call_all(fn: Callable[[Any], Any], items: Sequence[Any]) -> int:
    """`fn(item)` for each, in a list, as a loop that it stands for makes one; how many raised."""
    failed = 0
    kept: list[Any] = []
    for item in items:
        try:
            kept.append(fn(item))
        except FAILURES:
            failed += 1
    return failed


def drop_all(fn: Callable[[Any], Any], items: Sequence[Any]) -> int:
    """`fn(item)` for each, and nobody keeps what it returns; how many raised."""
    failed = 0
    for item in items:
        try:
            fn(item)
        except FAILURES:
            failed += 1
    return failed


def loop(fn: Callable[[Any], Any], items: Sequence[Any], *, kept: bool = True) -> Loop:
    """The plain loop, measured; its results are kept in a list, or dropped."""
    used = _usage()
    cpu, wall = process_time(), perf_counter()
    failed = call_all(fn, items) if kept else drop_all(fn, items)
    wall, cpu = perf_counter() - wall, process_time() - cpu
    system, switches, faults = _usage()
    return Loop(wall, cpu, system - used[0], switches - used[1], failed, faults - used[2])


def each(fn: Callable[[Any], Any], items: Sequence[Any], *, most_s: float = math.inf) -> tuple[Loop, list[float]]:
    """The same with the seconds of each call; for calls that take much longer than reading two clocks.

    Of calls that do not wait, processor seconds: those do not vary with what other programs do.

    Args:
        fn: The function.
        items: What it is called with.
        most_s: No call begins after so many seconds: some items may take far longer than the first ones did.
    """
    passed: list[float] = []
    computed: list[float] = []
    kept: list[Any] = []
    used = _usage()
    cpu, start = process_time(), perf_counter()
    failed = 0
    before, before_cpu = start, cpu
    for item in items:
        try:
            kept.append(fn(item))
        except FAILURES:
            failed += 1
        now, now_cpu = perf_counter(), process_time()
        passed.append(now - before)
        computed.append(now_cpu - before_cpu)
        before, before_cpu = now, now_cpu
        if now - start > most_s:
            break
    wall, cpu = before - start, before_cpu - cpu
    system, switches, faults = _usage()
    switches -= used[1]
    waits = switches >= 0.5 * len(passed) or cpu > wall
    return Loop(wall, cpu, system - used[0], switches, failed, faults - used[2]), passed if waits else computed


def _usage(*, everywhere: bool = False) -> tuple[float, int, int]:
    """Seconds in the kernel, voluntary switches and page faults of this thread; zeros where they cannot be told."""
    try:
        import resource
    except ImportError:
        return 0.0, 0, 0
    who = resource.RUSAGE_SELF if everywhere else getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
    usage = resource.getrusage(who)
    return usage.ru_stime, usage.ru_nvcsw, usage.ru_minflt


def page_faults() -> int:
    """Of all threads of this process so far; 0 where they cannot be told."""
    return _usage(everywhere=True)[2]


class _Ticker(threading.Thread):
    """Sleeps a millisecond again and again, and notes how much later than that it runs.

    While a function holds the interpreter's lock, this thread gets it after the switch interval (5 ms) if bytecode
    runs, and after the whole call if it is C code that keeps the lock.
    """

    def __init__(self) -> None:
        super().__init__(name="allcores-ticker", daemon=True)
        self.late: list[float] = []
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.is_set():
            before = perf_counter()
            time.sleep(TICK_S)
            self.late.append(perf_counter() - before - TICK_S)

    def end(self) -> float:
        """Stop it; the mean of what it was late, in seconds."""
        self._end.set()
        self.join()
        # the last turn may have begun when the function was done
        counted = self.late[:-1] or self.late
        return sum(counted) / len(counted) if counted else 0.0


def lateness(fn: Callable[[Any], Any], items: Sequence[Any]) -> float:
    """Seconds by which a thread that wakes up each millisecond comes late while `fn` runs, beyond those at rest."""
    rest = _late(lambda: threading.Event().wait(0.05))
    return max(0.0, _late(lambda: call_all(fn, items)) - rest)


def _late(run: Callable[[], object]) -> float:
    """Seconds by which the thread comes late while something runs; however that ends, it ends with it."""
    ticker = _Ticker()
    ticker.start()
    try:
        run()
    finally:
        late = ticker.end()
    return late
