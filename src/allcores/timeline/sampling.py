"""Memory and processor time of a pool's processes, from /proc. Elsewhere nothing is sampled."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from allcores.system import procfs


class Sample(NamedTuple):
    """Memory and processor time at one moment.

    Attributes:
        parent: Resident bytes, shared memory apart.
        workers: Resident bytes, shared memory apart.
        largest: Resident bytes, shared memory apart.
        largest: Of one worker.
        cpu_ns: Of workers.
    """

    parent: int
    workers: int
    largest: int
    cpu_ns: int


class Sampler:
    """Adds up processor time, also of workers that are gone."""

    def __init__(self) -> None:
        self._cpu_ns: dict[int, int] = {}
        self._gone_ns = 0

    def forget(self, pid: int) -> None:
        """Its process is gone: what it used by the last sample stays counted."""
        self._gone_ns += self._cpu_ns.pop(pid, 0)

    def take(self, pids: Iterable[int]) -> Sample | None:
        """Measure now; None where it cannot be told."""
        parent = procfs.resident_bytes(os.getpid())
        if parent is None:
            return None
        total = largest = 0
        for pid in pids:
            resident = procfs.resident_bytes(pid) or 0
            total += resident
            largest = max(largest, resident)
            used = procfs.cpu_ns(pid)
            if used is not None:
                self._cpu_ns[pid] = used
        return Sample(parent, total, largest, self._gone_ns + sum(self._cpu_ns.values()))
