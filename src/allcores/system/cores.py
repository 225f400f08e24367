"""How much of this machine the process tree may use: cores, threads per worker, memory, and why.

A container's limit is not the machine's size. Linux keeps the limits in control groups (cgroups):
/proc/self/cgroup says in which group this process is, /proc/self/mountinfo where the groups are
mounted, and the group *and each group above it* may have a limit; the smallest counts. Both cgroup
versions are read, also side by side, as hybrid systems have them.

Sources: kernel.org, admin-guide/cgroup-v2.rst ("cpu.max", "memory.events"), scheduler/sched-bwc.rst,
admin-guide/cgroup-v1/memory.rst; man pages proc_pid_mountinfo(5), cgroups(7).
Elsewhere than on Linux the files are missing, and what Python itself knows is the answer.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from allcores.errors import UsageError
from allcores.formatting import size_text
from allcores.system.cgroups import KernelFiles
from allcores.system.plain_record import record
from allcores.system.tracebacks import hiding

#: set by a pool in its workers: the cores that pools inside that worker may use
BUDGET_VARIABLE = "ALLCORES_BUDGET"
#: set with `thread_environment`: the names of the variables that are ours, not the user's
OURS_VARIABLE = "ALLCORES_THREAD_VARIABLES"

#: bytes; cgroup v1 says "no limit" with the largest multiple of the page size below 2**63
NO_LIMIT = 1 << 60


@record
class Budget:
    """How many cores this process tree may use.

    Why the quota is rounded up: with 1.5 cores, one worker leaves a third of them unused for ever,
    while two use them all and are merely paused for a part of each period (100 ms). Batch work wants
    throughput, and no item is served late by being paused. joblib, the JVM and Go (1.25) round up too.

    Attributes:
        workers: The answer, 1 or more: the smallest of the figures below, the quota rounded up.
        logical: Logical cores of the machine.
        affinity: Cores this process may be scheduled on (taskset, cpuset, `docker --cpuset-cpus`).
        quota: Cores' worth of CPU time that the container grants (`docker --cpus`, Kubernetes limits); None if there is
            no quota.
        inherited: The share handed down by the pool whose worker this process is; None outside of one.
        reasons: A sentence for each figure, for people.
    """

    workers: int
    logical: int
    affinity: int
    quota: float | None
    inherited: int | None
    reasons: tuple[str, ...]


@record
class Memory:
    """The machine's memory, in bytes, as this process may use it.

    Attributes:
        total: Of the machine; None where it cannot be told.
        available: What can still be had without swapping, within the limit; None where it cannot be told.
        limit: Of the container, if it is below `total`; None if there is none.
        reasons: A sentence for each figure, for people.
    """

    total: int | None
    available: int | None
    limit: int | None
    reasons: tuple[str, ...]


@hiding
def core_budget(
    *,
    root: str = "/",
    environ: Mapping[str, str] | None = None,
    logical: int | None = None,
    affinity: int | None = None,
) -> Budget:
    """How many cores this process tree may use, and the reasons.

    The smallest of: the machine's cores, the affinity, the container's quota, and the share in
    ALLCORES_BUDGET, which can lower the budget but not raise it (to raise it, pass `workers=`).
    A value that is no whole number above 0 is ignored, and a reason says so. Takes about half a
    millisecond and is not cached: affinity and quota can change.

    Args:
        root: For tests; by default those of this process.
        environ: For tests; by default those of this process.
        logical: For tests; by default those of this process.
        affinity: For tests; by default those of this process.
    """
    logical = logical or os.cpu_count() or 1
    affinity = affinity or _usable_cores() or logical
    reasons = [f"the machine has {_cores(logical)}"]
    if affinity != logical:
        reasons.append(f"this process may run on {affinity} of them (affinity)")
    quota, quota_reason = _quota(KernelFiles(root))
    if quota_reason:
        reasons.append(quota_reason)
    inherited, inherited_reason = _inherited(os.environ if environ is None else environ)
    if inherited_reason:
        reasons.append(inherited_reason)
    workers = affinity
    if quota is not None:
        workers = min(workers, math.ceil(quota))
    if inherited is not None:
        workers = min(workers, inherited)
    return Budget(max(1, workers), logical, affinity, quota, inherited, tuple(reasons))


def _usable_cores() -> int | None:
    """Cores this process may be scheduled on; None where the system does not say."""
    # 3.13 and later; honours PYTHON_CPU_COUNT and -X cpu_count.
    process_cpu_count = getattr(os, "process_cpu_count", None)
    if process_cpu_count is not None:
        count: int | None = process_cpu_count()
        return count
    if hasattr(os, "sched_getaffinity"):
        try:
            return len(os.sched_getaffinity(0))
        except OSError:
            return None
    return None


def _quota(files: KernelFiles) -> tuple[float | None, str | None]:
    """The smallest quota of this process's group and those above it, in cores, and where it stands."""
    found: list[tuple[float, str]] = []
    for version, group in files.groups("cpu"):
        if version == 2:
            name = f"{group}/cpu.max"
            words = (files.text(name) or "").split()
            allowed, period = (words + ["100000"])[:2] if words else ("max", "")
        else:
            name = f"{group}/cpu.cfs_quota_us"
            allowed = files.text(name) or ""
            period = files.text(f"{group}/cpu.cfs_period_us") or ""
        # "max" (v2) and -1 (v1) stand for no quota.
        if allowed.isdecimal() and period.isdecimal() and int(allowed) and int(period):
            found.append((int(allowed) / int(period), name))
    if not found:
        return None, None
    quota, name = min(found)
    rounded = f", rounded up to {math.ceil(quota)}" if quota != math.ceil(quota) else ""
    return quota, f"the container's quota is {_cores(quota)}{rounded} ({name})"


