"""Waiting for a pipe awake, where the answer is likely to be there in a moment.

A thread that sleeps on another core takes 20 µs and more until it runs again, each way: most of what a short call
costs. One that looks again and again has its answer at once, but takes a core for that. So nobody looks
out for longer than AWAKE_NS, and only after an answer that came within that time: calls that follow each other
closely find both ends awake, and all others cost one look.
"""

from __future__ import annotations

import os
import select
from time import monotonic_ns

#: How long a look-out lasts, ns. Longer: more of a core is spent when no answer comes, once in a row of
#: calls. Shorter: calls that take longer than that pay for waking up.
#: With 100 µs, a busy 2-core virtual machine fell asleep between calls: 10 to 40 µs more for each.
AWAKE_NS = 150_000
#: gives way to whoever else waits for this core
_give_way = getattr(os, "sched_yield", lambda: None)


def readable(descriptor: int) -> select.poll | None:
    """What `SpinWait.look` takes; None where there is no poll()."""
    if not hasattr(select, "poll"):
        return None
    pipe = select.poll()
    pipe.register(descriptor, select.POLLIN)
    return pipe


class SpinWait:
    """The habit of one reader. Not for several threads at a time: `taken` tells those who share it."""

    __slots__ = ("_awake", "_begun_ns", "taken")

    def __init__(self) -> None:
        self._awake = False
        self._begun_ns = 0
        #: a thread spins
        self.taken = False

    def look(self, pipe: select.poll) -> bool:
        """Wait for `pipe` to be readable as long as that is likely to pay; False if it is not readable then."""
        self._begun_ns = begun = monotonic_ns()
        if not self._awake:
            return False
        until = begun + AWAKE_NS
        poll = pipe.poll
        while not poll(0):
            _give_way()
            if monotonic_ns() > until:
                self._awake = False
                return False
        return True

    def answered(self) -> None:
        """What was waited for since `look` is there."""
        self._awake = monotonic_ns() - self._begun_ns < AWAKE_NS
