"""Runs one test of another library's suite in a process of its own, in bounded time, and looks what that leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.process.scripts import PATHS

#: in the environment of all that a test starts
TOKEN = "ALLCORES_EXAM_TOKEN"
#: seconds for one test, which takes a few on a quiet machine
LIMIT_S = 110.0
#: seconds after the end of a test's process in which what it has started may end
LEFT_S = 5.0


def examine(argv: Sequence[str], environ: Mapping[str, str], folder: Path) -> tuple[str, str]:
    """Run one test.

    Returns:
        "passed", "skipped", or what is wrong; and what was printed.
    """
    token = uuid.uuid4().hex
    everything = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS), **environ, TOKEN: token}
    with subprocess.Popen(
        [sys.executable, *argv],
        cwd=folder,
        env=everything,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            _end(token)
            said, _ = process.communicate()
            return f"took more than {LIMIT_S:.0f} s", said
    left = _end(token, within=LEFT_S)
    if process.returncode:
        return f"exit code {process.returncode}", said
    if left:
        return f"left {left} processes behind", said
    return ("skipped" if "EXAM: skipped" in said else "passed"), said


def _end(token: str, within: float = 0.0) -> int:
    """Kill what carries the token and does not end in time; how many that were."""
    until = time.monotonic() + within
    while (left := _carriers(token)) and time.monotonic() < until:
        time.sleep(0.02)
    for process_id in left:
        with contextlib.suppress(OSError):
            os.kill(process_id, signal.SIGKILL)
    return len(left)


def _carriers(token: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                ours = token.encode() in (folder / "environ").read_bytes()
                state = (folder / "stat").read_bytes().rpartition(b")")[2].split()[0]
                if ours and state not in (b"Z", b"X"):
                    found.append(int(folder.name))
    return found


def run_all(*names: str) -> None:
    """In the test's process: run these `unittest` tests, say what came of them, and exit with 1 if one failed."""
    import unittest

    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    result = unittest.TestResult()
    suite.run(result)
    for test, text in result.errors + result.failures:
        print(f"{test}\n{text}")
    if result.skipped:
        print("EXAM: skipped", result.skipped[0][1])
    elif result.testsRun < len(names) or not result.wasSuccessful():
        raise SystemExit(1)
