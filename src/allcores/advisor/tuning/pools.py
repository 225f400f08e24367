"""The pools of a search: open as long as there is room, warm before they are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from time import perf_counter
from typing import Any

from allcores.advisor.measuring.loops import FAILURES
from allcores.limits import Limits
from allcores.pool.pool import Pool
from allcores.tuned.setting import PoolSetting

#: looks at the clock within a run, about
LOOKS = 40
#: workers of all open pools together, at most: so many, or so many times the cores
MOST_WORKERS, MOST_PER_CORE = 16, 4


class Pools:
    """The pools that settings run on.

    Args:
        fn: The function.
        cores: Of the core budget.
    """

    def __init__(self, fn: Callable[[Any], Any], cores: int) -> None:
        self._fn = fn
        self._most = max(MOST_WORKERS, MOST_PER_CORE * cores)
        self._open: dict[tuple[str, int, int | None], Pool] = {}
        self._is_warm = False

    def close(self) -> None:
        """End all workers."""
        while self._open:
            self._open.popitem()[1].close()

    def drop(self, setting: PoolSetting) -> None:
        """End the pool of a setting, if there is one."""
        pool = self._open.pop(setting.place, None)
        if pool is not None:
            pool.close()

    def ready(self, setting: PoolSetting, items: Sequence[Any]) -> float | None:
        """Have the pool of a setting there, warm; seconds until it was, None if it was there.

        Args:
            setting: Which.
            items: A few, which each worker is given one of.
        """
        if setting.backend == "serial":
            if not self._is_warm and items:
                self._is_warm = True
                run_loop(self._fn, items[:1], 1e9)
            return None
        pool = self._open.pop(setting.place, None)
        if pool is not None:
            self._open[setting.place] = pool  # the one that was used last goes last
            return None
        while self._open and setting.workers + sum(each.workers for each in self._open.values()) > self._most:
            self._open.pop(next(iter(self._open))).close()
        start = perf_counter()
        pool = Pool(
            setting.workers,
            backend=setting.backend,
            # What workers are forked from is started with this pool, as in a program that has this one: those of the
            # pools before it would make the start look four times as quick.
            preload=_nothing if setting.backend == "processes" else None,
            limits=Limits(depth=setting.depth),
            name="tune",
            logs=False,
        )
        self._open[setting.place] = pool
        pool.map(self._fn, items[: setting.workers], chunk=1, on_error="skip")
        return perf_counter() - start

    def run(self, setting: PoolSetting, items: Sequence[Any], most_s: float) -> tuple[int, float]:
        """Run a setting over items, for so many seconds at most: how many returned, and in how many seconds.

        Items that fail do not count: a setting in which they do is slow, however quickly that goes.
        """
        if setting.backend == "serial":
            return run_loop(self._fn, items, most_s)
        pool = self._open[setting.place]
        step = max(1, len(items) // LOOKS)
        done = 0
        start = perf_counter()
        with pool.imap(self._fn, items, chunk=setting.chunk, on_error="skip") as stream:
            results = iter(stream)
            while got := len(list(islice(results, step))):
                done += got
                if perf_counter() - start > most_s:
                    return done, perf_counter() - start
            return done, perf_counter() - start


def _nothing() -> None:
    """A preload that loads nothing: a pool with one shares its template with no other."""


def run_loop(fn: Callable[[Any], Any], items: Sequence[Any], most_s: float) -> tuple[int, float]:
    """The same in a loop; results are kept until its end, as those of a map are."""
    step = max(1, len(items) // LOOKS)
    kept: list[Any] = []
    start = perf_counter()
    for first in range(0, len(items), step):
        for item in items[first : first + step]:
            try:
                kept.append(fn(item))
            except FAILURES:
                continue
        if perf_counter() - start > most_s:
            break
    return len(kept), perf_counter() - start
