"""What is put off until the end of a chunk, which runs before the chunk's last results leave.

So what a task keeps beside its results (entries of a cache) is there when the program has them. But for one case: a
worker whose last items another has taken over may have sent all its results before it learns that this was the end.
"""

from __future__ import annotations

import threading

from allcores.system import forks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: To be called once, at the end of the chunk. Who runs chunks looks whether there is anything: others pay nothing.
waiting: list[Callable[[], object]] = []
#: Where several threads run chunks, one may call what another has put off: that one waits until it is done. Reentrant,
#: for the handler of a signal may run chunks, too.
_running = threading.RLock()


@forks.in_child
def _after_fork() -> None:
    global _running
    _running = threading.RLock()
    # It is the other process's: what it would take here may be held for ever, by a thread that does not exist here.
    # Who puts it off in this process does so anew.
    waiting.clear()


def run() -> None:
    """Call what waits. None of it raises; what it puts off once more is called at the next end."""
    with _running:
        for _ in range(len(waiting)):
            if not waiting:  # a handler of a signal has run chunks in the middle of it
                return
            waiting.pop(0)()
