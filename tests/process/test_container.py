"""A container's memory limit, for real: the pool stays within it, and the kernel has nobody to kill."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from allcores.system.cgroups import KernelFiles

ROOT = Path(__file__).parents[2]
MB = 1_000_000

PROGRAM = """
import fcntl, json, os, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
from allcores import Limits, Pool
from allcores.system.cores import machine_memory
from allcores.events import TaskPreempted

path = sys.argv[2]
gate = os.open(path, os.O_RDWR | os.O_CREAT)
fcntl.flock(gate, fcntl.LOCK_EX)

def task(number):
    parts = []
    for _ in range(17):
        parts.append(bytearray(10_000_000))
        parts[-1][::4096] = b"x" * len(parts[-1][::4096])
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    os.close(descriptor)
    return number + len(parts)

def watch(news):
    if isinstance(news, TaskPreempted):
        fcntl.flock(gate, fcntl.LOCK_UN)

with Pool(4, limits=Limits(memory_reserve=250_000_000), observers=[watch]) as pool:
    found = list(pool.outcomes(task, range(6)))
    statistics = pool.statistics()
print(json.dumps({
    "limit": machine_memory().limit,
    "values": [outcome.value for outcome in found],
    "attempts": [outcome.attempts for outcome in found],
    "preempted": statistics.preempted,
    "lost": statistics.workers_lost,
}))
"""


@pytest.fixture
def container(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A group below our own with 800 MB of memory; skips where none may be made."""
    for version, own in KernelFiles("/").own_groups("memory"):
        group = Path(own) / f"allcores-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            with contextlib.suppress(OSError):
                (group / ("memory.max" if version == 2 else "memory.limit_in_bytes")).write_text(str(800 * MB))
                yield group
                return
        finally:
            until = time.monotonic() + 10
            while group.exists() and time.monotonic() < until:
                # The kernel takes a moment to let go of processes that have ended.
                with contextlib.suppress(OSError):
                    group.rmdir()
    pytest.skip("no memory group may be made here")


def test_a_container_is_not_filled(container: Path, tmp_path: Path) -> None:
    """Four tasks do not fit; the youngest comes again, all results are right, and the kernel has killed nobody."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), str(container), str(tmp_path / "gate")],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert abs(found["limit"] - 800 * MB) < MB
    assert found["values"] == [number + 17 for number in range(6)]
    assert found["attempts"] == [1] * 6
    assert found["preempted"] >= 1 and found["lost"] == 0
    for name in ("memory.events", "memory.oom_control"):
        if (container / name).exists():
            assert "oom_kill 0" in (container / name).read_text().splitlines()
