"""Large items and results: what the parent holds at a time is bounded in bytes, from the first pull on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIZE, LIMIT, WORKERS, ITEMS = 20_000_000, 40_000_000, 4, 24

PROGRAM = """
import json, os, sys, time
from allcores import Limits, Pool

case, size, limit, workers, items, fifo = sys.argv[1], *map(int, sys.argv[2:6]), sys.argv[6]
keep_open = os.open(fifo, os.O_RDWR)

def large(number):
    if case == "straggler":
        pipe = os.open(fifo, os.O_RDWR)
        if number:
            os.write(pipe, b"!")
        else:
            for _ in range(workers - 1):
                os.read(pipe, 1)
        os.close(pipe)
    return bytes(size)

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

with Pool(workers, limits=Limits(bytes_in_flight=limit)) as pool:
    pool.map(abs, range(100))
    before = peak()
    if case == "items":
        stream = pool.imap(len, (bytes(size) for _ in range(items)))
    else:
        stream = pool.imap(large, iter(range(items)))
    most = done = 0
    for value in stream:
        done += 1
        del value
        if case != "straggler":
            # A slow reader: meanwhile the workers finish all that they have.
            until = time.monotonic() + 20
            while pool.statistics().busy and time.monotonic() < until:
                time.sleep(0.001)
        most = max(most, pool.statistics().items_in_flight)
    print(json.dumps([done, most, peak() - before]))
"""


@pytest.mark.parametrize("case", ["items", "results", "straggler"])
def test_the_parent_holds_no_more_than_allowed(case: str, tmp_path: Path) -> None:
    """A slow reader, or a first item that lets the others wait, do not fill the memory; nor does not knowing yet."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), case, *map(str, (SIZE, LIMIT, WORKERS, ITEMS)), str(fifo)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    count, most, grown = json.loads(done.stdout)
    assert count == ITEMS
    # Before the first result is known, one for each worker; then as many as the limit allows, and one.
    assert most <= max(WORKERS, LIMIT // SIZE + 1)
    # Each is there up to three times at some moment: as an object, pickled, and in the pipe.
    assert grown < 3 * (LIMIT + 2 * SIZE)
