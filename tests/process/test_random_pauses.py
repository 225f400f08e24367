"""Pools that are used and closed while each step of ours may pause its thread. `make races` has whole rooms so."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import Future, wait
from pathlib import Path
from time import sleep

import pytest
from tests.process.waiting import PATIENCE_S
from tests.random_pauses import pausing

import allcores
from allcores import Pool

BACKENDS = ["processes", "threads"]


def cancel_each_other(calls: list[Future[None]]) -> None:
    for call in calls[::2]:
        call.cancel()


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_call_has_an_outcome_whoever_cancels_and_closes(backend: str) -> None:
    for _ in range(5 if backend == "processes" else 20):
        with pausing(0.05):
            with Pool(2, backend=backend) as pool:
                calls = [pool.submit(sleep, 0.002) for _ in range(8)]
                canceller = threading.Thread(target=cancel_each_other, args=(calls,))
                canceller.start()
                assert calls[1].result(60) is None
            canceller.join(60)
            assert not canceller.is_alive()
        assert not wait(calls, 60).not_done


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_map_that_is_left_and_another_on_another_thread(backend: str) -> None:
    with pausing(0.02), Pool(2, backend=backend) as pool:
        found: list[list[int]] = []
        other = threading.Thread(target=lambda: found.append(pool.map(abs, range(-200, 0), chunk=3)))
        other.start()
        for _ in range(10):
            with pool.imap(abs, range(1_000), chunk=1) as results:
                assert next(results) == 0
        other.join(60)
        assert found == [list(range(200, 0, -1))]


def test_workers_pause_too_where_that_is_asked_for(tmp_path: Path) -> None:
    """By a module that Python imports as it begins; forked workers have it from the fork server."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, allcores\n"
        "def paused(_):\n"
        "    return sys.getprofile().__module__\n"
        "if __name__ == '__main__':\n"
        "    for method in ('template', 'spawn'):\n"
        "        with allcores.Pool(1, start_method=method) as pool:\n"
        "            print(*pool.map(paused, [1]))\n"
    )
    environment = {
        **os.environ,
        "ALLCORES_PAUSES_CHILDREN": "0.001",
        "ALLCORES_PAUSES_WHERE": os.path.dirname(allcores.__file__),
        "PYTHONPATH": str(Path(__file__).parents[1] / "paused_children"),
    }
    ending = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=PATIENCE_S, env=environment
    )
    assert (ending.stdout.split(), ending.stderr) == (["sitecustomize"] * 2, "")
