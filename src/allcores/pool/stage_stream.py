"""One map of several that one thread drives: its input is handed to it, and its results are taken, without waiting.

What `Stream` does in one call of `next`, whoever drives a pipeline does in turns: `put` what is there for a stage, have
it `feed` its workers, take what is settled, and wait only when no stage has anything to do. So what is ready in a later
stage is never held up by the input of an earlier one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from allcores.errors import again
from allcores.pool.driver import Driver
from allcores.pool.input_reader import MOST_CHUNKS, InputReader
from allcores.pool.planning import plan_map
from allcores.pool.pool import Pool, driver_of
from allcores.pool.result_stream import LOGS_S
from allcores.scheduler.function import Function
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.segment import Segment
from allcores.system.bell import Bell
from allcores.system.clock import monotonic_ns


class HandedInput(InputReader):
    """Makes chunks of items that are put here, instead of pulling them."""

    def __init__(self, driver: Driver, map_state: MapState, function: Function) -> None:
        super().__init__(driver, map_state, function, ())
        self._items: list[Any] = []
        #: of `_items`, so many are gone
        self._taken = 0
        self._last = False
        #: items of the last chunk
        self._size = 1

    @property
    def waiting(self) -> int:
        """Items that are here and in no chunk yet."""
        return len(self._items) - self._taken

    @property
    def room(self) -> int:
        """Items that it should be given, so that there is a chunk for each worker: more would only take memory."""
        return self._size * self._driver.workers - self.waiting

    def put(self, items: list[Any]) -> None:
        """Add items."""
        if self._taken:
            del self._items[: self._taken]
            self._taken = 0
        self._items += items

    def end(self) -> None:
        """No more will be put."""
        self._last = True

    def feed(self) -> None:
        """Hand over as much as is wanted now; a chunk that is not full only if a worker would wait for it."""
        map_state, driver = self._map_state, self._driver
        demand = driver.scheduler.demand
        while not map_state.exhausted and self.waiting:
            with driver.lock:
                room = demand.room(map_state)
                size = map_state.want(driver.workers, brief=demand.crowded(monotonic_ns())) if room > 0 else 0
                hungry = demand.hungry
                bytes_left = map_state.bytes_left
            if not size:
                if room > 0 and not map_state.may_pull:
                    driver.turn(lambda scheduler, now: scheduler.starved(now))
                break
            self._size = size
            if self.waiting < size and not (hungry or self._last):
                break
            parts: list[Chunk | Segment] = []
            for _ in range(min(room, MOST_CHUNKS, max(1, map_state.credit // size))):
                items = self._items[self._taken : self._taken + size]
                if not items or (parts and len(items) < size and not self._last):
                    break
                self._taken += len(items)
                packed = self._pack(items)
                parts += packed
                bytes_left -= sum(part.size_bytes for part in packed)
                if bytes_left <= 0:
                    break
            driver.add_all(map_state, parts)
        if self._last and not self.waiting and not map_state.exhausted:
            driver.turn(lambda scheduler, now: scheduler.input_ended(map_state, now))


class StageStream:
    """A map over items that are handed to it. Of one thread.

    Args:
        pool: Where it runs.
        fn: The function.
        bell: Rings when there is something to do.
        items: What it pulls itself, like `Stream`; None: it is handed its items.
        options: Of `Pool.imap`: timeout, retries, chunk.
        detailed: Outcomes are wanted, and not values alone.
    """

    def __init__(
        self,
        pool: Pool,
        fn: Callable[..., Any],
        bell: Bell,
        *,
        items: Iterable[Any] | None = None,
        timeout: float | None = None,
        retries: Any = 0,
        chunk: int | None = None,
        detailed: bool = False,
    ) -> None:
        self.driver = driver = driver_of(pool)
        #: which must not close itself while its map is read
        self._pool = pool
        given = () if items is None else items
        make, function = plan_map(
            driver, fn, "one", given, timeout=timeout, retries=retries, chunk=chunk, detailed=detailed
        )
        if items is None:
            made = make

            def make(number: int) -> MapState:
                map_state = made(number)
                map_state.total = None
                return map_state

        iterator = None if items is None else iter(items)
        self._map_state = driver.open(make, bell.ring)
        self._handed: HandedInput | None = None
        if iterator is None:
            self._input: InputReader = HandedInput(driver, self._map_state, function)
            self._handed = self._input
        else:
            self._input = InputReader(driver, self._map_state, function, iterator)
        self._settled: deque[Segment] = deque()
        self._stopped = False

    # --- input ---

    def put(self, items: list[Any]) -> None:
        """Hand it items."""
        assert self._handed is not None
        self._handed.put(items)

    def end_input(self) -> None:
        """No more will be put."""
        assert self._handed is not None
        self._handed.end()

    @property
    def full(self) -> bool:
        """It has enough to do: nothing more should be put before it has taken some."""
        return self._handed is not None and self._handed.room <= 0

    @property
    def room(self) -> int:
        """Items that should be put now; 0 or less: none."""
        return 0 if self._handed is None else self._handed.room

    @property
    def pulls(self) -> bool:
        """It pulls its input itself."""
        return self._handed is None

    @property
    def slow(self) -> bool:
        """Its own input was waited for the last time."""
        return self._input.slow

    @property
    def waiting(self) -> int:
        """Items that were put and that no chunk has yet."""
        return 0 if self._handed is None else self._handed.waiting

    def feed(self) -> None:
        """Make chunks of what is there. What it pulls itself is waited for."""
        if not self._map_state.exhausted:
            self._input.feed()

    @property
    def input_error(self) -> BaseException | None:
        """What the input that it pulls itself has raised."""
        return self._input.error

    # --- results ---

    def take(self) -> Segment | None:
        """The next settled items in order, if they are there.

        Raises:
            BrokenPool: None will come. Also what else broke the pool.
        """
        map_state, driver = self._map_state, self.driver
        if not self._settled:
            with driver.lock:
                map_state.return_handed()
                self._settled.extend(map_state.take_some())
                broken = map_state.broken
            if not self._settled:
                if broken is not None:
                    driver.backend.settle_logs(LOGS_S)
                    raise again(broken)
                return None
            if driver.backend.unhandled:
                driver.backend.settle_logs(LOGS_S)
        segment = self._settled.popleft()
        map_state.hand_over(segment)
        return segment

    @property
    def over(self) -> bool:
        """Nothing is left, and nothing will come."""
        return self._map_state.finished and not self._settled

    def wants_turn(self) -> bool:
        """Whether there is something to take or to hand over now; with the driver's lock held."""
        map_state = self._map_state
        if map_state.ready or map_state.broken is not None or map_state.finished:
            return True
        map_state.return_handed()
        return self.may_begin()

    def may_begin(self) -> bool:
        """Whether a worker is idle for which there is an item; with the driver's lock held."""
        map_state = self._map_state
        if map_state.exhausted or (self._handed is not None and not self._handed.waiting):
            return False
        return self.driver.scheduler.demand.starving(map_state)

    # --- the end ---

    def stop(self) -> None:
        """Start nothing more; what runs still gives its results."""
        self._stopped = True
        self._input.stop()
        self.driver.turn(lambda scheduler, now: scheduler.stop(self._map_state, now))

    @property
    def stopped(self) -> bool:
        """It was stopped."""
        return self._stopped

    def close(self) -> None:
        """Cancel what is left. Idempotent."""
        self.driver.end(self._map_state)

    # --- what it has done ---

    @property
    def pulled(self) -> int:
        """Items that were made chunks of, ever."""
        return self._map_state.pulled

    @property
    def settled(self) -> int:
        """Items that have an outcome."""
        return self._map_state.settled

    @property
    def failed(self) -> int:
        """Items that have one that is not ok."""
        return self._map_state.failed

    @property
    def worked_ns(self) -> int:
        """Time that workers have spent with the function, all together."""
        return self._map_state.chunker.worked_ns
