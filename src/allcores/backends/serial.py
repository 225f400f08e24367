"""Tasks run on the caller's thread, when results are read: for debugging, with the same semantics.

A breakpoint in the function works; a hanging function hangs its caller, so `timeout=` is refused.
"""

from __future__ import annotations

import contextlib
import threading
from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING

from allcores.backends.base import Host, SetupFailed, WorkerInit, WorkerReady, is_in_task_of, task_of
from allcores.backends.in_process import AwaitedCall, InProcessBackend, InProcessWorker
from allcores.backends.shared_value import SharedValue
from allcores.errors import SetupError, UsageError
from allcores.scheduler.map_state import Chunk
from allcores.scheduler.messages import Command, Kill, Launch, Results, Send, SetLimit, Stop, Work, WorkerProgress
from allcores.system.clock import monotonic_ns
from allcores.transport.positions import mark

if TYPE_CHECKING:
    from allcores.system.bell import Bell

#: what a task is told that waits for itself
STUCK = (
    "A task of backend='serial' waits for items of its own pool, which begin when that task has ended: "
    "have it make a pool of its own, or call allcores.map."
)


class _Begun:
    """What a thread runs.

    Attributes:
        told: Items of it that have been told.
        ended: So has its end.
    """

    __slots__ = ("chunk", "ended", "thread", "told")

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.chunk: Chunk | None = None
        self.told = 0
        self.ended = False


