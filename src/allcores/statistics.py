"""A pool in numbers, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from allcores.outcome import Kind

if TYPE_CHECKING:
    from allcores.backends import Usage
    from allcores.engine.driver import Driver


@dataclass(frozen=True, slots=True)
class Statistics:
    """A snapshot of a pool. Counts since it began; seconds and bytes.

    workers: processes (or threads) that live now; busy: of these, how many hold work.
    items: settled, by kind: ok, failed, timed_out, workers_lost, cancelled.
    retries: attempts granted after a failure. put_backs: items that went back to the front because
    their worker ended under them. postponed: of these, running items that were ended because memory ran out.
    memory_holds: how often nothing new was started for want of memory.
    taken_back: unstarted items moved from a busy to an idle worker.
    busy_seconds: time that workers spent in the function. items_in_flight, bytes_in_flight: pulled
    and not yet handed to a consumer.
    blocks: pieces of shared memory that large items and results occupy now, on their way or in use.
    block_bytes: memory behind these and behind those that are kept to be used again.
    shared_bytes: memory of what was shared by `share`, `empty_shared` and their like.
    """

    workers: int
    busy: int
    workers_started: int
    ok: int
    failed: int
    timed_out: int
    workers_lost: int
    cancelled: int
    retries: int
    put_backs: int
    postponed: int
    memory_holds: int
    taken_back: int
    busy_seconds: float
    items_in_flight: int
    bytes_in_flight: int
    blocks: int
    block_bytes: int
    shared_bytes: int

    @property
    def items_done(self) -> int:
        """Items that have an outcome, whatever it is; cancelled ones apart."""
        return self.ok + self.failed + self.timed_out + self.workers_lost


def statistics_of(driver: Driver, memory: Usage) -> Statistics:
    """The snapshot of one pool."""
    with driver.guard:
        dispatcher = driver.dispatcher
        flows = driver.flows()
        count = dispatcher.count
        return Statistics(
            workers=sum(1 for desk in dispatcher.desks.values() if desk.life.value == "ready"),
            busy=sum(1 for desk in dispatcher.desks.values() if desk.chunks),
            workers_started=dispatcher.workers_started,
            ok=count(Kind.OK),
            failed=count(Kind.FAILED),
            timed_out=count(Kind.TIMED_OUT),
            workers_lost=count(Kind.WORKER_LOST),
            cancelled=count(Kind.CANCELLED),
            retries=dispatcher.retries,
            put_backs=dispatcher.put_backs,
            postponed=dispatcher.postponed,
            memory_holds=dispatcher.valve.holds,
            taken_back=dispatcher.taken_back,
            busy_seconds=dispatcher.busy_ns / 1e9,
            items_in_flight=sum(flow.in_flight for flow in flows),
            bytes_in_flight=sum(flow.bytes_out for flow in flows),
            blocks=memory.blocks,
            block_bytes=memory.block_bytes,
            shared_bytes=memory.shared_bytes,
        )
