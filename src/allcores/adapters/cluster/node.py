"""A node's side: `exchange` takes a request and gives a reply, and one pool with the node's cores does the work.

The pool is made at the first request of its key, and closed when it is told so or hears nothing for `LEASE_S`. All that
is pickled for the program is opened here once more, so that its modules have to be on the node.
"""

from __future__ import annotations

import pickle
import platform
import threading
from collections import deque
from time import monotonic
from typing import Any

from allcores.adapters.cluster.messages import HOLD_S, LEASE_S, MOST_HOLD_S, NodeResults, Opening, Reply, Request
from allcores.adapters.cluster.node_logs import NodeLogs
from allcores.adapters.cluster.node_work import LOOK_S, Work, find_modules
from allcores.adapters.cluster.packing import unpack
from allcores.adapters.cluster.silence import LATE_NS, Looks
from allcores.errors import SetupError
from allcores.limits import Limits
from allcores.pool.pool import Pool, ready
from allcores.pool.pool_log import Logs
from allcores.transport import exceptions

#: The requests of one pool may arrive in another order, and an earlier one may still be carried out, which is waited
#: for so long, seconds.
ORDER_S = 40.0

#: What ends within this time goes with the same reply, seconds.
LINGER_S = 0.002

#: So many keys of pools that have ended are remembered: a request for one of them may still be on its way.
MOST_OVER = 4096

_nodes: dict[str, Node] = {}
#: keys of pools that have ended, the last at the end
_over: dict[str, None] = {}
_lock = threading.Lock()


def exchange(data: bytes) -> bytes:
    """Carry out a request, and reply when there is something to tell. Called by the cluster's own worker."""
    request: Request = pickle.loads(data)
    with _lock:
        node = _nodes.get(request.key)
        # The end may have overtaken the first request: nobody would end what that one makes.
        if node is None and request.opening is not None and not request.ends and request.key not in _over:
            node = _nodes[request.key] = Node(request.key, request.opening)
            try:
                threading.Thread(target=_watch, args=(node,), name="allcores-lease", daemon=True).start()
            except BaseException:  # no thread can be had: nobody would end it if the program is gone
                del _nodes[request.key]
                node.close()
                raise
    reply = _nothing() if node is None else node.exchange(request)
    if request.ends:
        _end(request.key)
    return pickle.dumps(reply)


def _nothing() -> Reply:
    """There is no pool of that key here, or not as the request takes it to be."""
    return Reply(0, False, None, 0, 0, [])


def versions() -> tuple[str, str]:
    """Of this package and of Python: both sides must have the same, up to the last number of Python's."""
    import allcores

    return allcores.__version__, ".".join(platform.python_version_tuple()[:2])


def _check_versions(opening: Opening) -> None:
    """Raises SetupError."""
    (ours, python), (theirs, other) = versions(), (opening.version, opening.python)
    if (ours, python) != (theirs, other):
        raise SetupError(
            f"The node {platform.node()} has allcores {ours} on Python {python}, and this program allcores {theirs} on "
            f"Python {other}: both need the same."
        )


def _end(key: str) -> None:
    with _lock:
        node = _nodes.pop(key, None)
        _over[key] = None
        if len(_over) > MOST_OVER:
            del _over[next(iter(_over))]
    if node is not None:
        node.close()


def _watch(node: Node) -> None:
    """End a pool that nobody asks for any more. One thread for each, which ends with it.

    Where this process was stopped, or its machine, nobody could ask: that time does not count.
    """
    looks = Looks(int(monotonic() * 1e9))
    asleep_s = 0.0
    while True:
        with _lock:
            if _nodes.get(node.key) is not node:
                return
        now = monotonic()
        still_s = looks.late_ns(int(now * 1e9), int(asleep_s * 1e9)) / 1e9
        if still_s:
            node.heard_s = min(now, node.heard_s + still_s)
        if now - node.heard_s > LEASE_S:
            _end(node.key)
            return
        asleep_s = LEASE_S / 10
        _ended.wait(asleep_s)


_ended = threading.Event()


