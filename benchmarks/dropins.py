"""Drop-ins beside what they stand in for: the same calls of the same interface, in one program."""

from __future__ import annotations

import importlib
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks import dropins_joblib
from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings
from benchmarks.tasks import add_one

WORKERS = 2


@contextmanager
def _pools() -> Iterator[dict[str, Any]]:
    """A warm pool of each kind, with multiprocessing's own start method."""
    drop_in = importlib.import_module("allcores.adapters.multiprocessing")
    # The original first: it forks, and the other one has threads.
    with multiprocessing.Pool(WORKERS) as original, drop_in.Pool(WORKERS) as ours:
        pools = {"allcores": ours, "multiprocessing": original}
        for pool in pools.values():
            pool.map(add_one, range(1_000))
        yield pools


def _per_item(run: Callable[[], int], items: int) -> float:
    """µs an item; the median of up to five runs, as many as half a second allows."""
    taken: list[float] = []
    while len(taken) < 5 and sum(taken) < 0.5:
        started = time.perf_counter()
        total = run()
        taken.append(time.perf_counter() - started)
        assert total == items * (items + 1) // 2, "wrong results"
    return statistics.median(taken) / items * 1e6


def _imap(pool: Any, items: int) -> float:
    return _per_item(lambda: sum(pool.imap(add_one, (number for number in range(items)))), items)


def _map(pool: Any, items: int) -> float:
    numbers = list(range(items))
    return _per_item(lambda: sum(pool.map(add_one, numbers)), items)


def _apply(pool: Any, items: int) -> float:
    return _per_item(lambda: sum(pool.apply(add_one, (number,)) for number in range(items)), items)


def rows(settings: Settings) -> list[Row]:
    """`dropins-imap`, `dropins-map`, `dropins-apply`, and those of joblib."""
    own = settings.wants("dropins", "dropins-imap", "dropins-map", "dropins-apply")
    return [*(_pool_rows(settings) if own else ()), *dropins_joblib.rows(settings)]


def _pool_rows(settings: Settings) -> list[Row]:
    imap = Row(
        "dropins-imap",
        "`Pool.imap` of x+1 over a generator, with its default chunk size",
        "µs per item",
        "The drop-in `allcores.compat.Pool` beside `multiprocessing.Pool`, two workers each, warm. The original sends "
        "items one by one; the drop-in takes the default chunk size as leave to choose.",
    )
    listed = Row("dropins-map", "`Pool.map` of x+1 over a list", "µs per item", "Likewise; each chooses its chunks.")
    apply = Row("dropins-apply", "`Pool.apply` of x+1, one after the other", "µs per call", "Likewise.")
    with _pools() as pools:
        for row, measure, least in ((imap, _imap, 5_000), (listed, _map, 5_000), (apply, _apply, 100)):
            sizes = {
                "allcores": settings.size(1_000 if row is apply else 200_000, least),
                "multiprocessing": settings.size(1_000 if row is apply else 20_000 if row is imap else 200_000, least),
            }
            measures = {name: partial(measure, pool, sizes[name]) for name, pool in pools.items()}
            in_turn(row, measures, settings.rounds, settings)
    imap.judge("multiprocessing.Pool.imap / the drop-in", imap.ratios("multiprocessing", "allcores"), least=50.0)
    listed.judge("multiprocessing.Pool.map / the drop-in", listed.ratios("multiprocessing", "allcores"), least=0.5)
    apply.judge("multiprocessing.Pool.apply / the drop-in", apply.ratios("multiprocessing", "allcores"), least=1.0)
    return [imap, listed, apply]
