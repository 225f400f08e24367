"""A trace function that may raise, for a block: as an interrupt would, at a moment that a test chooses."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def traced(trace: Callable[[FrameType, str, Any], Any]) -> Iterator[None]:
    """This thread's frames are traced, and no garbage is collected in between.

    A collection closes the generators of earlier tests wherever it happens to come, their frames are traced like all
    others, and Python drops what is raised there: the interrupt would be lost, with a warning.
    """
    before, collects = sys.gettrace(), gc.isenabled()
    gc.disable()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
        if collects:
            gc.enable()
