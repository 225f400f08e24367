"""What a process inherits from the thread that makes it, and neither can change later nor should (Linux)."""

from __future__ import annotations

import os

from allcores.system import procfs

#: lines of a thread's status
_LINES = (b"Uid", b"Gid", b"Groups", b"Cap", b"NoNewPrivs", b"Seccomp", b"Cpus_allowed_list", b"Mems_allowed_list")
#: the namespaces of this thread
_SPACES = "/proc/thread-self/ns"


def inheritable() -> tuple[object, ...] | None:
    """Of this thread, to be compared: user, rights, cores, limits, groups, namespaces; None where it cannot be told.

    Takes about 0.2 ms. What has no name here, such as the priority of input and output, is not in it.
    """
    status = procfs.read("thread-self/status")
    limits = procfs.read("self/limits")
    if status is None or limits is None or umask() is None:
        return None
    try:
        root = os.stat("/")
        spaces = tuple(os.readlink(f"{_SPACES}/{name}") for name in sorted(os.listdir(_SPACES)))
    except OSError:
        return None
    return (
        tuple(line for line in status.splitlines() if line.startswith(_LINES)),
        limits,
        procfs.read("self/cgroup"),
        procfs.read("self/oom_score_adj"),
        spaces,
        (root.st_dev, root.st_ino),
        os.getsid(0),
        os.getpriority(os.PRIO_PROCESS, 0),
        os.sched_getscheduler(0),
    )


def umask() -> int | None:
    """This process's, without changing it for a moment; None if that cannot be told."""
    for line in (procfs.read("self/status") or b"").splitlines():
        if line.startswith(b"Umask:"):
            return int(line.split()[1], 8)
    return None
