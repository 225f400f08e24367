"""Which nodes there are, which workers have one, and what becomes of those that fail or fall silent.

A node that is gone, or that says nothing, is taken from its worker; what it held goes to others. Whether it is used
again if the cluster has it later depends on how often it has failed in a row.
"""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from allcores.adapters.cluster.base import Cluster, Done, SchedulerLost, SchedulerSilent
from allcores.adapters.cluster.link import Link
from allcores.adapters.cluster.messages import REPORT_EACH_S, REPORT_S
from allcores.adapters.cluster.opening import Openings
from allcores.adapters.cluster.scheduler_watch import SchedulerWatch
from allcores.backends.base import BackendBroken, BackendEvent, SetupFailed
from allcores.errors import BrokenPool, SetupError, WorkerLost
from allcores.outcome import Kind
from allcores.scheduler.messages import WorkerGone
from allcores.system.clock import monotonic_ns

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from allcores.backends.processes.worker_logs import WorkerLogReceiver
    from allcores.shared_memory.buffers import BufferedPickle

#: So long a pool that has work waits for a node, if there is none, ns.
NO_NODE_NS = 60_000_000_000
#: A node answers each request within seconds, or a minute if its pool is slow to open; one that has not for so long is
#: given up, though the cluster still has it, ns.
ANSWER_NS = 180_000_000_000
#: So long after its first request the cluster is asked why a node's pool does not begin, ns: a pool opens within a
#: second or two, and what the first one on a node needs besides (a process of Ray's) takes some more.
DELAY_NS = 8_000_000_000
#: A node that fails so often in a row, and has nothing done, is not used again.
MOST_FAILURES = 3
#: seconds that closing waits for what asks a cluster that is lost
LOST_S = 1.0


