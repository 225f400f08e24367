"""The job that does nothing, as each queue's workers import it."""

from __future__ import annotations


def nothing(number: int) -> int:
    """The argument."""
    return number
