"""A backend whose workers are nodes: what one is given goes to it as bytes, in remote tasks, and comes back likewise.

    driver ── execute ──► outboxes ── minder ══ requests ══► node
       ▲                                 │ ▲
       └────────── post ─────────────────┘ └══ replies ══════ node
                                           ◄── nodes ──────── watcher, which asks the cluster once a second

Deadlines, memory limits, crashes and cancelled work are the business of each node's own pool. Here a node is there or
gone; with it goes what it held, to the others.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections import deque
from collections.abc import Callable, Sequence, Sized
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from allcores.adapters.cluster.base import Cluster, NodeSilent
from allcores.adapters.cluster.decoding import results_of
from allcores.adapters.cluster.link import Link
from allcores.adapters.cluster.messages import LEASE_S, Reply, Revocation
from allcores.adapters.cluster.node_table import NodeTable
from allcores.adapters.cluster.opening import Openings
from allcores.adapters.cluster.packing import SharedBlocks, pack
from allcores.adapters.cluster.silence import Looks
from allcores.backends.base import (
    BackendEvent,
    ChangesLost,
    Host,
    SetupFailed,
    WorkerInit,
    WorkerReady,
)
from allcores.backends.minded import MindedBackend
from allcores.backends.pulled_items import part_of, stream_of, unsendable
from allcores.errors import SetupError
from allcores.limits import Limits
from allcores.scheduler.messages import (
    Command,
    Kill,
    Launch,
    Revoke,
    Send,
    Stop,
    Work,
    WorkerProgress,
)
from allcores.shared_memory import parent_side
from allcores.system.clock import monotonic_ns
from allcores.transport import remote_exceptions

if TYPE_CHECKING:
    from allcores.backends.processes.worker_logs import WorkerLogReceiver
    from allcores.shared_memory.buffers import BufferedPickle
    from allcores.shared_memory.parent_side import ParentMemory

#: So long a node is not asked anything, at most, ns: it would end its pool after `LEASE_S`.
KEEP_NS = 25_000_000_000
#: seconds that closing waits for the pools of nodes to end
CLOSE_S = 5.0
#: while something is out the minder looks this often, ns
MIND_NS = 1_000_000_000


class ClusterBackend(MindedBackend):
    """See the module.

    Args:
        cluster: A connection, which is closed with the backend.
        worker_init: See `Pool`; each node does it.
        limits: Of the pool; each node's pool has them, too.
        settings: Further options of each node's pool.
        logs: Handles what the workers of nodes log; None: they keep it.
        cores: Of a node, None for what it offers.
    """

    can_end_tasks = True
    needs_bytes = True
    runs_on_caller = False
    setup_step = "setup"
    memory_gauge: Callable[[], tuple[int, int] | None] | None = None

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        worker_init: WorkerInit,
        limits: Limits,
        settings: dict[str, Any],
        logs: WorkerLogReceiver | None = None,
    ) -> None:
        self.name = name
        self._cluster = cluster
        self._logs = logs
        self.unhandled: Sized = logs.unhandled if logs is not None else ()
        self._dropped: deque[int] = deque()
        self._memory: ParentMemory | None = None
        self._shared: SharedBlocks | None = None
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._openings = Openings(settings, worker_init, limits)
        try:
            self._openings.check(self.pack)
            self._nodes = NodeTable(
                cluster, self._openings, self.pack, self._contents, self._inbox.put, self._post, logs
            )
        except BaseException:
            cluster.close()
            raise
        self._looks = Looks(monotonic_ns())
        self.node_cores = max(self._nodes.cores.values(), default=1)
        self.node_count = len(self._nodes.cores)

    # --- bytes --------------------------------------------------------------------------------------------

    def pack(self, obj: object) -> bytes | BufferedPickle:
        """See Backend."""
        return pack(obj, self._shared)

    pack_for_all = pack

    def parent_memory(self, *, create: bool = True) -> ParentMemory | None:
        """See Backend: what is shared lies here, and its contents travel once to each node."""
        if self._memory is None and create and not self._closing:
            memory = parent_side.alone()
            if memory is not None:
                self._shared = SharedBlocks(memory.arena, self._dropped)
                memory.shared_objects = self._shared
                self._memory = memory
        return self._memory

    def _contents(self, number: int) -> bytes:
        assert self._shared is not None
        return self._shared.contents(number)

    # --- commands -----------------------------------------------------------------------------------------

    def start(self, host: Host) -> None:
        """See Backend."""
        try:
            self._start_minder(host)
            self._nodes.start(host.name)
        except BaseException:
            self.close()
            raise

    def started(self) -> None:
        """See Backend."""

    def execute(self, commands: Sequence[Command]) -> None:
        """See Backend."""
        for command in commands:
            link = self._nodes.links.get(command.worker)
            if isinstance(command, Launch):
                self._nodes.wanted(command.worker)
            elif isinstance(command, (Kill, Stop)):
                self._nodes.unwanted(command.worker)
            elif link is None:
                continue
            elif isinstance(command, Send):
                link.chunks.append(command.chunk)
            elif isinstance(command, Revoke):
                link.revoked.append(Revocation(command.sequence, command.running, command.for_others))
        self._inbox.put(None)

    def forget_function(self, number: int) -> None:
        """See Backend."""
        # Copied: the minder adds and removes links without the host's lock.
        for link in list(self._nodes.links.values()):
            link.forget.append(number)

    def progress(self, worker: int) -> WorkerProgress | None:
        """See Backend: where a node's workers are, its own pool knows."""
        return None

    def work(self, worker: int) -> Work | None:
        """See Backend."""
        return None

    def is_stopped(self, worker: int) -> bool:
        """See Backend: that a node is silent is noticed elsewhere."""
        return False

    def unsent(self, worker: int) -> int:
        """See Backend: nothing waits for a pipe."""
        return 0

    def resident_tree_bytes(self, worker: int) -> int:
        """See Backend: memory of a node is its own pool's business."""
        return 0

    def wake(self) -> None:
        """See Backend."""
        self._inbox.put(None)

    # --- the minder ---------------------------------------------------------------------------------------

    def _mind_once(self, until_ns: int | None) -> None:
        host, nodes = self._host, self._nodes
        assert host is not None
        now = monotonic_ns()
        busy = nodes.waiting or any(link.open or link.held for link in nodes.links.values())
        with host.lock:
            alarm = host.next_timer_ns
            for other in (until_ns, now + MIND_NS if busy else now + KEEP_NS):
                if other is not None:
                    alarm = other if alarm is None else min(alarm, other)
            self.sleeps_until = alarm
        with contextlib.suppress(Empty):
            arrived = self._inbox.get(timeout=max(0.0, ((alarm or now) - monotonic_ns()) / 1e9))
            while True:
                if arrived is not None:
                    arrived()
                arrived = self._inbox.get_nowait()
        self.sleeps_until = None
        nodes.launch(host.lock)
        nodes.forget_ended()
        asleep_ns, now = (alarm or now) - now, monotonic_ns()
        late_ns = self._looks.late_ns(now, max(0, asleep_ns))
        if late_ns:
            nodes.excuse(late_ns, now)
        nodes.check(now)
        while self._dropped:
            number = self._dropped.popleft()
            for link in nodes.links.values():
                link.dropped.append(number)
        for link in list(nodes.links.values()):
            self._send(link, now)
        host.on_timer()

    def _post(self, events: list[BackendEvent]) -> None:
        assert self._host is not None
        if events:
            self._host.post(events)

    def _send(self, link: Link, now: int) -> None:
        """Send what there is for a node."""
        refused: list[BackendEvent] = []
        for chunk in list(link.chunks):
            own = None if chunk.shared is None else part_of(chunk.shared, chunk.skip, len(chunk.items), stream_of)
            if own is not None:
                with contextlib.suppress(Exception):  # then with the others
                    chunk.have_own(self.pack(own))
            if chunk.payload is None:
                try:
                    chunk.payload = self.pack(chunk.items)
                except BaseException as error:  # it could be once; its items may have changed since
                    link.chunks.remove(chunk)
                    refused.append(unsendable(link.worker, chunk, error))
        idle = not link.open and link.is_ready and not link.held
        data = link.request(now, self._contents, keep=idle and now - link.heard_ns > KEEP_NS)
        # Not before: it may bring more for this node, which is packed at the next turn.
        self._post(refused)
        if data is None:
            return
        serial = link.serial

        def done(reply: bytes | None, error: BaseException | None) -> None:
            self._inbox.put(lambda: self._replied(link, serial, reply, error))

        self._nodes.deliver(link.node, data, done)

    def _replied(self, link: Link, serial: int, data: bytes | None, error: BaseException | None) -> None:
        if link.is_gone:
            return
        if isinstance(error, NodeSilent):
            self._nodes.silent(link, str(error), may_return=True)
            return
        if error is not None or data is None:
            self._nodes.failed(link, f"its task did not come back ({type(error).__name__}: {error})")
            return
        reply: Reply = pickle.loads(data)
        if reply.serial == 0:
            if link.was_neglected():
                # This program was stopped, or had too much to send to others: that is no fault of what it held.
                told = f"this program asked it nothing for more than {LEASE_S:g} s, and it ended its pool"
                self._nodes.lost(link, told, may_return=True, suspects=False)
                return
            self._nodes.failed(link, "it was started anew, or a request to it was lost")
            return
        for each in link.replied(serial, reply, monotonic_ns()):
            self._read(link, each)

    def _read(self, link: Link, reply: Reply) -> None:
        events: list[BackendEvent] = [ChangesLost(*each) for each in reply.changes]
        if self._logs is not None:
            for record in reply.logs:
                self._logs.take(link.worker, *record)
        broken: BaseException | None = None
        if reply.failed is not None:
            failed = remote_exceptions.unpack(reply.failed)
            if link.is_ready and not isinstance(failed, SetupError):
                broken = failed
            else:
                known = failed if isinstance(failed, SetupError) else SetupError(f"A node: {failed}")
                events.append(SetupFailed(known))
                self._nodes.end(link)
        elif reply.ready and not link.is_ready:
            link.is_ready = True
            events.append(WorkerReady(link.worker, None))
        for results in reply.results:
            chunk = link.held.get(results.sequence)
            if chunk is None:
                continue
            told = results_of(link.worker, results, chunk)
            link.worked(chunk, told)
            if results.ended:
                del link.held[results.sequence]
            events.append(told)
        self._post(events)
        if broken is not None:
            self._nodes.failed(link, f"its pool is broken ({broken})")

    def settle_logs(self, seconds: float) -> None:
        """See Backend."""
        if self._logs is not None:
            self._logs.settle(seconds)

    # --- the end ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """See Backend."""
        if self._closing:
            return
        self._closing = True
        self._inbox.put(None)
        self._nodes.stop_asking()
        until = monotonic_ns() + int(CLOSE_S * 1e9)

        def left() -> float:
            return max(0.0, (until - monotonic_ns()) / 1e9)

        current = threading.current_thread()
        if self._minder is not None and self._minder is not current:
            self._minder.join(left())
        self._nodes.close(left)
        if self._logs is not None:
            self._logs.close()
        if self._memory is not None:
            self._memory.close_alone()
        self._openings.clear()

    def abandon(self) -> None:
        """See Backend."""
