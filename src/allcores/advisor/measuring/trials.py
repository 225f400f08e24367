"""Trials: threads and workers on real items beside a loop over the same ones, in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

from allcores.advisor.measuring import loops, travel
from allcores.advisor.measuring.calls import MOST_ITEMS, Calls
from allcores.advisor.model import costs
from allcores.advisor.model.decision import SHARE_BYTES
from allcores.advisor.model.probes import Probes, Trial, together
from allcores.pool.pool import Pool

#: pairs of a loop and workers, one after the other, that a trial is made of
PAIRS = 3
#: items, and chunks, for each thread of a trial, if there is time
ROUNDS, CHUNKS = 8, 16
#: part of the seconds that are left which the trials of one number of threads may take
THREADS_PART = 0.2
#: the same of all pairs of worker processes
PROCESSES_PART = 0.3
#: seconds of its loop, at least: a shorter one would measure the start of a map, and not what workers do to each other
LEAST_TRIAL_S = 0.05


def of_threads(calls: Calls, number: int, waits: bool) -> Trial | None:
    """So many threads of a pool against a loop, in pairs; None if there is no time, or the function does not bear it.

    Each thread has several items: the end of a map, when some have nothing to do, is a part of any map, and is counted
    apart. The first large objects of a thread meet page faults that later ones do not, so each has had one item.
    """
    each_s = calls.item_s / (number if waits else 1)
    least = min(MOST_ITEMS, int(LEAST_TRIAL_S / each_s))
    for rounds in (ROUNDS, ROUNDS // 2, 1):
        wanted = max(rounds * number, calls.count(each_s * PAIRS) // number * number)
        if rounds == ROUNDS and not waits:
            wanted = max(wanted, least // number * number)
        pair_s = wanted * each_s * (1.0 if waits else 1.0 + 1.0 / number)
        if pair_s <= THREADS_PART * calls.left():
            break
    else:
        return None
    pairs: list[Trial] = []
    with Pool(number, backend="threads", name="advice", logs=False) as pool:
        pool.map(abs, range(number), chunk=1)
        if not waits:
            pool.map(calls.fn, calls.take(number), chunk=1, on_error="skip")
        most_s = THREADS_PART * calls.left()
        while len(pairs) < (1 if waits else PAIRS):
            began = perf_counter()
            # As many for each: an item that is over would be waited for alone.
            items = calls.take(min(wanted, calls.sample.count) // number * number)
            if len(items) < number:
                break
            alone = loops.Loop(len(items) * calls.item_s)
            if not waits:
                alone = loops.loop(calls.fn, items)
                items = calls.take_same(items)
                if len(items) < number:
                    break
            chunk = max(1, len(items) // (CHUNKS * number))
            faults, start = loops.page_faults(), perf_counter()
            done = len(pool.map(calls.fn, items, chunk=chunk, on_error="skip"))
            seconds, faults = perf_counter() - start, loops.page_faults() - faults
            if len(items) - done > calls.failed + len(items) // 2:
                return None  # it cannot be called by several threads at a time
            spared = max(0.0, 1 - faults / alone.faults) if alone.faults else 0.0
            spared_s = spared * alone.system_s / len(items)
            pairs.append(Trial(number, alone.wall_s / max(seconds, 1e-9), len(items), spared_s=spared_s))
            most_s -= perf_counter() - began
            if most_s < perf_counter() - began:
                break
    return together(pairs) if pairs else None


def start_of_threads(numbers: Sequence[int]) -> tuple[float, float]:
    """Seconds until a pool of two threads is there and has ended, and seconds more for each further one.

    Args:
        numbers: Of threads that were tried.
    """
    first = _life_of_threads(2)
    most = max(numbers)
    if most <= 2:
        return first, 0.0
    # What is imported for the first is there for those that follow.
    again = _life_of_threads(2)
    return first, max(0.0, _life_of_threads(most) - again) / (most - 2)


def _life_of_threads(number: int) -> float:
    start = perf_counter()
    with Pool(number, backend="threads", name="advice", logs=False) as pool:
        pool.map(abs, range(number), chunk=1)
    return perf_counter() - start


def of_processes(calls: Calls, pool: Pool, probes: Probes, shared: Any) -> Trial | None:
    """Workers against a loop, in pairs, with what is in every item shared; None if loops are too short for that."""
    way, one = probes.travel, None
    if way.common_bytes >= SHARE_BYTES:
        one = pool.share(shared)
        rest = max(0.0, 1 - way.common_bytes / way.bytes_in)
        way = replace(way, way_in_s=way.way_in_s * rest, bytes_in=way.bytes_in * rest)
    chunk = costs.chunk_for(probes, pool.workers)
    per_item = calls.item_s / pool.workers + way.way_in_s + way.way_out_s
    wanted = calls.count(per_item, least=2 * pool.workers, most=calls.most(way))
    pairs: list[Trial] = []
    most_s = PROCESSES_PART * calls.left()
    # Rather three short pairs than a long one: nothing says how far off one alone is.
    fitting = int(most_s / PAIRS / (calls.item_s + per_item))
    if fitting >= 2 * pool.workers and fitting * calls.item_s >= LEAST_TRIAL_S:
        wanted = min(wanted, fitting)
    if wanted * (calls.item_s + per_item) > 2 * most_s:
        return None
    while len(pairs) < PAIRS and (items := calls.take(wanted)):
        began = perf_counter()
        alone_s = loops.loop(calls.fn, items).wall_s
        items = calls.take_same(items)
        if len(items) < pool.workers or alone_s < LEAST_TRIAL_S:
            break
        if one is not None:
            items = [travel.replaced(item, shared, one) for item in items]
        travelling = max(1, min(chunk, len(items) // (16 * pool.workers)))
        seconds, done = _timed_map(calls, pool, items, travelling)
        speedup = alone_s * done / len(items) / seconds
        pairs.append(Trial(pool.workers, speedup, done, chunk=travelling, shared=one is not None))
        most_s -= perf_counter() - began
        if most_s < perf_counter() - began:
            break
    return together(pairs) if pairs else None


def _timed_map(calls: Calls, pool: Pool, items: list[Any], chunk: int) -> tuple[float, int]:
    """Seconds of a map and how many items it has done in them: all, unless it takes too much of the budget."""
    most_s = max(0.2, 0.25 * calls.left())
    done = 0
    start = perf_counter()
    with pool.imap(calls.fn, items, chunk=chunk, on_error="skip") as stream:
        for _ in stream:
            done += 1
            if perf_counter() - start > most_s:
                break
        seconds = perf_counter() - start
    return max(seconds, 1e-9), max(done, 1)
