"""Maps of a `multiprocessing` drop-in: they begin at once, and their input is pulled without waiting for a reader.

Two threads see to that. The feeder, one for each pool, hands items to workers as these want them and takes the results
that nobody reads (those of `map_async`, and of iterators that were dropped). An input that may make its reader wait,
such as a generator, is pulled on a thread of its own (`pool_input`), so that what it has given is on its way while it
waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from allcores.adapters.pool_errors import as_in_multiprocessing, check_callable
from allcores.adapters.pool_input import END, Puller
from allcores.adapters.pool_results import MapResult
from allcores.adapters.pool_work import Work
from allcores.errors import again
from allcores.pool.driver import Driver
from allcores.pool.planning import plan_map
from allcores.pool.pool import driver_of
from allcores.pool.result_stream import LOGS_S
from allcores.pool.segment_values import open_segment
from allcores.pool.stage_stream import HandedInput
from allcores.scheduler.map_state import MapState
from allcores.scheduler.segment import Segment
from allcores.system.bell import Bell

#: Longest wait without a look around, seconds. Every wake-up is announced; this bounds our mistakes.
WAIT_S = 5.0
#: no bound
MOST = 1 << 62
#: inputs that are there, and never make a reader wait
_IN_MEMORY: tuple[type, ...] = (
    list,
    tuple,
    range,
    str,
    bytes,
    set,
    frozenset,
    dict,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
)


class PoolMap:
    """One map, from its input to its settled items.

    Args:
        work: Of the pool.
        fn: The function.
        style: "one" or "star".
        items: The input.
        chunk: Items that travel together; None: as many as prove right.
        ordered: Results come in input order.
        result: What is to be settled; None: an iterator takes the results.

    Raises:
        NotPicklable: The function cannot travel.
        TypeError: It cannot be called.
        PoolClosed: The engine is closed.
    """

    def __init__(
        self,
        work: Work,
        fn: Callable[..., Any],
        style: str,
        items: Iterable[Any],
        chunk: int | None,
        *,
        ordered: bool = True,
        result: MapResult[Any] | None = None,
    ) -> None:
        check_callable(fn)
        self._work = work
        self.driver: Driver = driver_of(work.pool)
        self.bell = Bell()
        self._result = result
        self._values: list[Any] = []
        #: nobody will read the results
        self._dropped = False
        self._in_memory = type(items) in _IN_MEMORY
        #: settled segments that were taken from the map's state, with the driver's lock held
        self.kept: deque[Segment] = deque()
        #: nothing more will come; with the driver's lock held
        self.over = False
        #: what comes after the last result
        self.error: BaseException | None = None
        given = items if self._in_memory else ()
        make, function = plan_map(self.driver, fn, style, given, chunk=chunk, ordered=ordered)

        def make_unbound(number: int) -> MapState:
            map_state = make(number)
            self._bounds = map_state.items_limit, map_state.bytes_limit
            # Until a program reads, all of the input is worked on, as the original does it.
            map_state.items_limit = map_state.bytes_limit = MOST
            if not self._in_memory:
                map_state.total = None
            return map_state

        self.map_state = map_state = self.driver.open(make_unbound, self._ring)
        if result is not None:
            # It is all there.
            result.follow(chunk or 1, lambda: (map_state.total or 0) - map_state.settled)
        self._input = HandedInput(self.driver, self.map_state, function)
        self._puller: Puller | None = None
        if self._in_memory:
            self._input.put(list(items))
            self._input.end()
        try:
            feeder = work.open(self, lambda: Feeder(work))
            if not self._in_memory:
                self._puller = Puller(items, chunk or 1, work.wake, feeder.bell, self._is_late)
                if self.over:
                    # The pool was terminated meanwhile.
                    self._puller.stop()
        except BaseException as error:  # no thread can be had: the end of the pool is not to wait for this map
            self._finish(error)
            raise

    def _is_late(self) -> bool:
        """Workers idle, and the feeder knows nothing of items for them. Without the lock."""
        return self.driver.scheduler.demand.hungry

    def _ring(self) -> None:
        """Something has changed; with the driver's lock held."""
        self.bell.ring()
        feeder = self._work.feeder
        if feeder is not None:
            feeder.bell.ring()

    # --- for the feeder ---

    @property
    def _takes(self) -> bool:
        return self._result is not None or self._dropped

    def turn(self) -> None:
        """Hand over what workers want, and take what nobody else does."""
        if self.over:
            return
        try:
            self._feed()
            if self._takes:
                self._take()
        except BaseException as error:
            self._finish(error)
            return
        map_state = self.map_state
        if map_state.broken is not None:
            self._finish(again(map_state.broken))
        elif map_state.exhausted and map_state.settled == map_state.pulled:
            if self._takes:
                self._take()
            self._finish(None if self._puller is None else self._puller.error)

    def _feed(self) -> None:
        puller = self._puller
        if puller is not None and puller.arrived:
            taken = [puller.arrived.popleft() for _ in range(len(puller.arrived))]
            ended = taken[-1] is END
            if ended:
                taken.pop()
            self._input.put(taken)
            if ended:
                self._input.end()
                puller.stop()
        self._input.feed()
        if puller is not None:
            puller.want(self._input.room)

    def _take(self) -> None:
        """Decode what is settled, in order; with what is dropped nothing is done."""
        while True:
            with self.driver.lock:
                segment = self.map_state.take()
            if segment is None:
                return
            result = self._result
            if result is None:
                continue
            if segment.failures:
                if self.error is None:
                    self.error = segment.failures[0].error
            elif self.error is None:
                self._values.extend(open_segment(segment))

    def _finish(self, error: BaseException | None) -> None:
        """Nothing more will come: what is not read yet is kept for the reader."""
        with self.driver.lock:
            if self.over:
                return
            while (segment := self.map_state.take()) is not None:
                if not self._dropped:
                    self.kept.append(segment)
            if self.error is None:
                self.error = error
            self.over = True
            self.bell.ring()
        if self._puller is not None:
            self._puller.stop()
        self.driver.end(self.map_state)
        result, self._result = self._result, None
        try:
            if result is not None:
                if self.driver.backend.unhandled:
                    self.driver.backend.settle_logs(LOGS_S)
                if self.error is not None:
                    self._values.clear()
                    result.settle(None, as_in_multiprocessing(self.error))
                else:
                    result.settle(self._values, None)
        finally:
            self._work.map_done(self)

    def fail(self, error: BaseException) -> None:
        """The pool was terminated."""
        self._finish(error)

    def has_work(self) -> bool:
        """Whether a turn would do something; with the driver's lock held."""
        map_state = self.map_state
        if self.over:
            return False
        if map_state.broken is not None or (map_state.exhausted and map_state.settled == map_state.pulled):
            return True
        if self._takes and map_state.ready:
            return True
        if map_state.exhausted:
            return False
        if self._puller is not None and self._puller.arrived:
            return True
        return self._input.waiting > 0 and self.driver.scheduler.demand.starving(map_state)

    # --- for its reader ---

    def unbound(self) -> None:
        """Work on all of the input, however little was read."""
        self.map_state.items_limit = self.map_state.bytes_limit = MOST
        self._work.wake()

    def bound(self) -> None:
        """It is read from now on: no more than this ahead."""
        self.map_state.items_limit, self.map_state.bytes_limit = self._bounds

    def drop(self) -> None:
        """Nobody will read the results; the items are worked on all the same."""
        self._dropped = True
        self.kept.clear()
        if not self.over:
            self.unbound()

    def wait(self, seconds: float | None) -> None:
        """Until the bell rings, or for so long at most. Then it is looked again, whatever has ended the wait."""
        self.bell.wait(WAIT_S if seconds is None else min(seconds, WAIT_S))

    def look(self) -> list[Segment] | None:
        """What is settled and not read yet; if that is nothing, the bell is going to ring. None: nothing will come."""
        map_state = self.map_state
        with self.driver.lock:
            if self.kept:
                taken = list(self.kept)
                self.kept.clear()
                return taken
            if self.over:
                return None
            map_state.return_handed()
            taken = map_state.take_some()
            for segment in taken:
                map_state.hand_over(segment)
            if self.driver.scheduler.demand.wants_input(map_state):
                feeder = self._work.feeder
                if feeder is not None:
                    feeder.bell.ring()
            if not taken:
                # In a fork of the process there is no feeder.
                self.driver.check_process()
                self.bell.expect()
            return taken


