"""Tasks run in threads: for functions that release the GIL, and for free-threaded Python.

A thread cannot be ended from outside. So `timeout=` is refused, and cancelled work runs to its end
unseen: its results are dropped, and a new thread takes its place.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from allcores.backends.base import Host, SetupFailed, WorkerInit, WorkerReady, task_of
from allcores.backends.in_process import InProcessBackend, InProcessWorker
from allcores.backends.minded import MindedBackend
from allcores.backends.shared_value import SharedValue
from allcores.errors import SetupError, WorkerLost
from allcores.outcome import Kind
from allcores.scheduler.map_state import Chunk
from allcores.scheduler.messages import (
    Command,
    Kill,
    Launch,
    Results,
    Send,
    SetLimit,
    Stop,
    Work,
    WorkerGone,
    WorkerProgress,
)
from allcores.system.clock import monotonic_ns

if TYPE_CHECKING:
    pass

#: seconds that closing waits for a thread that is in the middle of an item
CLOSE_S = 2.0


class _Worker:
    def __init__(self, in_process_worker: InProcessWorker) -> None:
        self.in_process_worker = in_process_worker
        self.queue: SimpleQueue[Chunk | None] = SimpleQueue()
        self.thread: threading.Thread | None = None
        self.stopped = False


class ThreadBackend(MindedBackend, InProcessBackend):
    """One thread per worker, and one that minds the time."""

    name = "threads"
    can_end_tasks = False
    needs_bytes = False
    runs_on_caller = False

    def __init__(self, worker_init: WorkerInit) -> None:
        self._worker_init = worker_init
        self._shared = SharedValue(worker_init)
        self._workers: dict[int, _Worker] = {}
        #: workers that are gone; why they never ran, "" if they did
        self._gone: list[tuple[_Worker, str]] = []
        #: what wakes the minder; a queue, since a signal's handler may ring in the middle of another ring
        self._alarm: SimpleQueue[None] = SimpleQueue()

    def start(self, host: Host) -> None:
        self._start_minder(host)

    def started(self) -> None:
        pass

    def execute(self, commands: Sequence[Command]) -> None:
        for order in commands:
            if isinstance(order, Launch):
                worker = _Worker(InProcessWorker(order.worker, self._worker_init, self._shared))
                self._workers[order.worker] = worker
                name = f"allcores-worker-{order.worker}"
                thread = threading.Thread(target=self._work, args=(worker,), name=name, daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the machine, or an interpreter that is ending, has none left
                    self._gone.append((worker, f"it could not be started: {error}"))
                    self._alarm.put(None)
                else:
                    worker.thread = thread
                continue
            found = self._workers.get(order.worker)
            if found is None:
                continue
            if isinstance(order, Send):
                found.queue.put(order.chunk)
            elif isinstance(order, SetLimit):
                found.in_process_worker.limit = order.limit
            elif isinstance(order, (Kill, Stop)):
                found.stopped = True
                found.queue.put(None)
                if isinstance(order, Kill):
                    # Reported by the minder: the scheduler is in the middle of a decision.
                    self._gone.append((found, ""))
                    self._alarm.put(None)

    def progress(self, worker: int) -> WorkerProgress | None:
        found = self._workers.get(worker)
        return found.in_process_worker.at if found is not None else None

    def work(self, worker: int) -> Work | None:
        found = self._workers.get(worker)
        return found.in_process_worker.work if found is not None else None

    def wake(self) -> None:
        self._alarm.put(None)

    def _work(self, worker: _Worker) -> None:
        host = self._host
        assert host is not None
        try:
            self._work_of(worker, host)
        except Exception as error:  # a mistake of ours: nobody is left waiting
            host.fail(error)
            return
        # What it raises is told where what threads raise is, by `threading.excepthook`: it ends nothing else.
        worker.in_process_worker.tear_down()

    def _work_of(self, worker: _Worker, host: Host) -> None:
        in_process_worker = worker.in_process_worker
        try:
            in_process_worker.set_up()
        except SetupError as error:
            host.post([SetupFailed(error)])
            return
        host.post([WorkerReady(in_process_worker.number, None)])

        def report(results: Results) -> None:
            if not worker.stopped:
                host.post([results])

        while (chunk := worker.queue.get()) is not None:
            with task_of(host, in_process_worker.state):
                in_process_worker.run(chunk, report)
            del chunk

    def _mind_once(self, until_ns: int | None) -> None:
        host = self._host
        assert host is not None
        with host.lock:
            alarm = host.next_timer_ns
            if until_ns is not None:
                alarm = min(until_ns, alarm or until_ns)
            self.sleeps_until = alarm if alarm is not None else (1 << 62)
        with contextlib.suppress(Empty):
            self._alarm.get(timeout=None if alarm is None else max(0.0, (alarm - monotonic_ns()) / 1e9))
        self.sleeps_until = None
        while self._gone:
            self._forget(*self._gone.pop(0))
        host.on_timer()

    def _forget(self, worker: _Worker, not_begun: str) -> None:
        host = self._host
        assert host is not None
        number = worker.in_process_worker.number
        self._workers.pop(number, None)
        event = WorkerGone(number, None, Kind.CANCELLED, WorkerLost("cancelled"), "what it ran was cancelled")
        if not_begun:
            lost = WorkerLost(f"Worker {number}: {not_begun}.", worker=number)
            event = WorkerGone(number, None, Kind.WORKER_LOST, lost, not_begun)
        host.post([event])

    def settle_logs(self, seconds: float) -> None:
        """Tasks log where they run, in this process: all of it is handled."""

    def close(self) -> None:
        self.close_parent_memory()
        self._closing = True
        self._alarm.put(None)
        current = threading.current_thread()
        until = monotonic_ns() + int(CLOSE_S * 1e9)
        for worker in list(self._workers.values()):
            worker.stopped = True
            worker.queue.put(None)
        threads = [worker.thread for worker in self._workers.values()]
        for thread in [*threads, self._minder]:
            if thread is not None and thread is not current:
                thread.join(max(0.0, (until - monotonic_ns()) / 1e9))
        # This object and its host refer to each other; what the program has handed over is not to wait for that.
        self._worker_init = WorkerInit()
        self._shared.forget()
        self._workers.clear()

    def abandon(self) -> None:
        pass
