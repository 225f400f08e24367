"""Turns of the event loop while an async input is read."""

from __future__ import annotations

import asyncio

from allcores.system.clock import monotonic_ns

#: nanoseconds after which the loop has a turn
TURN_NS = 5_000_000


class LoopTurns:
    """Lets the loop do what else there is, now and then: an input that never waits would hold it up for seconds."""

    def __init__(self) -> None:
        self._since_ns = monotonic_ns()

    async def pause(self) -> None:
        """Let the loop have a turn, if it is time for one."""
        if monotonic_ns() - self._since_ns > TURN_NS:
            await asyncio.sleep(0)
            self._since_ns = monotonic_ns()
