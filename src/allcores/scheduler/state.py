"""All that the scheduler knows, in one place: workers, maps, timers, what is to be done and told, and counters.

    settlement, workers, timeouts,      ┌──────────────────┐
    work_stealing, admission, Scheduler │  SchedulerState  │ commands ──► the backend
         read it and change it ────────►│                  │ events   ──► observers
                                        └──────────────────┘ dirty_maps ► consumers

The policies know this state and not each other; `Scheduler` puts them together. What stands here besides data are
the few moves that keep two parts of it consistent. Not thread-safe: the owner of the scheduler holds one lock.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from allcores.events import PoolBroken, PoolEvent
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.scheduler.activity import ActivityBatcher
from allcores.scheduler.actor_policy import ActorPolicy
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.messages import Command, SetLimit, WorkerProgress
from allcores.scheduler.series import Series
from allcores.scheduler.timers import Timers
from allcores.scheduler.worker_state import Lifecycle, WorkerState
from allcores.transport.positions import NO_LIMIT

#: Chunks per worker: one runs, one waits, so that no worker waits for the parent.
DEPTH = 2
#: The same for chunks that take less than SHORT_NS: on a machine whose cores are all busy the parent may get
#: its turn some milliseconds late.
DEPTH_SHORT = 4
#: The same on a node of a cluster: a message there and back takes 10 ms, and carries what has ended meanwhile.
DEPTH_SHORT_NODE = 16
#: A worker reports at most 2**64 ns.
TIME_BUCKETS = 65


class Counters:
    """Sums over the life of a pool, for its statistics."""

    __slots__ = (
        "busy_ns",
        "by_kind",
        "by_time",
        "items_done",
        "memory_holds",
        "ok",
        "preempted",
        "requeues",
        "retries",
        "stolen",
        "workers_started",
    )

    def __init__(self) -> None:
        self.items_done = 0
        #: outcomes that are not ok; those that are have a counter without the price of hashing an enum
        self.by_kind: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self.ok = 0
        self.retries = 0
        self.requeues = 0
        self.preempted = 0
        self.stolen = 0
        self.memory_holds = 0
        self.workers_started = 0
        self.busy_ns = 0
        #: items by the time they took: bucket n holds those below 2**n ns. Items of one report count with its mean.
        self.by_time: list[int] = [0] * TIME_BUCKETS

    def add(self, other: Counters) -> None:
        """Count what another has counted, too."""
        for name in ("busy_ns", "items_done", "memory_holds", "ok", "preempted", "requeues", "retries", "stolen"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.workers_started += other.workers_started
        for kind, number in other.by_kind.items():
            self.by_kind[kind] += number
        self.by_time = [one + more for one, more in zip(self.by_time, other.by_time, strict=True)]

    def count(self, kind: Kind) -> int:
        """Outcomes of this kind so far."""
        return self.ok if kind is Kind.OK else self.by_kind[kind]


class SchedulerState:
    """See the module's drawing."""

    __slots__ = (
        "activity_batcher",
        "actor_policy",
        "broken",
        "closing",
        "commands",
        "concurrent",
        "counters",
        "crowded_until_ns",
        "deep",
        "depth",
        "depth_short",
        "describe",
        "dirty_maps",
        "events",
        "ever_ready",
        "failed_starts",
        "idle",
        "is_stopped",
        "limits",
        "maps",
        "narrow",
        "nodes",
        "own_failed_starts",
        "preloading_ns",
        "progress",
        "returns_unstarted",
        "rng",
        "rotation",
        "setup_step",
        "some_alone",
        "spare",
        "timers",
        "unsent",
        "worker_states",
        "workers",
    )

    def __init__(
        self,
        workers: int,
        limits: Limits,
        progress: Callable[[int], WorkerProgress | None],
        *,
        rng: random.Random | None = None,
        describe: Callable[[Chunk, int], str] | None = None,
    ) -> None:
        """Begin without workers and without maps.

        Args:
            workers: How many there are to be.
            limits: The pool's limits.
            progress: Where a worker is; None if nothing is known of it.
            rng: For the random part of retry delays.
            describe: Words for an item of a chunk.
        """
        self.workers = workers
        self.limits = limits
        self.progress = progress
        self.rng = rng or random.Random()
        self.describe = describe or (lambda chunk, position: f"items[{chunk.first + position}]")
        #: whether a worker's process (0: the one that loads for all) is stopped, by SIGSTOP say
        self.is_stopped: Callable[[int], bool] = lambda worker: False
        #: bytes that a worker was given and that are not in its pipe yet
        self.unsent: Callable[[int], int] = lambda worker: 0
        # --- workers: one record each, by number; those that are gone have none ---
        self.worker_states: dict[int, WorkerState] = {}
        #: chunks that a worker holds at most, and of short ones
        self.depth, self.depth_short = (DEPTH, DEPTH_SHORT) if limits.depth is None else (limits.depth, limits.depth)
        #: index of the open ones by what they hold: nothing, less than `depth` chunks, less than `depth_short` chunks
        self.idle: dict[WorkerState, None] = {}
        self.spare: dict[WorkerState, None] = {}
        self.deep: dict[WorkerState, None] = {}
        #: starts in a row that failed; workers that were started side by side and fail together count once
        self.failed_starts = 0
        #: those of them that the workers themselves ended: no signal that other processes send
        self.own_failed_starts = 0
        #: at least one worker of this pool was ready once
        self.ever_ready = False
        #: what a worker does before it is ready, for messages
        self.setup_step = "setup"
        #: since when something is loaded for all workers, none of which can start before; None: nothing is
        self.preloading_ns: int | None = None
        #: calls that a worker runs at a time; more than one only for actors
        self.concurrent = 1
        #: each worker is a node with a pool of its own, which keeps deadlines, ends what is cancelled, and shares out
        #: its items among its cores: the chunks that it holds run side by side, and nothing of them is stolen
        self.nodes = False
        #: what waits behind a long item goes back from its worker even if there is no other worker: this pool is
        #: that of a node, and other nodes may be idle
        self.returns_unstarted = False
        #: the workers hold the object of an actor: what is different for them; None: they do not
        self.actor_policy: ActorPolicy | None = None
        #: no more workers are started
        self.closing = False
        self.broken: BaseException | None = None
        # --- maps ---
        #: those that are open, by number
        self.maps: dict[int, MapState] = {}
        #: those that have pending chunks, and series of maps of which one has, served in turn
        self.rotation: deque[MapState | Series[MapState]] = deque()
        #: until then chunks stay short, ns: several maps had work at the same time
        self.crowded_until_ns = 0
        #: memory is short: not every idle worker may be given work
        self.narrow = False
        #: some item was preempted so often that it is to run alone
        self.some_alone = False
        # --- time ---
        self.timers = Timers()
        # --- outbox: the owner takes it after each transaction ---
        self.commands: list[Command] = []
        self.events: list[PoolEvent] = []
        #: maps that have something for their consumers
        self.dirty_maps: set[MapState] = set()
        #: what observers are told of work; None if there are none
        self.activity_batcher: ActivityBatcher | None = None
        self.counters = Counters()

    def are_nodes(self, cores: int) -> None:
        """Each worker is a node with so many cores: it takes as many calls as those can run, and some that wait."""
        self.nodes = True
        if self.limits.depth is None:
            self.depth_short = max(DEPTH_SHORT_NODE, 2 * cores)

    # --- maps -------------------------------------------------------------------------------------

    def enqueue(self, map_state: MapState) -> None:
        """Put a map, or its series, into the rotation if it has pending chunks."""
        turn = map_state.series or map_state
        if not turn.queued and map_state.pending:
            turn.queued = True
            self.rotation.append(turn)

    def enqueue_first(self, map_state: MapState) -> None:
        """The same, and its turn is the next: it had one, and nothing came of it."""
        turn = map_state.series or map_state
        if turn.queued and self.rotation[0] is not turn:
            self.rotation.remove(turn)
            turn.queued = False
        if not turn.queued and map_state.pending:
            turn.queued = True
            self.rotation.appendleft(turn)

    def next_map(self) -> MapState | None:
        """The map that is next to hand out a chunk; None if nothing is pending."""
        rotation = self.rotation
        while rotation:
            map_state = rotation[0].to_serve()
            if map_state is not None:
                return map_state
            rotation.popleft().queued = False
        return None

    def break_off(self, error: BaseException) -> None:
        """The pool is broken: every map that is open gets `error`."""
        if self.broken is None:
            self.broken = error
            self.events.append(PoolBroken(error))
        for map_state in self.maps.values():
            # The first reason counts; what follows from it says less.
            map_state.broken = map_state.broken or self.broken
            map_state.pending.clear()
            self.dirty_maps.add(map_state)

    # --- which worker can take a chunk ------------------------------------------------------------

    def next_worker_state(self, *, short: bool) -> WorkerState | None:
        """The worker that is to be given a chunk; it is listed by what it holds then.

        Args:
            short: The chunk takes little time.

        Returns:
            None if no worker can take it.
        """
        if self.idle:
            # The one that worked last: its caches are warm, and so is its core.
            worker_state, _ = self.idle.popitem()
            if self.depth > 1 or self.concurrent > 1:
                self.spare[worker_state] = None
            elif self.depth_short > 1:
                self.deep[worker_state] = None
        elif self.spare:
            worker_state = next(iter(self.spare))
            del self.spare[worker_state]
            if self.concurrent == 1:
                held = len(worker_state.chunks) - worker_state.tails + 1
                if held < self.depth:
                    # To the end: the others come first.
                    self.spare[worker_state] = None
                elif held < self.depth_short:
                    self.deep[worker_state] = None
            elif len(worker_state.chunks) + 1 < self.concurrent:
                # To the end: the others come first.
                self.spare[worker_state] = None
        elif short and self.deep:
            worker_state = next(iter(self.deep))
            del self.deep[worker_state]
            if len(worker_state.chunks) - worker_state.tails + 1 < self.depth_short:
                # To the end: the others come first.
                self.deep[worker_state] = None
        else:
            return None
        return worker_state

    def list_open(self, worker_state: WorkerState) -> None:
        """List an open worker by what it holds."""
        held = len(worker_state.chunks) - worker_state.tails
        if not held:
            self.idle[worker_state] = None
        elif self.concurrent > 1:
            # What it holds it runs: nothing waits behind.
            if held < self.concurrent:
                self.spare[worker_state] = None
        elif held < self.depth:
            self.spare[worker_state] = None
        elif held < self.depth_short:
            self.deep[worker_state] = None

    def unlist(self, worker_state: WorkerState) -> None:
        """Take a worker from the lists of those that can take a chunk."""
        self.idle.pop(worker_state, None)
        self.spare.pop(worker_state, None)
        self.deep.pop(worker_state, None)

    def set_limit(self, worker_state: WorkerState, limit: int) -> None:
        """Have a worker start nothing from this position on.

        Args:
            worker_state: Whose limit it is. While it has one, it is sent nothing.
            limit: See `transport.positions.mark`; NO_LIMIT lets it go on.
        """
        if limit != NO_LIMIT:
            limit = min(limit, worker_state.limit)
            self.unlist(worker_state)
        if limit != worker_state.limit:
            worker_state.limit = limit
            self.commands.append(SetLimit(worker_state.worker, limit))

    def any_ready(self) -> bool:
        """True if at least one worker is READY."""
        return any(worker_state.lifecycle is Lifecycle.READY for worker_state in self.worker_states.values())
