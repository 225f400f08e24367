"""What a pool knows of the processes of its actors: they count in its statistics and show in its workers' status."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from allcores.events import PoolEvent, WorkerEnded, WorkerStarted, WorkReported
from allcores.scheduler.state import Counters
from allcores.system import deferral, forks
from allcores.system.weak_objects import WeakObjects

if TYPE_CHECKING:
    from collections.abc import Callable

    from allcores.pool.driver import Driver


class Place:
    """Room for the processes of an actor that is being made.

    Attributes:
        count: How many; 0 once they are there, or will not be.
    """

    def __init__(self, count: int) -> None:
        self.count = count


class ActorProcesses:
    """The drivers of a pool's actors. Any thread may use it."""

    def __init__(self) -> None:
        #: a signal's handler may ask in the middle of it
        self._lock = deferral.Lock()
        forks.renew_in_children(self)
        #: of those that may still count, and their counters
        self._known: list[tuple[weakref.ref[Driver], Counters, str]] = []
        #: of those that are gone
        self._gone = Counters()
        #: of actors that are being made
        self._places: WeakObjects[Place] = WeakObjects()

    def reserve(self, place: Place, most: int, taken: Callable[[], int]) -> int | None:
        """Keep room for an actor until it is made: to make it takes its time, and others may be made meanwhile.

        Args:
            place: Which is to have it.
            most: Processes that there may be.
            taken: Counts those of actors that are made.

        Returns:
            None; or how many there are, if with these there were too many.
        """
        with self._lock:
            there = taken() + sum(each.count for each in self._places.all())
            if there + place.count > most:
                return there
            self._places.add(place)
            return None

    def made(self, place: Place, note: Callable[[], object]) -> None:
        """It is made; in one step with what `note` does, it takes no room of its own any more."""
        with self._lock:
            note()
            place.count = 0

    def add(self, driver: Driver, name: str) -> None:
        """An actor has started.

        Args:
            driver: Its own.
            name: Of its class.
        """
        with self._lock:
            self._fold()
            self._known.append((weakref.ref(driver), driver.scheduler.state.counters, name))

    def after_fork(self) -> None:
        """In a child of a fork: whichever thread had the lock is not here."""
        self._lock = deferral.Lock()
        self._places.clear()

    def _fold(self) -> None:
        for entry in [entry for entry in self._known if entry[0]() is None]:
            self._known.remove(entry)
            self._gone.add(entry[1])

    def drivers(self) -> list[tuple[Driver, str]]:
        """Those that are open, with the names of their classes."""
        with self._lock:
            found = [(there(), name) for there, _, name in self._known]
        return [(driver, name) for driver, name in found if driver is not None and not driver.closed]

    def counters(self) -> list[Counters]:
        """What all of them have done, also those that are gone."""
        with self._lock:
            self._fold()
            return [self._gone, *(counters for _, counters, _ in self._known)]


class ActorTeller:
    """An observer of an actor that tells those of its pool what its processes do.

    Args:
        driver: The pool's.
        name: Of the actor's class.
    """

    def __init__(self, driver: Driver, name: str) -> None:
        self._driver = driver
        self._name = name
        self.sees_work = driver.wants_activity

    def __call__(self, event: PoolEvent) -> None:
        """Take one event."""
        if isinstance(event, WorkerStarted):
            event = WorkerStarted(event.worker, event.pid, self._name)
        elif isinstance(event, WorkerEnded):
            event = WorkerEnded(event.worker, event.reason, self._name)
        elif not isinstance(event, WorkReported):
            return
        self._driver.notify_observers(event)
