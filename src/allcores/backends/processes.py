"""Tasks run in worker processes. The one loop that owns pipes, deaths and deadlines.

The driver thread waits on a persistent selector: a pipe per worker, the launcher's notices, and a
wake-up. It alone reads, launches, ends and buries. Anybody who holds the driver's lock may write to
a worker's pipe; writing never waits, what the pipe does not take is kept and written by the loop.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import importlib
import os
import select
import signal
import socket
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from allcores import budget
from allcores.backends import Preparation
from allcores.clock import monotonic_ns
from allcores.engine.desk import Doom, Life
from allcores.engine.events import (
    Failure,
    Glance,
    Kill,
    Launch,
    Order,
    Results,
    Send,
    SetLimit,
    Stop,
    WorkerGone,
    WorkerStarted,
)
from allcores.engine.flow import Chunk, describe
from allcores.errors import BrokenPool, SetupError, UsageError, WorkerLost
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.supervision import poller, postmortem, system
from allcores.supervision.launcher import BORN, DIED, ForkLauncher, Launcher, TemplateLauncher
from allcores.transport import frames, pickling, unpacking
from allcores.transport.board import Board, size
from allcores.transport.marks import PHASE_LOADING, PHASE_SETUP

if TYPE_CHECKING:
    from allcores.engine.driver import Driver

START_METHODS = ("template", "fork", "spawn", "forkserver")
READ_BYTES = 262_144
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
#: templates that end without any item done in between, until the pool is called broken
MOST_TEMPLATES = 3


class Link:
    """The parent's end of one worker."""

    __slots__ = (
        "attended",
        "ended",
        "inbox",
        "known",
        "number",
        "outgoing",
        "pid",
        "pipe",
        "reason",
        "slot",
        "writing",
    )

    def __init__(self, number: int, slot: int, pipe: socket.socket) -> None:
        self.number = number
        self.slot = slot
        self.pipe = pipe
        self.inbox = frames.Inbox()
        #: bytes that the pipe did not take yet
        self.outgoing: list[bytes | memoryview] = []
        self.writing = False
        #: a caller waits on this pipe itself; the loop leaves it alone
        self.attended = False
        self.pid = 0
        #: numbers of the functions it has
        self.known: set[int] = set()
        #: end of file was seen on its pipe
        self.ended = False
        #: why we ended it, if we did
        self.reason: str | None = None


