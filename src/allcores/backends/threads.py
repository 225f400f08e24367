"""Tasks run in threads: for functions that release the GIL, and for free-threaded Python.

A thread cannot be ended from outside. So `timeout=` is refused, and cancelled work runs to its end
unseen: its results are dropped, and a new thread takes its place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING

from allcores.backends import Preparation
from allcores.backends.inline import Bench, Here
from allcores.backends.shared import SharedValue
from allcores.clock import monotonic_ns
from allcores.engine.events import (
    Glance,
    Kill,
    Launch,
    Order,
    Results,
    Send,
    SetLimit,
    Stop,
    Work,
    WorkerGone,
    WorkerStarted,
)
from allcores.engine.flow import Chunk
from allcores.errors import SetupError, WorkerLost
from allcores.outcome import Kind

if TYPE_CHECKING:
    from allcores.engine.driver import Driver

#: seconds that closing waits for a thread that is in the middle of an item
CLOSE_S = 2.0


class _Worker:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.queue: SimpleQueue[Chunk | None] = SimpleQueue()
        self.thread: threading.Thread | None = None
        self.stopped = False


class ThreadBackend(Here):
    """One thread per worker, and one that minds the time."""

    name = "threads"
    can_end_tasks = False
    needs_bytes = False
    runs_on_caller = False

    def __init__(self, preparation: Preparation) -> None:
        self._preparation = preparation
        self._shared = SharedValue(preparation)
        self._driver: Driver | None = None
        self._workers: dict[int, _Worker] = {}
        self._gone: list[_Worker] = []
        self._alarm = threading.Event()
        self._closing = False
        self._minder: threading.Thread | None = None

    def start(self, driver: Driver) -> None:
        self._driver = driver
        self._minder = threading.Thread(target=self._mind, name=f"allcores-{driver.name}", daemon=True)
        self._minder.start()

    def started(self) -> None:
        pass

    def obey(self, orders: Sequence[Order]) -> None:
        for order in orders:
            if isinstance(order, Launch):
                worker = _Worker(Bench(order.worker, self._preparation, self._shared))
                self._workers[order.worker] = worker
                name = f"allcores-worker-{order.worker}"
                worker.thread = threading.Thread(target=self._work, args=(worker,), name=name, daemon=True)
                worker.thread.start()
                continue
            found = self._workers.get(order.worker)
            if found is None:
                continue
            if isinstance(order, Send):
                found.queue.put(order.chunk)
            elif isinstance(order, SetLimit):
                found.bench.limit = order.limit
            elif isinstance(order, (Kill, Stop)):
                found.stopped = True
                found.queue.put(None)
                if isinstance(order, Kill):
                    # Reported by the minder: the dispatcher is in the middle of a decision.
                    self._gone.append(found)
                    self._alarm.set()

    def glance(self, worker: int) -> Glance | None:
        found = self._workers.get(worker)
        return found.bench.at if found is not None else None

    def work(self, worker: int) -> Work | None:
        found = self._workers.get(worker)
        return found.bench.work if found is not None else None

    def wake(self) -> None:
        self._alarm.set()

    def pump(self) -> bool:
        return False

    def _work(self, worker: _Worker) -> None:
        driver, bench = self._driver, worker.bench
        assert driver is not None
        try:
            bench.set_up()
        except SetupError as error:
            failure = error
            driver.turn(lambda dispatcher, now: dispatcher.setup_failed(failure))
            return
        driver.turn(lambda dispatcher, now: dispatcher.ready(bench.number, now))
        if driver.observed:
            driver.notify(WorkerStarted(bench.number, None))

        def report(results: Results) -> None:
            if not worker.stopped:
                driver.turn(lambda dispatcher, now: dispatcher.results(results, now))

        while (chunk := worker.queue.get()) is not None:
            bench.run(chunk, report)
            del chunk
        bench.tear_down()

    def _mind(self) -> None:
        driver = self._driver
        assert driver is not None
        while not self._closing:
            with driver.guard:
                alarm = driver.dispatcher.next_alarm_ns
                driver.sleeps_until = alarm if alarm is not None else (1 << 62)
            self._alarm.wait(None if alarm is None else max(0.0, (alarm - monotonic_ns()) / 1e9))
            self._alarm.clear()
            driver.sleeps_until = None
            gone, self._gone = self._gone, []
            for worker in gone:
                self._forget(worker)
            driver.turn(lambda dispatcher, now: dispatcher.tick(now))

    def _forget(self, worker: _Worker) -> None:
        driver = self._driver
        assert driver is not None
        number = worker.bench.number
        self._workers.pop(number, None)
        event = WorkerGone(number, None, Kind.CANCELLED, WorkerLost("cancelled"), "what it ran was cancelled")
        driver.turn(lambda dispatcher, now: dispatcher.gone(event, now))

    def attend(self, chunk: Chunk, until_ns: int | None, done: Callable[[], bool]) -> None:
        pass

    def close(self) -> None:
        self.close_freight()
        self._closing = True
        self._alarm.set()
        current = threading.current_thread()
        until = monotonic_ns() + int(CLOSE_S * 1e9)
        for worker in list(self._workers.values()):
            worker.stopped = True
            worker.queue.put(None)
        threads = [worker.thread for worker in self._workers.values()]
        for thread in [*threads, self._minder]:
            if thread is not None and thread is not current:
                thread.join(max(0.0, (until - monotonic_ns()) / 1e9))

    def abandon(self) -> None:
        pass
