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
import uuid
from collections import deque
from collections.abc import Callable, Sequence, Sized
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from allcores.adapters.cluster.base import Cluster, Done, NodeSilent, SchedulerLost, SchedulerSilent
from allcores.adapters.cluster.decoding import results_of
from allcores.adapters.cluster.link import Link
from allcores.adapters.cluster.messages import LEASE_S, REPORT_EACH_S, REPORT_S, Reply, Revocation
from allcores.adapters.cluster.opening import Openings
from allcores.adapters.cluster.packing import SharedBlocks, pack
from allcores.adapters.cluster.scheduler_watch import SchedulerWatch
from allcores.adapters.cluster.silence import Looks
from allcores.backends.base import (
    BackendBroken,
    BackendEvent,
    ChangesLost,
    Host,
    SetupFailed,
    WorkerInit,
    WorkerReady,
)
from allcores.backends.minded import MindedBackend
from allcores.backends.pulled_items import part_of, stream_of, unsendable
from allcores.errors import BrokenPool, SetupError, WorkerLost
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.scheduler.messages import (
    Command,
    Kill,
    Launch,
    Revoke,
    Send,
    Stop,
    Work,
    WorkerGone,
    WorkerProgress,
)
from allcores.shared_memory import parent_side
from allcores.system.clock import monotonic_ns
from allcores.transport import remote_exceptions

if TYPE_CHECKING:
    from allcores.backends.processes.worker_logs import WorkerLogReceiver
    from allcores.shared_memory.buffers import BufferedPickle
    from allcores.shared_memory.parent_side import ParentMemory

