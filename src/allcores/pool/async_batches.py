"""Gathers the items of an async input into batches, on the event loop that reads the stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from allcores.errors import BrokenPool, PoolClosed
from allcores.pool.driver import Driver
from allcores.pool.input_reader import FILL_NS, SLOW_FILL_NS, InputReader
from allcores.pool.loop_turns import LoopTurns
from allcores.scheduler.map_state import MapState
from allcores.system.clock import monotonic_ns


class Gatherer:
    """Items that wait until there are enough for a batch, or until a worker would idle for want of them.

    Args:
        told: Called when items were handed over.
        room: Set when there may be room for more.
    """

    def __init__(
        self,
        driver: Driver,
        map_state: MapState,
        input_reader: InputReader,
        told: Callable[[], object],
        room: asyncio.Event,
    ) -> None:
        self._driver = driver
        self._map_state = map_state
        self._input_reader = input_reader
        self._told = told
        self._may_have_room = room
        self._items: list[Any] = []
        self._wanted = 1
        #: when the first of the items was asked for
        self._asked_ns = monotonic_ns()
        self._timer: asyncio.TimerHandle | None = None

    async def pull(self, source: AsyncIterator[Any]) -> None:
        """Pull all of an input, as far ahead as there is room."""
        self._asked_ns = monotonic_ns()
        turns = LoopTurns()
        async for item in source:
            await self._room()
            self._take(item)
            await turns.pause()
            await self._room()

    async def _room(self) -> None:
        """Wait until another batch may be begun; one that is begun goes on."""
        driver, map_state = self._driver, self._map_state
        while not self._items and not map_state.exhausted and not map_state.cancelled:
            self._may_have_room.clear()
            with driver.lock:
                if driver.scheduler.demand.room(map_state) > 0 and map_state.may_pull:
                    self._wanted = max(1, map_state.want(driver.workers))
                    return
            await self._may_have_room.wait()

    def _take(self, item: Any) -> None:
        if not self._items:
            self._timer = asyncio.get_running_loop().call_later(SLOW_FILL_NS / 1e9, self._is_late)
        self._items.append(self._input_reader.seen(item))
        if len(self._items) >= self._wanted:
            self.hand_over()

    def _is_late(self) -> None:
        """The input is slow: what there is goes to a worker that is idle, and after a while to any."""
        self._timer = None
        if self._driver.scheduler.demand.hungry or monotonic_ns() - self._asked_ns > FILL_NS:
            # A pool that was closed meanwhile tells so where the stream is read.
            with contextlib.suppress(PoolClosed, BrokenPool):
                self.hand_over()
        else:
            self._timer = asyncio.get_running_loop().call_later(SLOW_FILL_NS / 1e9, self._is_late)

    def hand_over(self) -> None:
        """Hand over what was gathered, unless nobody wants it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        items, self._items = self._items, []
        if items and not self._map_state.cancelled:
            self._input_reader.send(items, self._asked_ns)
            self._told()
        self._asked_ns = monotonic_ns()
