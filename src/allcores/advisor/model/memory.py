"""How much memory a setting takes at its largest, and how many workers there is room for."""

from __future__ import annotations

from dataclasses import dataclass

from allcores.advisor.model.probes import Probes

#: part of the available memory that workers may take
MEMORY_PART = 0.8
#: workers, where memory sets no limit
NO_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Memory:
    """What worker processes take, in bytes.

    Attributes:
        workers: How many there are.
        worker: What each has to itself at its largest.
        rest: The program, what starts workers, and what they share.
        results: All results, as `map` returns them; 0 if their number is unknown.
        available: What was available on the machine before there were workers; None if unknown.
    """

    workers: int
    worker: int
    rest: int
    results: int
    available: int | None

    @property
    def peak(self) -> int:
        """All of it."""
        return self.rest + self.workers * self.worker + self.results


def memory_of(probes: Probes, workers: int, *, preload: bool) -> Memory | None:
    """What so many worker processes take; None where it was not measured.

    Args:
        probes: What was measured.
        workers: How many.
        preload: The first call is made before they are forked, so that what it loads is there once.
    """
    warm = preload and probes.warm_worker_bytes > 0
    worker = probes.warm_worker_bytes if warm else probes.worker_bytes
    rest = probes.warm_rest_bytes if warm else probes.rest_bytes
    if worker <= 0 or rest <= 0:
        return None
    results = 0 if probes.items is None else round(probes.items * probes.travel.bytes_out)
    return Memory(workers, worker, rest, results, probes.machine.memory)


def room_for(probes: Probes, *, preload: bool = False) -> int:
    """How many workers the available memory is enough for."""
    worker = probes.warm_worker_bytes if preload and probes.warm_worker_bytes > 0 else probes.worker_bytes
    if probes.machine.memory is None or worker <= 0:
        return NO_LIMIT
    return int(MEMORY_PART * probes.machine.memory / worker)
