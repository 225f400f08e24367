"""Real loads: how much of the cores reaches the tasks.

The measure is what two processes reach that know nothing of each other: each has half of the work from
the start (shared out by known cost, the longest first) and runs it in a plain loop. That is more honest
than twice the serial speed: two busy cores are often slower than one.

On a virtual machine even that limit moves: its cores may lose half their speed for a second to other
virtual machines, which none of them can see. So each task also takes its own processor time, and the share of the
cores' time that went into tasks is told beside the wall time. It stays what it is when the cores slow down.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks import tasks
from benchmarks.contenders import Contender, Unconnected
from benchmarks.processes import Host
from benchmarks.rows import Row, Spread, in_turn
from benchmarks.settings import Settings


@dataclass(frozen=True)
class Load:
    """A function, its items, and how peers are to be called for it.

    costs: what the items take, in any unit.
    chunk: the size that suits the peers best among 1, 4, 16 and 64.
    as_list: called with a list (`map`) and not with a generator.
    """

    title: str
    function: str
    items: list[int]
    costs: list[float]
    chunk: int
    as_list: bool = False


def loads(share: float) -> dict[str, Load]:
    """The three loads; `share` of the full number of items, the same ones every time."""
    chance = random.Random(7)
    limits = [chance.randrange(5_000, 60_000) for _ in range(max(4, int(60 * share)))]
    numbers = list(range(int(10_000 * share)))
    steps = [int(10_000 * chance.lognormvariate(0.0, 1.5)) for _ in range(int(1_500 * share))]
    return {
        "primes": Load(
            f"Counting primes below {len(limits)} limits of 5,000 to 60,000, `map` of a list",
            "count_primes",
            limits,
            [limit**1.45 for limit in limits],
            1,
            as_list=True,
        ),
        "hashes": Load(
            f"{len(numbers):,} items hashed (some 100 µs each), streamed from a generator",
            "hash_item",
            numbers,
            [1.0] * len(numbers),
            64,
        ),
        "lognormal": Load(
            f"{len(steps):,} loops of log-normal length (median 0.5 ms, sigma 1.5), streamed from a generator",
            "spin",
            steps,
            [float(count) for count in steps],
            4,
        ),
    }


def shared_out(load: Load, shares: int) -> list[list[int]]:
    """The items in `shares` lists of nearly equal cost: the longest first, each to the least laden."""
    laden = [0.0] * shares
    lists: list[list[tuple[int, int]]] = [[] for _ in range(shares)]
    for position in sorted(range(len(load.items)), key=lambda at: -load.costs[at]):
        least = laden.index(min(laden))
        laden[least] += load.costs[position]
        lists[least].append((position, load.items[position]))
    return [[item for _, item in sorted(part)] for part in lists]


class Timed(float):
    """Seconds of a load, with the share of the cores' time that went into tasks."""

    core_use = 0.0


def run_load(contender: Contender, name: str, share: float, warm: bool = False) -> tuple[float, float]:
    """Seconds for the whole load, and the processor seconds that its tasks took in themselves."""
    load = loads(share)[name]
    function = partial(tasks.cpu_seconds, getattr(tasks, load.function))
    items: list[Any] = load.items[:8] if warm else load.items
    if isinstance(contender, Unconnected):
        return contender.split_run(function, shared_out(load, contender.workers))
    started = time.perf_counter()
    if load.as_list:
        taken = contender.list_map(function, items, load.chunk)
    else:
        taken = list(contender.stream(function, (item for item in items), load.chunk))
    seconds = time.perf_counter() - started
    assert len(taken) == len(items), "results are missing"
    return seconds, sum(taken)


def _measure(host: Host, name: str, share: float) -> Timed:
    seconds, in_tasks = host.measure("loads:run_load", name=name, share=share)
    timed = Timed(seconds)
    timed.core_use = in_tasks / seconds / (1 if host.contender == "serial" else host.workers)
    return timed


def _core_use(row: Row, contender: str) -> list[float | None]:
    return [sample.core_use if isinstance(sample, Timed) else None for sample in row.samples.get(contender, ())]


def rows(settings: Settings) -> list[Row]:
    """`primes`, `hashes`, `lognormal`."""
    share = 0.005 if settings.quick else 1.0
    made = []
    for name, load in loads(share).items():
        row = Row(
            name,
            load.title,
            "seconds",
            f"Two workers, warm. Peers with the chunk that suits them ({load.chunk}); allcores is given none. "
            "Efficiency is the time of two unconnected processes divided by the contender's, in the same "
            "round. The remark tells how much of the cores' time went into the tasks: their own processor "
            "time divided by workers and wall time.",
        )
        names = settings.names("unconnected", "serial")
        names.insert(1, names.pop(names.index("unconnected")))  # right after allcores: less time for drift
        with settings.hosts(names) as hosts:
            for host in hosts.values():
                if host.contender not in ("serial", "unconnected"):
                    try:
                        host.measure("loads:run_load", name=name, share=share, warm=True)
                    except Exception as error:
                        settings.say(f"warming up: {error}")
            measures = {key: partial(_measure, host, name, share) for key, host in hosts.items()}
            in_turn(row, measures, settings.rounds, settings)
        row.judge("efficiency of allcores", row.ratios("unconnected", "allcores"), least=0.97)
        for key in row.samples:
            spread = Spread.of(_core_use(row, key))
            if spread is not None:
                row.notes.setdefault(key, f"{spread.median:.1%} in tasks")
        both = zip(_core_use(row, "allcores"), _core_use(row, "unconnected"), strict=True)
        row.judge(
            "for comparison, cores' time in tasks, allcores / unconnected",
            [ours / theirs if ours and theirs else None for ours, theirs in both],
            least=0.97,
        )
        made.append(row)
    return made