class NodeTable:
    """See the module. Methods are for the minder's thread where they do not say otherwise.

    Args:
        cluster: Asked.
        openings: What each node's pool begins with.
        pack: Pickles for nodes.
        contents: Those of a shared block, by its number.
        inbox: Has a function called on the minder's thread.
        post: Hands events to the driver.
        logs: Handles what the workers of nodes log; None: they keep it.

    Raises:
        BrokenPool: The cluster is lost already.
    """

    def __init__(
        self,
        cluster: Cluster,
        openings: Openings,
        pack: Callable[[object], bytes | BufferedPickle],
        contents: Callable[[int], bytes],
        inbox: Callable[[Callable[[], None]], None],
        post: Callable[[list[BackendEvent]], None],
        logs: WorkerLogReceiver | None,
    ) -> None:
        self._cluster = cluster
        self._openings = openings
        self._pack = pack
        self._contents = contents
        self._post = post
        self._logs = logs
        self._key = uuid.uuid4().hex
        try:
            #: how many cores the nodes of the last look have
            self.cores = cluster.nodes()
        except (SchedulerLost, SchedulerSilent) as error:
            raise BrokenPool(f"The {cluster.title} cluster at {cluster.address} is lost: {error}.") from error
        #: those in use, by the numbers of their workers
        self.links: dict[int, Link] = {}
        #: workers that were ordered, and have no node yet; changed with the host's lock held
        self.waiting: deque[int] = deque()
        #: there is nothing more to be done with the cluster: it is lost
        self.broken = False
        self._closing = False
        self._wanted_ns = monotonic_ns()
        #: nodes that failed while the cluster had them, and are not used again under the same name; and how often those
        #: in a row, without an item done, that may be
        self._lost: set[str] = set()
        self._failures: dict[str, int] = {}
        #: how the last one was lost, for the message that there is none any more
        self._last_loss = ""
        #: workers that were told to end
        self._gone: deque[int] = deque()
        #: requests that are out, and to which node
        self._out: dict[threading.Event, str] = {}
        delays = DELAY_NS, ANSWER_NS / 1e9
        self._watch = SchedulerWatch(
            cluster, inbox, self._seen, self._scheduler_lost, self.links.values, self.waiting, delays
        )

    def start(self, name: str) -> None:
        """Begin to ask which nodes there are.

        Args:
            name: Of the pool.

        Raises:
            BrokenPool: No thread can be had.
        """
        self._watch.start(name)

    # --- workers: with the host's lock held ---------------------------------------------------------------

    def wanted(self, worker: int) -> None:
        """A worker is ordered, which waits for a node from now on."""
        self.waiting.append(worker)
        self._wanted_ns = monotonic_ns()

    def unwanted(self, worker: int) -> None:
        """A worker is told to end."""
        link = self.links.get(worker)
        if link is not None:
            link.ends = True
        elif worker in self.waiting:
            self.waiting.remove(worker)
        else:
            return
        self._gone.append(worker)

    # --- requests -----------------------------------------------------------------------------------------

    def deliver(self, node: str, data: bytes, then: Done | None = None) -> None:
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
        except BaseException:  # of a signal's handler: nobody is waited for that was not asked
            self._out.pop(back, None)
            raise

    def end(self, link: Link) -> None:
        """Have a node close its pool."""
        link.ends = True
        link.held.clear()
        link.chunks.clear()
        data = link.request(monotonic_ns(), self._contents, keep=True)
        link.is_gone = True
        if data is not None:
            self.deliver(link.node, data)

    # --- which there are ----------------------------------------------------------------------------------

    def _seen(self, nodes: dict[str, int]) -> None:
        self.cores = nodes
        for link in list(self.links.values()):
            if link.node in nodes or link.is_gone:
                continue
            silence = self._cluster.silence(link.node)
            if silence is not None:
                self.silent(link, silence, may_return=True)
            else:
                self.lost(link, "the cluster does not have it any more", may_return=True)

    def launch(self, lock: AbstractContextManager[object]) -> None:
        """Give each worker that waits a node, as far as there are any.

        It waits until it has it: it may be told to end meanwhile, by another thread.

        Args:
            lock: The host's.
        """
        while self.waiting:
            taken = {link.node for link in self.links.values()}
            node = next((node for node in list(self.cores) if node not in taken and node not in self._lost), None)
            with lock:
                worker = self.waiting[0] if self.waiting else None
            if node is None or worker is None:
                return
            report_s = max(REPORT_S, REPORT_EACH_S * (len(self.links) + len(self.waiting)))
            logs = self._logs.greeting() if self._logs is not None else None
            try:
                opening = self._openings.opening(self._pack, self._contents, self.cores[node], report_s, logs)
            except BaseException as error:  # it could be when the pool was made, and has changed
                with lock:
                    if worker in self.waiting:
                        self.waiting.remove(worker)
                told = f"What workers begin with cannot be pickled for node {node}: {type(error).__name__}: {error}"
                self._post([SetupFailed(SetupError(told))])
                return
            with lock:
                # What is pickled may use the pool, on this thread, which goes on in the middle of that.
                if worker in self.waiting and all(link.node != node for link in self.links.values()):
                    self.waiting.remove(worker)
                    self.links[worker] = Link(worker, node, f"{self._key}-{worker}", opening)

    def check(self, now: int) -> None:
        """Whether the cluster is silent, has had no node for too long, or has one that does not answer."""
        self._check_cluster(now)
        for link in list(self.links.values()):
            if link.open and now - min(link.open.values()) > ANSWER_NS:
                delay = f": {link.delay}" if link.delay and not link.is_ready else ""
                self.silent(link, f"it has not answered for {ANSWER_NS / 1e9:g} s{delay}")

    def _check_cluster(self, now: int) -> None:
        cluster = self._cluster
        wanted = bool(self.waiting) or any(link.held for link in self.links.values())
        if not wanted or self.broken:
            self._wanted_ns = now
            return
        self._watch.check(now)
        if self.links:
            self._wanted_ns = now
        elif now - self._wanted_ns > NO_NODE_NS:
            self._break(
                f"The {cluster.title} cluster at {cluster.address} has had no node for {NO_NODE_NS / 1e9:g} s: start "
                f"one, or see why it does not come{self._last_loss}."
            )

    def excuse(self, late_ns: int, now: int) -> None:
        """This program did not run for so long: nobody is to be taken for lost because nothing was heard then."""
        self._watch.excuse(late_ns, now)
        self._wanted_ns = min(now, self._wanted_ns + late_ns)
        for link in self.links.values():
            link.open = {serial: min(now, sent_ns + late_ns) for serial, sent_ns in link.open.items()}

    def _scheduler_lost(self, text: str) -> None:
        cluster = self._cluster
        self._break(
            f"The {cluster.title} cluster at {cluster.address} is lost: {text}. What has no outcome yet is not run; a "
            "run with a journal goes on where it stood, on any backend."
        )

    def _break(self, text: str) -> None:
        if not self.broken and not self._closing:
            self.broken = True
            self._post([BackendBroken(BrokenPool(text))])

    # --- those that fail ----------------------------------------------------------------------------------

    def failed(self, link: Link, why: str) -> None:
        """A node that the cluster still has cannot go on: it begins anew, unless all that it does is to fail."""
        may_return = self._counts_failure(link) and link.is_ready
        link.doubt()
        self.end(link)
        self.lost(link, why, may_return=may_return)

    def silent(self, link: Link, why: str, *, may_return: bool = False) -> None:
        """A node that is there, perhaps, says nothing: it or its machine is stopped, which no item that it held can do.

        Others do what it held. Should it go on one day, it is to end its pool; and it is used again, unless it falls
        silent each time.
        """
        may_return = self._counts_failure(link) and may_return
        self.end(link)
        self.lost(link, why, may_return=may_return, suspects=False)

    def _counts_failure(self, link: Link) -> bool:
        """One more of a node, in a row without an item done; whether it may be used again."""
        failures = self._failures[link.node] = 1 if link.has_worked else self._failures.get(link.node, 0) + 1
        return failures < MOST_FAILURES

    def lost(self, link: Link, why: str, *, may_return: bool = False, suspects: bool = True) -> None:
        """A node is gone: what it held goes to others. If the cluster has it again later, it may be used again."""
        if suspects:
            link.doubt()
        link.is_gone = True
        self.links.pop(link.worker, None)
        if not may_return:
            self._lost.add(link.node)
        self._last_loss = f" (the last was lost: {why})"
        self.cores.pop(link.node, None)
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

    def forget_ended(self) -> None:
        """Workers that were told to end, which is all that is wanted of them."""
        events: list[BackendEvent] = []
        while self._gone:
            worker = self._gone.popleft()
            link = self.links.pop(worker, None)
            if link is not None:
                self.end(link)
            told = "It was told to end."
            error = WorkerLost(told, worker=worker)
            events.append(WorkerGone(worker, None, Kind.CANCELLED, error, told, unattributed=True))
        self._post(events)

    # --- the end ------------------------------------------------------------------------------------------

    def stop_asking(self) -> None:
        """Ask the cluster for nothing more. Any thread."""
        self._closing = True
        self._watch.end()

    def close(self, left: Callable[[], float]) -> None:
        """Have all nodes close their pools, and close the connection.

        Args:
            left: The seconds that are left for it.
        """
        if not self.broken:
            for link in list(self.links.values()):
                self.end(link)
            for back in list(self._out):
                back.wait(left())
        self.links.clear()
        self._cluster.close()
        # If the cluster is lost, it may wait for an answer that never comes.
        self._watch.join(min(left(), LOST_S) if self.broken else left())
