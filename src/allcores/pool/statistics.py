"""A pool in numbers, at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allcores.outcome import Kind
from allcores.scheduler.state import Counters
from allcores.scheduler.worker_state import Lifecycle
from allcores.system.plain_record import record

if TYPE_CHECKING:
    from allcores.pool.actor_processes import ActorProcesses
    from allcores.pool.driver import Driver
    from allcores.shared_memory.parent_side import MemoryUsage


@record
class Statistics:
    """A snapshot of a pool. Counts since it began, calls of its actors included; seconds and bytes.

    Attributes:
        workers: Processes (or threads) that live now, those of actors included.
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
        actors: Of `workers`, those that objects of actors live in.
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
    actors: int = 0

    @property
    def items_done(self) -> int:
        """Items that have an outcome, whatever it is; cancelled ones apart."""
        return self.ok + self.failed + self.timed_out + self.workers_lost


def statistics_of(driver: Driver, actors: ActorProcesses, memory: MemoryUsage) -> Statistics:
    """The snapshot of one pool."""
    sums = _sums(driver, actors)
    ready, busy, items, size = _now(driver)
    of_actors = 0
    for other, _ in actors.drivers():
        more, more_busy, more_items, more_size = _now(other)
        of_actors += more
        ready, busy, items, size = ready + more, busy + more_busy, items + more_items, size + more_size
    return Statistics(
        workers=ready,
        busy=busy,
        workers_started=sums.workers_started,
        ok=sums.count(Kind.OK),
        failed=sums.count(Kind.FAILED),
        timed_out=sums.count(Kind.TIMED_OUT),
        workers_lost=sums.count(Kind.WORKER_LOST),
        cancelled=sums.count(Kind.CANCELLED),
        retries=sums.retries,
        requeues=sums.requeues,
        preempted=sums.preempted,
        memory_holds=sums.memory_holds,
        stolen=sums.stolen,
        busy_seconds=sums.busy_ns / 1e9,
        items_in_flight=items,
        bytes_in_flight=size,
        blocks=memory.blocks,
        block_bytes=memory.block_bytes,
        shared_bytes=memory.shared_bytes,
        actors=of_actors,
    )


def item_times(driver: Driver, actors: ActorProcesses) -> list[tuple[float, int]]:
    """See `Pool.item_times`."""
    counts = _sums(driver, actors).by_time
    return [((1 << bucket) / 1e9, number) for bucket, number in enumerate(counts) if number]


def _sums(driver: Driver, actors: ActorProcesses) -> Counters:
    sums = Counters()
    with driver.lock:
        sums.add(driver.scheduler.state.counters)
    for counters in actors.counters():
        sums.add(counters)
    return sums


def _now(driver: Driver) -> tuple[int, int, int, int]:
    """Workers that live, those of them that hold work, items in flight and their bytes."""
    with driver.lock:
        worker_states = driver.scheduler.state.worker_states.values()
        maps = driver.maps()
        return (
            sum(1 for worker_state in worker_states if worker_state.lifecycle is Lifecycle.READY),
            sum(1 for worker_state in worker_states if worker_state.chunks),
            sum(map_state.in_flight for map_state in maps),
            sum(map_state.bytes_out for map_state in maps),
        )
