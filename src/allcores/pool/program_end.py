"""Daemon threads that use pools when the program ends.

They are not waited for, and their pools are closed. What they would raise then tells nobody of a mistake, so it is not
printed. Whoever catches it gets it as ever.
"""

from __future__ import annotations

import sys
import threading

from allcores.errors import PoolClosed

_quiet = False


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
