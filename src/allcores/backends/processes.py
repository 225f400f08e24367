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
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from allcores import budget
from allcores.backends import Preparation
from allcores.backends.crew import Crew
from allcores.backends.decoding import joined, results_of, setup_error
from allcores.backends.freight import Freight, block_bytes
from allcores.backends.link import Link
from allcores.backends.obituary import lost, too_large
from allcores.backends.preload import NOTICES, Preload
from allcores.backends.records import Records
from allcores.clock import monotonic_ns
from allcores.engine.desk import Doom, Life
from allcores.engine.events import (
    Failure,
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
    WorkerGone,
    WorkerStarted,
)
from allcores.engine.flow import Chunk
from allcores.engine.watch import PEEK_NS
from allcores.errors import BrokenPool, NotSupported, SetupError, UsageError, WorkerLost
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.supervision import poller, system
from allcores.supervision.launcher import BORN, DIED, PRELOAD_FAILED, PRELOADED, PRELOADING, THREADED
from allcores.transport import frames, pickling
from allcores.transport.board import BUSY, DONE, NO_INDEX, PID
from allcores.transport.lookout import Lookout
from allcores.transport.marks import PHASE_LOADING, PHASE_RUNNING, PHASE_SETUP
from allcores.transport.parcels import PRIVATE, Parcel

if TYPE_CHECKING:
    from allcores.engine.driver import Driver, Told

#: what reading found: finished items, or ("ready" | "released" | "setup failed" | "not born" | "died", whom, details)
Found = Results | tuple[str, Link, Any]

#: what a turn has to tell when it was not completed
NOTHING: Told = ([], [])

