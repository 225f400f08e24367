"""Waiting for a call on the caller's own thread: one thread less to wake per call.

The call's pipe is muted for the loop and read here. Deaths, deadlines and all other pipes stay with the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from allcores.backends.crew import Crew
from allcores.backends.link import Link
from allcores.backends.mailroom import Found, Mailroom
from allcores.clock import monotonic_ns
from allcores.engine.flow import Chunk
from allcores.supervision import poller
from allcores.transport.lookout import Lookout

if TYPE_CHECKING:
    from allcores.engine.driver import Driver, Told

#: milliseconds that a caller waits on its call's pipe without a look around
ATTEND_MS = 100.0
#: what a turn has to tell when it was not completed
NOTHING: Told = ([], [])


class Attendance:
    """Whoever waits for a call. apply: tells the dispatcher what was found. cores: that the pool may use."""

    def __init__(
        self, crew: Crew, mailroom: Mailroom, apply: Callable[[Driver, list[Found], int], None], cores: int
    ) -> None:
        self._crew = crew
        self._mailroom = mailroom
        self._apply = apply
        self._cores = cores
        #: one of those who wait at a time may look out
        self._lookout = Lookout()

    def attend(self, driver: Driver, chunk: Chunk, until_ns: int | None, done: Callable[[], bool]) -> None:
        """Returns when `done()`, at `until_ns`, or when there is nothing to attend to (any more): the caller then
        waits as usual."""
        if not poller.CHANGES_REACH_WAIT:
            return
        mine: Link | None = None
        lookout: Lookout | None = None
        try:
            # The lock itself, not the guard: what Ctrl-C may leave half done here is put right below.
            with driver.lock:
                link = self._crew.links.get(chunk.worker) if chunk.sequence and not done() else None
                if link is None or self._mailroom.reading or link.attended or link.ended or link.dead is not None:
                    return
                pollable = link.pollable
                if pollable is None:
                    return
                mine = link
                link.attended = True
                self._crew.listen(link)
                if self._cores > 1 and not self._lookout.taken:
                    lookout = self._lookout
                    lookout.taken = True
            while chunk.worker == link.number and not (done() or link.over):
                if lookout is None or not lookout.look(pollable):
                    left_ms = ATTEND_MS
                    if until_ns is not None:
                        left_ms = min(left_ms, (until_ns - monotonic_ns()) / 1e6)
                        if left_ms <= 0:
                            return
                    if not pollable.poll(left_ms):
                        continue
                if lookout is not None:
                    lookout.answered()
                found: list[Found] = []
                self._mailroom.read(driver, link, found)
                told = NOTHING
                try:
                    with driver.guard:
                        self._apply(driver, found, monotonic_ns())
                        told = driver._obey()
                        if chunk.done and not link.over:
                            # Settled, or to be tried again: stepping back here saves another turn for it.
                            mine = None
                            link.attended = False
                            self._crew.listen(link)
                            return
                finally:
                    # Also when the guard raises Ctrl-C: nobody else would tell.
                    driver._tell(told)
        finally:
            if lookout is not None:
                lookout.taken = False
            if mine is not None:
                with driver.guard:
                    mine.attended = False
                    if not self._crew.gone:
                        self._crew.listen(mine)
                if mine.over:
                    driver.backend.wake()
