"""What a task did to its process and would do to the next task is undone."""

from __future__ import annotations

import os
import signal

# Without the enums of signal.getsignal: a tenth of its time.
from _signal import getsignal  # type: ignore[import-not-found]
from time import monotonic_ns

#: It is looked for at least this often, and after every longer item, ns.
TIDY_NS = 1_000_000

_DEFAULTS = tuple(
    (int(number), getsignal(number))
    for number in (getattr(signal, name, None) for name in ("SIGTERM", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGHUP"))
    if number is not None
)


class Tidying:
    """The folder, the timer and the signal handlers with which tasks begin."""

    def __init__(self) -> None:
        self._home = os.getcwd()
        self._tidied_ns = 0

    @property
    def due(self) -> bool:
        """It was not done for TIDY_NS."""
        return monotonic_ns() - self._tidied_ns > TIDY_NS

    def tidy(self) -> None:
        """Undo it."""
        self._tidied_ns = monotonic_ns()
        try:
            moved = os.getcwd() != self._home
        except OSError:  # its folder was removed
            moved = True
        if moved:
            os.chdir(self._home)
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in _DEFAULTS:
            if getsignal(number) is not handler:
                signal.signal(number, handler)