class Node:
    """One pool, and what was asked of it."""

    def __init__(self, key: str, opening: Opening) -> None:
        self.key = key
        self.heard_s = monotonic()
        self._changed = threading.Condition()
        #: the last request that was carried out, and the last that was begun with
        self._serial = self._begun = 0
        self._replied = 0
        self._results: list[NodeResults] = []
        #: something is to be told at once
        self._urgent = False
        self._failed: bytes | None = None
        self._ready = False
        self._closed = False
        self._pool: Pool | None = None
        self._work: Work | None = None
        #: requests that came before there was a pool to carry them out
        self._early: deque[Request] = deque()
        #: how long the pool may take to be made, and until when that is
        self._open_s = opening.open_s
        self._open_until_s = self.heard_s + opening.open_s
        self._cores = 0
        self._report_s = opening.report_s
        self._logs = NodeLogs(opening.logs) if opening.logs is not None else None
        self._hold_s = min(MOST_HOLD_S, max(HOLD_S, 2 * opening.report_s))
        #: contents of what is shared, as the pool's workers have it
        self._blobs: dict[int, Any] = {}
        threading.Thread(target=self._open, args=(opening,), name="allcores-node", daemon=True).start()

    # --- requests -----------------------------------------------------------------------------------------

    def exchange(self, request: Request) -> Reply:
        """Carry out a request in its turn, and reply when there is something to tell."""
        self.heard_s = monotonic()
        if not self._in_turn(request):
            # What this one builds on, a function or what is shared, may have come with the one that is missing.
            return _nothing()
        is_new = self._is_new(request)
        try:
            if is_new and not request.ends:
                self._carry_out(request)
        except Exception:
            if not self._closed:  # meanwhile: then it cannot be carried out
                raise
        finally:
            if is_new:
                with self._changed:
                    # The next one's turn; and whoever waits with an earlier request replies now.
                    self._serial = max(self._serial, request.serial)
                    self._changed.notify_all()
        waits = request.hold and not request.ends
        if waits:
            self._wait(request.serial)
        self._check_open()
        with self._changed:
            if waits and self._urgent and self._work is not None and self._work.holds:
                # A reply costs more than this: what ends meanwhile goes with it.
                self._changed.wait_for(lambda: not self._work or not self._work.holds, LINGER_S)
            # What was closed has failed all that it held, and that is nobody's outcome: others do it.
            return _nothing() if self._closed else self._reply()

    def _is_new(self, request: Request) -> bool:
        """Whether it has not come before: a cluster may deliver one twice."""
        with self._changed:
            is_new = request.serial > self._begun
            self._begun = max(self._begun, request.serial)
            return is_new

    def _in_turn(self, request: Request) -> bool:
        """Wait until those before it are carried out; False if one of them is missing."""
        while True:
            begun = monotonic()
            with self._changed:
                if self._changed.wait_for(
                    lambda: self._serial >= request.serial - 1 or self._closed or request.ends, ORDER_S
                ):
                    return True
            if monotonic() - begun - ORDER_S <= LATE_NS / 1e9:
                return False
            # This process was stopped: the one before may just be going on.

    def _wait(self, serial: int) -> None:
        """Until there is something to tell, or for as long as it may be; meanwhile chunks that go on are looked at."""
        until = monotonic() + self._hold_s
        if self._work is None:
            until = min(until, self._open_until_s)
        while (left := until - monotonic()) > 0:
            begun, look_s = monotonic(), min(left, LOOK_S)
            with self._changed:
                tells = self._changed.wait_for(lambda: self._tells(serial), look_s)
                still_s = monotonic() - begun - look_s
                if still_s > LATE_NS / 1e9:
                    # This process was stopped: what it was to make meanwhile has as much more time.
                    self._open_until_s += still_s
                if tells:
                    return
                work = self._work
            if work is not None:
                work.report()
            if self._logs is not None and self._logs.is_due(self._report_s):
                return

    def _tells(self, serial: int) -> bool:
        if self._urgent or self._closed or self._serial > serial or self._failed is not None:
            return True
        return self._work is not None and self._ready and not self._work.holds

    def _reply(self) -> Reply:
        results, self._results = self._results, []
        self._urgent = False
        self._replied += 1
        holds = self._work.holds if self._work is not None else 0
        # Taken after the results: what was logged on the way to these is there.
        logs = self._logs.taken() if self._logs is not None else []
        changes = self._work.changes.taken() if self._work is not None else []
        return Reply(self._replied, self._ready, self._failed, self._cores, holds, results, logs, changes)

    def _check_open(self) -> None:
        """Whether the pool takes too long to be made."""
        with self._changed:
            in_time = self._work is not None or self._closed or monotonic() < self._open_until_s
            if in_time or self._failed is not None:
                return
            self._failed = exceptions.pack(
                SetupError(
                    f"The pool of a node could not be made within {self._open_s:g} s: its machine is too busy, or the "
                    "modules of what workers begin with (setup, preload and their arguments) take longer to be "
                    "imported there. Limits(setup_s=...) allows more."
                )
            )

    def _carry_out(self, request: Request) -> None:
        with self._changed:
            work, pool = self._work, self._pool
            if work is None or pool is None:
                # To read what workers begin with may import for minutes. The reply says that it is not ready.
                if self._failed is None and not self._closed:
                    self._early.append(request)
                return
        self._do(work, pool, request)

    def _do(self, work: Work, pool: Pool, request: Request) -> None:
        for number, contents in request.blobs:
            self._blobs[number] = pool.share(contents)
        for number in request.drop:
            self._blobs.pop(number, None)
        for number, payload in request.functions:
            work.learn(number, payload)
        for number in request.forget:
            work.forget(number)
        for chunk in request.chunks:
            work.begin(chunk)
        for each in request.revoked:
            work.revoke(each)

    def _view(self, number: int) -> memoryview:
        view: memoryview = self._blobs[number].view
        return view

    def _tell(self, results: list[NodeResults]) -> None:
        with self._changed:
            self._results += results
            self._urgent = True
            self._changed.notify_all()

    def _broke(self, error: BaseException) -> None:
        """The pool can do nothing any more: that is told, and nothing of what it held."""
        with self._changed:
            if self._failed is None and not self._closed:
                self._failed = exceptions.pack(error)
            self._changed.notify_all()

    # --- life ---------------------------------------------------------------------------------------------

    def _open(self, opening: Opening) -> None:
        """Make the pool, and wait until a worker of it is ready."""
        try:
            _check_versions(opening)
            find_modules(opening.path)
            contents = dict(opening.blobs)
            # Without a pool nothing can be shared yet: its workers get one copy from here, as of any large argument.
            settings = unpack(opening.settings, lambda number: memoryview(contents[number]))
            limits: Limits = settings["limits"]
            logs: Any = False if self._logs is None else Logs(records=self._logs)  # type: ignore[arg-type]
            pool = Pool(opening.cores or None, logs=logs, **settings)
            with self._changed:
                closed = self._closed
                if not closed:
                    self._pool = pool
                    self._cores = pool.workers
                    # Chunks that name these find them, too.
                    self._blobs.update((number, pool.share(each)) for number, each in opening.blobs)
            if closed:
                pool.close()
                return
            self._begin(Work(pool, self._tell, self._broke, self._view, opening.report_s), pool)
            pool.submit(ready).result(limits.setup_s * 2 + 10)
            with self._changed:
                self._ready = self._urgent = True
                self._changed.notify_all()
        except BaseException as error:
            if not isinstance(error, SetupError):
                wrapped = SetupError(f"The pool of a node could not be made: {type(error).__name__}: {error}")
                wrapped.__cause__ = error
                error = wrapped
            with self._changed:
                if not self._closed:
                    self._failed = exceptions.pack(error)
                self._changed.notify_all()

    def _begin(self, work: Work, pool: Pool) -> None:
        """Carry out what came before there was a pool; from then on each request does so itself, after these."""
        while True:
            with self._changed:
                if not self._early or self._closed:
                    self._work = work
                    self._changed.notify_all()
                    return
                request = self._early.popleft()
            self._do(work, pool, request)

    def close(self) -> None:
        """End it, and what runs; whoever waits for a reply gets one."""
        with self._changed:
            self._closed = True
            pool, work = self._pool, self._work
            self._changed.notify_all()
        if pool is not None:
            pool.close()
        if work is not None:
            work.join()
        self._blobs.clear()
