"""The roster: which workers there are, what each is doing with its life, and who can take a chunk.

The half of the dispatcher that knows nothing of results. Pure; its orders are left in `orders`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from allcores.limits import Limits
from allcores.scheduler.messages import Kill, Launch, Order, SetLimit, Stop
from allcores.scheduler.settlement import Settlement
from allcores.scheduler.worker_state import Lifecycle, Termination, WorkerState
from allcores.transport.positions import NO_LIMIT

#: Chunks per worker: one runs, one waits, so that no worker waits for the parent.
DEPTH = 2
#: The same for chunks that take less than SHORT_NS: on a machine whose cores are all busy the parent may get
#: its turn some milliseconds late.
DEPTH_SHORT = 4
#: A look at whether a worker that starts was stopped comes this often, ns.
STOPPED_NS = 10_000_000_000


class Workers(Settlement):
    """Workers on top of the ledger."""

    def __init__(self, workers: int, limits: Limits, rng: random.Random | None) -> None:
        super().__init__(rng)
        self.workers = workers
        self.limits = limits
        self.worker_states: dict[int, WorkerState] = {}
        self._numbers = itertools.count(1)
        #: READY desks by what they hold: nothing, less than DEPTH chunks, less than DEPTH_SHORT chunks
        self.idle: dict[WorkerState, None] = {}
        self.spare: dict[WorkerState, None] = {}
        self.deep: dict[WorkerState, None] = {}
        #: starts in a row that failed; workers that were started side by side and fail together count once
        self.failed_starts = 0
        #: those of them that the workers' own doing ended: no signal that other processes send
        self.own_failed_starts = 0
        #: at least one worker of this pool was ready once
        self.ever_ready = False
        #: what a worker does before it is ready, for messages
        self.setup_step = "setup"
        #: since when something is loaded for all workers, none of which can start before; None: nothing is
        self.preloading_ns: int | None = None
        self.closing = False
        self.broken: BaseException | None = None
        #: emptied by the owner, who carries them out
        self.commands: list[Order] = []
        self.workers_started = 0
        #: whether a worker's process (0: the one that loads for all) is stopped, by SIGSTOP say
        self.is_stopped: Callable[[int], bool] = lambda worker: False

    # --- lives ------------------------------------------------------------------------------------

    def fill(self, now: int) -> None:
        """Bring the pool to full strength."""
        alive = sum(
            1
            for d in self.worker_states.values()
            if d.lifecycle in (Lifecycle.STARTING, Lifecycle.READY) and d.termination is None
        )
        if self.closing or self.broken is not None:
            return
        for _ in range(self.workers - alive):
            worker_state = WorkerState(next(self._numbers), now, self.failed_starts)
            self.worker_states[worker_state.worker] = worker_state
            self.workers_started += 1
            self.commands.append(Launch(worker_state.worker))
            self.watch_start(worker_state, now)

    def watch_start(self, worker_state: WorkerState, now: int) -> None:
        """Have somebody look at a starting worker: when its seconds are used up, or for whether it was stopped."""
        left = worker_state.started_ns + int(self.limits.setup_s * 1e9) - now
        self.alarm(now + max(0, min(left, STOPPED_NS)), "setup", worker_state)

    def on_ready(self, worker: int, now: int) -> bool:
        """A worker has started and its setup is done; whether it may be given work."""
        worker_state = self.worker_states.get(worker)
        if worker_state is None or worker_state.lifecycle is not Lifecycle.STARTING:
            return False
        self.failed_starts = self.own_failed_starts = 0
        self.ever_ready = True
        if self.closing:
            worker_state.move(Lifecycle.LEAVING)
            self.commands.append(Stop(worker))
            return False
        worker_state.move(Lifecycle.READY)
        if worker_state.open:
            self.idle[worker_state] = None
        return True

    def preload_began(self, now: int) -> None:
        """Something is loaded for all workers, and has as many seconds for it as a setup."""
        self.preloading_ns = now
        self.watch_preload(now, now)

    def watch_preload(self, began_ns: int, now: int) -> None:
        """The same for what is loaded for all workers, since `began_ns`."""
        left = began_ns + int(self.limits.setup_s * 1e9) - now
        self.alarm(now + max(0, min(left, STOPPED_NS)), "preload", began_ns)

    def preload_ended(self, now: int) -> None:
        """It is loaded, or will not be: the seconds of those that start count from here."""
        self.preloading_ns = None
        for worker_state in self.worker_states.values():
            if worker_state.lifecycle is Lifecycle.STARTING and worker_state.termination is None:
                worker_state.started_ns = now
                self.watch_start(worker_state, now)

    def termination(self, worker_state: WorkerState, termination: Termination, now: int) -> None:
        """End a worker; what becomes of its items is settled when it is gone."""
        worker_state.termination = termination
        self.shut(worker_state)
        self.commands.append(Kill(worker_state.worker, termination.reason))
        self.fill(now)

    def close(self) -> None:
        """No new workers; those that hold nothing may go."""
        self.closing = True
        for worker_state in self.worker_states.values():
            if worker_state.lifecycle is Lifecycle.STARTING and worker_state.termination is None:
                # Its setup may take for ever; nobody waits for it any more.
                self.commands.append(Kill(worker_state.worker, "the pool was closed while it started"))
            elif worker_state.lifecycle is Lifecycle.READY and not worker_state.chunks:
                worker_state.move(Lifecycle.LEAVING)
                self.shut(worker_state)
                self.commands.append(Stop(worker_state.worker))

    # --- who can take a chunk ---------------------------------------------------------------------

    @property
    def somebody_can_take(self) -> bool:
        """A chunk, if it is a short one."""
        return bool(self.idle or self.spare or self.deep)

    def next_worker_state(self, *, short: bool) -> WorkerState | None:
        """Whose turn it is to be given a chunk; None if nobody can take one. short: it takes little time."""
        if self.idle:
            # The one that worked last: its caches are warm, and so is its core.
            worker_state, _ = self.idle.popitem()
            self.spare[worker_state] = None
        elif self.spare:
            worker_state = next(iter(self.spare))
            del self.spare[worker_state]
            self.deep[worker_state] = None
        elif short:
            worker_state = next(iter(self.deep))
            del self.deep[worker_state]
            if len(worker_state.chunks) + 1 < DEPTH_SHORT:
                # To the end: the others come first.
                self.deep[worker_state] = None
        else:
            return None
        return worker_state

    def reopen(self, worker_state: WorkerState) -> None:
        """Its queue is shorter now: note what it can take."""
        if worker_state.lifecycle is not Lifecycle.READY or worker_state.termination is not None:
            return
        if worker_state.limit != NO_LIMIT:
            if worker_state.chunks:
                return
            worker_state.confirming = False
            self.limit(worker_state, NO_LIMIT)
        self.shut(worker_state)
        if not worker_state.chunks:
            if self.closing:
                worker_state.move(Lifecycle.LEAVING)
                self.commands.append(Stop(worker_state.worker))
            else:
                self.idle[worker_state] = None
        elif len(worker_state.chunks) < DEPTH:
            self.spare[worker_state] = None
        elif len(worker_state.chunks) < DEPTH_SHORT:
            self.deep[worker_state] = None

    def shut(self, worker_state: WorkerState) -> None:
        """It is on none of the lists of those that can take a chunk."""
        self.idle.pop(worker_state, None)
        self.spare.pop(worker_state, None)
        self.deep.pop(worker_state, None)

    def limit(self, worker_state: WorkerState, limit: int) -> None:
        """Have a worker start nothing from this mark on; NO_LIMIT lets it go on."""
        if limit != NO_LIMIT:
            limit = min(limit, worker_state.limit)
            self.shut(worker_state)
        if limit != worker_state.limit:
            worker_state.limit = limit
            self.commands.append(SetLimit(worker_state.worker, limit))
