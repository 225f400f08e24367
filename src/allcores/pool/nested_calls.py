"""Calls of the module's functions in a task that a thread of the program runs for the pool behind these functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from allcores.backends.base import state_in_task_of
from allcores.pool.pool import Pool, driver_of

#: What holds for such calls, too. Observers see the outer call, whose item this is part of.
_ALSO_WITHIN = ("contextvars", "limits", "logs")


def pool_within(pools: Iterable[Pool], settings: Mapping[str, Any]) -> Pool | None:
    """A pool for what such a task calls; None if this thread is in no task of these pools.

    Their threads may all be in such tasks, and what these wait for would never begin. Each has one core, its own. What
    `setup` or `preload` returned for the worker is given to what the task calls as well: nothing is set up once more.

    Args:
        pools: Those behind the module's functions.
        settings: What they were made with.
    """
    for pool in pools:
        state = state_in_task_of(driver_of(pool))
        if state is not None:
            options: dict[str, Any] = {name: settings[name] for name in _ALSO_WITHIN if name in settings}
            if state:
                options["preload"] = _Given(state[0])
            return Pool(backend="serial", name="shared", **options)
    return None


class _Given:
    """Stands for the function that made what is there already."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __call__(self) -> object:
        return self._value
