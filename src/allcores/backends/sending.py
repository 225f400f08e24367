"""Sends chunks to workers: with the driver's lock held, on whichever thread the decision was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allcores.backends.crew import Crew
from allcores.backends.deaths import SAMPLE_S
from allcores.clock import monotonic_ns
from allcores.engine.events import Failure, Results
from allcores.engine.flow import Chunk
from allcores.errors import NotPicklable
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.transport import frames
from allcores.transport.board import NO_INDEX
from allcores.transport.moments import moment

if TYPE_CHECKING:
    from allcores.engine.driver import Driver


class Sending:
    """The pool's outgoing side. cores: that the pool may use."""

    def __init__(self, crew: Crew, limits: Limits, cores: int) -> None:
        self._crew = crew
        self._limits = limits
        self._cores = cores

    def send(self, driver: Driver, worker: int, chunk: Chunk) -> None:
        """Write a chunk to a worker's pipe."""
        crew = self._crew
        link = crew.links.get(worker)
        if link is None:
            # It died in the same round in which it was given this: its death has put the chunk back.
            return
        function = chunk.function
        payload = chunk.payload
        if payload is None:
            try:
                payload = crew.pack(chunk.items)
            except BaseException as error:
                if not isinstance(error, Exception):
                    # This may be the pool's own thread, which it must not end.
                    error = NotPicklable(f"An item could not be pickled again: {type(error).__name__}: {error}")
                failures = [Failure(n, Kind.FAILED, error) for n in range(len(chunk.items))]
                driver.dispatcher.results(
                    Results(worker, chunk.sequence, 0, len(failures), 0, values=[], failures=failures, ended=True),
                    monotonic_ns(),
                )
                return
        if not chunk.size_bytes:
            chunk.size_bytes = len(payload)
        # The bytes have done their duty: a chunk that comes back is pickled again.
        chunk.payload = None
        while driver.dropped:
            number = driver.dropped.popleft()
            for other in crew.links.values():
                if number in other.known:
                    other.known.discard(number)
                    crew.write(other, frames.frame(frames.FORGET, number))
        flags = frames.DETAILED if chunk.flow.detailed else 0
        if chunk.flow.timeout_ns is not None:
            flags |= frames.TIMED
        if chunk.future is not None and len(driver.dispatcher.idle) > driver.workers - self._cores:
            flags |= frames.PROMPT
        first = chunk.first if chunk.future is None else NO_INDEX
        report_us = chunk.flow.chunker.target_ns // 1000
        head = frames.CHUNK_HEAD.pack(function.number, flags, len(chunk.items), report_us, first)
        if not isinstance(payload, bytes):
            assert crew.freight is not None
            payload = crew.freight.lend(link, payload)
        data = frames.frame(frames.CHUNK, chunk.sequence, head, payload)
        if link.delivery is not None and (returned := link.delivery.returned()):
            data = frames.offsets(frames.RETURNED, returned) + data
        if function.number not in link.known:
            link.known.add(function.number)
            for offset, what in function.leases.items():
                link.lent.setdefault(offset, []).append(what)
            data = frames.frame(frames.FUNCTION, function.number, function.payload) + data
        moment("frame.before")
        crew.write(link, link.introduction() + data)
        moment("frame.after")
        until = driver.sleeps_until
        if self._limits.memory_per_worker is not None and until and until > monotonic_ns() + int(SAMPLE_S * 1e9):
            # The loop looks at the workers' memory while work is out: it fell asleep when none was.
            driver.sleeps_until = None
            driver.backend.wake()
