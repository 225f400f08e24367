"""Real runs on nodes of this machine beside what the model says of them.

Items sleep: a machine with few cores has as many workers as one likes, as long as what carries items finds a core. The
model gives each driver, scheduler and node a core of its own. Here they are idle most of the time, and share.
"""

from __future__ import annotations

import importlib
import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import allcores
from allcores import Pool
from benchmarks.report import machine
from benchmarks.rows import Spread
from benchmarks.scale.cluster_program import nodes_here
from benchmarks.scale.costs import Costs
from benchmarks.scale.measure import Messages
from benchmarks.scale.model import Cluster, Result, Run, as_it_is, of_items
from benchmarks.scale.tasks import sleep_for
from benchmarks.scale.times import Times

#: nodes, and cores of each
SHAPES = ((2, 1), (2, 2), (4, 2), (4, 4))
#: of an item: it sleeps so long on the average
TIMES = Times(0.02)
#: seconds that a run would take if no worker were ever idle
IDEAL_S = 3.0
#: chunks of so many items; None: they size themselves
CHUNKS = (None, 8)
SEEDS = range(1, 12)


@dataclass(frozen=True)
class Case:
    """One kind of run."""

    nodes: int
    cores: int
    chunk: int | None

    @property
    def items(self) -> int:
        """How many it has."""
        return round(IDEAL_S * self.nodes * self.cores / TIMES.mean_s)

    def seconds(self) -> list[float]:
        """Of each item; together as much as their mean says."""
        rng = random.Random(1)
        drawn = [TIMES.draw(rng) for _ in range(self.items)]
        part = self.items * TIMES.mean_s / sum(drawn)
        return [each * part for each in drawn]

    def predicted(self, costs: Costs) -> list[Result]:
        """What the model says, for several seeds."""
        rule = as_it_is if self.chunk is None else of_items(self.chunk)
        cluster = Cluster(self.nodes, self.cores)
        return [Run(self.items, TIMES, cluster, costs, rule, seed).play() for seed in SEEDS]


def check(rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Every case, so many times."""
    distributed: Any = importlib.import_module("distributed")
    costs = Costs.measured()
    lines: list[dict[str, Any]] = []
    loads = [os.getloadavg()[0]]
    messages = Messages()
    try:
        for nodes, cores in SHAPES:
            with (
                nodes_here(nodes, cores) as address,
                distributed.Client(address, set_as_default=False) as client,
                Pool(backend="dask", address=client) as pool,
            ):
                pool.map(sleep_for, [0.001] * 50 * nodes * cores, chunk=1)
                for chunk in CHUNKS:
                    case = Case(nodes, cores, chunk)
                    taken, sent = [], []
                    for _ in range(rounds):
                        before, begun = messages.count, time.perf_counter()
                        found = sum(1 for _ in pool.imap_unordered(sleep_for, case.seconds(), chunk=chunk))
                        taken.append(time.perf_counter() - begun)
                        sent.append(float(messages.count - before))
                        assert found == case.items, "results are missing"
                    results = case.predicted(costs)
                    lines.append(
                        {
                            "nodes": nodes,
                            "cores": cores,
                            "chunk": chunk,
                            "items": case.items,
                            "predicted_s": statistics.median(each.seconds for each in results),
                            "predicted_messages": statistics.median(each.messages for each in results),
                            "measured_s": vars(Spread.of(taken)),
                            "measured_messages": vars(Spread.of(sent)),
                        }
                    )
                    loads.append(os.getloadavg()[0])
                    say(f"{case}: load {loads[-1]:.1f}")
    finally:
        messages.close()
    facts = machine()
    return {
        "machine": {name: facts[name] for name in ("processor", "cores", "memory", "system", "Python")},
        "versions": {"allcores": allcores.__version__, "distributed": distributed.__version__},
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "rounds": rounds,
        "load": [round(min(loads), 1), round(max(loads), 1)],
        "mean_s": TIMES.mean_s,
        "ideal_s": IDEAL_S,
        "runs": lines,
    }


def table(facts: dict[str, Any]) -> list[str]:
    """Predicted beside measured."""
    lines = [
        "| workers | nodes × cores | items in a chunk | predicted, s | measured, s | measured / predicted "
        "| messages predicted | measured |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in facts["runs"]:
        taken, sent = run["measured_s"], run["measured_messages"]
        lines.append(
            f"| {run['nodes'] * run['cores']} | {run['nodes']} × {run['cores']} | {run['chunk'] or 'as it is'} "
            f"| {run['predicted_s']:.2f} | {taken['median']:.2f} ({taken['low']:.2f} to {taken['high']:.2f}) "
            f"| {taken['median'] / run['predicted_s']:.2f} | {run['predicted_messages']:.0f} "
            f"| {sent['median']:.0f} ({sent['low']:.0f} to {sent['high']:.0f}) |"
        )
    return lines
