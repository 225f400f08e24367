"""Calls of the module's functions in a task of the pool behind these functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from allcores.backends.base import WorkerInit, state_in_task_of
from allcores.pool.pool import Pool, driver_of
from allcores.system import reloads
from allcores.transport import process_role
from allcores.transport.module_settings import Travelling

#: What holds for calls on a thread of the program, too. Observers see the outer call, whose item this is part of.
_ALSO_WITHIN = ("contextvars", "limits", "logs")


class PoolOfModule(Pool):
    """A pool behind the module's functions. What tasks call in its worker processes finds the same settings.

    Args:
        settings: Options of `Pool`.
        told: Names of those that were told by `configure`, here or to the pool that this process works for.
    """

    def __init__(self, settings: Mapping[str, Any], told: tuple[str, ...]) -> None:
        self.told = told
        #: modules that were loaded anew before its workers were started; None: these are in this very process, or nodes
        self.reloads = reloads.current() if settings.get("backend") in (None, "processes", "interpreters") else None
        if process_role.is_worker():
            # They see the outer call alone; a forked worker, and one that imports who told of them, has copies.
            settings = {name: value for name, value in settings.items() if name != "observers"}
        self._follows = {name: settings[name] for name in ("contextvars",) if settings.get(name)}
        # Nothing travels to threads; a process that is forked from this one has the settings by itself.
        self._travels = settings.get("backend") not in ("threads", "serial") and settings.get("start_method") != "fork"
        super().__init__(**settings)

    def _travelling(self, init: WorkerInit) -> WorkerInit:
        if not self._travels:
            return init
        setup, setup_args, teardown, preload, preload_args, around = init
        if preload is not None:
            # It knows its own alone: workers are copies of the process that runs it.
            preload = Travelling(preload, {"preload": preload, "preload_args": preload_args})
        known, own = dict(self._follows), self._worker_init
        if own.setup is not None:
            known |= {"setup": own.setup, "setup_args": own.setup_args, "teardown": own.teardown}
        if known:
            setup = Travelling(setup, known)
        return WorkerInit(setup, setup_args, teardown, preload, preload_args, around)


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
