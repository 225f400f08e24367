"""What others do on a core is not the program's time, and makes no loop one that waits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.process.profiling.profiled import profile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel says there who had no core")

CROWDED = """
import os, subprocess, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
others = [subprocess.Popen([sys.executable, "-ISc", "while True: pass"]) for _ in range(6)]

def spun(number):
    end = time.process_time() + 0.01
    while time.process_time() < end:
        pass
    return number

one, two, three = [], [], []
try:
    for each in range(25):
        one.append(spun(each))
    for each in range(25):
        two.append(spun(each))
    for each in range(25):
        time.sleep(0.02)
        three.append(each)
finally:
    for each in others:
        each.kill()
        each.wait()
print(len(one), len(two), len(three))
"""


def test_a_loop_that_computes_on_a_crowded_core_does_not_wait(tmp_path: Path) -> None:
    """Seven processes share one core: a look finds the loop without a core most of the time."""
    done = profile(CROWDED, tmp_path, options=("--cores", "8"))
    assert (done.ended.out, done.ended.code) == ("25 25 25\n", 0)
    first = CROWDED[: CROWDED.index("    for each in range(25)")].count("\n") + 1
    assert [done.at(line)["work"] for line in (first, first + 2, first + 4)] == ["held", "held", "waiting"]
