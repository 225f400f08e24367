"""Processor use of processes and of the machine, from /proc (Linux); elsewhere nothing is known."""

from __future__ import annotations

import os
from typing import NamedTuple

from allcores.system import procfs


class ProcessStat(NamedTuple):
    """What /proc/PID/stat says of a process.

    Attributes:
        cpu_s: Processor seconds, those of ended children included.
        resident: Bytes.
        started: Ticks since boot.
    """

    cpu_s: float
    resident: int
    started: int


def stat(pid: int) -> ProcessStat | None:
    """Of a process; None if it is gone, or cannot be seen."""
    fields = procfs.stat_fields(pid)
    if fields is None or fields[0] == b"Z":
        return None
    ticks = sum(int(field) for field in fields[11:15])
    return ProcessStat(ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), int(fields[19]))


def waited_s(pid: int) -> float | None:
    """Seconds for which a process was ready to run and had no processor (its main thread); None if unknown."""
    try:
        return int((procfs.read(f"{pid}/schedstat") or b"").split()[1]) / 1e9
    except (ValueError, IndexError):
        return None


def machine_busy_s() -> float | None:
    """Processor seconds that the machine has spent on anything so far; None if unknown."""
    try:
        fields = [int(field) for field in (procfs.read("stat") or b"").partition(b"\n")[0].split()[1:9]]
        # user, nice, system, idle, waiting for disks, interrupts (2), taken by other machines
        return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")
    except (ValueError, IndexError):
        return None


class Gauge:
    """Processor use between two looks at a set of processes."""

    def __init__(self) -> None:
        #: pid -> (ticks at its start, processor seconds)
        self._seen: dict[int, tuple[int, float]] = {}
        self._looked_s: float | None = None
        #: cores in use between the last two looks; None before the second
        self.cores: float | None = None
        #: resident bytes of each at the last look, shared memory and files apart, as limits have them
        self.resident: dict[int, int] = {}
        #: cores in use by each
        self.each: dict[int, float] = {}

    def look(self, pids: list[int], now_s: float) -> None:
        """Read them all."""
        seen: dict[int, tuple[int, float]] = {}
        resident: dict[int, int] = {}
        spent: dict[int, float] = {}
        for pid in pids:
            found = stat(pid)
            if found is None:
                continue
            seen[pid] = (found.started, found.cpu_s)
            own = procfs.resident_bytes(pid)
            resident[pid] = found.resident if own is None else own
            before = self._seen.get(pid)
            # One that was not seen before may have begun long ago (a view that starts late): it counts from now.
            spent[pid] = found.cpu_s - before[1] if before is not None and before[0] == found.started else 0.0
        if self._looked_s is not None and now_s > self._looked_s:
            seconds = now_s - self._looked_s
            self.each = {pid: max(0.0, cpu_s) / seconds for pid, cpu_s in spent.items()}
            self.cores = sum(self.each.values())
        # Whole: other threads may be reading the last one.
        self.resident = resident
        self._seen, self._looked_s = seen, now_s


def busy_s_on(cores: set[int]) -> float | None:
    """Processor seconds that some of the machine's cores have spent on anything so far; None if unknown."""
    total, seen = 0, 0
    for line in (procfs.read("stat") or b"").splitlines():
        name, _, rest = line.partition(b" ")
        if name[:3] == b"cpu" and name[3:].isdigit() and int(name[3:]) in cores:
            # idle and waiting for disks are left out; that of other systems on top is within users'
            fields = [int(field) for field in rest.split()[:8]]
            total += sum(fields) - fields[3] - fields[4]
            seen += 1
    return total / os.sysconf("SC_CLK_TCK") if seen else None


def tree_cpu_s(pid: int) -> float:
    """Processor seconds of a process and its descendants, those that have ended included."""
    total = 0.0
    for each in procfs.tree(pid):
        found = stat(each)
        total += 0.0 if found is None else found.cpu_s
    return total