START_METHODS = ("template", "fork", "spawn", "forkserver")
#: Bytes per read. Above 128 kB malloc would map and unmap memory for every read.
READ_BYTES = 65_536
#: seconds that a teardown function may take
TEARDOWN_S = 5.0
#: seconds between the end of a worker's pipe and its process: after that it is ended
LINGER_S = 0.2
#: seconds between two looks at the workers' memory, when it is limited
SAMPLE_S = 0.05
#: seconds that closing may take in all before the driver thread is given up
CLOSE_S = 15.0
#: seconds that Pool() waits until the first workers of start_method="fork" are forked
FORK_S = 5.0
#: milliseconds that a caller waits on its call's pipe without a look around
ATTEND_MS = 100.0
#: pause between two looks for a dead worker where nothing tells of it, ns
LOOK_NS = 10_000_000
#: how far its maps are is written on the board this often, ns: it walks through them
NOTE_NS = 100_000_000
#: templates that end without any item done in between, until the pool is called broken
MOST_TEMPLATES = 5


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
        try:
            self._crew.preparation = pickling.dump_named(orders_to_worker, "setup", self.pack_for_all)
        except BaseException:
            self._crew.close()
            raise
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._crew.poller.register(self._wake_read, None)
        #: workers that died while a caller attended to them: told once it has stepped back
        self._postponed: list[Link] = []
        #: workers whose outboxes are to be looked into
        self._to_peek: list[int] = []
        self._templates_lost = 0
        self._done_at_loss = -1
        self._oom_kills = budget.oom_kills()
        self._sample_at = 0
        self._note_maps_at = 0
        self._driver: Driver | None = None
        self._thread: threading.Thread | None = None
        self._gone = False
        #: for callers that wait for their calls: one of them at a time may look out
        self._lookout = Lookout()
        self._cores = share
        #: the loop has read from pipes and not yet told the dispatcher
        self._reading = False
        #: the first workers were started
        self._launched = threading.Event()

    def pack(self, obj: object) -> bytes | Parcel:
        freight = self._crew.freight
        return freight.pack(obj) if freight is not None else pickling.dumps(obj)

    def pack_for_all(self, obj: object) -> bytes | Parcel:
        freight = self._crew.freight
        return freight.packer.dumps(obj, PRIVATE) if freight is not None else pickling.dumps(obj)

    def freight(self, *, create: bool = True) -> Freight | None:
        return self._crew.freight

    # --- the contract -----------------------------------------------------------------------------

    def start(self, driver: Driver) -> None:
        self._driver = driver
        if self._gauge() is not None:
            driver.dispatcher.valve.watch(self._gauge, self._weigh)
        if self._preload is not None:
            self._begin_preload(driver, self._preload)
        memory_limit = self._limits.memory_per_worker or 0
        self._crew.board.introduce(os.getpid(), driver.workers, monotonic_ns(), memory_limit, driver.name)
        if self._start_method == "fork":
            if system.has_other_threads():
                try:
                    warnings.warn(
                        "start_method='fork' copies a process that has other threads: locks they hold stay locked in "
                        "the workers. The default start method, 'template', does not have this problem.",
                        RuntimeWarning,
                        stacklevel=4,
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
            preload.begin(stacklevel=5)
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
        crew = self._crew
        wake = False
        for order in orders:
            if isinstance(order, Send):
                self._send(order.worker, order.chunk)
                continue
            link = crew.links.get(order.worker)
            if isinstance(order, Peek):
                self._to_peek.append(order.worker)
                continue
            if isinstance(order, SetLimit):
                if link is not None:
                    crew.board.set_limit(link.slot, order.limit)
                continue
            wake = True
            if isinstance(order, Launch):
                crew.to_launch.append(order.worker)
            elif isinstance(order, Kill):
                crew.end(order.worker, order.reason)
            elif isinstance(order, Stop) and link is not None:
                crew.write(link, frames.frame(frames.STOP, 0))
                crew.signal_later(TEARDOWN_S, order.worker)
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
        return False

    def attend(self, chunk: Chunk, until_ns: int | None, done: Callable[[], bool]) -> None:
        """Wait for a call on the caller's own thread: one thread less to wake per call.

        The call's pipe is muted for the loop and read here. Everything else stays with the loop:
        deaths, deadlines, other pipes. Returns when `done()`, at `until_ns`, or when there is nothing
        to attend to (any more): the caller then waits as usual.
        """
        driver = self._driver
        if driver is None or not poller.CHANGES_REACH_WAIT:
            return
        mine: Link | None = None
        lookout: Lookout | None = None
        try:
            # The lock itself, not the guard: what Ctrl-C may leave half done here is put right below.
            with driver.lock:
                link = self._crew.links.get(chunk.worker) if chunk.sequence and not done() else None
                if link is None or self._reading or link.attended or link.ended or link.dead is not None:
                    return
                pollable = link.pollable
                if pollable is None:
                    return
                mine = link
                link.attended = True
                self._crew.listen(link)
                if self._cores > 1 and not self._lookout.taken:
                    lookout = self._lookout
                    lookout.taken = True
            while chunk.worker == link.number and not (done() or link.over):
                if lookout is None or not lookout.look(pollable):
                    left_ms = ATTEND_MS
                    if until_ns is not None:
                        left_ms = min(left_ms, (until_ns - monotonic_ns()) / 1e6)
                        if left_ms <= 0:
                            return
                    if not pollable.poll(left_ms):
                        continue
                if lookout is not None:
                    lookout.answered()
                found: list[Found] = []
                self._read(driver, link, found)
                told = NOTHING
                try:
                    with driver.guard:
                        self._apply(driver, found, monotonic_ns())
                        told = driver._obey()
                        if chunk.done and not link.over:
                            # Settled, or to be tried again: stepping back here saves another turn for it.
                            mine = None
                            link.attended = False
                            self._crew.listen(link)
                            return
                finally:
                    # Also when the guard raises Ctrl-C: nobody else would tell.
                    driver._tell(told)
        finally:
            if lookout is not None:
                lookout.taken = False
            if mine is not None:
                with driver.guard:
                    mine.attended = False
                    if not self._gone:
                        self._crew.listen(mine)
                if mine.over:
                    self.wake()

    def close(self) -> None:
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_S)
        if self._crew.records is not None:
            self._crew.records.close()

    def abandon(self) -> None:
        self._crew.abandon()

    # --- sending (with the driver's lock held) ----------------------------------------------------

    def _send(self, worker: int, chunk: Chunk) -> None:
        crew, driver = self._crew, self._driver
        link = crew.links.get(worker)
        if link is None or driver is None:
            # It died in the same round in which it was given this: its death has put the chunk back.
            return
        function = chunk.function
        payload = chunk.payload
        if payload is None:
            try:
                payload = self.pack(chunk.items)
            except Exception as error:
                failures = [Failure(n, Kind.FAILED, error) for n in range(len(chunk.items))]
                driver.dispatcher.results(
                    Results(worker, chunk.sequence, 0, len(failures), 0, values=[], failures=failures, ended=True),
                    monotonic_ns(),
                )
                return
        if not chunk.size_bytes:
            chunk.size_bytes = len(payload)
        # The bytes have done their duty: a chunk that comes back is pickled again.
        chunk.payload = None
        while driver.dropped:
            number = driver.dropped.popleft()
            for other in crew.links.values():
                if number in other.known:
                    other.known.discard(number)
                    crew.write(other, frames.frame(frames.FORGET, number))
        flags = frames.DETAILED if chunk.flow.detailed else 0
        if chunk.flow.timeout_ns is not None:
            flags |= frames.TIMED
        if chunk.future is not None and len(driver.dispatcher.idle) > driver.workers - self._cores:
            flags |= frames.PROMPT
        first = chunk.first if chunk.future is None else NO_INDEX
        head = frames.CHUNK_HEAD.pack(function.number, flags, len(chunk.items), first)
        if not isinstance(payload, bytes):
            assert crew.freight is not None
            payload = crew.freight.lend(link, payload)
        data = frames.frame(frames.CHUNK, chunk.sequence, head, payload)
        if link.delivery is not None and (returned := link.delivery.returned()):
            data = frames.offsets(frames.RETURNED, returned) + data
        if function.number not in link.known:
            link.known.add(function.number)
            for offset, what in function.leases.items():
                link.lent.setdefault(offset, []).append(what)
            data = frames.frame(frames.FUNCTION, function.number, function.payload) + data
        crew.write(link, data)
        until = driver.sleeps_until
        if self._limits.memory_per_worker is not None and until and until > monotonic_ns() + int(SAMPLE_S * 1e9):
            # The loop looks at the workers' memory while work is out: it fell asleep when none was.
            driver.sleeps_until = None
            self.wake()

    # --- the loop (driver thread) -----------------------------------------------------------------

    def _run(self, driver: Driver) -> None:
        try:
            while not self._over(driver):
                self._round(driver)
        except BaseException as error:
            driver.fail_everything(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._clear_away(driver)

    def _over(self, driver: Driver) -> bool:
        if driver.dispatcher.closing:
            self._crew.to_launch.clear()
            return not self._crew.links
        return False

    def _round(self, driver: Driver) -> None:
        crew = self._crew
        with driver.guard:
            self._launch_waiting(driver)
            alarm = self._next_alarm(driver)
            driver.sleeps_until = alarm if alarm is not None else (1 << 62)
        timeout = None if alarm is None else max(0.0, (alarm - monotonic_ns()) / 1e9)
        ready = crew.poller.wait(timeout)
        with driver.guard:
            # From here on nobody may begin to attend to a pipe that is read here.
            self._reading = True
            driver.sleeps_until = None
        found: list[Found] = []
        notices = False
        for link, mask in ready:
            if isinstance(link, Link):
                if mask & poller.READ and not link.attended:
                    self._read(driver, link, found)
                if mask & poller.WRITE:
                    with driver.guard:
                        crew.write_more(link)
            elif link is crew:
                notices = True
            else:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
        if notices or self._must_look():
            self._take_notices(driver, found)
        if self._to_peek:
            self._peek(driver, found)
        if self._postponed:
            self._take_postponed(driver, found)
        with driver.guard:
            self._reading = False
            now = monotonic_ns()
            self._apply(driver, found, now)
            if self._limits.memory_per_worker is not None and now >= self._sample_at:
                self._sample_memory(driver, self._limits.memory_per_worker, now)
            driver.dispatcher.tick(now)
            crew.signal_due(now)
            told = driver._obey()
            if crew.freight is not None:
                crew.freight.sweep()
        driver._tell(told)

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
        alarms = [driver.dispatcher.next_alarm_ns, self._crew.next_signal_ns]
        if self._to_peek:
            return 0
        if self._must_look():
            alarms.append(monotonic_ns() + LOOK_NS)
        if self._limits.memory_per_worker is not None and any(d.chunks for d in driver.dispatcher.desks.values()):
            alarms.append(self._sample_at)
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
                self._bury(driver, link, now, reason=f"it could not be started: {detail}")
            elif link.number in self._crew.links:
                self._bury(driver, link, now)
        dispatcher, board = driver.dispatcher, self._crew.board
        board.note(dispatcher.items_done, dispatcher.items_done - dispatcher.count(Kind.OK), dispatcher.retries)
        if now >= self._note_maps_at:
            self._note_maps_at = now + NOTE_NS
            maps = [flow for flow in driver.flows() if not flow.calls]
            unknown = any(flow.total is None for flow in maps)
            board.note_maps(sum(f.settled for f in maps), 0 if unknown else sum(f.total or 0 for f in maps))

    # --- reading (driver thread, or who attends) --------------------------------------------------

    def _read(self, driver: Driver, link: Link, found: list[Found]) -> bool:
        """Take what is in a worker's pipe; False if there is nothing, or the pipe has ended."""
        try:
            data = link.pipe.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._pipe_ended(driver, link)
            return False
        for kind, number, body in link.inbox.feed(data):
            if kind == frames.RESULTS:
                self._take_records(driver, link, body, found)
            elif kind == frames.RELEASED:
                found.append(("released", link, body))
            elif kind == frames.LOG and self._crew.records is not None:
                self._crew.records.take(link.number, number, body)
            elif kind == frames.READY:
                found.append(("ready", link, None))
            elif kind == frames.SETUP_FAILED:
                found.append(("setup failed", link, ("preload" if number == frames.PRELOAD else "setup", body)))
        return True

    def _pipe_ended(self, driver: Driver, link: Link) -> None:
        if link.ended:
            return
        with driver.guard:
            self._crew.poller.unregister(link.pipe.fileno())
            link.ended = True
            # Mostly its death follows at once. If not, a task closed our pipe: then we end it.
            self._crew.signal_later(LINGER_S, link.number)

    def _take_records(self, driver: Driver, link: Link, body: bytes, found: list[Found]) -> None:
        for record in frames.records(body):
            if not link.expects(record):
                continue
            last = found[-1] if found else None
            if isinstance(last, Results) and last.worker == link.number and joined(last, record):
                continue
            chunk = None
            if record[3] & frames.MIXED:
                with driver.guard:
                    desk = driver.dispatcher.desks.get(link.number)
                    chunk = desk.find(record[0]) if desk is not None else None
            unpacker = link.delivery.unpacker if link.delivery is not None else None
            found.append(results_of(link.number, record, chunk, unpacker))

    def _peek(self, driver: Driver, found: list[Found]) -> None:
        """Finished items that wait unsent behind one that takes long: read them where they wait.

        A worker touches its outbox between two items only. So a copy is whole if the worker was in
        the middle of the same item before and after it was made.
        """
        crew = self._crew
        workers, self._to_peek = self._to_peek, []
        for worker in workers:
            link = crew.links.get(worker)
            if link is None or link.attended:
                continue
            before = crew.board.glance(link.slot)
            sealed = crew.board.word(link.slot, DONE)
            if not before[2] or before[3] != PHASE_RUNNING or monotonic_ns() - before[2] < PEEK_NS // 2:
                continue
            copy = bytes(crew.board.outbox(link.slot)[: crew.board.used(link.slot)])
            whole = crew.board.glance(link.slot) == before and crew.board.word(link.slot, DONE) == sealed
            if copy and whole:
                self._take_records(driver, link, copy, found)

    # --- deaths (driver thread) -------------------------------------------------------------------

    def _take_notices(self, driver: Driver, found: list[Found]) -> None:
        crew = self._crew
        assert crew.launcher is not None
        notices = crew.launcher.notices()
        if notices is None:
            self._template_lost(driver)
            return
        for kind, worker, pid, status, memory in notices:
            if kind in NOTICES:
                self._preload_notice(driver, kind)
                continue
            link = crew.links.get(worker)
            if link is None:
                continue
            if kind == BORN:
                link.pid = pid
            elif kind == DIED:
                link.dead = (status, memory)
                self._postponed.append(link)
            else:
                found.append(("not born", link, os.strerror(status)))
        if self._start_method == "fork":
            crew.watch_launcher()

    def _preload_notice(self, driver: Driver, kind: int) -> None:
        """How the preload goes in the template. No worker of it exists before it is done."""
        crew, preload = self._crew, self._preload
        assert crew.launcher is not None and preload is not None
        if kind == PRELOADING:
            with driver.guard:
                driver.dispatcher.preload_began(monotonic_ns())
            return
        report = crew.launcher.report()
        if kind != PRELOADED:
            crew.kill_launcher()
        if kind == THREADED:
            preload.unshare(report)
        with driver.guard:
            driver.dispatcher.preload_ended(monotonic_ns())
            if kind == PRELOAD_FAILED:
                driver.dispatcher.setup_failed(preload.raised(report))
            driver.dispatcher.setup_step = preload.step

    def _oom_killed(self) -> bool:
        """Whether the kernel has ended a process for want of memory since the last look."""
        kills, before = budget.oom_kills(), self._oom_kills
        self._oom_kills = kills
        return kills is not None and before is not None and kills > before

    def _must_look(self) -> bool:
        """Where no descriptor tells of a forked worker's death, the end of its pipe is a reason to look."""
        launcher = self._crew.launcher
        return launcher is not None and launcher.blind and any(link.ended for link in self._crew.links.values())

    def _take_postponed(self, driver: Driver, found: list[Found]) -> None:
        """Deaths of workers that nobody attends to: what they left counts before their death does."""
        waiting, self._postponed = self._postponed, []
        for link in waiting:
            with driver.guard:
                attended = link.attended
            if attended:
                self._postponed.append(link)
                continue
            while not link.ended and self._read(driver, link, found):
                pass
            used = self._crew.board.used(link.slot)
            # May repeat what came through the pipe; the ledger takes each item once.
            self._take_records(driver, link, bytes(self._crew.board.outbox(link.slot)[:used]), found)
            found.append(("died", link, None))

    def _template_lost(self, driver: Driver) -> None:
        """Something ended the template, and with it all its workers: start over."""
        launcher = self._crew.launcher
        self._crew.drop_launcher()
        if launcher is not None and launcher.preloading and self._preload is not None:
            # It would do so again.
            error = self._preload.crashed(launcher, oom_killed=self._oom_killed())
            with driver.guard:
                driver.dispatcher.preload_ended(monotonic_ns())
                driver.dispatcher.setup_failed(error)
            return
        for link in self._crew.links.values():
            if link.pid:
                system.end_group(link.pid, signal.SIGKILL)
            if link.dead is None:
                link.dead = (None, None)
                self._postponed.append(link)
        done = driver.dispatcher.items_done
        self._templates_lost = self._templates_lost + 1 if done == self._done_at_loss else 1
        self._done_at_loss = done
        if self._templates_lost >= MOST_TEMPLATES:
            with driver.guard:
                driver.dispatcher.break_off(
                    BrokenPool(f"The template process ended {self._templates_lost} times without an item done.")
                )

    def _bury(self, driver: Driver, link: Link, now: int, *, reason: str | None = None) -> None:
        """Tell the dispatcher of a worker's end; with the driver's lock held."""
        dispatcher = driver.dispatcher
        desk = dispatcher.desks.get(link.number)
        glance = Glance(*self._crew.board.glance(link.slot))
        running = glance if glance.started_ns and glance.phase >= PHASE_LOADING else None
        status, memory = link.dead or (None, None)
        innocent = link.dead == (None, None)
        if innocent:
            reason = "its template process was ended"
        error = WorkerLost("It was told to end.", worker=link.number)
        if desk is not None and (desk.life is not Life.LEAVING or desk.chunks):
            error = lost(
                link.number,
                glance,
                desk.find(running.sequence) if running is not None else None,
                status,
                memory,
                stack=self._crew.notes(link),
                oom_killed=self._oom_killed(),
                reason=link.reason if link.reason is not None and desk.doom is None else reason,
                limit=self._limits.memory_per_worker,
            )
            if glance.phase == PHASE_SETUP and dispatcher.broken is None and link.reason is None and not innocent:
                step = dispatcher.setup_step
                dispatcher.setup_failed(SetupError(f"The {step} function ended its process: {error}"))
        self._crew.forget(link)
        words = link.reason or reason or str(error)
        dispatcher.gone(WorkerGone(link.number, running, Kind.WORKER_LOST, error, words, innocent), now)

    def _weigh(self, worker: int) -> int:
        """Bytes that the end of a worker would give back, about; those of its children included."""
        link = self._crew.links.get(worker)
        return system.tree_bytes(link.pid) if link is not None and link.pid else 0

    def _sample_memory(self, driver: Driver, limit: int, now: int) -> None:
        self._sample_at = now + int(SAMPLE_S * 1e9)
        for desk in list(driver.dispatcher.desks.values()):
            link = self._crew.links.get(desk.worker)
            if link is None or not link.pid or desk.doom is not None or not desk.chunks:
                continue
            used = system.resident_bytes(link.pid)
            if used is None or used <= limit:
                continue
            glance = Glance(*self._crew.board.glance(link.slot))
            chunk = desk.find(glance.sequence)
            position = min(glance.position, len(chunk.items) - 1) if chunk is not None else 0
            error = too_large(desk.worker, chunk, position, used, limit)
            doom = Doom(Kind.WORKER_LOST, error, "it used more memory than allowed", glance.sequence, position)
            driver.dispatcher.doom(desk, doom, now)

    def _clear_away(self, driver: Driver) -> None:
        crew = self._crew
        with driver.guard:
            driver.dispatcher.closing = True
            for link in list(crew.links.values()):
                if link.pid:
                    system.end_group(link.pid, signal.SIGKILL)
                crew.forget(link)
            self._gone = True
        crew.drop_launcher()
        with driver.guard:
            self._let_go()

    def _let_go(self) -> None:
        """Close every descriptor; no worker is left."""
        os.close(self._wake_read)
        os.close(self._wake_write)
        # A number that is never a descriptor: waking a pool that is gone is no mistake.
        self._wake_write = -1
        self._crew.close()
