"""A pool on a real Ray cluster of two nodes, of which one is killed while it works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import allcores

pytest.importorskip("ray")


def test_a_ray_cluster_keeps_what_a_pool_promises_and_a_lost_node_costs_nothing(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(Path(allcores.__file__).parents[1])}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).with_name("ray_program.py")), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=root,
        env=environment,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    told = json.loads(run.stdout.splitlines()[-1])
    assert told == {
        "workers": 2,
        "doubled": True,
        "refused": [7, 17, 27],
        "ended": [[5, "worker_lost"]],
        "hung": [[2, "timed_out"]],
        "shared": [256_000] * 4,
        "on_the_lost_node": 1,
        "met": [0, 1, 2, 3],
        "afterwards": True,
    }
