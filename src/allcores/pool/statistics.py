"""A pool in numbers, at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allcores.outcome import Kind
from allcores.scheduler.worker_state import Lifecycle
from allcores.system.plain_record import record

if TYPE_CHECKING:
    from allcores.pool.driver import Driver
    from allcores.shared_memory.parent_side import MemoryUsage


@record
class Statistics:
    """A snapshot of a pool. Counts since it began; seconds and bytes.

    Attributes:
        workers: Processes (or threads) that live now.
        busy: Of these, how many hold work.
        workers_started: Since the pool began.
        ok: Items that returned.
        failed: Items whose function raised, or that would not pickle.
        timed_out: Items that used up their `timeout`.
        workers_lost: Items whose process ended.
        cancelled: Items that were cancelled.
        retries: Attempts granted after a failure.
        requeues: Items that went back to the front because their worker ended under them.
        preempted: Of these, running items that were ended because memory ran out.
        memory_holds: How often nothing new was started for want of memory.
        stolen: Unstarted items moved from a busy to an idle worker.
        busy_seconds: Time that workers spent in the function.
        items_in_flight: Items pulled and not yet handed to a consumer.
        bytes_in_flight: The same in pickled bytes.
        blocks: Pieces of shared memory that large items and results occupy now, on their way or in use.
        block_bytes: Bytes of memory of these and of those that are kept to be used again.
        shared_bytes: Bytes of memory of what was shared by `share`, `empty_shared` and their like.
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
    requeues: int
    preempted: int
    memory_holds: int
    stolen: int
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


def statistics_of(driver: Driver, memory: MemoryUsage) -> Statistics:
    """The snapshot of one pool."""
    with driver.lock:
        worker_states, counters = driver.scheduler.state.worker_states, driver.scheduler.state.counters
        maps = driver.maps()
        count = counters.count
        return Statistics(
            workers=sum(1 for worker_state in worker_states.values() if worker_state.lifecycle is Lifecycle.READY),
            busy=sum(1 for worker_state in worker_states.values() if worker_state.chunks),
            workers_started=counters.workers_started,
            ok=count(Kind.OK),
            failed=count(Kind.FAILED),
            timed_out=count(Kind.TIMED_OUT),
            workers_lost=count(Kind.WORKER_LOST),
            cancelled=count(Kind.CANCELLED),
            retries=counters.retries,
            requeues=counters.requeues,
            preempted=counters.preempted,
            memory_holds=counters.memory_holds,
            stolen=counters.stolen,
            busy_seconds=counters.busy_ns / 1e9,
            items_in_flight=sum(map_state.in_flight for map_state in maps),
            bytes_in_flight=sum(map_state.bytes_out for map_state in maps),
            blocks=memory.blocks,
            block_bytes=memory.block_bytes,
            shared_bytes=memory.shared_bytes,
        )
