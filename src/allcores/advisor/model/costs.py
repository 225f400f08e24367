"""Formulas: how long the whole input takes with a pattern, and where those seconds go.

A pool has three limits: the parent, which pickles items and reads results one after the other; the workers; and the
cores, which both share. The largest of them counts (docs/design/advice.md has each formula with its source).

    W_w = N (t slow(p) + w)                  seconds of work in workers; w: unpickling the item, pickling the result
    W_p = N (in + out) + ceil(N/k) h         seconds of the parent; h: more if it has slept meanwhile
    T   = start + max(W_p, W_w / p, (W_w + W_p) / min(c, p + 1)) + tail
    tail = k t (p-1) / (2 p) + sd sqrt(2 k ln p)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from allcores.advisor.model.probes import Probes, Trial

#: seconds that starting workers takes on a quick and quiet machine
LEAST_START_S = 0.04
#: seconds that a chunk costs in the parent: more makes chunks larger, less smaller
CHUNK_S = 120e-6
#: seconds more that a chunk costs where the parent has slept for a millisecond before it: the caches are the workers'
#: by then, and it takes one of their cores; a part of that where it has slept less
WOKEN_S, SLEPT_S = 230e-6, 1e-3
#: seconds that an item costs in the parent besides its bytes
ITEM_S = 0.3e-6
#: items of an input of unknown length: many
MANY = 10**9
#: seconds of work in a chunk at most: more leaves cores idle at the end, less gives no better balance
MOST_CHUNK_S = 0.05
#: deviation of an item's seconds, as part of them, from which on items spread themselves over workers
UNEVEN = 0.3
#: bytes of a chunk at most, items and results
MOST_CHUNK_BYTES = 8 << 20
#: part of a chunk's time that it may cost to send it
CHUNK_COST = 0.02
#: how much longer an item takes with another worker beside it, where that was not measured
USUAL_SLOWDOWN = 1.05
#: the bounds of what is measured: a loop in this process may meet page faults that workers do not
LEAST_SLOWDOWN, MOST_SLOWDOWN = 0.2, 20.0
#: cores' worth of other programs' work, as part of the cores, from which on measurements say nothing
BUSY_PART = 0.2
#: a thread of a pool costs an item this much at least: it takes turns for the interpreter's lock
THREAD_ITEM_S = 4e-6
#: seconds until threads of a pool are there, at least
THREADS_START_S = 2e-3
#: of what threads were spared of the kernel's seconds, how much they are taken to be spared again
SPARED_AGAIN = 0.25


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of a pattern, over the whole input.

    Attributes:
        seconds: From the start of the pool to the last result.
        start: Until the workers are there.
        work: In the function, of all workers together.
        transport_in: Pickling and sending items, in the parent.
        transport_out: Results, the same.
        worker_transport: Unpickling items and pickling results, in all workers.
        dispatch: Of the parent, for chunks.
        tail: At the end, when some workers have nothing to do.
        limit: What holds it up: "parent", "workers" or "cores".
        workers: How many.
    """

    seconds: float
    start: float
    work: float
    transport_in: float
    transport_out: float
    worker_transport: float
    dispatch: float
    tail: float
    limit: str
    workers: int

    @property
    def idle(self) -> float:
        """What is left of workers x seconds: workers that wait."""
        used = self.work + self.worker_transport + self.workers * self.start
        return max(0.0, self.workers * self.seconds - used)


def count_of(probes: Probes) -> int:
    """The number of items; very many if that is unknown."""
    return MANY if probes.items is None else probes.items


def loop_seconds(probes: Probes) -> float:
    """Seconds of the plain loop."""
    return count_of(probes) * probes.timing.wall_s + probes.timing.first_s


