"""Tasks run on the caller's thread, when results are read: for debugging, with the same semantics.

A breakpoint in the function works; a hanging function hangs its caller, so `timeout=` is refused.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from allcores.backends import Preparation
from allcores.backends.inline import Bench, Here
from allcores.backends.shared import SharedValue
from allcores.clock import monotonic_ns
from allcores.engine.events import Glance, Kill, Launch, Order, Results, Send, SetLimit, Stop, Work
from allcores.engine.flow import Chunk
from allcores.errors import SetupError

if TYPE_CHECKING:
    from allcores.engine.driver import Driver


class SerialBackend(Here):
    """One worker: whoever reads."""

    name = "serial"
    can_end_tasks = False
    needs_bytes = False
    runs_on_caller = True

    def __init__(self, preparation: Preparation) -> None:
        self._preparation = preparation
        self._shared = SharedValue(preparation)
        self._driver: Driver | None = None
        self._bench: Bench | None = None
        self._is_set_up = False
        self._chunks: deque[Chunk] = deque()

    def start(self, driver: Driver) -> None:
        self._driver = driver

    def started(self) -> None:
        pass

    def obey(self, orders: Sequence[Order]) -> None:
        assert self._driver is not None
        for order in orders:
            if isinstance(order, Launch):
                self._bench = Bench(order.worker, self._preparation, self._shared)
                self._driver.dispatcher.ready(order.worker, monotonic_ns())
            elif isinstance(order, Send):
                self._chunks.append(order.chunk)
            elif isinstance(order, SetLimit) and self._bench is not None:
                self._bench.limit = order.limit
            elif isinstance(order, (Kill, Stop)):
                self._chunks.clear()

    def glance(self, worker: int) -> Glance | None:
        return self._bench.at if self._bench is not None else None

    def work(self, worker: int) -> Work | None:
        return self._bench.work if self._bench is not None else None

    def wake(self) -> None:
        pass

    def pump(self) -> bool:
        driver, bench = self._driver, self._bench
        assert driver is not None
        if bench is None:
            return False
        if not self._is_set_up:
            self._is_set_up = True
            try:
                bench.set_up()
            except SetupError as error:
                failure = error
                driver.turn(lambda dispatcher, now: dispatcher.setup_failed(failure))
                return True
        if self._chunks:
            chunk = self._chunks.popleft()
            bench.passes_interrupts = threading.current_thread() is threading.main_thread()
            bench.run(chunk, self._report)
            return True
        with driver.guard:
            alarm = driver.dispatcher.next_alarm_ns
            waiting = driver.dispatcher.waiting_for_time
        if alarm is None or not waiting:
            return False
        # Nothing runs anywhere else: the next thing that can happen is a retry that falls due.
        time.sleep(max(0.0, (alarm - monotonic_ns()) / 1e9))
        driver.turn(lambda dispatcher, now: dispatcher.tick(now))
        return True

    def _report(self, results: Results) -> None:
        assert self._driver is not None
        self._driver.turn(lambda dispatcher, now: dispatcher.results(results, now))

    def attend(self, chunk: Chunk, until_ns: int | None, done: Callable[[], bool]) -> None:
        pass

    def step_back(self) -> None:
        pass

    def resolves_here(self) -> bool:
        return True

    def settle_logs(self, seconds: float) -> None:
        """Tasks log where they run, in this process: all of it is handled."""

    def close(self) -> None:
        self.close_freight()
        bench, self._bench = self._bench, None
        if bench is not None and self._is_set_up:
            bench.tear_down()
        # This object and the driver refer to each other; what the program has handed over is not to wait for that.
        self._preparation = Preparation()
        self._shared.forget()
        self._chunks.clear()

    def abandon(self) -> None:
        pass
