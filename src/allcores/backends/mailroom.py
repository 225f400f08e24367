"""Reads what workers send, and what they have sealed and not sent: by the loop, or by who attends to a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allcores.backends.crew import Crew
from allcores.backends.decoding import joined, results_of
from allcores.backends.link import Link
from allcores.clock import monotonic_ns
from allcores.engine.events import Results
from allcores.engine.watch import PEEK_NS
from allcores.transport import frames, tracker
from allcores.transport.board import DONE
from allcores.transport.marks import PHASE_RUNNING

if TYPE_CHECKING:
    from allcores.engine.driver import Driver

#: what reading found: finished items, or ("ready" | "released" | "setup failed" | "not born" | "died", whom, details)
Found = Results | tuple[str, Link, Any]

#: Bytes per read. Above 128 kB malloc would map and unmap memory for every read.
READ_BYTES = 65_536
#: reads from one pipe before its worker's outbox is looked into: more than it holds
MOST_READS = 16
#: seconds between the end of a worker's pipe and its process: after that it is ended
LINGER_S = 0.2


class Mailroom:
    """The pool's incoming side. What it finds is appended to a list, which its caller tells the dispatcher."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        #: the loop has read from pipes and not yet told the dispatcher
        self.reading = False
        #: workers whose outboxes are to be looked into
        self.to_peek: list[int] = []

    def read(self, driver: Driver, link: Link, found: list[Found]) -> bool:
        """Take what is in a worker's pipe; False if there is nothing, or the pipe has ended."""
        try:
            data = link.pipe.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._pipe_ended(driver, link)
            return False
        for kind, number, body in link.inbox.feed(data):
            if kind == frames.RESULTS:
                self.take_records(driver, link, body, found)
            elif kind == frames.RELEASED:
                found.append(("released", link, body))
            elif kind == frames.LOG and self._crew.records is not None:
                self._crew.records.take(link.number, number, body)
            elif kind == frames.TRACK:
                tracker.pass_on(body)
            elif kind == frames.READY:
                found.append(("ready", link, None))
            elif kind == frames.SETUP_FAILED:
                found.append(("setup failed", link, ("preload" if number == frames.PRELOAD else "setup", body)))
        return True

    def _pipe_ended(self, driver: Driver, link: Link) -> None:
        if link.ended:
            return
        with driver.guard:
            self._crew.poller.unregister(link.pipe.fileno())
            link.ended = True
            # Mostly its death follows at once. If not, a task closed our pipe: then we end it.
            self._crew.signal_later(LINGER_S, link.number)

    def take_records(self, driver: Driver, link: Link, body: bytes, found: list[Found]) -> None:
        for record in frames.records(body):
            if not link.expects(record):
                continue
            last = found[-1] if found else None
            if isinstance(last, Results) and last.worker == link.number and joined(last, record):
                continue
            chunk = None
            if record[3] & frames.MIXED:
                with driver.guard:
                    desk = driver.dispatcher.desks.get(link.number)
                    chunk = desk.find(record[0]) if desk is not None else None
            unpacker = link.delivery.unpacker if link.delivery is not None else None
            found.append(results_of(link.number, record, chunk, unpacker))

    def peek(self, driver: Driver, found: list[Found]) -> None:
        """Finished items that wait unsent behind one that takes long: read them where they wait.

        A worker touches its outbox between two items only. So a copy is whole if the worker was in
        the middle of the same item before and after it was made.
        """
        crew = self._crew
        workers, self.to_peek = self.to_peek, []
        for worker in workers:
            link = crew.links.get(worker)
            if link is None or link.attended:
                continue
            before = crew.board.glance(link.slot)
            sealed = crew.board.word(link.slot, DONE)
            if not before[2] or before[3] != PHASE_RUNNING or monotonic_ns() - before[2] < PEEK_NS // 2:
                continue
            copy = bytes(crew.board.outbox(link.slot)[: crew.board.used(link.slot)])
            whole = crew.board.glance(link.slot) == before and crew.board.word(link.slot, DONE) == sealed
            if copy and whole:
                # What these items have logged is in the pipe by now, and comes first.
                for _ in range(MOST_READS):
                    if not self.read(driver, link, found):
                        break
                self.take_records(driver, link, copy, found)
