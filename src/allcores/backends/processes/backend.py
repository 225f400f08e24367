"""Tasks run in worker processes. The one loop that owns pipes, exits and timers.

The driver thread waits on a persistent selector: a pipe per worker, the launcher's notices, and a
wake-up. It alone launches, ends and reaps. A thread that holds the host's lock may write to
a worker's pipe; writing never waits, what the pipe does not take is kept and written by the loop.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Callable, Sequence, Sized
from threading import get_ident
from typing import TYPE_CHECKING

from allcores.backends.base import (
    BackendBroken,
    BackendEvent,
    BackendStopped,
    Host,
    LaunchesEnded,
    SetupFailed,
    WorkerInit,
    start_thread,
)
from allcores.backends.processes.caller_wait import CallerWait
from allcores.backends.processes.connection import WorkerConnection
from allcores.backends.processes.consumer_wait import ConsumerWait
from allcores.backends.processes.exits import SAMPLE_NS, Exits
from allcores.backends.processes.preload import Preload
from allcores.backends.processes.receiver import BlocksReleased, Found, ProcessEnded, Receiver
from allcores.backends.processes.sender import Sender
from allcores.backends.processes.worker_logs import WorkerLogReceiver
from allcores.backends.processes.worker_table import WorkerTable
from allcores.errors import BrokenPool, NotSupported, PoolBusy, SetupError
from allcores.limits import Limits
from allcores.scheduler.map_state import Chunk
from allcores.scheduler.messages import Command, Kill, Launch, Peek, Send, SetLimit, Stop, Work, WorkerProgress
from allcores.shared_memory.buffers import PRIVATE, BufferedPickle
from allcores.shared_memory.parent_side import ParentMemory, block_bytes
from allcores.system import caller, cores, deferral, poller, posix, procfs
from allcores.system.clock import monotonic_ns
from allcores.system.wake_pipe import WakePipe
from allcores.transport import inheritance, pickling
from allcores.transport.main_names import MainNames
from allcores.transport.status_board import BUSY, DONE

if TYPE_CHECKING:
    from allcores.system.bell import Bell

#: seconds that a teardown function may take
TEARDOWN_S = 5.0
#: seconds that closing may take in all before the driver thread is given up
CLOSE_S = 15.0
#: seconds that Pool() waits until the first workers of start_method="fork" are forked
FORK_S = 5.0
#: how long the pool's own thread, when it reads a stream, waits for events between two looks at it, ns
PUMP_NS = 50_000_000
#: how far its maps are is written on the board this often, ns: it walks through them
NOTE_NS = 100_000_000


class ProcessBackend:
    """See the module."""

    name = "processes"
    can_end_tasks = True
    needs_bytes = True
    runs_on_caller = False
    node_cores = node_count = 0
    #: where its workers are kept account of
    table: type[WorkerTable] = WorkerTable

    def __init__(
        self,
        workers: int,
        worker_init: WorkerInit,
        limits: Limits,
        start_method: str,
        share: int,
        records: WorkerLogReceiver | None = None,
        sees: ParentMemory | None = None,
    ) -> None:
        for option in ("memory_per_worker", "growth_per_worker"):
            if getattr(limits, option) is not None and procfs.resident_bytes(os.getpid()) is None:
                raise NotSupported(f"Limits({option}=...) needs /proc/PID/statm, which this system does not have.")
        gauge = cores.MemoryGauge()
        self.memory_gauge: Callable[[], tuple[int, int] | None] | None = gauge if gauge() is not None else None
        if isinstance(limits.memory_reserve, int) and self.memory_gauge is None:
            raise NotSupported("Limits(memory_reserve=...) needs /proc/meminfo, which this system does not have.")
        self._start_method = start_method
        self._limits = limits
        commands_to_worker = (*worker_init[:3], limits.items_per_worker, limits.growth_per_worker)
        # Workers to come must find what it refers to: the names of semaphores end with their objects.
        self._worker_init = worker_init
        self._preload = Preload(worker_init, start_method) if worker_init.preload is not None else None
        self.setup_step = self._preload.step if self._preload is not None else "setup"
        self.sleeps_until: int | None = None
        self._worker_table = self.table(
            workers,
            start_method,
            max(1, share // workers),
            limits.terminate_s,
            block_bytes(limits),
            self._preload,
        )
        #: whoever made the pool expects what a pool of multiprocessing does: see `adapters.pool_start`
        self._like_multiprocessing = getattr(worker_init.setup, "like_multiprocessing", False)
        if self._like_multiprocessing and start_method == "fork":
            self._worker_table.main_names = MainNames()
        if sees is not None and self._worker_table.parent_memory is not None:
            self._worker_table.parent_memory.see(sees)
        self._worker_table.records = records
        if worker_init.setup is not None or worker_init.preload is not None:
            self._worker_table.around = worker_init.around
        self.unhandled: Sized = records.unhandled if records is not None else ()
        try:
            with inheritance.to_new_processes(self._worker_table.legacy):
                self._worker_table.worker_init = pickling.dump_named(commands_to_worker, "setup", self.pack_for_all)
            self._wake_pipe = WakePipe()
        except BaseException:
            self._worker_table.close()
            raise
        self._worker_table.poller.register(self._wake_pipe.reads, None)
        self._has_setup = worker_init.setup is not None
        self._share = share
        self._note_maps_at = 0
        self._thread: threading.Thread | None = None
        #: the same by its number, and whether it is in the middle of a round
        self._ident = 0
        self._busy = False
        self._rounds = 0
        #: the first workers were started
        self._launched = threading.Event()

    def pack(self, obj: object) -> bytes | BufferedPickle:
        return self._worker_table.pack(obj)

    def pack_for_all(self, obj: object) -> bytes | BufferedPickle:
        parent_memory = self._worker_table.parent_memory
        packed: bytes | BufferedPickle
        with self._worker_table.naming():
            packed = parent_memory.encoder.dumps(obj, PRIVATE) if parent_memory is not None else pickling.dumps(obj)
        if b"cloudpickle" in (packed if isinstance(packed, bytes) else packed.data):
            # The template looks there before each fork: it is up much later than the first function is packed.
            self._worker_table.board.by_value = True
        return packed

    def parent_memory(self, *, create: bool = True) -> ParentMemory | None:
        return self._worker_table.parent_memory

    # --- the contract -----------------------------------------------------------------------------

    def start(self, host: Host) -> None:
        worker_table = self._worker_table
        self._host = host
        self._receiver = Receiver(worker_table, host.lock, self._find)
        self._exits = Exits(
            worker_table,
            self._receiver,
            host,
            self._limits,
            self._preload,
            has_setup=self._has_setup,
            follows_launcher=self._start_method == "fork",
        )
        self._consumer = ConsumerWait(worker_table, self._receiver, host, self._apply, self.wake)
        self._caller_wait = CallerWait(
            worker_table, self._receiver, self._consumer, host, self._apply, self.wake, self._share
        )
        self._sender = Sender(worker_table, host, self._share)
        memory_limit = self._limits.memory_per_worker or 0
        self._worker_table.board.introduce(os.getpid(), host.workers, monotonic_ns(), memory_limit, host.name)
        if self._preload is not None:
            self._begin_preload(self._preload)
        if self._start_method == "fork":
            self._prepare_fork()
        # PR_SET_PDEATHSIG binds to the thread that creates a process: this one lives as long as the pool.
        self._thread = threading.Thread(target=self._run, name=f"allcores-{host.name}", daemon=True)
        try:
            start_thread(self._thread, host.begun)
        except BrokenPool:
            self._let_go()
            raise

    def _prepare_fork(self) -> None:
        """Before this process is copied: warn of its threads, and import what a worker will need.

        A module that is being imported at the moment of the fork stays locked for ever in the child.
        """
        if posix.has_other_threads() and not self._like_multiprocessing:
            try:
                caller.warn(
                    "start_method='fork' copies a process that has other threads: locks they hold stay locked in "
                    "the workers. The default start method, 'template', does not have this problem."
                )
            except RuntimeWarning:  # where warnings are errors
                self._let_go()
                raise
        for late in (
            "cloudpickle",
            "ctypes",
            "traceback",
            "allcores.transport.pickle_diagnosis",
            "allcores.worker.main",
        ):
            importlib.import_module(late)
        if self._worker_table.records is not None:
            importlib.import_module("allcores.worker.log_forwarding")

    def _find(self, worker: int, sequence: int) -> Chunk | None:
        assignment = self._host.assignment(worker, sequence)
        return assignment.chunk if assignment is not None else None

    def _begin_preload(self, preload: Preload) -> None:
        try:
            preload.begin()
        except SetupError as error:
            # Like any other: whoever uses the pool is told.
            with self._host.lock:
                self._host.apply([SetupFailed(error)], monotonic_ns())
        except BaseException:
            self._let_go()
            raise

    def started(self) -> None:
        if self._start_method == "fork" and self._host.broken is None:
            # For the same reason the constructing thread does nothing else while the first workers are forked.
            self._launched.wait(FORK_S)

    def execute(self, commands: Sequence[Command]) -> None:
        worker_table = self._worker_table
        wake = sent = False
        unsendable: list[BackendEvent] = []
        for command in commands:
            if isinstance(command, Send):
                sent = True
                results = self._sender.send(command.worker, command.chunk)
                if results is not None:
                    unsendable.append(results)
                continue
            connection = worker_table.connections.get(command.worker)
            if isinstance(command, Peek):
                self._receiver.to_peek.append(command.worker)
                continue
            if isinstance(command, SetLimit):
                if connection is not None:
                    worker_table.board.set_limit(connection.slot, command.limit)
                continue
            wake = True
            if isinstance(command, Launch):
                worker_table.to_launch.append(command.worker)
            elif isinstance(command, Kill):
                worker_table.end(command.worker, command.reason, at_once=command.at_once)
            elif isinstance(command, Stop):
                worker_table.stop(command.worker, TEARDOWN_S)
        if unsendable:
            self._host.apply(unsendable, monotonic_ns())
        if wake and threading.current_thread() is not self._thread:
            self.wake()
        elif sent and self._limits.memory_per_worker is not None:
            # The loop looks at the workers' memory while work is out: it fell asleep when none was.
            self.wake_by(monotonic_ns() + SAMPLE_NS)

    def forget_function(self, number: int) -> None:
        self._sender.forget(number)

    def is_stopped(self, worker: int) -> bool:
        return self._worker_table.is_stopped(worker)

    def unsent(self, worker: int) -> int:
        connection = self._worker_table.connections.get(worker)
        return sum(map(len, connection.outgoing)) if connection is not None else 0

    def resident_tree_bytes(self, worker: int) -> int:
        return self._exits.resident_tree_bytes(worker)

    def progress(self, worker: int) -> WorkerProgress | None:
        return self._worker_table.progress(worker)

    def work(self, worker: int) -> Work | None:
        connection = self._worker_table.connections.get(worker)
        if connection is None:
            return None
        board = self._worker_table.board
        return Work(connection.pid or None, board.word(connection.slot, DONE), board.word(connection.slot, BUSY))

    def wake(self) -> None:
        self._wake_pipe.wake()

    def wake_by(self, when_ns: int) -> None:
        if self.sleeps_until is not None and when_ns < self.sleeps_until:
            self.sleeps_until = None
            self.wake()

    def pump(self) -> bool:
        return get_ident() == self._ident and self._go_on(monotonic_ns() + PUMP_NS)

    def pump_due_ns(self) -> int | None:
        return None

    def attend(self, chunk: Chunk, until_ns: int | None, done: Callable[[], bool]) -> None:
        if get_ident() == self._ident:
            while not done() and (until_ns is None or monotonic_ns() < until_ns) and self._go_on(until_ns):
                pass
        else:
            if self._consumer.is_present():
                self._consumer.step_back()
            self._caller_wait.attend(chunk, until_ns, done)

    def wait(self, bell: Bell, wanted: Callable[[], bool], seconds: float) -> bool:
        return self._consumer.wait(bell, wanted, seconds)

    def _go_on(self, until_ns: int | None) -> bool:
        """A callback or a finalizer on the pool's own thread waits: meanwhile the loop goes on. False if it is over."""
        if self._busy:
            raise PoolBusy()
        if self._worker_table.gone or self._over():
            return False
        self._round(until_ns)
        return True

    def step_back(self) -> None:
        if get_ident() == self._ident:
            if self._busy:
                raise PoolBusy()
        else:
            if self._caller_wait.is_present():
                self._caller_wait.step_back()
            if self._consumer.is_present():
                self._consumer.step_back()

    def resolves_here(self) -> bool:
        return get_ident() == self._ident or self._worker_table.gone

    def settle_logs(self, seconds: float) -> None:
        records = self._worker_table.records
        if records is not None:
            records.settle(seconds)

    def close(self) -> None:
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_S)
        if self._worker_table.records is not None:
            self._worker_table.records.close()

    def abandon(self) -> None:
        self._worker_table.abandon()
        self._consumer.abandon()

    # --- the loop (driver thread) -----------------------------------------------------------------

    def _run(self) -> None:
        self._ident = get_ident()
        try:
            while not self._over():
                self._round()
        except BaseException as error:
            self._host.fail(error)
            if not isinstance(error, Exception):
                raise
        finally:
            try:
                self._clear_away()
            finally:
                # Whatever keeps it from that (a program that has closed our descriptors): nobody is left waiting.
                self._host.finish()

    def _over(self) -> bool:
        if self._host.closing:
            self._worker_table.to_launch.clear()
            return not self._worker_table.connections
        return False

    def _round(self, until_ns: int | None = None) -> None:
        """Wait for something to happen, until `until_ns` at most, and deal with it."""
        worker_table = self._worker_table
        with self._host.lock:
            self._launch_waiting()
            alarm = self._next_alarm()
            if until_ns is not None:
                alarm = min(until_ns, alarm or until_ns)
            self.sleeps_until = alarm if alarm is not None else (1 << 62)
        timeout = None if alarm is None else max(0.0, (alarm - monotonic_ns()) / 1e9)
        self._rounds += 1
        rounds = self._rounds
        ready = worker_table.poller.wait(timeout)
        outermost = deferral.enter()
        if rounds != self._rounds:
            # A finalizer has waited right here, and the loop went on meanwhile: what is still ready will be told again.
            ready = []
        self._busy = True
        try:
            self._deal(ready)
        finally:
            self._busy = False
            if outermost:
                deferral.leave()
        self._host.notify()

    def _deal(self, ready: list[tuple[object, int]]) -> None:
        """Read what has come, and apply it. Nothing on this thread may wait meanwhile."""
        worker_table, host = self._worker_table, self._host
        with host.lock:
            # From here on nobody may begin to attend to a pipe that is read here.
            self._receiver.reading = True
            self.sleeps_until = None
            notices = self._exits.must_look or any(what is worker_table for what, _ in ready)
            if notices or self._exits.preempted or self._receiver.to_peek or self._consumer.is_late():
                self._consumer.claim_pipes()
            pipes_are_ours = not self._consumer.present
        found: list[Found] = []
        for what, mask in ready:
            if what is worker_table.pipes:
                for connection, pipe_mask in worker_table.pipes.wait(0) if pipes_are_ours else ():
                    self._read_one(connection, pipe_mask, found)
            elif isinstance(what, WorkerConnection):
                self._read_one(what, mask, found)
            elif what is None:
                self._wake_pipe.take()
        if notices:
            self._exits.take_notices(found)
        if self._receiver.to_peek and pipes_are_ours:
            self._receiver.peek(found)
        if self._exits.preempted:
            self._exits.take_exits(found, pipes_are_ours=pipes_are_ours)
        with host.lock:
            self._receiver.reading = False
            now = monotonic_ns()
            self._apply(found, now)
            if self._limits.memory_per_worker is not None and now >= self._exits.sample_at:
                host.apply(self._exits.over_limit(self._limits.memory_per_worker, now), now)
            host.tick(now)
            worker_table.signal_due(now)
            host.execute()
            if worker_table.parent_memory is not None:
                worker_table.parent_memory.sweep()

    def _read_one(self, connection: WorkerConnection, mask: int, found: list[Found]) -> None:
        """Deal with a pipe that is ready."""
        if mask & poller.READ and not connection.attended:
            self._receiver.read(connection, found)
        if mask & poller.WRITE:
            with self._host.lock:
                self._worker_table.write_more(connection)

    def _launch_waiting(self) -> None:
        worker_table = self._worker_table
        if self._host.broken is not None and worker_table.to_launch:
            self._launch_no_more()
            return
        try:
            worker_table.launch_waiting()
        except OSError as error:
            broken = BrokenPool(f"A worker could not be started: {error}. `allcores doctor` shows the limits here.")
            self._host.apply([BackendBroken(broken)], monotonic_ns())
            self._launch_no_more()
            self._host.execute()
        if worker_table.connections:
            self._launched.set()

    def _launch_no_more(self) -> None:
        """Workers that were ordered and not started yet will not be."""
        self._worker_table.to_launch.clear()
        self._host.apply([LaunchesEnded(frozenset(self._worker_table.connections))], monotonic_ns())
        if self._worker_table.launcher is not None and not self._worker_table.launcher.ready:
            self._worker_table.kill_launcher()

    def _next_alarm(self) -> int | None:
        alarms = [self._host.next_timer_ns, self._worker_table.next_signal_ns]
        if self._receiver.to_peek and not self._consumer.present:
            return 0
        if self._exits.must_look:
            alarms.append(monotonic_ns() + self._exits.look_ns)
        if self._limits.memory_per_worker is not None and self._host.holds_work:
            alarms.append(self._exits.sample_at)
        return min((when for when in alarms if when is not None), default=None)

    def _apply(self, found: list[Found], now: int) -> None:
        """Apply what was found, with the host's lock held: ends of workers last, when all that they left is."""
        host, board = self._host, self._worker_table.board
        events: list[BackendEvent] = []
        ended: list[ProcessEnded] = []
        for event in found:
            if isinstance(event, BlocksReleased):
                parent_memory = self._worker_table.parent_memory
                if parent_memory is not None:
                    # With the lock held: a send may lend the same block again at this moment.
                    parent_memory.release(event.worker, event.offsets)
            elif isinstance(event, ProcessEnded):
                ended.append(event)
            else:
                events.append(event)
        host.apply(events, now)
        for each in ended:
            if each.connection.number in self._worker_table.connections:
                host.apply([self._exits.reap(each.connection, each.reason)], now)
        board.note(*host.totals())
        if now >= self._note_maps_at:
            self._note_maps_at = now + NOTE_NS
            board.note_maps(*host.progress_of_maps())

    def _clear_away(self) -> None:
        worker_table = self._worker_table
        with self._host.lock:
            self._host.apply([BackendStopped()], monotonic_ns())
            for connection in list(worker_table.connections.values()):
                if connection.pid:
                    posix.end_group(connection.pid, signal.SIGKILL)
                worker_table.forget(connection)
            worker_table.gone = True
        worker_table.drop_launcher()
        with self._host.lock:
            self._let_go()

    def _let_go(self) -> None:
        """Close every descriptor, and keep nothing of the program's; no worker is left, and none will be started.

        This object and its host refer to each other, so they may stay for a while after the pool.
        """
        self._worker_init = WorkerInit()
        if self._preload is not None:
            self._preload.forget()
        self._wake_pipe.close()
        self._consumer.close()
        self._worker_table.close()
