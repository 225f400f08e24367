"""What is different for the workers of an actor: their object has a state, so nothing is run twice or replaced unasked.

- A call that was begun is never requeued: it has its outcome, or it is lost.
- An object is built anew only once the old one is gone, and only as often as was granted.
"""

from __future__ import annotations

from collections import deque

from allcores.errors import ActorLost, AllcoresError, SetupError
from allcores.formatting import counted


class ActorPolicy:
    """How the objects of one actor are replaced. Pure: the time is an argument.

    Args:
        words: What was built, for messages: `Index('a.txt')`.
        restart: How often an object is built anew within `within_ns`; None: always; 0: never, for no reason at all.
        within_ns: See `restart`.
        concurrent: Calls that one object runs at a time.
    """

    __slots__ = ("_restarts", "concurrent", "restart", "within_ns", "words")

    def __init__(self, words: str, *, restart: int | None, within_ns: int, concurrent: int = 1) -> None:
        self.words = words
        self.restart = restart
        self.within_ns = within_ns
        self.concurrent = concurrent
        #: when objects were built anew, those that still count
        self._restarts: deque[int] = deque()

    def grants(self, now: int, *, ordered: bool) -> bool:
        """An object is gone: whether another may be built. One that is granted counts.

        Args:
            now: The time, ns.
            ordered: It was ended for a deadline or a cancelled call, as its user had asked: that does not count.
        """
        if self.restart is None:
            return True
        if self.restart == 0:
            return False
        if ordered:
            return True
        while self._restarts and self._restarts[0] <= now - self.within_ns:
            self._restarts.popleft()
        if len(self._restarts) >= self.restart:
            return False
        self._restarts.append(now)
        return True

    def error(self, reason: str, *, in_setup: bool) -> AllcoresError:
        """What all calls get that have no outcome: no object is left, and none will be built.

        Args:
            reason: How the last one ended, a sentence.
            in_setup: It ended while it was built.
        """
        if self.restart == 0:
            why = "It is not built anew (restart=0)."
        else:
            times = counted(self.restart or 0, "time")
            why = f"It was built anew {times} within {self.within_ns / 1e9:g} s already, which is what restart= allows."
        reason = f"{reason.rstrip('.')}."
        if in_setup:
            return SetupError(f"{self.words} ended its process while it was built: {reason} {why}")
        return ActorLost(f"{self.words} is gone: {reason} {why}")
