"""What nodes run for `measure.py` and `check.py`; imports little."""

from __future__ import annotations

import resource
import time


def add_one(x: int) -> int:
    """Nearly nothing."""
    return x + 1


def sleep_for(seconds: float) -> float:
    """Waits, and uses no core: so a machine has as many workers as one likes."""
    time.sleep(seconds)
    return seconds


def own_cpu_s() -> float:
    """Seconds of cores that this process has used, without its children."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
