"""What would change if something were different: one thing at a time, each of which can be tried."""

from __future__ import annotations

from dataclasses import dataclass, replace

from allcores.advisor.model import costs
from allcores.advisor.model.decision import LOAD_S, SHARE_BYTES, Decision, deviation
from allcores.advisor.model.intervals import Interval, spread_interval
from allcores.advisor.model.probes import Probes
from allcores.formatting import size_text

#: bytes of a result that is compact
COMPACT = 64
#: results that are smaller are compact already
LARGE_RESULT = 4096


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A change, and the speed-up of processes over today's loop with it.

    Attributes:
        name: Of the change.
        predicted: With the ends of 90 %.
        try_it: How to try it, in code or words.
        extrapolated: It is beyond what was measured.
    """

    name: str
    predicted: Interval
    try_it: str
    extrapolated: bool = False


def what_ifs(probes: Probes, decision: Decision) -> tuple[WhatIf, ...]:
    """Those that make sense here; none where processes cannot be used."""
    settings = [each.setting for each in decision.predictions if each.setting.pattern == "processes"]
    if not settings:
        return ()
    setting = settings[0]
    travel = probes.travel
    found: list[WhatIf] = []

    def add(name: str, changed: Probes, try_it: str, *, workers: int = setting.workers, **options: bool) -> None:
        given = {"preload": setting.preload, "share": setting.share, **options}
        # The trial was made without the change, so the formulas are brought to it without the change, too.
        cost = costs.processes_cost(changed, workers, fitted=costs.fit(probes, workers), **given)
        # The loop is today's in any case, of as many items.
        loop_s = costs.loop_seconds(replace(changed, timing=probes.timing))
        speedup = loop_s / max(cost.seconds, 1e-12)
        further = workers > setting.workers
        found.append(WhatIf(name, spread_interval(speedup, (2 if further else 1) * deviation(probes)), try_it, further))

    # Where memory, or the number of items, keeps workers below the cores there are, more of these change nothing.
    if decision.kind != "memory" and setting.workers >= probes.machine.cores:
        before = setting.workers
        for cores in (2 * setting.workers, 4 * setting.workers):
            workers = min(cores, costs.count_of(probes))
            if workers <= before:
                break  # there is no item for a further one
            more = replace(probes, machine=replace(probes.machine, cores=cores))
            add(f"{cores} cores", more, f"Pool(workers={workers}) on a machine that has them", workers=workers)
            before = workers
    if probes.items is not None:
        add("10 times as many items", replace(probes, items=10 * probes.items), "a longer input")
    if travel.bytes_out > LARGE_RESULT:
        way_out_s = max(costs.ITEM_S, travel.way_out_s * COMPACT / travel.bytes_out)
        part = (travel.bytes_in + COMPACT) / (travel.bytes_in + travel.bytes_out)
        compact = replace(
            travel,
            bytes_out=COMPACT,
            way_out_s=way_out_s,
            worker_s=travel.worker_s * part,
            parent_s=travel.parent_s * part,
        )
        # Nobody keeps what is large.
        timing = replace(probes.timing, wall_s=probes.timing.worker_s, dropped_s=0.0)
        add(
            "compact results",
            replace(probes, travel=compact, timing=timing),
            f"return {COMPACT} bytes, not {size_text(round(travel.bytes_out))}",
        )
    if travel.common_bytes >= SHARE_BYTES:
        add("without share", probes, "the common object in every item", share=False)
    elif travel.bytes_in > LARGE_RESULT:
        way_in_s = max(costs.ITEM_S, travel.way_in_s * COMPACT / travel.bytes_in)
        part = (COMPACT + travel.bytes_out) / (travel.bytes_in + travel.bytes_out)
        # The worker reads what it has unpickled before, which takes as long at least: both copy it.
        path = replace(travel, bytes_in=COMPACT, way_in_s=way_in_s, parent_s=travel.parent_s * part)
        add(
            "paths instead of data",
            replace(probes, travel=path),
            "give a path, an offset or an index, and read in the worker",
        )
    if probes.warm_start_s is not None and probes.start_s - probes.warm_start_s > LOAD_S:
        add("without preload", probes, "each worker loads by itself", preload=False)
    return tuple(found)
