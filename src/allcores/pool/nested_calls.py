"""Calls of the module's functions in a task that a thread of the program runs for the pool behind these functions."""

from __future__ import annotations

from collections.abc import Iterable

from allcores.backends.base import is_in_task_of
from allcores.pool.pool import Pool, driver_of


def pool_within(pools: Iterable[Pool]) -> Pool | None:
    """A pool for what such a task calls; None if this thread is in no task of these pools.

    Their threads may all be in such tasks, and what these wait for would never begin. Each has one core, its own.
    """
    if any(is_in_task_of(driver_of(pool)) for pool in pools):
        return Pool(backend="serial", name="shared")
    return None
