"""The resource tracker of `multiprocessing`, of which a program and its workers have one.

It is a process that knows the names of shared memory, and removes what is left at the end. A worker with one of its own
would have it remove what the worker had merely opened, or had made for the program, as soon as the worker ends. So a
worker writes to the program's; if that was not running when the worker started, the program is asked to.
"""

from __future__ import annotations

import contextlib
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

#: in a worker: the program's tracker, and who else takes a line for it; whose pid that holds for
_descriptor = -1
_report: Callable[[bytes], object] | None = None
_pid = 0
#: names and kinds that the program was told of: also of their end, whatever tracker this process has by then
_reported: set[tuple[str, str]] = set()


def descriptors() -> list[int]:
    """What a new worker gets to write to this process's tracker; nothing if it is not running."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    descriptor = getattr(getattr(module, "_resource_tracker", None), "_fd", None)
    return [] if descriptor is None else [descriptor]


def pass_on(line: bytes | memoryview) -> None:
    """What a worker has made, opened or removed."""
    from multiprocessing import resource_tracker

    what, name, kind = bytes(line).decode().split(":")
    # A program that cannot start its tracker has said so, and loses no result over it.
    with contextlib.suppress(Exception):
        (resource_tracker.register if what == "REGISTER" else resource_tracker.unregister)(name, kind)


def report(send: Callable[[bytes], object]) -> None:
    """In a worker: `send` takes lines to the parent."""
    global _report, _pid
    _report, _pid = send, os.getpid()


def share(descriptors: Sequence[int]) -> None:
    """In a worker: write to this descriptor."""
    global _descriptor
    for _descriptor in descriptors:
        module = sys.modules.get("multiprocessing.resource_tracker")
        if module is not None:
            join(module)


def join(module: Any) -> None:
    """In a worker: have the tracker of this module, which was just imported, be the program's."""
    tracker = module._resource_tracker
    if _descriptor >= 0:
        tracker._fd = _descriptor
        tracker._pid = None
    kind = type(tracker)
    if hasattr(kind, "reports"):
        return

    def send(self: Any, what: str, name: str, resource: str) -> None:
        if (self._fd is None or (name, resource) in _reported) and _report is not None and os.getpid() == _pid:
            # Before: a semaphore may be collected in the midst of it.
            (_reported.add if what == "REGISTER" else _reported.discard)((name, resource))
            _report(f"{what}:{name}:{resource}".encode())
        else:
            kind._send(self, what, name, resource)

    tracker.__class__ = type(kind.__name__, (kind,), {"_send": send, "reports": True})
