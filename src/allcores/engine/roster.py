"""The roster: which workers there are, what each is doing with its life, and who can take a chunk.

The half of the dispatcher that knows nothing of results. Pure; its orders are left in `orders`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from allcores.engine.desk import Desk, Doom, Life
from allcores.engine.events import Kill, Launch, Order, SetLimit, Stop
from allcores.engine.ledger import Ledger
from allcores.limits import Limits
from allcores.transport.marks import NO_LIMIT

#: Chunks per worker: one runs, one waits, so that no worker waits for the parent.
DEPTH = 2
#: The same for chunks that take less than SHORT_NS: on a machine whose cores are all busy the parent may get
#: its turn some milliseconds late.
DEPTH_SHORT = 4
#: A look at whether a worker that starts was stopped comes this often, ns.
STOPPED_NS = 10_000_000_000


class Roster(Ledger):
    """Workers on top of the ledger."""

    def __init__(self, workers: int, limits: Limits, rng: random.Random | None) -> None:
        super().__init__(rng)
        self.workers = workers
        self.limits = limits
        self.desks: dict[int, Desk] = {}
        self._numbers = itertools.count(1)
        #: READY desks by what they hold: nothing, less than DEPTH chunks, less than DEPTH_SHORT chunks
        self.idle: dict[Desk, None] = {}
        self.spare: dict[Desk, None] = {}
        self.deep: dict[Desk, None] = {}
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
        self.orders: list[Order] = []
        self.workers_started = 0
        #: whether a worker's process (0: the one that loads for all) is stopped, by SIGSTOP say
        self.is_stopped: Callable[[int], bool] = lambda worker: False

    # --- lives ------------------------------------------------------------------------------------

    def fill(self, now: int) -> None:
        """Bring the pool to full strength."""
        alive = sum(1 for d in self.desks.values() if d.life in (Life.STARTING, Life.READY) and d.doom is None)
        if self.closing or self.broken is not None:
            return
        for _ in range(self.workers - alive):
            desk = Desk(next(self._numbers), now, self.failed_starts)
            self.desks[desk.worker] = desk
            self.workers_started += 1
            self.orders.append(Launch(desk.worker))
            self.watch_start(desk, now)

    def watch_start(self, desk: Desk, now: int) -> None:
        """Have somebody look at a starting worker: when its seconds are used up, or for whether it was stopped."""
        left = desk.started_ns + int(self.limits.setup_s * 1e9) - now
        self.alarm(now + max(0, min(left, STOPPED_NS)), "setup", desk)

    def welcome(self, worker: int, now: int) -> bool:
        """A worker has started and its setup is done; whether it may be given work."""
        desk = self.desks.get(worker)
        if desk is None or desk.life is not Life.STARTING:
            return False
        self.failed_starts = self.own_failed_starts = 0
        self.ever_ready = True
        if self.closing:
            desk.move(Life.LEAVING)
            self.orders.append(Stop(worker))
            return False
        desk.move(Life.READY)
        if desk.open:
            self.idle[desk] = None
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
        for desk in self.desks.values():
            if desk.life is Life.STARTING and desk.doom is None:
                desk.started_ns = now
                self.watch_start(desk, now)

    def doom(self, desk: Desk, doom: Doom, now: int) -> None:
        """End a worker; what becomes of its items is settled when it is gone."""
        desk.doom = doom
        self.shut(desk)
        self.orders.append(Kill(desk.worker, doom.reason))
        self.fill(now)

    def close(self) -> None:
        """No new workers; those that hold nothing may go."""
        self.closing = True
        for desk in self.desks.values():
            if desk.life is Life.STARTING and desk.doom is None:
                # Its setup may take for ever; nobody waits for it any more.
                self.orders.append(Kill(desk.worker, "the pool was closed while it started"))
            elif desk.life is Life.READY and not desk.chunks:
                desk.move(Life.LEAVING)
                self.shut(desk)
                self.orders.append(Stop(desk.worker))

    # --- who can take a chunk ---------------------------------------------------------------------

    @property
    def somebody_can_take(self) -> bool:
        """A chunk, if it is a short one."""
        return bool(self.idle or self.spare or self.deep)

    def next_desk(self, *, short: bool) -> Desk | None:
        """Whose turn it is to be given a chunk; None if nobody can take one. short: it takes little time."""
        if self.idle:
            # The one that worked last: its caches are warm, and so is its core.
            desk, _ = self.idle.popitem()
            self.spare[desk] = None
        elif self.spare:
            desk = next(iter(self.spare))
            del self.spare[desk]
            self.deep[desk] = None
        elif short:
            desk = next(iter(self.deep))
            del self.deep[desk]
            if len(desk.chunks) + 1 < DEPTH_SHORT:
                # To the end: the others come first.
                self.deep[desk] = None
        else:
            return None
        return desk

    def reopen(self, desk: Desk) -> None:
        """Its queue is shorter now: note what it can take."""
        if desk.life is not Life.READY or desk.doom is not None:
            return
        if desk.limit != NO_LIMIT:
            if desk.chunks:
                return
            desk.confirming = False
            self.limit(desk, NO_LIMIT)
        self.shut(desk)
        if not desk.chunks:
            if self.closing:
                desk.move(Life.LEAVING)
                self.orders.append(Stop(desk.worker))
            else:
                self.idle[desk] = None
        elif len(desk.chunks) < DEPTH:
            self.spare[desk] = None
        elif len(desk.chunks) < DEPTH_SHORT:
            self.deep[desk] = None

    def shut(self, desk: Desk) -> None:
        """It is on none of the lists of those that can take a chunk."""
        self.idle.pop(desk, None)
        self.spare.pop(desk, None)
        self.deep.pop(desk, None)

    def limit(self, desk: Desk, limit: int) -> None:
        """Have a worker start nothing from this mark on; NO_LIMIT lets it go on."""
        if limit != NO_LIMIT:
            limit = min(limit, desk.limit)
            self.shut(desk)
        if limit != desk.limit:
            desk.limit = limit
            self.orders.append(SetLimit(desk.worker, limit))
