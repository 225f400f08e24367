"""The worker processes of a pool: their slots, pipes and launcher, and the signals that end them.

Used with the driver's lock held, or by the driver thread alone where it says so.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from allcores.backends.processes.connection import WorkerConnection
from allcores.backends.processes.fork_launcher import ForkLauncher
from allcores.backends.processes.launchers import Launcher, TemplateLauncher
from allcores.backends.processes.preload import Preload
from allcores.backends.processes.wait_descriptors import POSSIBLE, Descriptors
from allcores.backends.processes.worker_logs import WorkerLogReceiver
from allcores.scheduler.messages import WorkerProgress
from allcores.shared_memory.arena import RANGE
from allcores.shared_memory.buffers import BufferedPickle
from allcores.shared_memory.parent_side import ParentMemory
from allcores.system import fork_lock as forks
from allcores.system import poller, posix, procfs
from allcores.system.clock import monotonic_ns
from allcores.system.sockets import socket_pair
from allcores.transport import frames, inheritance, main_names, pickling, tracker
from allcores.transport.status_board import Board, size
from allcores.transport.surroundings import Surroundings

#: Most bytes of a fatal signal's stack that are read.
NOTES_BYTES = 16_384

#: why a worker is ended whose pipe has come to its end, and which lives
PIPE_CLOSED = "the task closed its pipe"
#: pause between two looks whether a worker that is to end is stopped, ns
STOPPED_LOOK_NS = 100_000_000
#: in place of a signal: it was sent SIGKILL, and its end is yet to be told
KILLED = -1


class WorkerTable:
    """See the module.

    Args:
        share: Cores that one worker and its nested pools may use.
    """

    spare_slots = 8

    def __init__(
        self,
        workers: int,
        start_method: str,
        share: int,
        terminate_s: float,
        block_bytes: int,
        preload: Preload | None,
    ) -> None:
        self.preload = preload
        #: what workers find in the script by its name; None: it travels by value
        self.main_names: main_names.MainNames | None = None
        self._start_method = start_method
        #: what a worker does first; set before the first is started
        self.worker_init: bytes | BufferedPickle = b""
        #: what it is to find around it then
        self.around: Surroundings | None = None
        #: ... and what goes along with that
        self.legacy = inheritance.Legacy(forks=start_method == "fork")
        #: where what workers log and print goes; None if they keep it
        self.records: WorkerLogReceiver | None = None
        self._share = share
        self._terminate_s = terminate_s
        #: workers that die and their replacements need slots at the same time
        self._slots = 2 * workers + self.spare_slots
        # The board lies at the beginning of the file, blocks beyond it. No file that long, no blocks.
        sparse = posix.sparse_file("board", RANGE)
        self._board_descriptor = sparse if sparse is not None else posix.anonymous_file("board", size(self._slots))
        try:
            self.parent_memory = (
                ParentMemory(sparse, block_bytes, workers, size(self._slots)) if sparse is not None else None
            )
            self.board = Board(self._board_descriptor, self._slots)
            self.poller = poller.Poller()
            #: the workers' pipes by themselves, so that another thread than the loop can wait for them
            self.pipes = poller.Poller() if poller.CHANGES_REACH_WAIT else self.poller
            #: for the thread that does so; None where there can be no such wait
            self.descriptors: Descriptors | None = Descriptors(self.pipes) if POSSIBLE else None
        except BaseException:
            os.close(self._board_descriptor)
            raise
        self._free = list(range(self._slots - 1, -1, -1))
        #: slot -> descriptor of the file that takes a fatal signal's stack
        self._notes: dict[int, int] = {}
        self.connections: dict[int, WorkerConnection] = {}
        if self.pipes is not self.poller:
            self.poller.register(self.pipes.fileno(), self.pipes)
        self.launcher: Launcher | None = None
        self.to_launch: list[int] = []
        #: all is over: nothing is to be listened to any more
        self.gone = False
        #: (when ns, worker, signal)
        self._to_signal: list[tuple[int, int, int]] = []

    # --- reading the board ---

    def progress(self, worker: int) -> WorkerProgress | None:
        """Where a worker is; None if it is unknown."""
        connection = self.connections.get(worker)
        return WorkerProgress(*self.board.progress(connection.slot)) if connection is not None else None

    def notes(self, connection: WorkerConnection) -> str | None:
        """What faulthandler wrote when the worker died."""
        return os.pread(self._notes[connection.slot], NOTES_BYTES, 0).decode("utf-8", "replace") or None

    # --- pipes ---

    def pack(self, obj: object) -> bytes | BufferedPickle:
        """Bytes for the pipe, and what of it lies in blocks."""
        if self.main_names is not None:
            with self.naming():
                return self.parent_memory.pack(obj) if self.parent_memory is not None else pickling.dumps(obj)
        return self.parent_memory.pack(obj) if self.parent_memory is not None else pickling.dumps(obj)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """What this thread pickles in here has the script's functions and classes by name, if workers have them."""
        before = main_names.this_thread.names
        main_names.this_thread.names = self.main_names
        try:
            yield
        finally:
            main_names.this_thread.names = before

    def write(self, connection: WorkerConnection, data: bytes) -> None:
        """Write to a worker; what its pipe does not take is written by the loop."""
        if not connection.write(data) and not connection.writing:
            connection.writing = True
            self.listen(connection)

    def write_more(self, connection: WorkerConnection) -> None:
        """Its pipe takes more now."""
        if connection.write_more() and connection.writing:
            connection.writing = False
            self.listen(connection)

    def listen(self, connection: WorkerConnection) -> None:
        """Watch a pipe for what is to be expected of it now."""
        if connection.ended:
            return
        mask = (0 if connection.attended else poller.READ) | (poller.WRITE if connection.writing else 0)
        with contextlib.suppress(OSError, ValueError):
            self.pipes.modify(connection.pipe.fileno(), mask)

    def hear(self, *, loop: bool) -> None:
        """Whether the loop is to be told of what can be read from pipes, or another thread waits for that."""
        with contextlib.suppress(OSError, ValueError):
            self.poller.modify(self.pipes.fileno(), poller.READ if loop else 0)

    # --- starting (driver thread) ---

    def launch_waiting(self) -> None:
        """Start the workers that were ordered, as far as slots are free. Raises OSError."""
        while self.to_launch and self._free:
            # The program may have closed them since.
            posix.keep_standard()
            # Until all is in its place, where abandon() finds it.
            with forks.ForkLock():
                if self.launcher is None:
                    self.launcher = self._new_launcher()
                    self.watch_launcher()
                if not self.launcher.ready:
                    # It preloads: its notice will bring us here again.
                    return
                self._launch(self.to_launch.pop(0))

    def _new_launcher(self) -> Launcher:
        preload = self.preload
        if self._start_method == "fork":
            return ForkLauncher(self.board, self._share, preload.here if preload is not None else None)
        spawn = self._start_method == "spawn" or (preload is not None and preload.per_worker)
        return TemplateLauncher(
            self._board_descriptor,
            self._slots,
            self._share,
            self._share,
            spawn=spawn,
            logs=None if self.records is None else self.records.wanted(),
            preload=preload.payload if preload is not None and not spawn else None,
            descriptors=preload.legacy.descriptors if preload is not None and not spawn else (),
            modules=preload.modules if preload is not None else (),
        )

    def watch_launcher(self) -> None:
        """Wait for the launcher's descriptors, which may change with every worker."""
        if self.launcher is None:
            return
        wanted, known = set(self.launcher.descriptors()), self.poller.known(self)
        for descriptor in wanted - known:
            self.poller.register(descriptor, self)
        for descriptor in known - wanted:
            self.poller.unregister(descriptor)

    def drop_launcher(self) -> None:
        """The launcher is lost, or not needed any more."""
        launcher, self.launcher = self.launcher, None
        if launcher is not None:
            for descriptor in launcher.descriptors():
                self.poller.unregister(descriptor)
            launcher.close()

    def kill_launcher(self) -> None:
        """What it is doing is of no use any more."""
        if self.launcher is not None:
            self.launcher.kill()
        self.drop_launcher()

    def _launch(self, worker: int) -> None:
        assert self.launcher is not None
        slot = self._free.pop()
        self.board.clear(slot)
        self.board.identify(slot, worker)
        notes = self._notes.get(slot)
        if notes is None:
            notes = self._notes[slot] = posix.anonymous_file("notes")
        os.truncate(notes, 0)
        os.lseek(notes, 0, os.SEEK_SET)
        ours, theirs = socket_pair()
        ours.setblocking(False)
        connection = WorkerConnection(worker, slot, ours)
        self.connections[worker] = connection
        self.pipes.register(ours.fileno(), connection)
        with theirs:
            connection.surroundings = self.launcher.launch(worker, slot, theirs.fileno(), notes)
        self.write(connection, connection.introduction())
        if connection.surroundings is not None:
            self.write(connection, connection.change(connection.surroundings.at_start(self.around)))
        worker_init = self.worker_init
        connection.hand_over(0, tracker.descriptors())
        if self.preload is not None and self.preload.per_worker:
            connection.hand_over(frames.PRELOAD, self.preload.legacy.descriptors)
        connection.hand_over(frames.SETUP, self.legacy.descriptors)
        if self.parent_memory is not None:
            if self.parent_memory.elsewhere is not None:
                connection.hand_over(frames.BLOCKS, [self.parent_memory.elsewhere])
            self.write(connection, self.parent_memory.admit(worker))
            connection.decoder = self.parent_memory.decoder(worker)
        if self.records is not None:
            self.write(connection, self.records.greeting())
        if not isinstance(worker_init, bytes):
            assert self.parent_memory is not None
            self.parent_memory.lend(worker, worker_init.leases)
            worker_init = worker_init.data
        if self.preload is not None and self.preload.per_worker:
            self.write(connection, frames.frame(frames.PRELOAD, 0, self.preload.payload))
        self.write(connection, frames.frame(frames.SETUP, 0, worker_init))
        if self._start_method == "fork":
            self.watch_launcher()

    # --- ending ---

    def end(self, worker: int, reason: str, *, at_once: bool = False) -> None:
        """Ask a worker's process group to end, and see that it does; `at_once`: ask nobody.

        Args:
            worker: 0 is what starts the others.
        """
        connection = self.connections.get(worker)
        if self.launcher is not None and (
            worker == 0 or (connection is not None and not connection.pid and self.is_stopped(0))
        ):
            # What starts the worker was stopped itself, and would never do so; its end is noticed like any other.
            self.launcher.kill()
        if connection is None:
            if worker in self.to_launch:
                self.to_launch.remove(worker)
            return
        connection.reason = reason
        if connection.pid and not at_once:
            posix.end_group(connection.pid, signal.SIGTERM)
            self._look_later(worker)
        self.signal_later(self._terminate_s if connection.pid and not at_once else 0.0, worker)

    def is_stopped(self, worker: int) -> bool:
        """Whether a worker's process is stopped, or the one that is to start it (0: that one in any case)."""
        connection = self.connections.get(worker)
        pid = connection.pid if connection is not None else 0
        if not pid and self.launcher is not None:
            pid = self.launcher.pid
        return bool(pid) and procfs.is_stopped(pid)

    def stop(self, worker: int, seconds: float) -> None:
        """Let a worker end by itself, and see that it does within `seconds`."""
        connection = self.connections.get(worker)
        if connection is not None:
            self.write(connection, frames.frame(frames.STOP, 0))
            self.signal_later(seconds, worker)
            self._look_later(worker)

    def _look_later(self, worker: int, *, killed: bool = False) -> None:
        """Look at a worker that is to end, again and again until its end was told.

        While it is stopped it sees neither a frame nor SIGTERM. And while what is to tell of its end is stopped, nobody
        would hear of that. One that was killed is not looked at itself: its number may be another's soon.
        """
        heapq.heappush(self._to_signal, (monotonic_ns() + STOPPED_LOOK_NS, worker, KILLED if killed else 0))

    def signal_later(self, seconds: float, worker: int) -> None:
        """SIGKILL for a worker's process group, unless it is gone by then."""
        heapq.heappush(self._to_signal, (monotonic_ns() + int(seconds * 1e9), worker, signal.SIGKILL))

    @property
    def next_signal_ns(self) -> int | None:
        """When `signal_due` has something to do."""
        return self._to_signal[0][0] if self._to_signal else None

    def signal_due(self, now: int) -> None:
        """Send the signals whose time has come."""
        while self._to_signal and self._to_signal[0][0] <= now:
            _, worker, number = heapq.heappop(self._to_signal)
            connection = self.connections.get(worker)
            if connection is None:
                continue
            if self.launcher is not None:
                self.launcher.resume()
            if number == KILLED:
                self._look_later(worker, killed=True)
            elif not number:
                if self.is_stopped(worker):
                    connection.reason = connection.reason or "it was stopped"
                    self.signal_later(0.0, worker)
                else:
                    self._look_later(worker)
            elif connection.pid:
                if connection.ended and connection.reason is None:
                    connection.reason = PIPE_CLOSED
                posix.end_group(connection.pid, number)
                self._look_later(worker, killed=True)
            else:
                # Not born yet: look again soon, for as long as its launcher lives.
                self.signal_later(0.02, worker)

    def forget(self, connection: WorkerConnection) -> None:
        """Its process is gone: its slot is free."""
        del self.connections[connection.number]
        self.board.identify(connection.slot, 0)
        if not connection.ended:
            self.pipes.unregister(connection.pipe.fileno())
        connection.pipe.close()
        self.release(connection.number, connection.slot)

    def release(self, worker: int, slot: int) -> None:
        """What a worker used that is gone serves others."""
        self._free.append(slot)
        if self.parent_memory is not None:
            self.parent_memory.reap(worker)

    def abandon(self) -> None:
        """In a forked copy of this process: let go of descriptors, touch nothing else."""
        for connection in self.connections.values():
            with contextlib.suppress(OSError):
                os.close(connection.pipe.detach())
        if self.launcher is not None:
            self.launcher.abandon()
        for legacy in self._legacies():
            legacy.abandon()
        for each in (self.poller, self.pipes):
            with contextlib.suppress(OSError):
                each.close()

    def _legacies(self) -> list[inheritance.Legacy]:
        return [self.legacy] if self.preload is None else [self.legacy, self.preload.legacy]

    def close(self) -> None:
        """Let go of everything; no worker is left."""
        for legacy in self._legacies():
            legacy.close()
        self.worker_init = b""
        self.poller.close()
        self.pipes.close()
        for descriptor in self._notes.values():
            os.close(descriptor)
        self._notes.clear()
        if self.parent_memory is not None:
            self.parent_memory.close()
        self.board.close()
        if self.parent_memory is not None:
            # Results that are still viewed keep the file: it is to be no board any more, and to take no memory for one.
            posix.punch_hole(self._board_descriptor, 0, size(self._slots))
        os.close(self._board_descriptor)
