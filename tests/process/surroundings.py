"""What a process has from the one that started it, as a worker sees it. Workers need not import a test for it."""

from __future__ import annotations

import os
import resource
import sys
from typing import Any

from allcores import Pool
from allcores.backends.processes import templates


def surroundings(_: object = None) -> dict[str, Any]:
    """What a process has from the one that started it."""
    umask = os.umask(0)
    os.umask(umask)
    return {
        "folder": os.getcwd(),
        "environ": dict(os.environ),
        "path": list(sys.path),
        "argv": list(sys.argv),
        "umask": umask,
        "affinity": os.sched_getaffinity(0),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "limits": resource.getrlimit(resource.RLIMIT_CORE),
        "standard": [os.fstat(number).st_ino for number in range(3)],
        "session": os.getsid(0),
        "null": (sys.stdout.encoding, sys.stdout.errors, sys.stdout.line_buffering, sys.stdout.name),
    }


def grandparent(_: object = None) -> int:
    """The program's template, seen from a worker."""
    with open(f"/proc/{os.getppid()}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def shared() -> int:
    template = templates.current()
    assert template is not None
    return template.pid


def seen(**options: Any) -> dict[str, Any]:
    with Pool(1, **options) as pool:
        (found,) = pool.map(surroundings, [0])
    return found
