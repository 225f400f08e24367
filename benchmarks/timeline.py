"""What recording a timeline costs: the same work on two pools of one program, with and without."""

from __future__ import annotations

import importlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.processes import Host
from benchmarks.rows import Row
from benchmarks.settings import Settings
from benchmarks.tasks import add_one, hash_item

#: load -> function, items, items in a quick run, the ratio that is aimed at (None: for comparison)
LOADS: dict[str, tuple[Callable[[Any], Any], int, int, float | None]] = {
    "imap of hashes": (hash_item, 6_000, 200, 1.02),
    "imap of x+1": (add_one, 300_000, 5_000, 1.02),
    "outcomes of x+1": (add_one, 100_000, 2_000, None),
    "x+1, sent one by one": (add_one, 4_000, 200, None),
}


def _run(pool: Any, load: str, items: int) -> float:
    function = LOADS[load][0]
    verb = pool.outcomes if load.startswith("outcomes") else pool.imap
    started = time.perf_counter()
    done = sum(1 for _ in verb(function, iter(range(items)), chunk=1 if "one by one" in load else None))
    taken = time.perf_counter() - started
    assert done == items, "results are missing"
    return taken / items * 1e6


def cost(contender: Contender, load: str, items: int, turns: int) -> dict[str, float]:
    """µs per item without and with recording, medians of `turns` turns in alternation; and the median ratio."""
    allcores = importlib.import_module("allcores")
    descriptor, path = tempfile.mkstemp(suffix=".jsonl")
    os.close(descriptor)
    try:
        with (
            allcores.Pool(contender.workers) as plain,
            allcores.Pool(contender.workers, observers=[allcores.Timeline(path)]) as recorded,
        ):
            for pool in (plain, recorded):
                _run(pool, load, max(1, items // 10))
            pairs: list[tuple[float, float]] = []
            for turn in range(turns):
                # Who comes first changes, lest a trend of the machine is taken for a cost.
                ways = (plain, recorded) if turn % 2 else (recorded, plain)
                taken = {pool: _run(pool, load, items) for pool in ways}
                pairs.append((taken[plain], taken[recorded]))
    finally:
        os.unlink(path)
    off, on = (statistics.median(values) for values in zip(*pairs, strict=True))
    return {"off": off, "on": on, "ratio": statistics.median(b / a for a, b in pairs)}


def rows(settings: Settings) -> list[Row]:
    """`timeline`."""
    row = Row(
        "timeline",
        "Recording a timeline: the same work on two pools, one of them with `Timeline(path)`",
        "µs per item",
        "Two workers, warm; both pools in one program, in turns, median of 11 turns a round; the ratio is the "
        "median of the turns' ratios.",
    )
    with Host("allcores", settings.workers) as host:
        for load, (_, full, quick, most) in LOADS.items():
            ratios: list[float | None] = []
            for _ in range(settings.rounds):
                found = host.measure(
                    "timeline:cost", load=load, items=settings.size(full, quick), turns=settings.size(11, 1)
                )
                row.samples.setdefault(load, []).append(found["off"])
                row.samples.setdefault(f"{load}, recorded", []).append(found["on"])
                ratios.append(found["ratio"])
                settings.say(f"timeline: {load}: {found['off']:.3g} µs, recorded {found['on']:.3g} µs")
            aim = f"{load}: recorded / not recorded"
            row.judge(aim if most is not None else f"for comparison, {aim}", ratios, most=most or 1.2)
    row.comparable = False
    return [row]