def chunk_for(probes: Probes, workers: int) -> int:
    """Items that had better travel together.

    Kruskal and Weiss (1985): k = (sqrt(2) N h / (sd p sqrt(ln p)))^(2/3), within bounds: at most 50 ms of work, a
    quarter of a worker's share and 8 MB; at least so many that sending a chunk costs no more than 2 % of it.
    """
    item_s = max(probes.timing.wall_s, 1e-9)
    count = count_of(probes)
    deviation = max(probes.timing.spread * item_s, 0.01 * item_s)
    kruskal_weiss = (math.sqrt(2) * count * CHUNK_S / (deviation * workers * math.sqrt(math.log(max(2, workers))))) ** (
        2 / 3
    )
    most = min(kruskal_weiss, MOST_CHUNK_S / item_s, count / (4 * workers))
    moved = probes.travel.bytes_in - probes.travel.common_bytes + probes.travel.bytes_out
    if moved > 0:
        most = min(most, MOST_CHUNK_BYTES / moved)
    least = min(CHUNK_S / (CHUNK_COST * item_s), count / (2 * workers))
    # bytes have the last word: a chunk is held in memory at both ends
    wanted = max(least, most) if moved <= 0 else min(max(least, most), max(1.0, MOST_CHUNK_BYTES / moved))
    return max(1, min(int(wanted), count))


def at_best(probes: Probes, workers: int, pattern: str = "processes") -> float:
    """The speed-up of workers if nothing but the work and the pickling took time: no machine does better.

    It is made of processor seconds alone, so it is the same on a busy machine.
    """
    count = count_of(probes)
    in_threads = pattern == "threads"
    item_s = probes.timing.wall_s if probes.timing.waits else min(probes.timing.wall_s, probes.timing.cpu_s)
    worked_s = item_s if in_threads else min(item_s, probes.timing.worker_s)
    parent = count * (THREAD_ITEM_S if in_threads else max(probes.travel.parent_s, ITEM_S))
    seconds = (THREADS_START_S if in_threads else LEAST_START_S) + max(parent, count * worked_s / workers)
    return count * item_s / seconds


def usl(two: float, workers: int) -> float:
    """Speed-up with more workers than the two that were measured: Gunther's law with contention alone.

    s = 2 / S(2) - 1; S(p) = p / (1 + s (p - 1)). Coherence needs a third measurement and is taken to be 0.
    """
    contention = min(1.0, max(0.0, 2 / max(two, 1e-9) - 1))
    return workers / (1 + contention * (workers - 1))


@dataclass(frozen=True, slots=True)
class Fit:
    """What makes the formulas give what a trial has measured.

    Attributes:
        slow: How much longer an item takes beside the other workers: they share memory, caches, the clock's budget.
        way: The same of its way. Below 1: it was measured without work, and with it the parent sends meanwhile.
    """

    slow: float
    way: float = 1.0


def fit(probes: Probes, workers: int) -> Fit:
    """From the trial with workers; the usual slowdown where there was none, or other programs were busy meanwhile.

    A trial says one figure, so one number is fitted: where it is slower than the formulas, the way takes longer, and
    the work as much less of that as it is a smaller part of both; where it is faster, the way takes less, and only
    beyond that the work itself. More workers than were tried slow each other down by Gunther's law with contention
    alone: each further one as much as the second.
    """
    if not probes.processes or probes.machine.others >= BUSY_PART * probes.machine.cores:
        return Fit(USUAL_SLOWDOWN)  # others' work has slowed the trial down, not the workers each other
    trial = min(probes.processes, key=lambda each: abs(each.workers - workers))
    items = max(trial.items, 1)
    alone = replace(probes, processes=(), items=items, start_s=0.0, warm_start_s=None)
    measured = items * probes.timing.wall_s / max(trial.speedup, 1e-9)

    def seconds(slow: float, way: float) -> float:
        fitted = Fit(slow, way)
        return processes_cost(alone, trial.workers, chunk=trial.chunk, share=trial.shared, fitted=fitted).seconds

    if seconds(1.0, 1.0) <= measured:
        part = _work_part(processes_cost(alone, trial.workers, chunk=trial.chunk, share=trial.shared, fitted=Fit(1.0)))
        slower = _where(lambda slow: seconds(1 + part * (slow - 1), slow), measured, 1.0, MOST_SLOWDOWN)
        found = Fit(1 + part * (slower - 1), slower)
    elif seconds(1.0, 0.0) <= measured:
        found = Fit(1.0, _where(lambda way: seconds(1.0, way), measured, 0.0, 1.0))
    else:
        found = Fit(_where(lambda slow: seconds(slow, 0.0), measured, LEAST_SLOWDOWN, 1.0), 0.0)
    if workers > trial.workers > 1 and found.slow > 1:
        found = replace(found, slow=1 + (found.slow - 1) * (workers - 1) / (trial.workers - 1))
    return found


