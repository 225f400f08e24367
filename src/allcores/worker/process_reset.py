"""What a task did to the state of its process is undone, so that the next task finds what the first one found.

State is what a task can set and the kernel keeps: working folder, umask, signal handlers and blocked signals, timers.
A worker begins with that of a fresh Python, whatever the program has; what its setup function sets then stays.
"""

from __future__ import annotations

import contextlib
import os
import signal

# Without the enums of the module signal: a tenth of its time.
from _signal import (  # type: ignore[import-not-found]
    ITIMER_REAL,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    getsignal,
    pthread_sigmask,
    setitimer,
    valid_signals,
)
from _signal import signal as set_handler
from time import monotonic_ns

from allcores.system.posix import keep_standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: It is looked for at least this often, and after every longer item, ns. It takes 10 µs, 70 where the caches
#: are cold, as they are then: with 1 ms it took 3 % of the cores.
TIDY_NS = 20_000_000

#: signals that a task can handle
_SIGNALS = tuple(sorted(int(each) for each in valid_signals() if each not in (signal.SIGKILL, signal.SIGSTOP)))
#: those that Python itself ignores when it starts
_IGNORED = {int(getattr(signal, name)) for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ") if hasattr(signal, name)}
#: those whose handler is faulthandler's, which `getsignal` does not know of
_FATAL = {int(getattr(signal, name)) for name in ("SIGSEGV", "SIGFPE", "SIGABRT", "SIGBUS", "SIGILL")}
_TIMERS = (ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


def begin() -> None:
    """The signals of a fresh Python: nothing blocked, nothing handled, and only ignored what Python ignores.

    A program's own are inherited by what it forks, and the ignored and blocked ones by what it executes: where it
    ignores SIGCHLD, `subprocess` in a worker would say 0 for a command that failed. Ctrl-C is the parent's to handle,
    but programs that tasks start are not to ignore it: many are ended by it, and no shell lets a script handle what was
    ignored when that began.
    """
    import faulthandler  # here: an interpreter of the program's own refuses it

    signal.set_wakeup_fd(-1)
    faulthandler.disable()
    for number in _SIGNALS:
        # Each, whatever Python knows of it: native code may have handlers of its own.
        set_handler(number, SIG_IGN if number in _IGNORED else SIG_DFL)
    set_handler(int(signal.SIGINT), _do_nothing)
    # Last, or what was blocked and has arrived would meet the program's handler.
    pthread_sigmask(SIG_SETMASK, ())


def _do_nothing(*_: object) -> None:
    """In place of ignoring a signal, which programs would inherit."""


class ProcessReset:
    """The state with which tasks begin. Made when the setup function is done.

    Args:
        notes: Descriptor that faulthandler writes to; -1: it is not in use.
    """

    def __init__(self, notes: int = -1) -> None:
        self._notes = notes
        self._home: str | None = None
        with contextlib.suppress(OSError):  # it is gone already: there is none to return to
            self._home = os.getcwd()
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._mask = frozenset(pthread_sigmask(SIG_BLOCK, ()))
        self._handlers: list[Any] = list(map(getsignal, _SIGNALS))
        #: when it was done last
        self.tidied_ns = 0

    def go_to(self, folder: str) -> None:
        """From now on tasks begin in this folder, where this process is."""
        self._home = folder

    def tidy(self) -> None:
        """Undo it, all of it."""
        self.tidied_ns = monotonic_ns()
        for timer in _TIMERS:
            setitimer(timer, 0)
        # In C, one comparison for all signals: this is done after each chunk.
        fatal = list(map(getsignal, _SIGNALS)) != self._handlers and self._handle_again()
        if self._mask != pthread_sigmask(SIG_BLOCK, ()):
            pthread_sigmask(SIG_SETMASK, self._mask)
        keep_standard()
        if self._notes >= 0:
            import faulthandler

            if fatal or not faulthandler.is_enabled():
                faulthandler.disable()
                faulthandler.enable(self._notes, all_threads=False)
        os.umask(self._umask)
        try:
            moved = os.getcwd() != self._home
        except OSError:  # its folder was removed
            moved = True
        if moved and self._home is not None:
            # Its first folder may be gone as well: then there is none to go back to.
            with contextlib.suppress(OSError):
                os.chdir(self._home)

    def _handle_again(self) -> bool:
        """Set the handlers as they were; whether one of a fatal signal was among those that were not."""
        fatal = False
        for number, handler in zip(_SIGNALS, self._handlers, strict=True):
            # None: native code's, which cannot be set from here.
            if handler is not None and getsignal(number) is not handler:
                set_handler(number, handler)
                fatal = fatal or number in _FATAL
        return fatal


class NoReset:
    """In an interpreter that is not a process of its own: all of this is the program's, and is left alone."""

    tidied_ns = 0

    def go_to(self, folder: str) -> None:
        """Its folder is the program's."""

    def tidy(self) -> None:
        """Nothing is undone."""
        self.tidied_ns = monotonic_ns()
