"""Random pauses in Python processes that tests start: workers, fork servers, programs. See `tests/random_pauses.py`.

Python imports it as it begins, where this folder is on its path. Forked processes have it from their parent.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from types import CodeType, FrameType
from typing import Any

#: seconds of the longest pause
MOST_S = 0.003
#: switches between threads that are ready, seconds: Python's own is 5 ms
SWITCH_S = 1e-5

_rate = float(os.environ.get("ALLCORES_PAUSES_CHILDREN", "0"))
_where = os.environ.get("ALLCORES_PAUSES_WHERE", "")
_counts: dict[CodeType, bool] = {}
_numbers = random.Random()
_sleep = time.sleep


def _pause(frame: FrameType, event: str, argument: Any) -> None:
    if event not in ("call", "return"):
        return
    counts = _counts.get(frame.f_code)
    if counts is None:
        counts = _counts[frame.f_code] = frame.f_code.co_filename.startswith(_where)
    if counts and _numbers.random() < _rate:
        _sleep(0.0 if _numbers.random() < 0.5 else _numbers.random() * MOST_S)


if _rate and _where:
    if hasattr(os, "register_at_fork"):
        # Each worker makes choices of its own.
        os.register_at_fork(after_in_child=_numbers.seed)
    sys.setswitchinterval(SWITCH_S)
    threading.setprofile(_pause)
    sys.setprofile(_pause)
