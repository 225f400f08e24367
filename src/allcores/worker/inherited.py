"""A worker's part in what `multiprocessing` shares between the processes of a program."""

from __future__ import annotations

import contextlib
import sys

from allcores.transport import authkey, tracker
from allcores.worker import identity
from allcores.worker.imports import when_imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: seconds for which a failure waits for queues to be written: one that is full and that nobody reads never is
END_S = 1.0
#: a process forked from one that has begun has what that one had
_begun = False


def begin() -> None:
    """When a worker (or the template, before it preloads) starts."""
    global _begun
    if not _begun:
        _begun = True
        when_imported("multiprocessing.process", _process)
        when_imported("multiprocessing.resource_tracker", tracker.join)
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        # As in a process that multiprocessing forks: what is here is a copy, and another process uses the original.
        with contextlib.suppress(Exception):
            util._finalizer_registry.clear()
            util._run_after_forkers()


def _process(module: Any) -> None:
    key = authkey.given()
    if key is not None:
        module.current_process().authkey = key
    identity.tell(module)


def end() -> None:
    """When a worker leaves: what its tasks have put into queues is written, and managers get their references back."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        with contextlib.suppress(Exception):
            util._run_finalizers(0)
            util._run_finalizers()


def end_soon() -> None:
    """The same before a failure is told of, for at most END_S."""
    if "multiprocessing.util" in sys.modules:
        import threading

        try:
            ending = threading.Thread(target=end, daemon=True)
            ending.start()
        except RuntimeError:  # an interpreter that allows no such threads, or none can be had
            return
        ending.join(END_S)
