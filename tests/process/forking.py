"""A function in a fork of the test's own process."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable


def fork(child: Callable[[], object]) -> int:
    """Run `child` in a fork of this process; 0 if it returned, its exit code otherwise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about threads, since Python 3.12
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            child()
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    try:
        _, status = os.waitpid(pid, 0)
    except BaseException:  # the test's time is up
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return os.waitstatus_to_exitcode(status)
