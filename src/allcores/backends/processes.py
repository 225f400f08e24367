"""Tasks run in worker processes. The one loop that owns pipes, deaths and deadlines.

The driver thread waits on a persistent selector: a pipe per worker, the launcher's notices, and a
wake-up. It alone reads, launches, ends and buries. Anybody who holds the driver's lock may write to
a worker's pipe; writing never waits, what the pipe does not take is kept and written by the loop.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import threading
from collections.abc import Callable, Sequence, Sized
from threading import get_ident
from typing import TYPE_CHECKING

from allcores import budget, caller, deferral
from allcores.backends import Preparation
from allcores.backends.attendance import Attendance
from allcores.backends.crew import Crew
from allcores.backends.deaths import Deaths
from allcores.backends.decoding import setup_error
from allcores.backends.freight import Freight, block_bytes
from allcores.backends.link import Link
from allcores.backends.mailroom import Found, Mailroom
from allcores.backends.preload import Preload
from allcores.backends.records import Records
from allcores.backends.sending import Sending
from allcores.clock import monotonic_ns
from allcores.engine.events import (
    Glance,
    Kill,
    Launch,
    Order,
    Peek,
    Results,
    Send,
    SetLimit,
    Stop,
    Work,
    WorkerStarted,
)
from allcores.engine.flow import Chunk
from allcores.errors import BrokenPool, NotSupported, PoolBusy, SetupError, UsageError
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.supervision import poller, system
from allcores.transport import inheritance, pickling
from allcores.transport.board import BUSY, DONE, PID
from allcores.transport.parcels import PRIVATE, Parcel

if TYPE_CHECKING:
    from allcores.engine.driver import Driver

START_METHODS = ("template", "fork", "spawn", "forkserver")
#: seconds that a teardown function may take
TEARDOWN_S = 5.0
#: seconds that closing may take in all before the driver thread is given up
CLOSE_S = 15.0
#: seconds that Pool() waits until the first workers of start_method="fork" are forked
FORK_S = 5.0
#: how long the pool's own thread, when it reads a stream, waits for news between two looks at it, ns
PUMP_NS = 50_000_000
#: how far its maps are is written on the board this often, ns: it walks through them
NOTE_NS = 100_000_000


class ProcessBackend:
    """See the module."""

    name = "processes"
    can_end_tasks = True
    needs_bytes = True
    runs_on_caller = False

    def __init__(
        self,
        workers: int,
        preparation: Preparation,
        limits: Limits,
        start_method: str,
        share: int,
        records: Records | None = None,
    ) -> None:
        if start_method not in START_METHODS:
            raise UsageError(f"start_method={start_method!r} is not one of {', '.join(map(repr, START_METHODS))}.")
        for option in ("memory_per_worker", "growth_per_worker"):
            if getattr(limits, option) is not None and system.resident_bytes(os.getpid()) is None:
                raise NotSupported(f"Limits({option}=...) needs /proc/PID/statm, which this system does not have.")
        self._gauge = budget.MemoryGauge()
        if isinstance(limits.memory_reserve, int) and self._gauge() is None:
            raise NotSupported("Limits(memory_reserve=...) needs /proc/meminfo, which this system does not have.")
        self._start_method = start_method
        self._limits = limits
        orders_to_worker = (*preparation[:3], limits.items_per_worker, limits.growth_per_worker)
        # Workers to come must find what it refers to: the names of semaphores end with their objects.
        self._preparation = preparation
        self._preload = Preload(preparation, start_method) if preparation.preload is not None else None
        self._crew = Crew(
            workers,
            start_method,
            max(1, share // workers),
            limits.terminate_s,
            block_bytes(limits),
            self._preload,
        )
        self._crew.records = records
        self.unhandled: Sized = records.unhandled if records is not None else ()
        try:
            with inheritance.to_new_processes(self._crew.legacy):
                self._crew.preparation = pickling.dump_named(orders_to_worker, "setup", self.pack_for_all)
        except BaseException:
            self._crew.close()
            raise
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._crew.poller.register(self._wake_read, None)
        self._mailroom = Mailroom(self._crew)
        self._deaths = Deaths(
            self._crew,
            self._mailroom,
            limits,
            self._preload,
            has_setup=preparation.setup is not None,
            follows_launcher=start_method == "fork",
        )
        self._attendance = Attendance(self._crew, self._mailroom, self._apply, share)
        self._sending = Sending(self._crew, limits, share)
        self._note_maps_at = 0
        self._driver: Driver | None = None
        self._thread: threading.Thread | None = None
        #: the same by its number, and whether it is in the middle of a round
        self._ident = 0
        self._busy = False
        self._rounds = 0
        #: the first workers were started
        self._launched = threading.Event()

    def pack(self, obj: object) -> bytes | Parcel:
        return self._crew.pack(obj)

    def pack_for_all(self, obj: object) -> bytes | Parcel:
        freight = self._crew.freight
        return freight.packer.dumps(obj, PRIVATE) if freight is not None else pickling.dumps(obj)

    def freight(self, *, create: bool = True) -> Freight | None:
        return self._crew.freight

    # --- the contract -----------------------------------------------------------------------------

    def start(self, driver: Driver) -> None:
        self._driver = driver
        if self._gauge() is not None:
            driver.dispatcher.valve.watch(self._gauge, self._deaths.weigh)
        driver.dispatcher.is_stopped = self._crew.is_stopped
        if self._preload is not None:
            self._begin_preload(driver, self._preload)
        memory_limit = self._limits.memory_per_worker or 0
        self._crew.board.introduce(os.getpid(), driver.workers, monotonic_ns(), memory_limit, driver.name)
        if self._start_method == "fork":
            if system.has_other_threads():
                try:
                    caller.warn(
                        "start_method='fork' copies a process that has other threads: locks they hold stay locked in "
                        "the workers. The default start method, 'template', does not have this problem."
                    )
                except RuntimeWarning:  # where warnings are errors
                    self._let_go()
                    raise
            # A module that is being imported at the moment of the fork stays locked for ever in the child.
            for late in ("cloudpickle", "ctypes", "traceback", "allcores.transport.diagnosis", "allcores.worker.main"):
                importlib.import_module(late)
            if self._crew.records is not None:
                importlib.import_module("allcores.worker.logs")
        # PR_SET_PDEATHSIG binds to the thread that creates a process: this one lives as long as the pool.
        self._thread = threading.Thread(target=self._run, args=(driver,), name=f"allcores-{driver.name}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            # No thread can be had: a limit of the machine, or an interpreter that is ending.
            self._let_go()
            raise BrokenPool(
                f"The pool's thread cannot be started: {error}. If the program's main thread has ended, make the pool "
                "before that (Python 3.12.0 to 3.12.2 start no threads later); else see `allcores doctor` for limits."
            ) from error

    def _begin_preload(self, driver: Driver, preload: Preload) -> None:
        driver.dispatcher.setup_step = preload.step
        try:
            preload.begin()
        except SetupError as error:
            # Like any other: whoever uses the pool is told.
            driver.dispatcher.break_off(error)
        except BaseException:
            self._let_go()
            raise

    def started(self) -> None:
        if self._start_method == "fork" and self._driver is not None and self._driver.dispatcher.broken is None:
            # For the same reason the constructing thread does nothing else while the first workers are forked.
            self._launched.wait(FORK_S)

    def obey(self, orders: Sequence[Order]) -> None:
        crew, driver = self._crew, self._driver
        assert driver is not None
        wake = False
        for order in orders:
            if isinstance(order, Send):
                self._sending.send(driver, order.worker, order.chunk)
                continue
            link = crew.links.get(order.worker)
            if isinstance(order, Peek):
                self._mailroom.to_peek.append(order.worker)
                continue
            if isinstance(order, SetLimit):
                if link is not None:
                    crew.board.set_limit(link.slot, order.limit)
                continue
            wake = True
            if isinstance(order, Launch):
                crew.to_launch.append(order.worker)
            elif isinstance(order, Kill):
                crew.end(order.worker, order.reason, at_once=order.at_once)
            elif isinstance(order, Stop):
                crew.stop(order.worker, TEARDOWN_S)
        if wake and threading.current_thread() is not self._thread:
            self.wake()

    def glance(self, worker: int) -> Glance | None:
        return self._crew.glance(worker)

    def work(self, worker: int) -> Work | None:
        link = self._crew.links.get(worker)
        if link is None:
            return None
        board = self._crew.board
        return Work(link.pid or None, board.word(link.slot, DONE), board.word(link.slot, BUSY))

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"!")

    def pump(self) -> bool:
        return get_ident() == self._ident and self._go_on(monotonic_ns() + PUMP_NS)

    def attend(self, chunk: Chunk, until_ns: int | None, done: Callable[[], bool]) -> None:
        if get_ident() == self._ident:
            while not done() and (until_ns is None or monotonic_ns() < until_ns) and self._go_on(until_ns):
                pass
        elif self._driver is not None:
            self._attendance.attend(self._driver, chunk, until_ns, done)

    def _go_on(self, until_ns: int | None) -> bool:
        """A callback or a finalizer on the pool's own thread waits: meanwhile the loop goes on. False if it is over."""
        driver = self._driver
        if self._busy:
            raise PoolBusy()
        if driver is None or self._crew.gone or self._over(driver):
            return False
        self._round(driver, until_ns)
        return True

    def step_back(self) -> None:
        if get_ident() == self._ident:
            if self._busy:
                raise PoolBusy()
        elif self._driver is not None and self._attendance.is_present():
            self._attendance.step_back(self._driver)

    def resolves_here(self) -> bool:
        return get_ident() == self._ident or self._crew.gone

    def settle_logs(self, seconds: float) -> None:
        records = self._crew.records
        if records is not None:
            records.settle(seconds)

    def close(self) -> None:
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_S)
        if self._crew.records is not None:
            self._crew.records.close()

    def abandon(self) -> None:
        self._crew.abandon()

    # --- the loop (driver thread) -----------------------------------------------------------------

    def _run(self, driver: Driver) -> None:
        self._ident = get_ident()
        try:
            while not self._over(driver):
                self._round(driver)
        except BaseException as error:
            driver.fail_everything(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._clear_away(driver)
            driver._tell()
            if driver.closed:
                driver.drop_waiting()

    def _over(self, driver: Driver) -> bool:
        if driver.dispatcher.closing:
            self._crew.to_launch.clear()
            return not self._crew.links
        return False

    def _round(self, driver: Driver, until_ns: int | None = None) -> None:
        """Wait for something to happen, until `until_ns` at most, and deal with it."""
        crew = self._crew
        with driver.guard:
            self._launch_waiting(driver)
            alarm = self._next_alarm(driver)
            if until_ns is not None:
                alarm = min(until_ns, alarm or until_ns)
            driver.sleeps_until = alarm if alarm is not None else (1 << 62)
        timeout = None if alarm is None else max(0.0, (alarm - monotonic_ns()) / 1e9)
        self._rounds += 1
        rounds = self._rounds
        ready = crew.poller.wait(timeout)
        outermost = deferral.enter()
        if rounds != self._rounds:
            # A finalizer has waited right here, and the loop went on meanwhile: what is still ready will be told again.
            ready = []
        self._busy = True
        try:
            self._deal(driver, ready)
        finally:
            self._busy = False
            if outermost:
                deferral.leave()
        driver._tell()

    def _deal(self, driver: Driver, ready: list[tuple[object, int]]) -> None:
        """Read what has come, and tell the dispatcher. Nothing on this thread may wait meanwhile."""
        crew = self._crew
        with driver.guard:
            # From here on nobody may begin to attend to a pipe that is read here.
            self._mailroom.reading = True
            driver.sleeps_until = None
        found: list[Found] = []
        notices = False
        for link, mask in ready:
            if isinstance(link, Link):
                if mask & poller.READ and not link.attended:
                    self._mailroom.read(driver, link, found)
                if mask & poller.WRITE:
                    with driver.guard:
                        crew.write_more(link)
            elif link is crew:
                notices = True
            else:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
        if notices or self._deaths.must_look:
            self._deaths.take_notices(driver, found)
        if self._mailroom.to_peek:
            self._mailroom.peek(driver, found)
        if self._deaths.postponed:
            self._deaths.take_postponed(driver, found)
        with driver.guard:
            self._mailroom.reading = False
            now = monotonic_ns()
            self._apply(driver, found, now)
            if self._limits.memory_per_worker is not None and now >= self._deaths.sample_at:
                self._deaths.sample_memory(driver, self._limits.memory_per_worker, now)
            driver.dispatcher.tick(now)
            crew.signal_due(now)
            driver._obey()
            if crew.freight is not None:
                crew.freight.sweep()

    def _launch_waiting(self, driver: Driver) -> None:
        crew = self._crew
        if driver.dispatcher.broken is not None and crew.to_launch:
            self._launch_no_more(driver)
            return
        try:
            crew.launch_waiting()
        except OSError as error:
            driver.dispatcher.break_off(
                BrokenPool(f"A worker could not be started: {error}. `allcores doctor` shows the limits here.")
            )
            self._launch_no_more(driver)
            driver._obey()
        if crew.links:
            self._launched.set()

    def _launch_no_more(self, driver: Driver) -> None:
        """Workers that were ordered and not started yet will not be."""
        self._crew.to_launch.clear()
        for worker in [w for w in driver.dispatcher.desks if w not in self._crew.links]:
            del driver.dispatcher.desks[worker]
        if self._crew.launcher is not None and not self._crew.launcher.ready:
            self._crew.kill_launcher()

    def _next_alarm(self, driver: Driver) -> int | None:
        alarms = [driver.next_ns, self._crew.next_signal_ns]
        if self._mailroom.to_peek:
            return 0
        if self._deaths.must_look:
            alarms.append(monotonic_ns() + self._deaths.look_ns)
        if self._limits.memory_per_worker is not None and any(d.chunks for d in driver.dispatcher.desks.values()):
            alarms.append(self._deaths.sample_at)
        return min((when for when in alarms if when is not None), default=None)

    def _apply(self, driver: Driver, found: list[Found], now: int) -> None:
        for event in found:
            if isinstance(event, Results):
                driver.dispatcher.results(event, now)
                continue
            what, link, detail = event
            if what == "released":
                # With the lock held: a send may lend the same block again at this moment.
                Freight.take_back(link, detail)
            elif what == "ready":
                driver.dispatcher.ready(link.number, now)
                driver.dispatcher.news.append(WorkerStarted(link.number, self._crew.board.word(link.slot, PID)))
            elif what == "setup failed":
                link.reason = f"its {detail[0]} function raised"
                driver.dispatcher.setup_failed(setup_error(detail[1], detail[0]))
            elif what == "not born":
                self._deaths.bury(driver, link, now, reason=f"it could not be started: {detail}")
            elif link.number in self._crew.links:
                self._deaths.bury(driver, link, now)
        dispatcher, board = driver.dispatcher, self._crew.board
        board.note(dispatcher.items_done, dispatcher.items_done - dispatcher.count(Kind.OK), dispatcher.retries)
        if now >= self._note_maps_at:
            self._note_maps_at = now + NOTE_NS
            maps = [flow for flow in driver.flows() if not flow.calls]
            unknown = any(flow.total is None for flow in maps)
            board.note_maps(sum(f.settled for f in maps), 0 if unknown else sum(f.total or 0 for f in maps))

    def _clear_away(self, driver: Driver) -> None:
        crew = self._crew
        with driver.guard:
            driver.dispatcher.closing = True
            for link in list(crew.links.values()):
                if link.pid:
                    system.end_group(link.pid, signal.SIGKILL)
                crew.forget(link)
            crew.gone = True
        crew.drop_launcher()
        with driver.guard:
            self._let_go()

    def _let_go(self) -> None:
        """Close every descriptor, and keep nothing of the program's; no worker is left, and none will be started.

        This object and the driver refer to each other, so they may stay for a while after the pool.
        """
        self._preparation = Preparation()
        if self._preload is not None:
            self._preload.forget()
        os.close(self._wake_read)
        os.close(self._wake_write)
        # A number that is never a descriptor: waking a pool that is gone is no mistake.
        self._wake_write = -1
        self._crew.close()