class ProcessBackend:
    """See the module."""

    name = "processes"
    can_end_tasks = True
    needs_bytes = True

    def __init__(self, workers: int, preparation: Preparation, limits: Limits, start_method: str, share: int) -> None:
        if start_method not in START_METHODS:
            raise UsageError(f"start_method={start_method!r} is not one of {', '.join(map(repr, START_METHODS))}.")
        self._start_method = start_method
        self._limits = limits
        self._share = share
        self._preparation = pickling.dump_named(
            (
                preparation.setup,
                preparation.setup_args,
                preparation.teardown,
                limits.items_per_worker,
                limits.growth_per_worker,
            ),
            "setup",
        )
        #: workers that die and their replacements need slots at the same time
        self._slots = 2 * workers + 8
        self._board_descriptor = system.anonymous_file("board", size(self._slots))
        self._board = Board(self._board_descriptor, self._slots)
        self._free = list(range(self._slots - 1, -1, -1))
        self._notes: dict[int, int] = {}
        self._links: dict[int, Link] = {}
        self._poller = poller.Poller()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._poller.register(self._wake_read, None)
        self._launcher: Launcher | None = None
        self._to_launch: list[int] = []
        #: (when ns, worker, signal)
        self._to_signal: list[tuple[int, int, int]] = []
        self._templates_lost = 0
        self._done_at_loss = -1
        self._oom_kills = budget.oom_kills()
        self._sample_at = 0
        self._driver: Driver | None = None
        self._thread: threading.Thread | None = None
        self._gone = False
        #: the loop has read from pipes and not yet told the dispatcher
        self._reading = False
        #: the first workers were started
        self._launched = threading.Event()

    # --- the contract -----------------------------------------------------------------------------

    def start(self, driver: Driver) -> None:
        self._driver = driver
        if self._start_method == "fork" and system.threads_alive() > 1:
            warnings.warn(
                "start_method='fork' copies a process that has other threads: locks they hold stay locked in the "
                "workers. The default start method, 'template', does not have this problem.",
                RuntimeWarning,
                stacklevel=4,
            )
        if self._start_method == "fork":
            # For the same reason nothing that a worker needs may be left to import.
            for late in ("cloudpickle", "ctypes", "traceback", "allcores.transport.diagnosis", "allcores.worker.main"):
                importlib.import_module(late)
        # PR_SET_PDEATHSIG binds to the thread that creates a process: this one lives as long as the pool.
        self._thread = threading.Thread(target=self._run, args=(driver,), name=f"allcores-{driver.name}", daemon=True)
        self._thread.start()

    def started(self) -> None:
        if self._start_method == "fork":
            # A fork in the middle of this thread's next import would copy that module's lock as taken.
            self._launched.wait(FORK_S)

    def obey(self, orders: Sequence[Order]) -> None:
        wake = False
        for order in orders:
            if isinstance(order, Send):
                self._send(order.worker, order.chunk)
            elif isinstance(order, SetLimit):
                link = self._links.get(order.worker)
                if link is not None:
                    self._board.set_limit(link.slot, order.limit)
            elif isinstance(order, Launch):
                self._to_launch.append(order.worker)
                wake = True
            elif isinstance(order, Kill):
                self._end(order.worker, order.reason)
                wake = True
            elif isinstance(order, Stop):
                link = self._links.get(order.worker)
                if link is not None:
                    self._write(link, frames.frame(frames.STOP, 0))
                    self._signal_later(TEARDOWN_S, order.worker, signal.SIGKILL)
                    wake = True
        if wake and threading.current_thread() is not self._thread:
            self.wake()

    def glance(self, worker: int) -> Glance | None:
        link = self._links.get(worker)
        return Glance(*self._board.glance(link.slot)) if link is not None else None

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
        assert driver is not None
        with driver.guard:
            link = self._links.get(chunk.worker) if chunk.sequence and not done() else None
            if link is None or self._reading or link.attended or link.ended or not poller.CHANGES_REACH_WAIT:
                return
            link.attended = True
            self._listen(link)
        try:
            waiting = select.poll()
            waiting.register(link.pipe.fileno(), poller.READ)
            while not done() and not link.ended and chunk.worker == link.number:
                left_ms = ATTEND_MS
                if until_ns is not None:
                    left_ms = min(left_ms, (until_ns - monotonic_ns()) / 1e6)
                    if left_ms <= 0:
                        return
                if waiting.poll(left_ms):
                    found: list[Any] = []
                    self._read(driver, link, found)
                    with driver.guard:
                        now = monotonic_ns()
                        self._apply(driver, found, now)
                        told = driver._obey()
                    driver._tell(told)
        finally:
            with driver.guard:
                link.attended = False
                if not link.ended and not self._gone:
                    self._listen(link)

    def close(self) -> None:
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_S)

    def abandon(self) -> None:
        for link in self._links.values():
            with contextlib.suppress(OSError):
                os.close(link.pipe.detach())
        if self._launcher is not None:
            self._launcher.abandon()
        with contextlib.suppress(OSError):
            self._poller.close()

    # --- writing (with the driver's lock held) ----------------------------------------------------

    def _send(self, worker: int, chunk: Chunk) -> None:
        link = self._links.get(worker)
        if link is None:
            # It died in the same round in which it was given this: its death has put the chunk back.
            return
        assert self._driver is not None
        function = chunk.function
        payload = chunk.payload
        if payload is None:
            try:
                payload = pickling.dumps(chunk.items)
            except Exception as error:
                failures = [Failure(n, Kind.FAILED, error) for n in range(len(chunk.items))]
                self._driver.dispatcher.results(
                    Results(worker, chunk.sequence, 0, len(failures), 0, values=[], failures=failures, ended=True),
                    monotonic_ns(),
                )
                return
        if not chunk.size_bytes:
            chunk.size_bytes = len(payload)
        # The bytes have done their duty: a chunk that comes back is pickled again.
        chunk.payload = None
        parts: list[bytes] = []
        while self._driver.dropped:
            number = self._driver.dropped.popleft()
            for other in self._links.values():
                if number in other.known:
                    other.known.discard(number)
                    self._write(other, frames.frame(frames.FORGET, number))
        if function.number not in link.known:
            link.known.add(function.number)
            parts.append(frames.frame(frames.FUNCTION, function.number, function.payload))
        flags = frames.DETAILED if chunk.flow.detailed else 0
        head = frames.CHUNK_HEAD.pack(function.number, flags, len(chunk.items))
        parts.append(frames.frame(frames.CHUNK, chunk.sequence, head, payload))
        self._write(link, b"".join(parts) if len(parts) > 1 else parts[0])

    def _write(self, link: Link, data: bytes) -> None:
        if link.outgoing:
            link.outgoing.append(data)
            return
        try:
            sent = link.pipe.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # It is dying; its death will put back what it holds.
            return
        if sent < len(data):
            link.outgoing.append(memoryview(data)[sent:])
            self._watch(link, writing=True)

    def _write_more(self, link: Link) -> None:
        while link.outgoing:
            data = link.outgoing[0]
            try:
                sent = link.pipe.send(data)
            except BlockingIOError:
                return
            except OSError:
                link.outgoing.clear()
                break
            if sent < len(data):
                link.outgoing[0] = memoryview(data)[sent:]
            else:
                link.outgoing.pop(0)
        self._watch(link, writing=False)

    def _watch(self, link: Link, *, writing: bool) -> None:
        if link.ended or link.writing == writing:
            return
        link.writing = writing
        self._listen(link)

    def _listen(self, link: Link) -> None:
        """Watch a pipe for what is to be expected of it now."""
        mask = (0 if link.attended else poller.READ) | (poller.WRITE if link.writing else 0)
        with contextlib.suppress(OSError, ValueError):
            self._poller.modify(link.pipe.fileno(), mask)
        if not poller.CHANGES_REACH_WAIT and threading.current_thread() is not self._thread:
            self.wake()

    # --- starting and ending workers (driver thread) ----------------------------------------------

    def _launch_waiting(self) -> None:
        """Start the workers that were ordered, as far as slots are free."""
        while self._to_launch and self._free:
            if self._launcher is None:
                self._launcher = self._new_launcher()
                self._watch_launcher()
            self._launch(self._to_launch.pop(0))

    def _new_launcher(self) -> Launcher:
        assert self._driver is not None
        share = max(1, self._share // self._driver.workers)
        if self._start_method == "fork":
            return ForkLauncher(self._board, share)
        return TemplateLauncher(self._board_descriptor, self._slots, share, share, spawn=self._start_method == "spawn")

    def _watch_launcher(self) -> None:
        if self._launcher is None:
            return
        wanted = set(self._launcher.descriptors())
        known = self._poller.known(self)
        for descriptor in wanted - known:
            self._poller.register(descriptor, self)
        for descriptor in known - wanted:
            self._poller.unregister(descriptor)

    def _launch(self, worker: int) -> None:
        assert self._launcher is not None
        slot = self._free.pop()
        self._board.clear(slot)
        notes = self._notes.get(slot)
        if notes is None:
            notes = self._notes[slot] = system.anonymous_file("notes")
        os.truncate(notes, 0)
        os.lseek(notes, 0, os.SEEK_SET)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        link = Link(worker, slot, ours)
        self._links[worker] = link
        self._poller.register(ours.fileno(), link)
        self._launcher.launch(worker, slot, theirs.fileno(), notes)
        theirs.close()
        self._write(link, frames.frame(frames.SETUP, 0, self._preparation))
        if self._start_method == "fork":
            self._watch_launcher()

    def _end(self, worker: int, reason: str) -> None:
        link = self._links.get(worker)
        if link is None:
            if worker in self._to_launch:
                self._to_launch.remove(worker)
            return
        link.reason = reason
        if link.pid:
            system.end_group(link.pid, signal.SIGTERM)
        self._signal_later(self._limits.terminate_s if link.pid else 0.0, worker, signal.SIGKILL)

    def _signal_later(self, seconds: float, worker: int, number: int) -> None:
        heapq.heappush(self._to_signal, (monotonic_ns() + int(seconds * 1e9), worker, number))

    def _signal_due(self, now: int) -> None:
        while self._to_signal and self._to_signal[0][0] <= now:
            _, worker, number = heapq.heappop(self._to_signal)
            link = self._links.get(worker)
            if link is None:
                continue
            if link.pid:
                if link.ended and link.reason is None:
                    link.reason = "the task closed its pipe"
                system.end_group(link.pid, number)
            else:
                # Not born yet: look again soon, for as long as its launcher lives.
                self._signal_later(0.02, worker, number)

    # --- the loop (driver thread) -----------------------------------------------------------------

    def _run(self, driver: Driver) -> None:
        try:
            while not (driver.dispatcher.closing and not self._links and not self._to_launch_open(driver)):
                self._round(driver)
        except BaseException as error:
            driver.fail_everything(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._clear_away(driver)

    def _to_launch_open(self, driver: Driver) -> bool:
        if driver.dispatcher.closing:
            self._to_launch.clear()
        return bool(self._to_launch)

    def _round(self, driver: Driver) -> None:
        with driver.guard:
            try:
                self._launch_waiting()
                if self._links:
                    self._launched.set()
            except OSError as error:
                driver.dispatcher.break_off(
                    BrokenPool(f"A worker could not be started: {error}. `allcores doctor` shows the limits here.")
                )
                self._to_launch.clear()
                for worker in [w for w in driver.dispatcher.desks if w not in self._links]:
                    del driver.dispatcher.desks[worker]
                driver._obey()
            alarm = self._next_alarm(driver)
            driver.sleeps_until = alarm if alarm is not None else (1 << 62)
        timeout = None if alarm is None else max(0.0, (alarm - monotonic_ns()) / 1e9)
        ready = self._poller.wait(timeout)
        self._reading = True
        driver.sleeps_until = None
        found: list[Results | tuple[str, Link, Any]] = []
        notices = False
        for link, mask in ready:
            if isinstance(link, Link):
                if mask & poller.READ and not link.attended:
                    self._read(driver, link, found)
                if mask & poller.WRITE:
                    with driver.guard:
                        self._write_more(link)
            elif link is self:
                notices = True
            else:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
        if notices:
            self._take_notices(driver, found)
        with driver.guard:
            self._reading = False
            now = monotonic_ns()
            self._apply(driver, found, now)
            if self._limits.memory_per_worker is not None and now >= self._sample_at:
                self._sample_memory(driver, now)
            driver.dispatcher.tick(now)
            self._signal_due(now)
            told = driver._obey()
        driver._tell(told)

    def _apply(self, driver: Driver, found: list[Any], now: int) -> None:
        for event in found:
            if isinstance(event, Results):
                driver.dispatcher.results(event, now)
            else:
                self._take_event(driver, event, now)

    def _next_alarm(self, driver: Driver) -> int | None:
        alarms = [when for when in (driver.dispatcher.next_alarm_ns,) if when is not None]
        if self._to_signal:
            alarms.append(self._to_signal[0][0])
        if self._limits.memory_per_worker is not None and any(d.chunks for d in driver.dispatcher.desks.values()):
            alarms.append(self._sample_at)
        return min(alarms, default=None)

    def _read(self, driver: Driver, link: Link, found: list[Any]) -> None:
        try:
            data = link.pipe.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._pipe_ended(link)
            return
        for kind, _, body in link.inbox.feed(data):
            self._take_frame(driver, link, kind, body, found)

    def _pipe_ended(self, link: Link) -> None:
        if link.ended:
            return
        link.ended = True
        self._poller.unregister(link.pipe.fileno())
        # Mostly its death follows at once. If not, a task closed our pipe: then we end it.
        self._signal_later(LINGER_S, link.number, signal.SIGKILL)

    def _take_frame(self, driver: Driver, link: Link, kind: int, body: bytes, found: list[Any]) -> None:
        if kind == frames.RESULTS:
            for record in frames.records(body):
                found.append(self._results(driver, link, record))
        elif kind == frames.READY:
            found.append(("ready", link, None))
        elif kind == frames.SETUP_FAILED:
            found.append(("setup failed", link, body))

    def _results(self, driver: Driver, link: Link, record: frames.Record) -> Results:
        """A record as the dispatcher understands it."""
        sequence, start, count, flags, total_ns, payload = record
        event = Results(
            link.number,
            sequence,
            start,
            count,
            total_ns,
            size_bytes=len(payload),
            ended=bool(flags & frames.ENDED),
            leaving=bool(flags & frames.LEAVING),
            unloadable=bool(flags & frames.UNLOADABLE),
        )
        if flags & frames.PLAIN:
            event.payload = payload
        elif flags & frames.MIXED:
            with driver.guard:
                desk = driver.dispatcher.desks.get(link.number)
                chunk = desk.find(sequence) if desk is not None else None
            if chunk is None:
                event.count = 0
                return event
            open_mixed(event, payload, chunk)
        return event

    # --- deaths -----------------------------------------------------------------------------------

    def _take_notices(self, driver: Driver, found: list[Any]) -> None:
        assert self._launcher is not None
        notices = self._launcher.notices()
        if notices is None:
            self._template_lost(driver, found)
            return
        for kind, worker, pid, status, memory in notices:
            link = self._links.get(worker)
            if link is None:
                continue
            if kind == BORN:
                link.pid = pid
            elif kind == DIED:
                self._drain(driver, link, found)
                found.append(("died", link, (status, memory)))
            else:
                found.append(("not born", link, os.strerror(status)))
        if self._start_method == "fork":
            self._watch_launcher()

    def _drain(self, driver: Driver, link: Link, found: list[Any]) -> None:
        """Everything that a dead worker has left: in its pipe, and sealed in its outbox."""
        while not link.ended:
            try:
                data = link.pipe.recv(READ_BYTES)
            except OSError:
                break
            if not data:
                break
            for kind, _, body in link.inbox.feed(data):
                self._take_frame(driver, link, kind, body, found)
        used = self._board.used(link.slot)
        if used:
            # May repeat what came through the pipe; the ledger takes each item once.
            for record in frames.records(bytes(self._board.outbox(link.slot)[:used])):
                found.append(self._results(driver, link, record))

    def _template_lost(self, driver: Driver, found: list[Any]) -> None:
        """Something ended the template, and with it all its workers: start over."""
        assert self._launcher is not None
        for descriptor in self._launcher.descriptors():
            self._poller.unregister(descriptor)
        self._launcher.close()
        self._launcher = None
        for link in list(self._links.values()):
            if link.pid:
                system.end_group(link.pid, signal.SIGKILL)
            self._drain(driver, link, found)
            found.append(("died", link, None))
        done = driver.dispatcher.items_done
        self._templates_lost = self._templates_lost + 1 if done == self._done_at_loss else 1
        self._done_at_loss = done

    def _take_event(self, driver: Driver, event: tuple[str, Link, Any], now: int) -> None:
        what, link, detail = event
        dispatcher = driver.dispatcher
        if what == "ready":
            dispatcher.ready(link.number, now)
            dispatcher.news.append(WorkerStarted(link.number, link.pid or None))
        elif what == "setup failed":
            link.reason = "its setup function raised"
            dispatcher.setup_failed(setup_error(detail))
        elif what == "not born":
            self._bury(driver, link, f"it could not be started: {detail}", None, None, now, innocent=False)
        elif detail is None:
            if self._templates_lost >= MOST_TEMPLATES:
                dispatcher.break_off(
                    BrokenPool(f"The template process ended {self._templates_lost} times without an item done.")
                )
            self._bury(driver, link, "its template process was ended", None, None, now, innocent=True)
        else:
            status, memory = detail
            self._bury(driver, link, None, status, memory, now, innocent=False)

    def _bury(
        self,
        driver: Driver,
        link: Link,
        reason: str | None,
        status: int | None,
        memory: int | None,
        now: int,
        *,
        innocent: bool,
    ) -> None:
        dispatcher = driver.dispatcher
        desk = dispatcher.desks.get(link.number)
        glance = Glance(*self._board.glance(link.slot))
        running = glance if glance.started_ns and glance.phase >= PHASE_LOADING else None
        error: BaseException
        if desk is not None and (desk.life is not Life.LEAVING or desk.chunks):
            kills = budget.oom_kills()
            oom = kills is not None and self._oom_kills is not None and kills > self._oom_kills
            self._oom_kills = kills
            chunk = desk.find(running.sequence) if running is not None else None
            item = "setup" if glance.phase == PHASE_SETUP else ""
            if chunk is not None and running is not None:
                item = describe(chunk, min(running.position, len(chunk.items) - 1))
            if link.ended and link.reason is not None and desk.doom is None:
                reason = link.reason
            if status is None:
                death = postmortem.Death(link.number, None, None, None, None, reason=reason)
            else:
                stack = self._read_notes(link.slot)
                death = postmortem.from_wait_status(link.number, status, memory or 0, stack, oom)
                if reason is not None:
                    death = dataclasses.replace(death, reason=reason)
            text = postmortem.sentence(death, item=item, limit=self._limits.memory_per_worker)
            error = WorkerLost(
                text,
                exitcode=death.exitcode,
                signal=signal.Signals(death.signal).name if death.signal else None,
                peak_memory=death.peak_memory,
                stack=death.stack,
                index=chunk.first + running.position if chunk is not None and running is not None else None,
                attempts=chunk.attempt if chunk is not None else 1,
                worker=link.number,
            )
            if glance.phase == PHASE_SETUP and dispatcher.broken is None and link.reason is None:
                dispatcher.setup_failed(SetupError(f"The setup function ended its process: {text}"))
        else:
            text, error = "it was told to end", WorkerLost("told to end")
        self._forget(link)
        dispatcher.gone(
            WorkerGone(link.number, running, Kind.WORKER_LOST, error, link.reason or reason or text, innocent),
            now,
        )

    def _forget(self, link: Link) -> None:
        del self._links[link.number]
        if not link.ended:
            self._poller.unregister(link.pipe.fileno())
        link.pipe.close()
        self._free.append(link.slot)

    def _read_notes(self, slot: int) -> str | None:
        data = os.pread(self._notes[slot], 16_384, 0)
        return data.decode("utf-8", "replace") or None

    def _sample_memory(self, driver: Driver, now: int) -> None:
        self._sample_at = now + int(SAMPLE_S * 1e9)
        limit = self._limits.memory_per_worker
        assert limit is not None
        for desk in list(driver.dispatcher.desks.values()):
            link = self._links.get(desk.worker)
            if link is None or not link.pid or desk.doom is not None or not desk.chunks:
                continue
            used = system.resident_bytes(link.pid)
            if used is None or used <= limit:
                continue
            glance = Glance(*self._board.glance(link.slot))
            chunk = desk.find(glance.sequence)
            position = min(glance.position, len(chunk.items) - 1) if chunk is not None else 0
            what = describe(chunk, position) if chunk is not None else "nothing"
            error = WorkerLost(
                f"Worker {desk.worker} was ended while running {what}: it used {used / 1e6:,.0f} MB, "
                f"Limits(memory_per_worker=...) allows {limit / 1e6:,.0f} MB.",
                signal="SIGKILL",
                peak_memory=used,
                index=chunk.first + position if chunk is not None else None,
                attempts=chunk.attempt if chunk is not None else 1,
                worker=desk.worker,
            )
            driver.dispatcher.doom(
                desk,
                Doom(Kind.WORKER_LOST, error, "it used more memory than allowed", glance.sequence, position),
                now,
            )

    def _clear_away(self, driver: Driver) -> None:
        with driver.guard:
            driver.dispatcher.closing = True
            for link in list(self._links.values()):
                if link.pid:
                    system.end_group(link.pid, signal.SIGKILL)
                self._forget(link)
            self._gone = True
        if self._launcher is not None:
            for descriptor in self._launcher.descriptors():
                self._poller.unregister(descriptor)
            self._launcher.close()
            self._launcher = None
        self._poller.close()
        with driver.guard:
            os.close(self._wake_read)
            os.close(self._wake_write)
            # A number that is never a descriptor: waking a pool that is gone is no mistake.
            self._wake_write = -1
            for descriptor in self._notes.values():
                os.close(descriptor)
            self._notes.clear()
            self._board.close()
            os.close(self._board_descriptor)


def setup_error(body: bytes) -> SetupError:
    """The error for a setup function that raised, with the worker's traceback."""
    packed = pickling.loads(body)
    _, cause = unpacking.unpack_error(packed, what="setup")
    error = SetupError(f"The setup function raised {packed[0]}: {packed[1]}")
    error.__cause__ = cause
    return error


def open_mixed(event: Results, payload: bytes, chunk: Chunk) -> None:
    """Unpack values and failures of a record that holds more than plain values."""
    values, each, packed, durations = pickling.loads(payload)
    failures: list[Failure] = []
    for offset, error in packed:
        kind, exception = unpacking.unpack_error(
            error,
            what=describe(chunk, min(offset, len(chunk.items) - 1)),
            index=None if chunk.future is not None else chunk.first + offset,
            attempts=chunk.attempt,
            worker=event.worker,
        )
        failures.append(Failure(offset, kind, exception))
    if each:
        failed = {failure.offset for failure in failures}
        offsets = (n for n in range(event.start, event.start + event.count) if n not in failed)
        loaded: list[Any] = []
        for offset, data in zip(list(offsets), values, strict=True):
            try:
                loaded.append(pickling.loads(data))
            except BaseException as error:
                error.add_note(f"allcores: the result of {describe(chunk, offset)} could not be unpickled")
                failures.append(Failure(offset, Kind.FAILED, unpacking.tame(error)))
        values = loaded
        failures.sort(key=lambda failure: failure.offset)
    event.values = values
    event.failures = failures or None
    event.durations = durations
