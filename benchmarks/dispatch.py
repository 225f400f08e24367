"""Many workers that only sleep: what the parent can hand out, and what a task costs it."""

from __future__ import annotations

import itertools
import time
from functools import partial

from benchmarks.contenders import Contender
from benchmarks.processes import Host
from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings
from benchmarks.tasks import nap


def dispatch(contender: Contender, naps: int, seconds: float) -> dict[str, float]:
    """Tasks a second, and µs of CPU time of this process (all its threads) per task."""
    ready = contender.one_by_one(nap, itertools.repeat(seconds, contender.workers * 4))
    assert sum(1 for _ in ready) == contender.workers * 4
    cpu = time.process_time()
    started = time.perf_counter()
    done = sum(1 for _ in contender.one_by_one(nap, itertools.repeat(seconds, naps)))
    taken = time.perf_counter() - started
    assert done == naps, "results are missing"
    return {"rate": naps / taken, "cpu_us": (time.process_time() - cpu) / naps * 1e6}


def _many(settings: Settings) -> Row:
    workers, naps = settings.size(128, 8), settings.size(20_000, 400)
    row = Row(
        "dispatch",
        f"One-item tasks a second to {workers} workers, each task a sleep of 5 ms",
        "tasks per second",
        f"{naps:,} items, unordered, sent one by one (chunk of 1). {workers} workers that sleep 5 ms "
        "could take "
        f"{workers / 0.005:,.0f} a second. The workers' own work shares the machine's cores with the parent. "
        "Median of 3 rounds; peers are measured over fewer items.",
    )
    names = settings.names(without=("joblib", "ray", "dask"))
    with settings.hosts(names, workers=workers) as hosts:
        measures = {
            name: partial(_rate, host, naps if name == "allcores" else naps // 2) for name, host in hosts.items()
        }
        in_turn(row, measures, min(settings.rounds, 3), settings)
    row.judge("one-item tasks a second", row.samples.get("allcores", ()), least=20_000)
    return row


def _rate(host: Host, naps: int) -> float:
    return float(host.measure("dispatch:dispatch", naps=naps, seconds=0.005, limit_s=60.0)["rate"])


def _cost(host: Host, naps: int, seconds: float) -> float:
    return float(host.measure("dispatch:dispatch", naps=naps, seconds=seconds, limit_s=60.0)["cpu_us"])


def _per_task(settings: Settings) -> Row:
    sizes = (2, 4, 8) if settings.quick else (8, 32, 128)
    naps = settings.size(8_000, 200)
    row = Row(
        "dispatch-cost",
        f"CPU time of the parent per one-item task, with {sizes[0]}, {sizes[1]} and {sizes[2]} workers",
        "µs of CPU per task",
        "All threads of the parent together. Sleeps are as long as makes 4,000 tasks a second in all three "
        "cases, since a busier driver finds more answers at each look and is cheaper per task. Median of "
        "3 rounds.",
    )
    names = settings.names(without=("joblib", "mpire", "ray", "dask"))
    hosts = {f"{name}, {size} workers": Host(name, size) for name in names for size in sizes}
    try:
        measures = {
            key: partial(_cost, host, naps if key.startswith("allcores") else naps // 2, size / 4_000)
            for (key, host), size in zip(hosts.items(), itertools.cycle(sizes), strict=False)
        }
        in_turn(row, measures, min(settings.rounds, 3), settings)
    finally:
        for host in hosts.values():
            host.close()
    few, many = f"allcores, {sizes[0]} workers", f"allcores, {sizes[-1]} workers"
    row.judge(f"cost with {sizes[-1]} workers / cost with {sizes[0]}", row.ratios(many, few), most=1.1)
    return row


def rows(settings: Settings) -> list[Row]:
    """`dispatch`, `dispatch-cost`."""
    return [_many(settings), _per_task(settings)]