#: So long a pool that has work waits for a node, if there is none, ns.
NO_NODE_NS = 60_000_000_000
#: So long a node is not asked anything, at most, ns: it would end its pool after `LEASE_S`.
KEEP_NS = 25_000_000_000
#: A node answers each request within seconds, or a minute if its pool is slow to open; one that has not for so long is
#: given up, though the cluster still has it, ns.
ANSWER_NS = 180_000_000_000
#: So long after its first request the cluster is asked why a node's pool does not begin, ns: a pool opens within a
#: second or two, and what the first one on a node needs besides (a process of Ray's) takes some more.
DELAY_NS = 8_000_000_000
#: A node that fails so often in a row, and has nothing done, is not used again.
MOST_FAILURES = 3
#: seconds that closing waits for the pools of nodes to end
CLOSE_S = 5.0
#: the same for what asks a cluster that is lost
LOST_S = 1.0
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
        self._key = uuid.uuid4().hex
        self._dropped: deque[int] = deque()
        self._memory: ParentMemory | None = None
        self._shared: SharedBlocks | None = None
        self._openings = Openings(settings, worker_init, limits)
        try:
            self._openings.check(self.pack)
            #: the nodes as of the last look
            self._nodes = cluster.nodes()
        except BaseException as error:
            cluster.close()
            if isinstance(error, (SchedulerLost, SchedulerSilent)):
                raise BrokenPool(f"The {cluster.title} cluster at {cluster.address} is lost: {error}.") from error
            raise
        self._wanted_ns = monotonic_ns()
        self._looks = Looks(self._wanted_ns)
        self.node_cores = max(self._nodes.values(), default=1)
        self.node_count = len(self._nodes)
        self._links: dict[int, Link] = {}
        #: workers that were ordered, and have no node yet; changed with the host's lock held
        self._waiting: deque[int] = deque()
        #: nodes that failed while the cluster had them, and are not used again under the same name; and how often those
        #: in a row, without an item done, that may be
        self._lost: set[str] = set()
        self._failures: dict[str, int] = {}
        #: how the last one was lost, for the message that there is none any more
        self._last_loss = ""
        self._gone: deque[int] = deque()
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        #: requests that are out, and to which node
        self._out: dict[threading.Event, str] = {}
        self._broken = False
        delays = DELAY_NS, ANSWER_NS / 1e9
        self._watch = SchedulerWatch(
            cluster, self._inbox.put, self._seen, self._scheduler_lost, self._links.values, self._waiting, delays
        )

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

    # --- orders -------------------------------------------------------------------------------------------

    def start(self, host: Host) -> None:
        """See Backend."""
        try:
            self._start_minder(host)
            self._watch.start(host.name)
        except BaseException:
            self.close()
            raise

    def started(self) -> None:
        """See Backend."""

    def execute(self, commands: Sequence[Command]) -> None:
        """See Backend."""
        for order in commands:
            if isinstance(order, Launch):
                self._waiting.append(order.worker)
                self._wanted_ns = monotonic_ns()
                continue
            link = self._links.get(order.worker)
            if link is None:
                if isinstance(order, (Kill, Stop)) and order.worker in self._waiting:
                    self._waiting.remove(order.worker)
                    self._gone.append(order.worker)
            elif isinstance(order, Send):
                link.chunks.append(order.chunk)
            elif isinstance(order, Revoke):
                link.revoked.append(Revocation(order.sequence, order.running, order.for_others))
            elif isinstance(order, (Kill, Stop)):
                link.ends = True
                self._gone.append(order.worker)
        self._inbox.put(None)

    def forget_function(self, number: int) -> None:
        """See Backend."""
        # Copied: the minder adds and removes links without the host's lock.
        for link in list(self._links.values()):
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
        host = self._host
        assert host is not None
        now = monotonic_ns()
        busy = self._waiting or any(link.open or link.held for link in self._links.values())
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
        self._launch()
        self._forget_ended()
        asleep_ns, now = (alarm or now) - now, monotonic_ns()
        late_ns = self._looks.late_ns(now, max(0, asleep_ns))
        if late_ns:
            self._excuse(late_ns, now)
        self._check(now)
        for link in list(self._links.values()):
            if link.open and now - min(link.open.values()) > ANSWER_NS:
                delay = f": {link.delay}" if link.delay and not link.is_ready else ""
                self._node_silent(link, f"it has not answered for {ANSWER_NS / 1e9:g} s{delay}")
        while self._dropped:
            number = self._dropped.popleft()
            for link in self._links.values():
                link.dropped.append(number)
        for link in list(self._links.values()):
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

        self._deliver(link.node, data, done)

    def _deliver(self, node: str, data: bytes, then: Done | None = None) -> None:
        """Send a request; the end waits, boundedly, until those that are out have come back."""
        back = threading.Event()
        self._out[back] = node

        def done(reply: bytes | None, error: BaseException | None) -> None:
            self._out.pop(back, None)
            back.set()
            if then is not None:
                then(reply, error)

        try:
            self._cluster.send(node, data, done)
        except Exception as error:
            done(None, error)

    def _replied(self, link: Link, serial: int, data: bytes | None, error: BaseException | None) -> None:
        if link.is_gone:
            return
        if isinstance(error, NodeSilent):
            self._node_silent(link, str(error), may_return=True)
            return
        if error is not None or data is None:
            self._node_failed(link, f"its task did not come back ({type(error).__name__}: {error})")
            return
        reply: Reply = pickle.loads(data)
        if reply.serial == 0:
            if link.was_neglected():
                # This program was stopped, or had too much to send to others: that is no fault of what it held.
                told = f"this program asked it nothing for more than {LEASE_S:g} s, and it ended its pool"
                self._node_lost(link, told, may_return=True, suspects=False)
                return
            self._node_failed(link, "it was started anew, or a request to it was lost")
            return
        for each in link.replied(serial, reply, monotonic_ns()):
            self._read(link, each)

    def _read(self, link: Link, reply: Reply) -> None:
        events: list[BackendEvent] = [ChangesLost(function, list(names)) for function, names in reply.changes]
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
                self._end(link)
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
            self._node_failed(link, f"its pool is broken ({broken})")

    # --- which nodes there are ----------------------------------------------------------------------------

    def _seen(self, nodes: dict[str, int]) -> None:
        self._nodes = nodes
        for link in list(self._links.values()):
            if link.node in nodes or link.is_gone:
                continue
            silence = self._cluster.silence(link.node)
            if silence is not None:
                self._node_silent(link, silence, may_return=True)
            else:
                self._node_lost(link, "the cluster does not have it any more", may_return=True)

    def _launch(self) -> None:
        """Give each worker that waits a node, as far as there are any.

        It waits until it has it: it may be told to end meanwhile, by another thread.
        """
        host = self._host
        assert host is not None
        while self._waiting:
            taken = {link.node for link in self._links.values()}
            node = next((node for node in list(self._nodes) if node not in taken and node not in self._lost), None)
            with host.lock:
                worker = self._waiting[0] if self._waiting else None
            if node is None or worker is None:
                return
            report_s = max(REPORT_S, REPORT_EACH_S * (len(self._links) + len(self._waiting)))
            logs = self._logs.greeting() if self._logs is not None else None
            try:
                opening = self._openings.opening(self.pack, self._contents, self._nodes[node], report_s, logs)
            except BaseException as error:  # it could be when the pool was made, and has changed
                with host.lock:
                    if worker in self._waiting:
                        self._waiting.remove(worker)
                told = f"What workers begin with cannot be pickled for node {node}: {type(error).__name__}: {error}"
                self._post([SetupFailed(SetupError(told))])
                return
            with host.lock:
                # What is pickled may use the pool, on this thread, which goes on in the middle of that.
                if worker in self._waiting and all(link.node != node for link in self._links.values()):
                    self._waiting.remove(worker)
                    self._links[worker] = Link(worker, node, f"{self._key}-{worker}", opening)

    def _check(self, now: int) -> None:
        """Whether the cluster is silent, or has had no node for too long."""
        cluster, host = self._cluster, self._host
        assert host is not None
        wanted = bool(self._waiting) or any(link.held for link in self._links.values())
        if not wanted or self._broken:
            self._wanted_ns = now
            return
        self._watch.check(now)
        if self._links:
            self._wanted_ns = now
        elif now - self._wanted_ns > NO_NODE_NS:
            self._break(
                f"The {cluster.title} cluster at {cluster.address} has had no node for {NO_NODE_NS / 1e9:g} s: start "
                f"one, or see why it does not come{self._last_loss}."
            )

    def _excuse(self, late_ns: int, now: int) -> None:
        """This program did not run for so long: nobody is to be taken for lost because nothing was heard then."""
        self._watch.excuse(late_ns, now)
        self._wanted_ns = min(now, self._wanted_ns + late_ns)
        for link in self._links.values():
            link.open = {serial: min(now, sent_ns + late_ns) for serial, sent_ns in link.open.items()}

    def _scheduler_lost(self, text: str) -> None:
        cluster = self._cluster
        self._break(
            f"The {cluster.title} cluster at {cluster.address} is lost: {text}. What has no outcome yet is not run; a "
            "run with a journal goes on where it stood, on any backend."
        )

    def _break(self, text: str) -> None:
        if not self._broken and not self._closing:
            self._broken = True
            self._post([BackendBroken(BrokenPool(text))])

    def _node_failed(self, link: Link, why: str) -> None:
        """A node that the cluster still has cannot go on: it begins anew, unless all that it does is to fail."""
        may_return = self._counts_failure(link) and link.is_ready
        link.doubt()
        self._end(link)
        self._node_lost(link, why, may_return=may_return)

    def _node_silent(self, link: Link, why: str, *, may_return: bool = False) -> None:
        """A node that is there, perhaps, says nothing: it or its machine is stopped, which no item that it held can do.

        Others do what it held. Should it go on one day, it is to end its pool; and it is used again, unless it falls
        silent each time.
        """
        may_return = self._counts_failure(link) and may_return
        self._end(link)
        self._node_lost(link, why, may_return=may_return, suspects=False)

    def _counts_failure(self, link: Link) -> bool:
        """One more of a node, in a row without an item done; whether it may be used again."""
        failures = self._failures[link.node] = 1 if link.has_worked else self._failures.get(link.node, 0) + 1
        return failures < MOST_FAILURES

    def _node_lost(self, link: Link, why: str, *, may_return: bool = False, suspects: bool = True) -> None:
        """A node is gone: what it held goes to others. If the cluster has it again later, it may be used again."""
        if suspects:
            link.doubt()
        link.is_gone = True
        self._links.pop(link.worker, None)
        if not may_return:
            self._lost.add(link.node)
        self._last_loss = f" (the last was lost: {why})"
        self._nodes.pop(link.node, None)
        for back in [each for each, node in list(self._out.items()) if node == link.node]:
            self._out.pop(back, None)
        self._cluster.drop(link.node)
        self._watch.look_soon()
        error = WorkerLost(f"Node {link.node} was lost: {why}.", worker=link.worker)
        reason = f"node {link.node} was lost: {why}"
        # Of nodes that never get ready there is an end: what they begin with may be what ends them.
        self._post(
            [WorkerGone(link.worker, None, Kind.WORKER_LOST, error, reason, killed=True, unattributed=not suspects)]
        )

    def _forget_ended(self) -> None:
        """Workers that were told to end, which is all that is wanted of them."""
        events: list[BackendEvent] = []
        while self._gone:
            worker = self._gone.popleft()
            link = self._links.pop(worker, None)
            if link is not None:
                self._end(link)
            told = "It was told to end."
            error = WorkerLost(told, worker=worker)
            events.append(WorkerGone(worker, None, Kind.CANCELLED, error, told, unattributed=True))
        self._post(events)

    def _end(self, link: Link) -> None:
        """Have a node close its pool."""
        link.ends = True
        link.held.clear()
        link.chunks.clear()
        data = link.request(monotonic_ns(), self._contents, keep=True)
        link.is_gone = True
        if data is not None:
            self._deliver(link.node, data)

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
        self._watch.end()
        until = monotonic_ns() + int(CLOSE_S * 1e9)

        def left() -> float:
            return max(0.0, (until - monotonic_ns()) / 1e9)

        current = threading.current_thread()
        if self._minder is not None and self._minder is not current:
            self._minder.join(left())
        if not self._broken:
            for link in list(self._links.values()):
                self._end(link)
            for back in list(self._out):
                back.wait(left())
        self._links.clear()
        self._cluster.close()
        # If the cluster is lost, it may wait for an answer that never comes.
        self._watch.join(min(left(), LOST_S) if self._broken else left())
        if self._logs is not None:
            self._logs.close()
        if self._memory is not None:
            self._memory.close_alone()
        self._openings.clear()

    def abandon(self) -> None:
        """See Backend."""
