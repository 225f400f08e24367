"""A supervisor as a program of its own: it ends by SIGTERM, Ctrl-C, or as its terminal is closed (SIGHUP).

Its exit code is what shells know for that.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from allcores.system.terminal_text import safe_line

if TYPE_CHECKING:
    from allcores.jobs.supervisor import Supervisor

#: seconds that running jobs get when the program is asked to end
GRACE_S = 10.0
#: of the options of such programs
WORKERS_HELP = "Jobs at a time. Default: the core budget."
GRACE_HELP = "What running jobs get when it ends; those that are not done by then run again later."


def run_until_signal(supervisor: Supervisor, tell: Callable[[str], None] | None) -> int:
    """Run a supervisor until SIGTERM, Ctrl-C or SIGHUP; a second one gives jobs no more time. For the main thread.

    Args:
        supervisor: It. What it logs is written to standard error, unless logging is set up already.
        tell: Called with a line that says what it runs; None: that is not said.

    Returns:
        The exit code: 143 by SIGTERM, 130 by Ctrl-C, 129 by SIGHUP.

    Raises:
        AlreadySupervised: Another process is the supervisor of the store.
        StoreError: The store cannot be used.
    """
    received: list[int] = []

    def stop(number: int, frame: object) -> None:
        received.append(number)
        supervisor.stop(now=len(received) > 1)

    # Not every system has the last one.
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup`, or a shell's `&`
            signal.signal(number, stop)
    logging.basicConfig(format="allcores: %(message)s", level=logging.INFO)
    store = supervisor.store
    if tell is not None and store.supervisor_pid() is None:
        tell(safe_line(f"runs the jobs of {store.name}: {', '.join(sorted(supervisor.registry))}; Ctrl-C ends it"))
    supervisor.run()
    return 128 + (received[0] if received else signal.SIGTERM)
