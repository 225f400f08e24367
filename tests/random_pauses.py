"""Random pauses in our code, on all threads of this process: they show races that a quiet machine hides.

A pytest plugin, `-p tests.random_pauses` (`make races`), and a context manager. Every call and return in a file of ours
may pause its thread: half of the pauses only let another thread go on. What fails so is a fault, of the code or of the
test, unless the test is about profile functions or about time. ALLCORES_PAUSES is the share of calls that pause,
ALLCORES_PAUSES_SEED makes the choices of one thread repeatable. ALLCORES_PAUSES_CHILDREN is the share in the processes
that tests start (workers, fork servers, programs), 0 by default: tests then take about twice as long.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import allcores

#: seconds of the longest pause
MOST_S = 0.003
#: switches between threads that are ready, seconds: Python's own is 5 ms
SWITCH_S = 1e-5


class Pauses:
    """A profile function that pauses.

    Args:
        rate: The share of calls and returns at which it does.
        where: Beginning of the paths of files whose calls count.
    """

    def __init__(self, rate: float, where: str) -> None:
        self._rate = rate
        self._where = where
        self._counts: dict[CodeType, bool] = {}
        self._numbers = random.Random(os.environ.get("ALLCORES_PAUSES_SEED"))
        # Tests replace the module's.
        self._sleep = time.sleep

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event not in ("call", "return"):
            return
        code = frame.f_code
        counts = self._counts.get(code)
        if counts is None:
            counts = self._counts[code] = code.co_filename.startswith(self._where)
        if counts and self._numbers.random() < self._rate:
            self._sleep(0.0 if self._numbers.random() < 0.5 else self._numbers.random() * MOST_S)

    def set(self) -> None:
        """On this thread, and on those that begin from now on."""
        threading.setprofile(self)
        sys.setprofile(self)


@contextmanager
def pausing(rate: float, *parts: str) -> Iterator[None]:
    """Pause in the files below a part of the package, on this thread and on those that begin meanwhile."""
    before, interval = sys.getprofile(), sys.getswitchinterval()
    Pauses(rate, os.path.join(os.path.dirname(allcores.__file__), *parts)).set()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        threading.setprofile(before)
        sys.setprofile(before)


_pauses = Pauses(float(os.environ.get("ALLCORES_PAUSES", "0.004")), os.path.dirname(allcores.__file__))


@pytest.hookimpl
def pytest_configure() -> None:
    """From the beginning."""
    sys.setswitchinterval(SWITCH_S)
    _pauses.set()
    if float(os.environ.get("ALLCORES_PAUSES_CHILDREN", "0")):
        os.environ["ALLCORES_PAUSES_WHERE"] = os.path.dirname(allcores.__file__)
        paths = [str(Path(__file__).parent / "paused_children"), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)


@pytest.hookimpl
def pytest_runtest_setup() -> None:
    """Again, after a test that had a profile function of its own."""
    _pauses.set()
