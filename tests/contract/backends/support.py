"""What the tests of all backends have in common."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from allcores.system.portable import PORTABLE

#: for what is refused in one sentence where there is no memory without a name and no /proc (see test_fallbacks)
needs_linux = pytest.mark.skipif(PORTABLE, reason="the portable path is forced")

#: workers are told levels when they start
logging.getLogger("contract").setLevel(logging.INFO)

PROCESSES = ("template", "fork", "spawn", "forkserver")
#: The one place that these tests run on in a program that has it: Ray, to which a process connects once.
ONLY = os.environ.get("ALLCORES_CONTRACT_PLACE", "")
#: clusters whose library is there
CLUSTERS = (ONLY,) if ONLY else ("dask",) if importlib.util.find_spec("distributed") else ()
#: they need Python 3.14 or later
INTERPRETERS = ("interpreters",) if sys.version_info >= (3, 14) else ()
HERE = (pytest.param("template", marks=pytest.mark.quick), "threads", *INTERPRETERS, "serial")
PLACES = CLUSTERS if ONLY else (*HERE, *CLUSTERS)

#: for what may depend on how a worker was started: what it finds there, what it is given and sends, and its end. All
#: else is the same for each worker that has started. "forkserver" is another name of "template": it is tried here only.
each_start_method = pytest.mark.parametrize(
    "place", PLACES if ONLY else [*PLACES, *PROCESSES[1:]], indirect=True, scope="module"
)

#: of the start methods that tests ask for by name
START_METHOD_WARNINGS = [
    pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:start_method='spawn':RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:backend='interpreters':RuntimeWarning"),
]


def endless(pulled: list[int]) -> Iterator[int]:
    """0, 1, 2 … and a note of what was asked for."""
    for number in itertools.count():
        pulled.append(number)
        yield number


#: as in a notebook or a script: functions of a module `__main__` that no other process can import
MAIN: dict[str, Any] = {"__name__": "__main__"}
exec(
    """
from dataclasses import dataclass

OFFSET = 5

@dataclass
class Point:
    x: int
    def moved(self):
        return Point(shifted(self.x))

def shifted(number):
    return number + OFFSET

def make(number):
    return Point(number)

class Refusal(Exception):
    pass

def refuse(number):
    raise Refusal(number)
""",
    MAIN,
)
