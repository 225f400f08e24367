"""What a pool knows of the processes of its actors: they count in its statistics and show in its workers' status."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from allcores.events import PoolEvent, WorkerEnded, WorkerStarted, WorkReported
from allcores.scheduler.state import Counters
from allcores.system import deferral, forks

if TYPE_CHECKING:
    from allcores.pool.driver import Driver


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
