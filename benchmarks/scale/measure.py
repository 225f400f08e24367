"""Measures what `costs.py` has, on this machine, and keeps it in `measured.json` with machine, versions and spread.

Seconds of cores are those that the processes have used, which other work on the machine changes little; each is a
slope, fitted to maps whose chunks differ by a factor of a thousand.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import allcores
from allcores import Pool
from benchmarks import journal as journals
from benchmarks.report import machine
from benchmarks.rows import Spread
from benchmarks.scale.cluster_program import nodes_here
from benchmarks.scale.tasks import add_one, own_cpu_s, sleep_for

#: what is run to tell items, chunks and messages apart: function, items, chunk
MAPS: tuple[tuple[Callable[[Any], Any], Sequence[Any], int], ...] = (
    (sleep_for, [0.002] * 150, 1),
    (add_one, range(1_000), 1),
    (add_one, range(8_000), 8),
    (add_one, range(30_000), 64),
    (add_one, range(200_000), 1_024),
    (add_one, range(400_000), 8_192),
)
#: items of a journalled map, and of runs that go on
JOURNALLED, RESUMED = 300_000, (100_000, 1_000_000)


def fit(lines: Sequence[Sequence[float]], used: Sequence[float]) -> list[float]:
    """What each column costs, none less than nothing: least squares of the relative errors."""
    numpy: Any = importlib.import_module("numpy")
    table = numpy.array(lines) / numpy.array(used)[:, None]
    columns = list(range(table.shape[1]))
    while columns:
        found = numpy.linalg.lstsq(table[:, columns], numpy.ones(len(used)), rcond=None)[0]
        if (found >= 0).all():
            costs = dict(zip(columns, found.tolist(), strict=True))
            return [costs.get(column, 0.0) for column in range(table.shape[1])]
        columns.remove(columns[int(found.argmin())])
    return [0.0] * table.shape[1]


class Messages:
    """Counts what a driver sends."""

    def __init__(self) -> None:
        self.count = 0
        cluster: Any = importlib.import_module("allcores.adapters.dask_cluster").DaskCluster
        send = cluster.send

        def counted(*given: Any) -> Any:
            self.count += 1
            return send(*given)

        cluster.send = counted
        self._restore: Callable[[], None] = lambda: setattr(cluster, "send", send)

    def close(self) -> None:
        """Count no more."""
        self._restore()


def _map_costs(client: Any, pool: Pool, messages: Messages) -> dict[str, float]:
    """One round over MAPS."""
    lines: list[list[float]] = []
    used: list[list[float]] = []
    for function, items, chunk in MAPS:
        count = messages.count

        def look() -> tuple[float, float, float]:
            return own_cpu_s(), client.run_on_scheduler(own_cpu_s), sum(client.run(own_cpu_s).values())

        before = look()
        found = sum(1 for _ in pool.imap_unordered(function, items, chunk=chunk))
        assert found == len(items), "results are missing"
        after = look()
        lines.append([len(items), messages.count - count, len(items) / chunk])
        used.append([b - a for a, b in zip(before, after, strict=True)])
    driver, scheduler, node = zip(*used, strict=True)
    driver_item, driver_message = fit([line[:2] for line in lines], driver)
    _, scheduler_message = fit([line[:2] for line in lines], scheduler)
    node_item, node_message, node_chunk = fit(lines, node)
    calls = []
    for _ in range(60):
        begun = time.perf_counter()
        pool.submit(add_one, 1).result()
        calls.append(time.perf_counter() - begun)
    spent = driver_message + 2 * scheduler_message + node_message + node_chunk
    return {
        "driver_item_s": driver_item,
        "driver_message_s": driver_message,
        "scheduler_message_s": scheduler_message,
        "node_item_s": node_item,
        "node_message_s": node_message,
        "node_chunk_s": node_chunk,
        "latency_s": max(0.0, statistics.median(calls) - spent),
    }


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _journal_costs(pool: Pool) -> dict[str, float]:
    """Of a map on this machine with a journal, beside the same one without; output is written by both."""
    cpu: dict[bool, float] = {}
    size = 0
    for kept in (False, True):
        with tempfile.TemporaryDirectory(prefix="allcores-bench-") as folder:
            journal = allcores.Journal(folder=Path(folder) / "runs") if kept else False
            before = own_cpu_s()
            pool.run(add_one, journals.Numbers(JOURNALLED), str(Path(folder) / "out.jsonl"), journal=journal)
            cpu[kept] = own_cpu_s() - before
            if kept:
                size = _bytes_of(Path(folder) / "runs")
    return {
        "journal_item_s": max(0.0, cpu[True] - cpu[False]) / JOURNALLED,
        "journal_item_bytes": size / JOURNALLED,
    }


def _resume_costs() -> dict[str, float]:
    few, many = (journals.resume_facts(items, dirty_maps=False) for items in RESUMED)
    items = RESUMED[1] - RESUMED[0]
    slope = max(0.0, many["s"] - few["s"]) / items
    return {
        "resume_s": max(0.0, few["s"] - slope * RESUMED[0]),
        "resume_item_s": slope,
        "publish_item_s": max(0.0, many["whole_s"] - few["whole_s"]) / items,
    }


def measure(rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, so many times; medians with the least and the largest."""
    distributed: Any = importlib.import_module("distributed")
    samples: dict[str, list[float]] = {}
    loads = [os.getloadavg()[0]]
    messages = Messages()
    try:
        with nodes_here(1, 2) as address, distributed.Client(address, set_as_default=False) as client:
            for number in range(rounds):
                begun = time.perf_counter()
                with Pool(backend="dask", address=client) as pool:
                    pool.submit(add_one, 1).result()
                    found = {"start_s": time.perf_counter() - begun}
                    pool.map(add_one, range(10_000))
                    found |= _map_costs(client, pool, messages)
                with Pool(2) as pool:
                    pool.map(add_one, range(1_000))
                    found |= _journal_costs(pool)
                found |= _resume_costs()
                for name, value in found.items():
                    samples.setdefault(name, []).append(value)
                loads.append(os.getloadavg()[0])
                say(f"round {number + 1} of {rounds}: load {loads[-1]:.1f}")
    finally:
        messages.close()
    facts = machine()
    kept = ("processor", "cores", "memory", "system", "Python")
    return {
        "machine": {name: facts[name] for name in kept},
        "versions": {"allcores": allcores.__version__, "distributed": distributed.__version__},
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "rounds": rounds,
        "load": [round(min(loads), 1), round(max(loads), 1)],
        "costs": {name: vars(Spread.of(values)) for name, values in sorted(samples.items())},
    }


def keep(facts: dict[str, Any], path: Path) -> None:
    """Write them down."""
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def table(facts: dict[str, Any]) -> list[str]:
    """For a page: what was found, in units that can be read."""
    lines = ["| what | median | least | largest |", "|---|---|---|---|"]
    for name, found in facts["costs"].items():
        each = [_written(name, found[key]) for key in ("median", "low", "high")]
        lines.append(f"| `{name}` | {' | '.join(each)} |")
    return lines


def _written(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return f"{value:.3g} bytes"
    for unit, part in (("s", 1.0), ("ms", 1e-3)):
        if value >= part:
            return f"{value / part:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"
