"""A pool on a real Ray cluster of two nodes: all of its methods, and a node and the head that are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.installed import needed

import allcores
from allcores.adapters.cluster.base import SchedulerLost

needed("ray")

#: Of the contract of all backends (tests/contract/backends), what a cluster has to keep by itself. Most of them share a
#: pool: one of its own is a process of Ray more on each node.
CONTRACT = (
    "test_map_gives_a_list_in_input_order",
    "test_imap_gives_results_in_input_order",
    "test_imap_unordered_gives_each_result_once",
    "test_outcomes_tell_all_about_each_item",
    "test_submit_",
    "test_many_futures",
    "test_large_items_and_results",
    "test_several_streams",
    "test_an_exception_of_the_input",
    "test_a_note_names_the_item",
    "test_the_line_that_failed",
    "test_skip_leaves_out",
    "test_what_would_end_the_callers_loop",
    "test_system_exit_tells",
    "test_an_item_gets_as_many_attempts",
    "test_only_chosen_exceptions",
    "test_retried_items_keep_their_place",
    "test_an_endless_input_is_never_pulled",
    "test_a_consumer_that_stops",
    "test_break_ends_an_endless_stream",
    "test_closing_in_the_middle",
    "test_a_waiting_call_can_be_cancelled",
    "test_setup_gets_what_preload_returns",
    "test_pools_live_side_by_side",
    "TestLogs",
)

#: What programs without the cluster's token hear: with another, with none, and that know nothing of tokens. What Ray
#: says is left out.
OUTSIDE = (
    "What listens at HEAD does not take this program for one of its Ray cluster",
    "The Ray cluster at HEAD wants a token, and this program has none, or another",
    "What listens at HEAD does not take this program for one of its Ray cluster",
)


def test_a_ray_cluster_keeps_what_a_pool_promises_whatever_is_lost(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{Path(allcores.__file__).parents[1]}"}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    # Whoever has no token is not let in.
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5" * 64}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).with_name("ray_program.py")), str(tmp_path), *CONTRACT],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=root,
        env=environment,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    import ray.exceptions

    has_tokens = hasattr(ray.exceptions, "AuthenticationError")
    told = json.loads(run.stdout.splitlines()[-1])
    assert told == {
        "contract": 0,
        "held": [4, True, True],
        "counted": True,
        "sent_mb": [10, 10],
        "outside": list(OUTSIDE) if has_tokens else [],
        "workers": 2,
        "map": True,
        "imap": True,
        "imap_unordered": True,
        "starmap": [3, 7],
        "reduce": 1560,
        "submit": [0, 2, 4],
        "aimap": True,
        "refused": [7, 17, 27],
        "ended": [[5, "worker_lost"]],
        "hung": [[2, "timed_out"]],
        "tried": [[number, 2] for number in range(6)],
        "shared": [256_000] * 4,
        "run": [40, True],
        "sentences": [True] * 4,
        "on_the_lost_node": 1,
        "met": [0, 1, 2, 3],
        "afterwards": True,
        "state": [[number, 5000, True] for number in range(3)],
        "head": ["The Ray cluster", True],
        "in_time": True,
        "went_on": [64, True, 64],
        "output": True,
    }


def test_a_pool_of_a_program_that_has_left_ray_begins_no_ray_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray has for programs connects one that is not, and starts a cluster for it: also to end an actor."""
    from allcores.adapters import ray_cluster

    def begun(*_: object, **__: object) -> None:
        raise AssertionError("Ray would have been started")

    left: Any = SimpleNamespace(is_initialized=lambda: False, kill=begun, wait=begun, get_runtime_context=begun)
    cluster = ray_cluster.RayCluster.__new__(ray_cluster.RayCluster)
    cluster._job = "01000000"
    shared = ray_cluster._Shared(SimpleNamespace(begin=SimpleNamespace(remote=lambda: None)))
    shared.users.add(cluster)
    cluster._actors = {"a": shared}
    monkeypatch.setattr(ray_cluster, "ray", left)
    assert cluster.delay("a") is None
    with pytest.raises(SchedulerLost, match=r"ray\.shutdown"):
        cluster.nodes()
    with pytest.raises(SchedulerLost, match=r"ray\.shutdown"):
        cluster.send("a", b"", lambda reply, error: None)
    cluster.close()
    assert cluster._actors == {}