def _work_part(cost: Cost) -> float:
    """What part of the seconds of all processes is the function's."""
    way = cost.transport_in + cost.transport_out + cost.dispatch + cost.worker_transport
    return cost.work / max(cost.work + way, 1e-12)


def _where(rising: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Where a function that rises reaches a value, between two ends; the nearer end if it does not."""
    if rising(high) <= wanted:
        return high
    for _ in range(60):
        middle = (low + high) / 2
        if rising(middle) <= wanted:
            low = middle
        else:
            high = middle
    return low


def processes_cost(
    probes: Probes,
    workers: int,
    *,
    chunk: int | None = None,
    preload: bool = False,
    share: bool = False,
    fitted: Fit | None = None,
) -> Cost:
    """Seconds of the whole input with worker processes.

    Args:
        probes: What was measured.
        workers: How many.
        chunk: Items that travel together; None for `chunk_for`.
        preload: The first call is made once, before the workers are forked.
        share: What is in every item is shared, not sent.
        fitted: How the formulas are brought to what was measured; None for what the trial of `probes` says. It is given
            where something in `probes` was changed after the trial.
    """
    count = count_of(probes)
    timing, travel = probes.timing, probes.travel
    chunk = chunk_for(probes, workers) if chunk is None else chunk
    fitted = fit(probes, workers) if fitted is None else fitted
    way_in = travel.way_in_s
    if share and travel.bytes_in > 0:
        way_in *= max(0.0, 1 - travel.common_bytes / travel.bytes_in)
    transport_in = fitted.way * count * max(way_in, ITEM_S)
    # Results are kept where a loop keeps them: pages that the kernel has to find for it, it finds for the parent.
    transport_out = fitted.way * count * (travel.way_out_s + timing.wall_s - timing.worker_s)
    asleep_s = chunk * timing.worker_s / workers
    dispatch = fitted.way * math.ceil(count / chunk) * (CHUNK_S + WOKEN_S * min(1.0, asleep_s / SLEPT_S))
    work = count * timing.worker_s * fitted.slow
    worker_transport = fitted.way * count * travel.worker_s
    start = probes.start_s if not preload or probes.warm_start_s is None else probes.warm_start_s
    parent = transport_in + transport_out + dispatch
    in_workers = work + worker_transport
    # A waiting worker needs no core: only what computes counts there.
    computing = min(1.0, timing.cpu_s / timing.wall_s) if timing.wall_s > 0 else 1.0
    limits = {
        "parent": parent,
        "workers": in_workers / workers,
        "cores": (work * computing + worker_transport + parent) / min(probes.machine.cores, workers + 1),
    }
    limit = max(limits, key=lambda name: limits[name])
    tail = 0.0
    if workers > 1:
        item_s = timing.worker_s
        tail = chunk * item_s * (workers - 1) / (2 * workers)
        tail += timing.spread * item_s * math.sqrt(2 * chunk * math.log(workers))
        tail = min(tail, limits[limit] * 0.5)
        # Of a few items some workers have one more than others, whatever chunks they travel in.
        tail = max(tail, limits["workers"] * last_round(probes, workers) - limits[limit])
    return Cost(
        seconds=start + limits[limit] + tail,
        start=start,
        work=work,
        transport_in=transport_in,
        transport_out=transport_out,
        worker_transport=worker_transport,
        dispatch=dispatch,
        tail=tail,
        limit=limit,
        workers=workers,
    )


def last_round(probes: Probes, workers: int) -> float:
    """How much longer it takes than workers that always have an item: 1.94 for 33 items in 32 workers, 1.33 for 3 in 2.

    Of items that take about as long as each other; others spread themselves, and so do those that compute in more
    threads than there are cores. Where there are many items it is next to nothing.
    """
    count, timing = count_of(probes), probes.timing
    spread = not timing.waits and (workers > probes.machine.cores or timing.spread > UNEVEN)
    if spread or count >= MANY or count < 1:
        return 1.0
    return math.ceil(count / workers) * workers / count


def threads_start(probes: Probes, workers: int) -> float:
    """Seconds until so many threads are there, and at the end of their pool."""
    return max(THREADS_START_S, probes.threads_start_s + max(0, workers - 2) * probes.thread_start_s)


def spared(probes: Probes, trial: Trial) -> float:
    """How many times as long threads take if they are not spared the page faults that they were spared in a trial."""
    quick = probes.timing.wall_s / max(trial.speedup, 1e-9)
    faults = min(trial.spared_s, probes.timing.system_s) / max(1, min(trial.workers, probes.machine.cores))
    return 1 + faults / max(quick, 1e-12)


def reached_by(probes: Probes, trial: Trial) -> float:
    """The speed-up of a trial with threads, less most of what page faults that they were spared have in it."""
    return trial.speedup / math.pow(spared(probes, trial), 1 - SPARED_AGAIN)


def threads_trial(probes: Probes, workers: int) -> Trial | None:
    """The trial that says how so many threads do: with as many, else with the next fewer."""
    if not probes.threads:
        return None
    exact = [trial for trial in probes.threads if trial.workers == workers]
    below = [trial for trial in probes.threads if trial.workers < workers] or list(probes.threads)
    return exact[0] if exact else below[-1]


def threads_seconds(probes: Probes, workers: int) -> float | None:
    """Seconds of the whole input with threads; None if no trial was made."""
    trial = threads_trial(probes, workers)
    if trial is None:
        return None
    reached = reached_by(probes, trial)
    if trial.workers == 2 and workers > 2:
        reached = usl(reached, workers)
    count = count_of(probes)
    steady = count * probes.timing.wall_s / max(reached, 1e-9)
    steady *= last_round(probes, workers)
    return threads_start(probes, workers) + probes.timing.first_s + steady


def least_items(start_s: float, item_s: float, steady: float, wanted: float) -> int | None:
    """How many items there must be so that a start of so many seconds is worth it; None if that never happens.

    Args:
        start_s: Seconds until workers are there.
        item_s: Seconds of an item in the loop.
        steady: The speed-up once workers are there.
        wanted: The speed-up that counts as worth it.
    """
    gain = 1 / wanted - 1 / steady if steady > 0 else 0.0
    if gain <= 0 or item_s <= 0:
        return None
    return math.ceil(start_s / (item_s * gain))


def least_item_seconds(probes: Probes, workers: int, wanted: float) -> float | None:
    """How long an item must take so that processes are worth it for a long input; None if it never helps."""
    long = replace(probes, items=MANY, start_s=0.0, warm_start_s=None)
    fitted = fit(probes, workers)

    def gain(item_s: float) -> float:
        timing = replace(probes.timing, wall_s=item_s, cpu_s=item_s, first_s=0.0, dropped_s=0.0)
        slower = replace(long, timing=timing)
        return loop_seconds(slower) / processes_cost(slower, workers, fitted=fitted).seconds

    low, high = 1e-8, 100.0
    if gain(high) < wanted:
        return None
    for _ in range(36):
        middle = math.sqrt(low * high)
        if gain(middle) < wanted:
            low = middle
        else:
            high = middle
    return high
