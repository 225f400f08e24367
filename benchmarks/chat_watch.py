"""How busy a program and its children are, and how much memory they have, while they run."""

from __future__ import annotations

import os
import threading
import time

from allcores.system import procfs

#: seconds between two looks
LOOK_S = 0.5
#: seconds after which programs are expected to have all cores busy
STARTED_S = 2.0
_TICKS = os.sysconf("SC_CLK_TCK")


class TreeWatch:
    """Looks at a process and its descendants until `end`.

    Attributes:
        peak_mb: The most memory of all of them together that was seen, shared pages counted once (PSS).
        started_cpu_s: CPU seconds that they had used `STARTED_S` after the beginning.
    """

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0.0
        self.started_cpu_s = 0.0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tree-watch", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        began = time.perf_counter()
        while not self._over.wait(LOOK_S):
            if not self.started_cpu_s and (late := time.perf_counter() - began - STARTED_S) >= 0:
                # What they did since then, which one look cannot tell, is small: a look more often would cost more.
                self.started_cpu_s = max(1e-9, sum(map(_cpu_s, procfs.tree(self._pid))) - late)
            self.peak_mb = max(self.peak_mb, procfs.tree_proportional_bytes(self._pid) / 1e6)


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process and of its children that ended; 0 if it is gone."""
    fields = procfs.stat_fields(pid)
    return sum(map(int, fields[11:15])) / _TICKS if fields else 0.0
