"""What ends the supervisor's wait: the process of a job, another thread of this process, or another process."""

from __future__ import annotations

import selectors

from allcores.jobs.wake import Listener
from allcores.system.wake_pipe import WakePipe


class WakeUps:
    """See the module. For the supervisor's thread, but for `wake`.

    Attributes:
        selector: What is registered there ends the wait as well.
    """

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self._pipe = WakePipe()
        self._woken = False
        self._listener: Listener | None = None
        self.selector.register(self._pipe.reads, selectors.EVENT_READ)

    def listen(self, listener: Listener) -> None:
        """From now on other processes end the wait, too, if they can."""
        self._listener = listener
        if listener.socket is not None:
            self.selector.register(listener.socket, selectors.EVENT_READ)

    def wake(self) -> None:
        """End the wait, or the next one. Any thread, and signal handlers."""
        if self._woken:
            # A byte is there, and has not been taken: each one more costs a call of the system, and threads their turn.
            return
        self._woken = True
        self._pipe.wake()

    def wait(self, seconds: float) -> bool:
        """Wait for that long at most; True if another process says that it has changed the store."""
        told = False
        for key, _ in self.selector.select(seconds):
            if key.fileobj == self._pipe.reads:
                self._pipe.take()
                # In this order: what comes in between is looked for after it, without another byte.
                self._woken = False
            elif self._listener is not None and key.fileobj is self._listener.socket:
                self._listener.take()
                told = True
        return told

    def close(self) -> None:
        """Close what is its own."""
        self.selector.close()
        self._pipe.close()
