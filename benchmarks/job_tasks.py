"""The job that does nothing, as each queue's workers import it."""

from __future__ import annotations

import time


def nothing(number: int) -> int:
    """The argument."""
    return number


def busy(seconds: float) -> None:
    """Use a core for so long."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
