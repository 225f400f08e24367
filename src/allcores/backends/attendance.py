"""Waiting for a call on the caller's own thread: one thread less to wake per call.

The call's pipe is muted for the loop and read here. Deaths, deadlines and all other pipes stay with the loop.

A signal handler or a finalizer may run on this thread while it waits, and wait for something of the same pool itself.
Then it steps back first: the pipe is the loop's again, and who waited for the call waits as everybody does.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING

from allcores import deferral
from allcores.backends.crew import Crew
from allcores.backends.link import Link
from allcores.backends.mailroom import Found, Mailroom
from allcores.clock import monotonic_ns
from allcores.engine.flow import Chunk
from allcores.errors import PoolBusy
from allcores.supervision import poller
from allcores.transport.lookout import Lookout

if TYPE_CHECKING:
    from select import poll

    from allcores.engine.driver import Driver

#: milliseconds that a caller waits on its call's pipe without a look around
ATTEND_MS = 100.0


class Attendance:
    """Whoever waits for a call. apply: tells the dispatcher what was found. cores: that the pool may use."""

    def __init__(
        self, crew: Crew, mailroom: Mailroom, apply: Callable[[Driver, list[Found], int], None], cores: int
    ) -> None:
        self._crew = crew
        self._mailroom = mailroom
        self._apply = apply
        self._cores = cores
        #: which pipe is attended to by which thread
        self._attended: dict[int, Link] = {}
        #: threads that read from their pipe at this moment
        self._reading: set[int] = set()
        #: one of those who wait at a time may look out
        self._lookout = Lookout()

    def attend(self, driver: Driver, chunk: Chunk, until_ns: int | None, done: Callable[[], bool]) -> None:
        """Returns when `done()`, at `until_ns`, or when there is nothing to attend to (any more): the caller then
        waits as usual."""
        if not poller.CHANGES_REACH_WAIT:
            return
        me = get_ident()
        if me in self._attended:
            self.step_back(driver)
        lookout: Lookout | None = None
        try:
            with driver.guard:
                link = self._crew.links.get(chunk.worker) if chunk.sequence and not done() else None
                if link is None or self._mailroom.reading or link.attended or link.ended or link.dead is not None:
                    return
                pollable = link.pollable
                if pollable is None:
                    return
                link.attended = True
                self._attended[me] = link
                self._crew.listen(link)
                if self._cores > 1 and not self._lookout.taken:
                    lookout = self._lookout
                    lookout.taken = True
            while chunk.worker == link.number and self._attended.get(me) is link and not (done() or link.over):
                if not self._wait(pollable, until_ns, lookout):
                    return
                if not self._read(driver, link, chunk):
                    return
        finally:
            if lookout is not None:
                lookout.taken = False
            if me in self._attended:
                self.step_back(driver)

    @staticmethod
    def _wait(pollable: poll, until_ns: int | None, lookout: Lookout | None) -> bool:
        """Until the pipe may have something, for a while; False once the time is up."""
        if lookout is None or not lookout.look(pollable):
            left_ms = ATTEND_MS
            if until_ns is not None:
                left_ms = min(left_ms, (until_ns - monotonic_ns()) / 1e6)
                if left_ms <= 0:
                    return False
            if not pollable.poll(left_ms):
                return True
        if lookout is not None:
            lookout.answered()
        return True

    def _read(self, driver: Driver, link: Link, chunk: Chunk) -> bool:
        """Take what is in the pipe; False if this thread has stepped back, its call being settled or to be retried."""
        me = get_ident()
        outermost = deferral.enter()
        try:
            if self._attended.get(me) is not link:
                return False
            found: list[Found] = []
            self._reading.add(me)
            try:
                self._mailroom.read(driver, link, found)
                with driver.guard:
                    self._apply(driver, found, monotonic_ns())
                    driver._obey()
                    over = bool(chunk.done) and not link.over
                    if over:
                        # Settled, or to be tried again: stepping back here saves another turn for it.
                        self._leave(link, me)
            finally:
                self._reading.discard(me)
            driver._resolve()
            return not over
        finally:
            try:
                if outermost:
                    deferral.leave()
            finally:
                driver._tell()

    def is_present(self) -> bool:
        """This thread attends to a call."""
        return get_ident() in self._attended

    def _leave(self, link: Link, me: int) -> None:
        """The pipe is the loop's again; with the driver's lock held."""
        del self._attended[me]
        link.attended = False
        if not self._crew.gone:
            self._crew.listen(link)

    def step_back(self, driver: Driver) -> None:
        """This thread attends to no call any more. Raises PoolBusy while it reads: what it read must be told first."""
        me = get_ident()
        if me in self._reading:
            raise PoolBusy()
        with driver.guard:
            link = self._attended.get(me)
            if link is None:
                return
            self._leave(link, me)
        if link.over:
            driver.backend.wake()
