"""Who may be given work while memory is short: the dispatcher's hand that does what `Pressure` decides.

As long as memory is short nothing waits in workers' queues, and input is pulled only for those who may start.
With nobody busy one chunk may always start, so nothing stands still for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from allcores.engine.desk import Desk, Doom, Life
from allcores.engine.events import MemoryHeld, MemoryReleased
from allcores.engine.flow import Flow
from allcores.engine.pressure import CLOSE_NS, MOST_POSTPONED, Pressure, Running
from allcores.errors import WorkerLost
from allcores.outcome import Kind

if TYPE_CHECKING:
    from allcores.engine.dispatcher import Dispatcher

#: (available, total) bytes of memory; None if they cannot be told
Read = Callable[[], "tuple[int, int] | None"]
#: bytes that the end of a worker would give back
Weigh = Callable[[int], int]


class Valve:
    """The dispatcher's hand on the tap. Open unless `watch` was called."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.pressure: Pressure | None = None
        #: where readings come from
        self.read: Read | None = None
        self.weigh: Weigh = lambda worker: 0
        #: not every idle worker may be given work
        self.narrow = False
        #: an alarm for the next look is set
        self._watched = False
        self._looked_ns = 0
        self._held_ns = 0
        #: how often work was held
        self.holds = 0

    def watch(self, read: Read, weigh: Weigh) -> None:
        """Look at memory from now on, by `Limits(memory_reserve=...)`; None there leaves it alone."""
        setting = self._dispatcher.limits.memory_reserve
        if setting is not None:
            self.pressure = Pressure(setting)
            self.read, self.weigh = read, weigh

    # --- who may start ---

    def allowance(self) -> int:
        """Chunks that may be started now, in all."""
        pressure, busy = self.pressure, 0
        alone = False
        for desk in self._dispatcher.desks.values():
            if desk.chunks:
                busy += 1
                alone = alone or any(chunk.postponed >= MOST_POSTPONED for chunk in desk.chunks)
        if not busy:
            # Of those that are to run alone, one; any other makes room for the next at once.
            if pressure is None or pressure.held or pressure.most is None or self._dispatcher.some_alone:
                return 1
            return pressure.most
        if alone or pressure is None or pressure.held:
            return 0
        return len(self._idle) if pressure.most is None else max(0, min(len(self._idle), pressure.most - busy))

    @property
    def _idle(self) -> dict[Desk, None]:
        return self._dispatcher.idle

    def admits(self, flow: Flow) -> bool:
        """Whether the first chunk of `flow` may be started now."""
        if not self._idle or not self.allowance():
            return False
        if self._dispatcher.some_alone and flow.pending[0].postponed >= MOST_POSTPONED:
            return not any(desk.chunks for desk in self._dispatcher.desks.values())
        return True

    # --- looking ---

    def expect(self, now: int) -> None:
        """Work is out: see that somebody looks at the memory."""
        if self.pressure is not None and not self._watched:
            self._watched = True
            self._dispatcher.alarm(max(now + CLOSE_NS, self._looked_ns + self.pressure.pause_ns), "memory", None)

    def look(self, now: int) -> None:
        """The alarm of `expect`. With nobody busy there is nothing to look for: an idle pool sleeps."""
        self._watched = False
        busy = [desk for desk in self._dispatcher.desks.values() if desk.chunks]
        pressure = self.pressure
        if pressure is None or self.read is None or not busy:
            return
        reading = self.read()
        self._looked_ns = now
        if reading is not None:
            was_held = pressure.held
            running = [each for each in map(self._running, busy) if each is not None]
            ended = pressure.look(*reading, running, self.weigh, now, dying=self._dying)
            pressure.ease(self._dispatcher.workers)
            if pressure.held and not was_held:
                self._hold(pressure, running, now)
            elif was_held and not pressure.held:
                seconds = (now - self._held_ns) / 1e9
                self._dispatcher.news.append(MemoryReleased(pressure.available, pressure.reserve, seconds))
            if ended is not None:
                self._end(ended, now)
            was_narrow = self.narrow
            self.turn()
            if was_narrow:
                if not self.narrow:
                    self.wake_all()
                self._dispatcher.assign(now)
        self.expect(now)

    def turn(self) -> None:
        """Open or narrow, as far as is right now."""
        pressure = self.pressure
        if pressure is not None:
            self.narrow = pressure.held or pressure.most is not None or self._dispatcher.some_alone

    def wake_all(self) -> None:
        """Whoever reads a stream may pull input for those who may start now."""
        self._dispatcher.touched.update(self._dispatcher.flows())

    def _running(self, desk: Desk) -> Running | None:
        """Since when this worker has run its item; None if it runs none, or is being ended."""
        if desk.doom is not None or desk.life is not Life.READY:
            return None
        glance = self._dispatcher.glance(desk.worker)
        if glance is None or not glance.started_ns or desk.find(glance.sequence) is None:
            return None
        return Running(desk.worker, glance.started_ns)

    def _dying(self, worker: int) -> bool:
        return worker in self._dispatcher.desks

    # --- holding and ending ---

    def _hold(self, pressure: Pressure, running: list[Running], now: int) -> None:
        """Start nothing more. What waits at workers is taken back, but for the one that has run longest."""
        self.holds += 1
        self._held_ns = now
        self._dispatcher.news.append(MemoryHeld(pressure.available, pressure.reserve))
        oldest = min(running, key=lambda each: each.since_ns).worker if running else None
        for desk in list(self._dispatcher.desks.values()):
            if desk.worker != oldest:
                self._dispatcher.recall(desk, now)

    def _end(self, ended: Running, now: int) -> None:
        dispatcher, pressure = self._dispatcher, self.pressure
        desk = dispatcher.desks[ended.worker]
        glance = dispatcher.glance(ended.worker)
        chunk = desk.find(glance.sequence) if glance is not None and glance.started_ns else None
        if glance is None or chunk is None or pressure is None:
            # It has just finished.
            return
        position = min(glance.position, len(chunk.items) - 1)
        used = self.weigh(ended.worker)
        what = dispatcher.describe(chunk, position)
        left = f"{pressure.available / 1e6:,.0f} MB were left, {pressure.reserve / 1e6:,.0f} MB are kept in reserve"
        last = chunk.postponed >= MOST_POSTPONED
        times = f"It had been put back {chunk.postponed} times, and ran alone this time. " if last else ""
        error = WorkerLost(
            f"Worker {ended.worker} was ended while running {what}, because memory ran out: it used "
            f"{used / 1e6:,.0f} MB, {left}. {times}The item needs more memory than there is here: make it smaller, or "
            "give it a larger machine or container.",
            signal="SIGKILL",
            peak_memory=used,
            index=None if chunk.future is not None else chunk.first + position,
            attempts=chunk.attempt,
            worker=ended.worker,
        )
        reason = f"memory ran out: {left}"
        doom = Doom(Kind.WORKER_LOST, error, reason, glance.sequence, position, glance.phase, postponed=not last)
        dispatcher.doom(desk, doom, now)
