"""What else runs on the machine meanwhile, and what of it this process may use."""

from __future__ import annotations

import os
import time

from allcores.advisor.model.probes import Machine
from allcores.system import process_stats, procfs
from allcores.system.cores import core_budget, machine_memory


class Load:
    """How much of our cores other programs use, from when it was made.

    Counted are the cores that this process may run on, less what this process and its workers use. Where there are more
    of them than workers, what others do on the rest does not matter.
    """

    def __init__(self) -> None:
        self.cores = core_budget().workers
        get = getattr(os, "sched_getaffinity", None)
        self._ours: set[int] = set(get(0)) if get is not None else set()
        self._start = self._now()

    def _now(self) -> tuple[float, float, float] | None:
        busy = process_stats.busy_s_on(self._ours) if self._ours else None
        if busy is None:
            return None
        return time.perf_counter(), busy, process_stats.tree_cpu_s(os.getpid())

    def others(self) -> float:
        """Cores' worth of others' work that hinders us since the start; 0 where that cannot be told."""
        now = self._now()
        if now is None or self._start is None:
            return 0.0
        seconds = now[0] - self._start[0]
        if seconds < 0.2:
            return 0.0  # processor seconds are counted in hundredths
        used = (now[1] - self._start[1] - (now[2] - self._start[2])) / seconds
        spare = max(0, len(self._ours) - self.cores)
        return round(max(0.0, used - spare), 3)

    def machine(self) -> Machine:
        """What it is like by now."""
        threads = procfs.threads_alive() if procfs.AVAILABLE else 1
        return Machine(self.cores, self.others(), machine_memory().available, max(0, threads - 1))


def facts() -> dict[str, object]:
    """What a measurement should be kept with: load, clock rate, versions."""
    import platform

    return {
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "load": [round(each, 2) for each in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "mhz": procfs.clock_mhz(),
    }
