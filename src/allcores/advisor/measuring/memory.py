"""What worker processes take of the machine's memory, as the kernel tells it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from allcores.system import procfs


def of_workers(pids: Iterable[int]) -> tuple[int, int, int]:
    """What a worker has to itself at its largest; what they all have by now; what is there beside that.

    Args:
        pids: The workers.

    Returns:
        Bytes. The last are of this program, of what has started the workers, and of what they share. All are 0 where
        the system does not tell.
    """
    workers = set(pids)
    own = {pid: procfs.private_bytes(pid) or 0 for pid in workers}
    largest = max((procfs.peak_private_bytes(pid) or 0 for pid in workers), default=0)
    starters = {procfs.parent(pid) for pid in workers} - {None}
    together = sum(procfs.proportional_bytes(pid) or 0 for pid in {os.getpid(), *workers, *starters} if pid is not None)
    return largest, sum(own.values()), max(0, together - sum(own.values()))