class SerialBackend(InProcessBackend):
    """One worker: whoever reads."""

    name = "serial"
    can_end_tasks = False
    needs_bytes = False
    runs_on_caller = True

    def __init__(self, worker_init: WorkerInit) -> None:
        self._worker_init = worker_init
        self._shared = SharedValue(worker_init)
        self._host: Host | None = None
        self._in_process_worker: InProcessWorker | None = None
        #: the setup was begun; it is done: another thread has what it returned; it has failed
        self._begins = self._is_set_up = self._has_failed = False
        #: held by the thread that sets up, whose setup function may use this very pool
        self._setting_up = threading.RLock()
        self._chunks: deque[Chunk] = deque()
        #: threads that run a chunk, once for each
        self._running: list[int] = []
        #: what wakes those that wait for what cannot be begun before others end what they run
        self._wakers: list[LockType] = []
        #: what threads that run a task wait for meanwhile, without end
        self._awaited: dict[int, Bell | AwaitedCall] = {}

    def start(self, host: Host) -> None:
        self._host = host

    def started(self) -> None:
        pass

    def execute(self, commands: Sequence[Command]) -> None:
        assert self._host is not None
        for command in commands:
            if isinstance(command, Launch):
                self._in_process_worker = InProcessWorker(command.worker, self._worker_init, self._shared)
                self._host.apply([WorkerReady(command.worker, None)], monotonic_ns())
            elif isinstance(command, Send):
                self._chunks.append(command.chunk)
                self.wake()
            elif isinstance(command, SetLimit) and self._in_process_worker is not None:
                self._in_process_worker.limit = command.limit
            elif isinstance(command, (Kill, Stop)):
                self._chunks.clear()
                self.wake()

    def progress(self, worker: int) -> WorkerProgress | None:
        return self._in_process_worker.at if self._in_process_worker is not None else None

    def work(self, worker: int) -> Work | None:
        return self._in_process_worker.work if self._in_process_worker is not None else None

    def wake(self) -> None:
        for waker in list(self._wakers):
            _release(waker)

    def wake_by(self, when_ns: int) -> None:
        pass

    def pump(self) -> bool:
        host, in_process_worker = self._host, self._in_process_worker
        assert host is not None
        if in_process_worker is None:
            return False
        if not self._is_set_up and not self._has_nothing_to_begin(in_process_worker):
            # What another thread has begun is waited for: without it functions lack what it returns.
            with self._setting_up:
                error = self._set_up(in_process_worker)
            if error is not None:
                host.post([SetupFailed(error)])
                return True
            if self._has_failed:
                return False
        begun = _Begun(threading.get_ident())
        try:
            self._begin_chunk(begun)
            if begun.chunk is not None:
                with task_of(host, in_process_worker.state):
                    in_process_worker.run(begun.chunk, partial(self._report, begun))
                return True
        finally:
            if begun.chunk is not None:
                self._end_chunk(begun, in_process_worker)
        due_ns = self.pump_due_ns()
        if due_ns is None or due_ns > monotonic_ns():
            return False
        host.on_timer()
        return True

    def pump_due_ns(self) -> int | None:
        host = self._host
        assert host is not None
        with host.lock:
            # Nothing runs anywhere else: the next thing that can happen is a retry that falls due.
            return host.next_timer_ns if host.waiting_for_time else None

    def _set_up(self, in_process_worker: InProcessWorker) -> SetupError | None:
        """Set the worker up if nobody has begun to; the error, to be told by whoever gets it."""
        if self._begins:
            return None
        self._begins = True
        try:
            in_process_worker.set_up()
        except SetupError as error:
            self._has_failed = True
            return error
        except BaseException:  # Ctrl-C: whoever uses the pool next finds it as it was before
            self._begins = False
            raise
        self._is_set_up = True
        return None

    def _begin_chunk(self, begun: _Begun) -> None:
        """Give a thread the next chunk, if there is one, which it runs from now on; nobody sees it with nobody."""
        assert self._host is not None
        with self._host.lock:
            if self._chunks:
                self._running.append(begun.thread)
                begun.chunk = self._chunks.popleft()

    def _end_chunk(self, begun: _Begun, in_process_worker: InProcessWorker) -> None:
        """A thread runs a chunk no longer.

        Where Ctrl-C came between two of our own steps, nobody has told its end, and its reader would wait for that.
        """
        host, chunk = self._host, begun.chunk
        assert host is not None
        assert chunk is not None
        try:
            with host.lock:
                self._running.remove(begun.thread)
                if not begun.ended:
                    end = Results(in_process_worker.number, chunk.sequence, begun.told, 0, 0, values=[], ended=True)
                    self._apply(begun, end)
        finally:
            self.wake()  # of those that wait one may be in a task, and the last that could begin anything
            host.notify()

    def _has_nothing_to_begin(self, in_process_worker: InProcessWorker) -> bool:
        """What waits was stopped before it was begun: it comes to its end without a setup."""
        try:
            return mark(self._chunks[0].sequence, 0) >= in_process_worker.limit
        except IndexError:
            return False

    def _report(self, begun: _Begun, results: Results) -> None:
        host = self._host
        assert host is not None
        try:
            with host.lock:
                self._apply(begun, results)
        finally:
            host.notify()

    def _apply(self, begun: _Begun, results: Results) -> None:
        """Tell results, and note that they are told; with the lock, so that Ctrl-C comes before both or after both."""
        assert self._host is not None
        self._host.apply([results], monotonic_ns())
        self._host.execute()
        begun.told, begun.ended = results.start + results.count, results.ended

    def attend(self, chunk: Chunk, until_ns: int | None, done: Callable[[], bool]) -> None:
        waker = allocate_lock()
        waker.acquire()
        # From now on it is woken; what has come before is found by the look that follows.
        self._wakers.append(waker)
        try:
            while not done():
                if until_ns is not None and until_ns <= monotonic_ns():
                    return
                if self.pump():
                    continue
                self._sleep(waker, AwaitedCall(done) if until_ns is None else None, until_ns)
        finally:
            self._wakers.remove(waker)
            # Of a future, to whose failure the traceback may belong that has this frame.
            del done, chunk

    def _sleep(self, waker: LockType, awaited: Bell | AwaitedCall | None, until_ns: int | None) -> None:
        """Wait to be woken, or for an attempt to be due.

        Args:
            waker: What is released.
            awaited: What this thread waits for, if without end.
            until_ns: When to look again.

        Raises:
            UsageError: In a task: nobody would ever begin what this thread, and all that run tasks, wait for.
        """
        host, this = self._host, threading.get_ident()
        assert host is not None
        try:
            with host.lock:
                if awaited is not None and is_in_task_of(host):
                    self._awaited[this] = awaited
                    if self._is_stuck():
                        raise UsageError(STUCK)
            waker.acquire(timeout=_left_s(until_ns, self.pump_due_ns()))
        finally:
            self._awaited.pop(this, None)

    def _is_stuck(self) -> bool:
        """Nothing can be begun, and all that run a task wait for what begins when one of these ends; with the lock."""
        assert self._host is not None
        if self._chunks or self._host.waiting_for_time:
            return False
        waits = [self._awaited.get(thread) for thread in {*self._running}]
        return all(each is not None and each.expected for each in waits)

    def wait(self, bell: Bell, wanted: Callable[[], bool], seconds: float) -> bool:
        host = self._host
        assert host is not None
        # Woken also when there is a chunk to run, and when another thread has ended its task, which may have been the
        # last that could begin anything.
        waker = allocate_lock()
        waker.acquire()
        self._wakers.append(waker)
        try:
            with host.lock:
                if wanted() or self._chunks:
                    return True
                bell.expect(partial(_release, waker))
            self._sleep(waker, bell, monotonic_ns() + int(seconds * 1e9))
        finally:
            self._wakers.remove(waker)
        return True

    def step_back(self) -> None:
        pass

    def resolves_here(self) -> bool:
        return True

    def settle_logs(self, seconds: float) -> None:
        """Tasks log where they run, in this process: all of it is handled."""

    def close(self) -> None:
        self.close_parent_memory()
        assert self._host is not None
        with self._host.lock:
            # Two threads may be closing it, of which one tears down.
            in_process_worker, self._in_process_worker = self._in_process_worker, None
        if in_process_worker is not None and self._is_set_up:
            in_process_worker.tear_down()
        # This object and its host refer to each other; what the program has handed over is not to wait for that.
        self._worker_init = WorkerInit()
        self._shared.forget()
        self._chunks.clear()

    def abandon(self) -> None:
        pass


def _release(waker: LockType) -> None:
    with contextlib.suppress(RuntimeError):  # it was woken already
        waker.release()


def _left_s(*ends_ns: int | None) -> float:
    """Seconds until the first of these times, for a lock: -1 for ever."""
    times = [end_ns for end_ns in ends_ns if end_ns is not None]
    return min(max(0.0, (min(times) - monotonic_ns()) / 1e9), TIMEOUT_MAX) if times else -1.0
