"""The end of a program, and of a process that `multiprocessing` has made: their pools are closed.

Daemon threads that use pools are not waited for. What they would raise then tells nobody of a mistake, so it is not
printed. Whoever catches it gets it as ever.

A process of multiprocessing ends without `atexit`, unless it is a fresh interpreter. It has finalizers in its place.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading

from allcores.errors import PoolClosed
from allcores.transport import process_role

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: before those of multiprocessing itself, which end its pools and managers
FIRST = 100

_quiet = False
#: what is to be called, the last first
_closers: list[Callable[[], object]] = []
#: the process of multiprocessing whose end is seen to
_watched = 0


def at_end(closer: Callable[[], object], *, of_program: bool = True) -> None:
    """Have something called at the end, before what was given earlier.

    Args:
        closer: It; it may be called twice.
        of_program: At that of the program, too.
    """
    _closers.append(closer)
    if of_program:
        atexit.register(closer)


def see_to_end() -> None:
    """This process is about to have a pool."""
    global _watched
    process = sys.modules.get("multiprocessing.process")
    if process is None or _watched == os.getpid() or process_role.is_worker() or process.parent_process() is None:
        return
    _watched = os.getpid()
    from multiprocessing.util import Finalize

    Finalize(None, _end, exitpriority=FIRST)


def _end() -> None:
    # They may use pools, and are waited for in any case.
    for each in threading.enumerate():
        if not each.daemon and each not in (threading.current_thread(), threading.main_thread()):
            each.join()
    for closer in reversed(_closers):
        closer()


def quiet_daemons() -> None:
    """A pool is about to be closed: if that is for the program's end, daemon threads end without a word."""
    global _quiet
    if _quiet or threading.main_thread().is_alive():
        return
    _quiet = True
    tell = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        # Loaded late, by the first call.
        futures = sys.modules.get("concurrent.futures")
        ended = (PoolClosed,) if futures is None else (PoolClosed, futures.CancelledError)
        if not (issubclass(args.exc_type, ended) and args.thread is not None and args.thread.daemon):
            tell(args)

    threading.excepthook = hook
