"""The only place that reads the time. Tests pass times of their own.

CLOCK_MONOTONIC is one clock for all processes of a machine, so a worker's stamp on the status
board can be compared with the parent's reading.
"""

from __future__ import annotations

from time import monotonic_ns

__all__ = ["NANO", "monotonic_ns"]

#: nanoseconds in a second
NANO = 1_000_000_000
