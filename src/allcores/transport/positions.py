"""The few numbers that parent and worker share: where a worker is, and how far it may go.

Light on purpose: every worker imports it.
"""

from __future__ import annotations

#: "no limit": no mark of a worker is as large
NO_LIMIT = (1 << 64) - 1

PHASE_IDLE, PHASE_SETUP, PHASE_LOADING, PHASE_RUNNING, PHASE_SEALING = range(5)


def mark(sequence: int, position: int) -> int:
    """One number for "item `position` of chunk `sequence`": later work has a larger mark."""
    return sequence << 32 | position
