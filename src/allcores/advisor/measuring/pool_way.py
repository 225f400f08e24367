"""The way of items and results between a program and its workers, measured with workers that do nothing else."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from allcores.advisor.measuring import in_worker
from allcores.advisor.measuring.calls import Calls
from allcores.advisor.measuring.machine import Load
from allcores.advisor.model import costs
from allcores.advisor.model.probes import Probes, Travel
from allcores.pool.pool import Pool

if TYPE_CHECKING:
    from allcores.advisor.measuring.in_worker import FirstCalls

#: seconds from which on what passed is the items' way
LEAST_WAY_S = 0.02
#: bytes of a result from which on its way back is measured with real results
LARGE_RESULT = 4096


def measured(calls: Calls, pool: Pool, probes: Probes, first: FirstCalls, results: list[Any], load: Load) -> Travel:
    """How long items and results take to a worker that does nothing with them.

    Args:
        calls: Of the function.
        pool: Its workers, which know it.
        probes: What is known so far, with what pickling takes.
        first: What the first calls have shown.
        results: Some of its results, if they are large.
        load: Of other programs.
    """
    known = probes.travel
    per_item = max(known.way_in_s + known.worker_s, 0.3e-6) + known.bytes_in / 300e6
    count = calls.count(2 * per_item, least=2, most=min(20_000, calls.most(known)))
    items = [item for _, item in calls.sample.look(count)]
    chunk = costs.chunk_for(probes, pool.workers)
    way_in = _drop(pool, items, chunk, per_item)
    way_out = first["loads_s"] + 0.3e-6
    if first["bytes_out"] > LARGE_RESULT and results:
        way_out = max(way_out, _drop(pool, results, 1, way_out + first["bytes_out"] / 300e6))
    parent_s = known.parent_s + first["loads_s"]
    if load.others() >= costs.BUSY_PART * load.cores:
        # What passed meanwhile is others' work for the most part: what is sure is pickling.
        way_in, way_out = known.parent_s + costs.ITEM_S, first["loads_s"] + costs.ITEM_S
    return replace(
        known,
        bytes_out=float(first["bytes_out"]),
        way_in_s=way_in,
        way_out_s=way_out,
        worker_s=known.worker_s + first["dumps_s"],
        parent_s=parent_s,
        problem=first["problem"],
        what=None if first["problem"] is None else "result",
    )


def _drop(pool: Pool, items: list[Any], chunk: int, computed: float) -> float:
    """Seconds of an item's way; as computed where there are too few of them for more than the start of a map."""
    pool.map(in_worker.drop, items[: pool.workers], chunk=1, on_error="skip")  # so that workers know it
    start = perf_counter()
    travelling = max(1, min(max(chunk, 256), len(items) // (4 * pool.workers)))
    pool.map(in_worker.drop, items, chunk=travelling, on_error="skip")  # of many some may not be able to
    seconds = perf_counter() - start
    measured = max(0.0, seconds - 0.5e-3) / max(1, len(items))
    return measured if seconds >= LEAST_WAY_S else min(measured, computed)
