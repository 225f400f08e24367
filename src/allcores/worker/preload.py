"""The child's side of `Pool(preload=...)`: loading, and whether what was loaded lets a process be forked.

Runs in the template, once for all workers; in each worker where memory cannot be shared.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading

from allcores.system import posix, procfs, standard_streams
from allcores.transport import script_globals
from allcores.transport.pickling import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

#: names of threads and of libraries in a report
MOST_NAMES = 6
#: frames of ours between a call of `load` and the function's own, for tracebacks
FRAMES = 2


def load(payload: bytes | bytearray | memoryview) -> tuple[Any, ...]:
    """Call the preload function: () if it returned None, else a tuple of what it returned."""
    function, arguments = loads(payload)
    with script_globals.binding():
        value = function(*arguments)
    return () if value is None else (value,)


def flush() -> None:
    """Write out what was printed: each forked worker would have a copy of what still waits, and print it again."""
    standard_streams.flush()
    with contextlib.suppress(Exception):
        ctypes.CDLL(None).fflush(None)


def leaves_threads() -> bool:
    """Whether this process has other threads that are still there when it forks.

    Some libraries (OpenBLAS is one) end their threads at a fork and start them again when they need them. So
    it is tried: a child that ends at once tells.
    """
    if not posix.has_other_threads():
        return False
    pid = posix.fork()
    if pid == 0:
        os._exit(0)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return posix.has_other_threads()


def describe_threads(modules_before: Iterable[str]) -> str:
    """Which threads there are, and what native code the preload brought in: one of these libraries started them."""
    named = {
        thread.native_id: thread.name for thread in threading.enumerate() if thread is not threading.current_thread()
    }
    own = threading.get_native_id()
    python = [name for number, name in named.items() if number != own]
    native = max(0, procfs.threads_lost_by_fork() - len(python))
    parts = [f"the Python thread {name!r}" for name in python[:MOST_NAMES]]
    if len(python) > MOST_NAMES:
        parts.append(f"{len(python) - MOST_NAMES} more")
    if native:
        parts.append(f"{native} thread{'s' * (native > 1)} of native code")
    text = " and ".join(parts) or "other threads"
    libraries = _native_libraries(set(sys.modules) - set(modules_before))
    if native and libraries:
        shown = ", ".join(libraries[:MOST_NAMES]) + (" and others" if len(libraries) > MOST_NAMES else "")
        text += f" (native code came with {shown})"
    return text


def _native_libraries(modules: set[str]) -> list[str]:
    """Top-level names of the packages among `modules` that have compiled parts, the standard library's apart."""
    found = set()
    for name in modules:
        file = getattr(sys.modules.get(name), "__file__", None) or ""
        top = name.partition(".")[0]
        if file.endswith((".so", ".dylib")) and top not in sys.stdlib_module_names:
            found.add(top)
    return sorted(found)
