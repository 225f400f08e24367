"""What a long stream leaves in the parent's memory."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks import tasks
from benchmarks.contenders import Contender
from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings


def status_mb(field: str) -> float:
    """A line of /proc/self/status in MB (10^6 bytes)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(field)


def forget_peak() -> bool:
    """Set the peak (VmHWM) back to the present size; False where the kernel does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def growth_mb(contender: Contender, items: int, task: str) -> float:
    """MB by which this process grew at its largest, over the stream of `items` small items."""
    fn = getattr(tasks, task)
    assert sum(contender.stream(tasks.add_one, iter(range(1_000)), 64)) == 500_500, "wrong results"
    exact = forget_peak()
    before = status_mb("VmRSS")
    largest = before
    total = 0
    results: Iterator[int] = contender.stream(fn, (number for number in range(items)), 64)
    for position, result in enumerate(results):
        total += result
        if position % 50_000 == 0:
            largest = max(largest, status_mb("VmRSS"))
    assert total == items * (items + 1) // 2, "wrong results"
    if exact:
        largest = max(largest, status_mb("VmHWM"))
    return largest - before


def stalled_mb(contender: Contender, seconds: float) -> dict[str, float]:
    """A consumer that takes one result of an endless input and then pauses: growth, and items pulled."""
    pulled = 0

    def endless() -> Iterator[int]:
        nonlocal pulled
        for number in itertools.count():
            pulled = number
            if number > 3_000_000:  # a peer that does not stop: enough is seen
                return
            yield number

    forget_peak()
    before = status_mb("VmRSS")
    results = contender.stream(tasks.add_one, endless(), 64)
    next(results)
    time.sleep(seconds)
    return {"mb": status_mb("VmRSS") - before, "pulled": float(pulled)}


def _fewer(row: Row, items: int) -> None:
    """Say which contenders had fewer items."""
    row.comparable = False
    for name in row.samples:
        if name != "allcores":
            row.notes.setdefault(name, f"over {items:,} items")


def rows(settings: Settings) -> list[Row]:
    """`memory`, `straggler`, `stalled`."""
    if sys.platform != "linux":
        settings.say("memory: needs /proc/self/status; skipped")
        return []
    items = settings.size(10_000_000, 20_000)
    fewer = settings.size(1_000_000, 20_000)
    stream = Row(
        "memory",
        f"Growth of the parent's memory over an ordered stream of {items:,} items",
        "MB",
        "Resident memory at its largest (VmHWM, set back before) minus that before the stream. Measured "
        "once. "
        f"Peers stream {fewer:,} items only, since they take long; what grows with them grows on.",
    )
    with settings.hosts(settings.names()) as hosts:
        measures = {
            name: partial(
                host.measure,
                "memory:growth_mb",
                items=items if name == "allcores" else fewer,
                task="add_one",
                limit_s=150.0,
            )
            for name, host in hosts.items()
        }
        in_turn(stream, measures, 1, settings)
    _fewer(stream, fewer)
    stream.judge(f"growth over {items:,} items, MB", stream.samples.get("allcores", ()), most=20.0)

    late = settings.size(2_000_000, 20_000)
    straggler = Row(
        "straggler",
        f"The same over {late:,} items of which the first takes two seconds",
        "MB",
        "Ordered: nothing can be handed out before the first item is done, so what is finished must wait "
        f"somewhere, or the input must. Measured once; peers stream {min(late, fewer):,} items.",
    )
    with settings.hosts(settings.names(without=("ray", "dask"))) as hosts:
        measures = {
            name: partial(
                host.measure,
                "memory:growth_mb",
                items=late if name == "allcores" else min(late, fewer),
                task="first_is_slow",
                limit_s=150.0,
            )
            for name, host in hosts.items()
        }
        in_turn(straggler, measures, 1, settings)
    _fewer(straggler, min(late, fewer))
    straggler.judge("growth behind a straggler, MB", straggler.samples.get("allcores", ()), most=20.0)

    stalled = Row(
        "stalled",
        "The same over an endless input whose consumer takes one result and then pauses for two seconds",
        "MB",
        "The remark tells how many items were pulled from the input meanwhile; it ends at 3,000,001. Measured once.",
    )

    def stall(name: str) -> float:
        answer = hosts[name].measure("memory:stalled_mb", seconds=settings.size(20, 2) / 10, limit_s=30.0)
        stalled.notes[name] = f"{answer['pulled']:,.0f} items pulled"
        return float(answer["mb"])

    with settings.hosts(settings.names(without=("ray", "dask", "executor", "pebble"))) as hosts:
        in_turn(stalled, {name: partial(stall, name) for name in hosts}, 1, settings)
    stalled.comparable = False
    stalled.judge("growth while the consumer pauses, MB", stalled.samples.get("allcores", ()), most=20.0)
    for name in settings.names(without=("allcores", "multiprocessing", "joblib", "mpire", "ray", "dask")):
        stalled.samples.setdefault(name, [None])
        stalled.notes[name] = "reads the whole input first: an endless one never ends"
    return [stream, straggler, stalled]
