"""The first process of a container has another one do the work, and does what a first process has to do.

The kernel hands it every process whose parent has ended. One that nobody reaps stays, and counts among those that the
container may have, until there can be no more. `docker run --init` puts a program before ours for that; this is for all
containers that have none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

#: what a process does to itself: it ends the first one as it would any other
_OWN = {signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, signal.SIGABRT} | (
    {signal.SIGBUS, signal.SIGTRAP, signal.SIGSYS} if sys.platform == "linux" else set()
)


def step_aside() -> None:
    """Return in a child if this is the first process, and at once if it is not; before any thread is started.

    The first process does not return. It passes on each signal that it is sent, reaps whatever ends, and ends as the
    child does: with its code, or 128 and the number of the signal.
    """
    if sys.platform != "linux" or os.getpid() != 1:
        return
    # Blocked before there is a child: none is lost, and each waits until it is asked for.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.valid_signals()) - _OWN)
    try:
        child = os.fork()
    except OSError:
        child = 0  # no process can be had: it does all by itself
    if child:
        _serve(child)
    with contextlib.suppress(OSError):
        # The terminal's Ctrl-C is for the child alone, or it would come twice.
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(child: int) -> None:
    while True:
        number = signal.sigwait(set(signal.valid_signals()) - _OWN)
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
            continue
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == child:
                    # The kernel ends whatever is left with this process.
                    code = os.waitstatus_to_exitcode(found[1])
                    os._exit(code if code >= 0 else 128 - code)
