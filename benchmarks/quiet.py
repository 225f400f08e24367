"""How much of the cores other programs took during a measurement, and measuring again if it was much."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from benchmarks.processes import MARK, RUN

T = TypeVar("T")

#: cores that others may use before a measurement is put off, or made again
TOLERATED = 0.06
#: seconds of one look before a measurement; the kernel counts in hundredths of a second
LOOK_S = 0.2
#: how often a measurement is made at most
ATTEMPTS = 4


def _machine_s() -> float:
    """Seconds of all cores together that were not idle, since the machine started (Linux)."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / 100  # but idle, and waiting for a disk


def _ours_s() -> float:
    """Seconds of processor time of this program and of all that it started, the ended ones included."""
    needle = f"{MARK}={RUN}".encode()
    ticks = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) == os.getpid() or needle in (entry / "environ").read_bytes():
                # Own time in user and system mode, then that of children that were waited for.
                ticks += sum(map(int, (entry / "stat").read_text().rpartition(")")[2].split()[11:15]))
        except (OSError, ValueError):  # gone, or somebody else's
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclass
class Quiet:
    """Measures, and knows how much it was disturbed.

    patience_s: how long to wait for a quiet moment, and to measure again, for one sample; 0: take it
        as it comes.
    seen: cores that others used during the samples that were kept, since it was last emptied.
    """

    patience_s: float = 0.0
    seen: list[float] = field(default_factory=list)

    def undisturbed(self, measure: Callable[[], float]) -> float:
        """A sample; with patience, the one of up to four during which others used least."""
        if sys.platform != "linux":
            return measure()
        until = time.monotonic() + self.patience_s
        taken: list[tuple[float, float]] = []
        while True:
            while time.monotonic() < until and self._others(lambda: time.sleep(LOOK_S))[0] > TOLERATED:
                pass
            taken.append(self._others(measure))
            if taken[-1][0] <= TOLERATED or len(taken) == ATTEMPTS or time.monotonic() >= until:
                break
        others, sample = min(taken, key=lambda one: one[0])
        self.seen.append(others)
        return sample

    @staticmethod
    def _others(act: Callable[[], T]) -> tuple[float, T]:
        """Cores that others used while `act` ran, and what it returned."""
        ours, machine, started = _ours_s(), _machine_s(), time.monotonic()
        result = act()
        machine, seconds = _machine_s() - machine, time.monotonic() - started
        return round(max(0.0, machine - (_ours_s() - ours)) / max(seconds, 0.01), 2), result