class Feeder:
    """The thread that looks after the maps of one pool.

    Args:
        work: What the pool has not finished.
    """

    def __init__(self, work: Work) -> None:
        self._driver = driver_of(work.pool)
        self.bell = Bell()
        self._asked = True
        thread = threading.Thread(target=_feed, args=(self, work), name="allcores-pool-feeder", daemon=True)
        thread.start()

    def wake(self) -> None:
        """Look again. Any thread, also in the middle of one of the driver's decisions."""
        self._asked = True
        if self._driver.lock.mine:
            self.bell.ring()
            return
        with self._driver.lock:
            self.bell.ring()

    def rest(self, work: Work) -> bool:
        """Wait until there is something to do; False once there will be nothing any more."""
        with self._driver.lock:
            if self._asked:
                self._asked = False
                return True
            maps = _pool_maps(work)
            over = self._driver.closed and not maps
            # Expected first, then looked: a puller, which has no lock, tells of items only if it is expected.
            self.bell.expect()
            if any(each.has_work() for each in maps):
                self.bell.expected = False
                return True
        if over:
            # Another thread may have begun a map before the pool was closed, and not told of it yet.
            return not work.end_feeder(_pool_maps)
        self.bell.wait(WAIT_S)
        return True


def _feed(feeder: Feeder, work: Work) -> None:
    while feeder.rest(work):
        _turn_all(work)


def _turn_all(work: Work) -> None:
    # A function of its own: while the thread waits it refers to no map, and so to no item.
    for each in _pool_maps(work):
        each.turn()


def _pool_maps(work: Work) -> list[PoolMap]:
    return [each for each in list(work.maps) if isinstance(each, PoolMap)]


__all__ = ["Feeder", "PoolMap"]
