"""Where the workers' seconds went: a run of what is recommended, from its start, recorded by a timeline."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from allcores.advisor.measuring import in_worker, travel
from allcores.advisor.model.decision import Setting
from allcores.pool.pool import Pool
from allcores.timeline.breakdown import Use, breakdown
from allcores.timeline.recorder import Timeline


@dataclass(frozen=True, slots=True)
class CoreSeconds:
    """A recorded run.

    Attributes:
        workers: How many there were.
        seconds: From the opening of the pool to the end of its last work.
        items: That were run.
        uses: Where the seconds of all workers went; they add up to `workers` x `seconds`.
    """

    workers: int
    seconds: float
    items: int
    uses: tuple[Use, ...]


def recorded_run(fn: Callable[[Any], Any], items: list[Any], setting: Setting, shared: Any) -> CoreSeconds:
    """Run items with a setting in a pool of its own, so that the start of the workers is in it.

    Args:
        fn: The function.
        items: What it is called with.
        setting: Threads or processes.
        shared: What is in every item, for a setting that shares it; None.
    """
    timeline = Timeline(memory=False)
    preload = functools.partial(in_worker.warm, fn, items[0]) if setting.preload else None
    with Pool(
        setting.workers,
        backend="threads" if setting.pattern == "threads" else "processes",
        preload=preload,
        observers=[timeline],
        name="advice",
        logs=False,
    ) as pool:
        if setting.share and shared is not None:
            one = pool.share(shared)
            items = [travel.replaced(item, shared, one) for item in items]
        pool.map(fn, items, chunk=setting.chunk, on_error="skip")
    summed = breakdown(timeline.recording())
    uses = tuple(use for use in summed.uses if use.key != "unstarted")  # fewer workers than cores were wanted
    return CoreSeconds(setting.workers, summed.seconds, len(items), uses)
