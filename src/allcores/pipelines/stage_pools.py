"""The pools of a plan. Options are said once for all of them, and each is given those that are for its kind."""

from __future__ import annotations

import dataclasses
from typing import Any

from allcores.errors import UsageError
from allcores.limits import Limits
from allcores.pipelines.fused import load_all
from allcores.pipelines.plan import Plan, PlannedPool
from allcores.pipelines.steps import ON_CLUSTERS
from allcores.pool.pool import Pool

_BY_STEP = "say it of the step, .map(fn, preload=...), whose first argument it is then"
#: options of `Pool` that would change what steps are given, and what to do instead
OF_STEPS = {
    "preload": _BY_STEP,
    "preload_args": _BY_STEP,
    "setup": _BY_STEP,
    "setup_args": _BY_STEP,
    "teardown": "what a step has loaded goes with the workers",
    "tuned": "workers are shared by stages with different functions",
}


def open_pool(plan: Plan, planned: PlannedPool, limits: Limits, options: dict[str, Any]) -> Pool:
    """The workers of a part of a plan.

    Args:
        plan: The plan.
        planned: One of its pools.
        limits: Of that pool.
        options: Further ones of `Pool`, for all pools of the plan.

    Raises:
        UsageError: For an option that is a step's.
        NotSupported: For one that is for no pool of the plan.
    """
    for name in OF_STEPS:
        if name in options:
            raise UsageError(f"{name}= is no option of a pipeline: {OF_STEPS[name]}.")
    used = [plan.pools[stage.pool] for stage in plan.stages if stage.kind == "pool"]
    name = options.get("name", "pipeline")
    options = {**options, "name": name if planned.shared else f"{name}: {planned.name}"}
    if planned.loaders:
        options = {**options, "preload": load_all, "preload_args": planned.loaders}
    # What no pool of the plan takes stays, so that `Pool` says why.
    if planned.on != "processes" and any(each.on == "processes" for each in used):
        options.pop("start_method", None)
    if not _on_nodes(planned) and any(map(_on_nodes, used)):
        options.pop("address", None)
    if not _has_processes(planned) and any(map(_has_processes, used)):
        limits = dataclasses.replace(
            limits, memory_per_worker=None, items_per_worker=None, growth_per_worker=None, memory_reserve="auto"
        )
    return Pool(None if _on_nodes(planned) else planned.workers, backend=planned.on, limits=limits, **options)


def _on_nodes(planned: PlannedPool) -> bool:
    return planned.on.partition("://")[0] in ON_CLUSTERS


def _has_processes(planned: PlannedPool) -> bool:
    """It has workers that a limit may end; on nodes, too."""
    return planned.on == "processes" or _on_nodes(planned)