def _inherited(environ: Mapping[str, str]) -> tuple[int | None, str | None]:
    text = environ.get(BUDGET_VARIABLE)
    if text is None or not text.strip():
        return None, None
    # isdecimal alone would take other scripts' digits, which int() takes too: harmless.
    if text.strip().isdecimal() and int(text) > 0:
        return int(text), f"{BUDGET_VARIABLE} allows {_cores(int(text))} (set in a pool's workers for pools inside)"
    return None, f"{BUDGET_VARIABLE}={text!r} is ignored: it is not a whole number above 0"


def _cores(count: float) -> str:
    return f"{count:g} core{'' if count == 1 else 's'}"


# --- threads within a worker ----------------------------------------------------------------------

#: follow OMP_NUM_THREADS unless set themselves
_FOLLOW_OPENMP = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_ON_THEIR_OWN = (
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


def thread_environment(threads: int, *, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables to set so that numeric libraries start at most `threads` threads in a worker.

    To be set before the libraries are imported, so in processes that start clean (template, spawn,
    forkserver). In a plain fork they come too late for libraries in use, and numba raises when its
    variable changes after its threads have started: set nothing there.
    TOKENIZERS_PARALLELISM is "false" for one thread; otherwise tokenizers follows RAYON_NUM_THREADS.

    Args:
        threads: 1 or more; workers × threads should not exceed the core budget.
        environ: What is set already; by default os.environ. A variable that the user has set is left out, and with
            OMP_NUM_THREADS also those that follow it, since setting them would overrule the user. Variables that an
            outer pool has set are not the user's: OURS_VARIABLE lists them.

    Raises:
        UsageError: If threads < 1.
    """
    if threads < 1:
        raise UsageError(f"threads={threads!r} must be 1 or more")
    environ = os.environ if environ is None else environ
    ours = set(environ.get(OURS_VARIABLE, "").split(","))
    taken = set(environ) - ours
    names = [*_ON_THEIR_OWN]
    if "OMP_NUM_THREADS" not in taken:
        names += ["OMP_NUM_THREADS", *_FOLLOW_OPENMP]
    settings = {name: str(threads) for name in names if name not in taken}
    if threads == 1 and "TOKENIZERS_PARALLELISM" not in taken:
        settings["TOKENIZERS_PARALLELISM"] = "false"
    # What an outer pool has set and we do not is still not the user's.
    settings[OURS_VARIABLE] = ",".join(sorted((ours - {""}) | settings.keys()))
    return settings


# --- memory ---------------------------------------------------------------------------------------


def machine_memory(*, root: str = "/") -> Memory:
    """Memory of the machine, what is left of it, and the container's limit. Takes about a millisecond.

    Within a limit, what is left is the limit less what the group uses; pages of files that were
    read long ago (inactive_file) do not count as used, and those that were read of late (active_file)
    count half: the kernel drops them when it must.
    """
    files = KernelFiles(root)
    meminfo = files.table("/proc/meminfo")
    total = _kib(meminfo.get("MemTotal:"))
    available = _kib(meminfo.get("MemAvailable:"))
    reasons: list[str] = []
    if total is None:
        total = _physical_memory()
    if total is not None:
        reasons.append(f"the machine has {size_text(total)} of memory")
    limit: int | None = None
    for version, group in files.groups("memory"):
        allowed, room = _room(files, version, group)
        if allowed is None or (total is not None and allowed >= total):
            continue
        if limit is None or allowed < limit:
            limit = allowed
            reason = f"the container's limit is {size_text(allowed)} ({group}/{_MEMORY_FILES[version][0]})"
        if room is not None:
            available = room if available is None else min(available, room)
    if limit is not None:
        reasons.append(reason)
    if available is not None:
        reasons.append(f"{size_text(available)} are available")
    return Memory(total, available, limit, tuple(reasons))


#: cgroup version -> files with the limit and the use, and the rows of memory.stat with droppable pages of files:
#: those that were read long ago, and all others (the kernel drops these, too, but later)
_MEMORY_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file"),
    2: ("memory.max", "memory.current", "inactive_file", "active_file"),
}


def _room(files: KernelFiles, version: int, group: str) -> tuple[int | None, int | None]:
    """(limit, what is left of it) of a group, in bytes; None for no limit."""
    limit_name, used_name, *rows = _MEMORY_FILES[version]
    limit = files.number(f"{group}/{limit_name}")
    if limit is None or limit >= NO_LIMIT:
        return None, None
    used = files.number(f"{group}/{used_name}")
    if used is None:
        return limit, None
    statistics = files.table(f"{group}/memory.stat")
    old, new = (int(text) if (text := statistics.get(row, "")).isdecimal() else 0 for row in rows)
    # Half of the newer ones: what a program reads all the time had better stay.
    return limit, max(0, limit - max(0, used - old - new // 2))


class MemoryGauge:
    """(available, total) bytes of memory, the container's if that is less; None where they cannot be told.

    Like `machine_memory`, for many looks a second: what does not change is looked up once. Takes some 0.1 ms.
    """

    def __init__(self, *, root: str = "/") -> None:
        self._files = KernelFiles(root)
        self._membership: str | None = None
        self._groups: list[tuple[int, str]] = []

    def __call__(self) -> tuple[int, int] | None:
        """Bytes that are available, and in all; None where that cannot be told."""
        files = self._files
        meminfo = files.table("/proc/meminfo")
        total, available = _kib(meminfo.get("MemTotal:")), _kib(meminfo.get("MemAvailable:"))
        if total is None or available is None:
            return None
        membership = files.text("/proc/self/cgroup")
        if membership != self._membership:
            # The first look, or this process was moved.
            self._membership = membership
            self._groups = [each for each in files.groups("memory") if _room(files, *each)[0] is not None]
        for group in self._groups:
            limit, room = _room(files, *group)
            if limit is not None and room is not None:
                total, available = min(total, limit), min(available, room)
        return available, total


def oom_kills(*, root: str = "/") -> int | None:
    """How many processes the kernel has killed for want of memory; None if it does not say.

    Compare two readings, one from before and one from after a worker's death. Counted are the
    victims in this process's own control group and those below, whichever limit they hit; a group
    above counts others as well, so it is not asked. Where there is no group (on a bare machine, or
    in the root group of version 2) it is the count of the whole machine, from /proc/vmstat.
    """
    files = KernelFiles(root)
    for version, group in files.own_groups("memory"):
        name = f"{group}/{'memory.events' if version == 2 else 'memory.oom_control'}"
        count = files.table(name).get("oom_kill", "")
        if count.isdecimal():
            return int(count)
    count = files.table("/proc/vmstat").get("oom_kill", "")
    return int(count) if count.isdecimal() else None


def _physical_memory() -> int | None:
    """Bytes of memory where there is no /proc (macOS, BSD); None on Windows."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _kib(text: str | None) -> int | None:
    """Bytes from a line of /proc/meminfo ("8046084 kB"; its kB are 1024 bytes)."""
    number = (text or "").split(" ")[0]
    return int(number) * 1024 if number.isdecimal() else None
