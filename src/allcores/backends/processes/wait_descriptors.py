"""What a thread waits with that reads the pipes of a pool instead of the pool's own."""

from __future__ import annotations

import contextlib
import os

from allcores.system import poller

#: whether this system has what is needed: a wait that another thread's changes reach, and something cheap that ends it
POSSIBLE = poller.CHANGES_REACH_WAIT and hasattr(os, "eventfd")


class Descriptors:
    """What a thread waits with. Whoever holds it may wait: the last to let go of it closes the descriptors.

    A signal's handler may close the pool in the middle of a wait, and open other files. The wait goes on in C with the
    number of its descriptor, which must not be closed, or another one's, by then.
    """

    __slots__ = ("event", "poller")

    def __init__(self, pipes: poller.Poller) -> None:
        """Raises OSError where the system refuses them."""
        #: ends the wait
        self.event = -1
        self.poller = poller.Poller()
        self.event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.poller.register(self.event, None)
        self.poller.register(pipes.fileno(), pipes)

    def close(self) -> None:
        """At once, whoever waits; again does nothing."""
        event, self.event = self.event, -1
        if event >= 0:
            self.poller.close()
            with contextlib.suppress(OSError):
                os.close(event)

    def __del__(self) -> None:
        self.close()
