"""Tasks run in threads: for functions that release the GIL, and for free-threaded Python.

A thread cannot be ended from outside. So `timeout=` is refused, and cancelled work runs to its end
unseen: its results are dropped, and a new thread takes its place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from allcores.backends.base import Host, SetupFailed, WorkerInit, WorkerReady, is_in_task_of, task_of
from allcores.backends.in_process import AwaitedCall, InProcessBackend, InProcessWorker
from allcores.backends.minded import MindedBackend
from allcores.backends.shared_value import SharedValue
from allcores.errors import SetupError, UsageError, WorkerLost
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
from allcores.system.bell import Bell
from allcores.system.clock import monotonic_ns
from allcores.system.nudge import Nudge

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
        #: what wakes the minder, also by a signal's handler in the middle of another wake-up
        self._alarm = Nudge()
        #: what ends the wait of tasks for items of this very pool, by their threads; with the host's lock
        self._awaited: dict[int, Bell | AwaitedCall] = {}

    def start(self, host: Host) -> None:
        self._start_minder(host)

    def started(self) -> None:
        pass

    def execute(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Launch):
                worker = _Worker(InProcessWorker(command.worker, self._worker_init, self._shared))
                self._workers[command.worker] = worker
                name = f"allcores-worker-{command.worker}"
                thread = threading.Thread(target=self._work, args=(worker,), name=name, daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the machine, or an interpreter that is ending, has none left
                    self._gone.append((worker, f"it could not be started: {error}"))
                    self._alarm.give()
                else:
                    worker.thread = thread
                continue
            found = self._workers.get(command.worker)
            if found is None:
                continue
            if isinstance(command, Send):
                found.queue.put(command.chunk)
            elif isinstance(command, SetLimit):
                found.in_process_worker.limit = command.limit
            elif isinstance(command, (Kill, Stop)):
                found.stopped = True
                found.queue.put(None)
                if isinstance(command, Kill):
                    # Reported by the minder: the scheduler is in the middle of a decision.
                    self._gone.append((found, ""))
                    self._alarm.give()

    def progress(self, worker: int) -> WorkerProgress | None:
        found = self._workers.get(worker)
        return found.in_process_worker.at if found is not None else None

    def work(self, worker: int) -> Work | None:
        found = self._workers.get(worker)
        return found.in_process_worker.work if found is not None else None

    def wake(self) -> None:
        self._alarm.give()

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
            self._awaited.pop(threading.get_ident(), None)
            del chunk

    def _mind_once(self, until_ns: int | None) -> None:
        host = self._host
        assert host is not None
        with host.lock:
            alarm = host.next_timer_ns
            if until_ns is not None:
                alarm = min(until_ns, alarm or until_ns)
            self.sleeps_until = alarm if alarm is not None else (1 << 62)
        self._alarm.wait(None if alarm is None else max(0.0, (alarm - monotonic_ns()) / 1e9))
        self.sleeps_until = None
        while self._gone:
            self._forget(*self._gone.pop(0))
        host.on_timer()

    def wait(self, bell: Bell, wanted: Callable[[], bool], seconds: float) -> bool:
        host = self._host
        if host is None or not is_in_task_of(host):
            return False
        with host.lock:
            if wanted():
                return True
            bell.expect()
            self._await(bell)
        try:
            bell.wait(seconds)
        finally:
            self._awaited.pop(threading.get_ident(), None)
        return True

    def attend(self, chunk: Chunk, until_ns: int | None, done: Callable[[], bool]) -> None:
        host = self._host
        if until_ns is None and host is not None and is_in_task_of(host):
            with host.lock:
                if not done():
                    self._await(AwaitedCall(done))
        super().attend(chunk, until_ns, done)

    def _await(self, what: Bell | AwaitedCall) -> None:
        """This thread, in a task, is about to wait for items of this very pool; with the host's lock held.

        Raises:
            UsageError: So do all others: nobody would ever begin them.
        """
        this = threading.get_ident()
        self._awaited[this] = what
        threads = [worker.thread for worker in list(self._workers.values()) if not worker.stopped]
        waits = [self._awaited.get(thread.ident or 0) if thread is not None else None for thread in threads]
        if all(each is not None and each.expected for each in waits):
            del self._awaited[this]
            raise UsageError(
                f"All {len(threads)} threads of the pool run tasks that wait for items of this very pool, which begin "
                "when one of these has ended: have tasks make a pool of their own, or call allcores.map."
            )

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
        self._alarm.give()
        current = threading.current_thread()
        until = monotonic_ns() + int(CLOSE_S * 1e9)
        for worker in list(self._workers.values()):
            worker.stopped = True
            worker.queue.put(None)
        # Copied at once: the minder takes out those that are gone.
        threads = [worker.thread for worker in list(self._workers.values())]
        for thread in [*threads, self._minder]:
            if thread is not None and thread is not current:
                thread.join(max(0.0, (until - monotonic_ns()) / 1e9))
        # This object and its host refer to each other; what the program has handed over is not to wait for that.
        self._worker_init = WorkerInit()
        self._shared.forget()
        self._workers.clear()

    def abandon(self) -> None:
        pass
