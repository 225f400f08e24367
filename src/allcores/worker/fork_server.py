"""The template of a pool: a clean process with one thread, from which workers are forked in milliseconds.

It is a copy of the program's template (`worker.shared_template`), and does three things, in one loop: forks when the
parent asks, reaps its children and tells the parent how they died, and ends everything when the parent is gone. The
only user code that it runs is the pool's preload function, once, before that loop. What it loaded is every worker's,
by copy-on-write.

    parent ◄──PRELOADING, then PRELOADED─────── template   (or PRELOAD_FAILED, or THREADED: it must not fork)
    parent ──FORK(worker, slot, pipe, notes)──► template ──fork──► worker
    parent ◄──BORN(worker, pid)──────────────── template
    parent ◄──DIED(worker, pid, status, rss)─── template ◄─SIGCHLD─ worker
"""

from __future__ import annotations

import contextlib
import ctypes  # noqa: F401  (every worker needs it: imported once, here)
import gc
import os
import pickle
import select
import signal
import socket
import struct
import sys
from importlib import import_module

from allcores.system import posix, standard_streams
from allcores.system.posix import move_fd_high, reap
from allcores.system.sockets import socket_of
from allcores.transport import authkey, inheritance, tracker
from allcores.transport.exceptions import pack_error
from allcores.transport.pickling import dumps
from allcores.transport.status_board import Board
from allcores.worker import identity, inherited, process_reset, starting_state
from allcores.worker import main as worker_main

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from allcores.system.watchdog import Watchdog

#: kind, worker, slot
REQUEST = struct.Struct("<III")
FORK, SPAWN = 1, 2
#: kind, worker, pid, wait status, largest resident memory in bytes
NOTICE = struct.Struct("<IIiiQ")
BORN, DIED, NOT_BORN = 11, 12, 13
#: of the preload function, for worker 0; details of the last two stand in the report, a file
PRELOADING, PRELOADED, PRELOAD_FAILED, THREADED = 21, 22, 23, 24


def run(control_descriptor: int, parent: int) -> None:
    """Be the template until the program closes its end. Never returns.

    Args:
        parent: Pid of the program's template, which has forked this process.
    """
    # Out of the way of what the preload function opens and closes, and not for the programs that it starts.
    control = socket_of(move_fd_high(control_descriptor))
    template = _Template(control, parent)
    try:
        template.serve()
    finally:
        template.end_all()
        os._exit(0)


class _Template:
    def __init__(self, control: socket.socket, parent: int) -> None:
        self._control = control
        #: pid -> worker
        self._children: dict[int, int] = {}
        given, self._board_descriptor, out, err, *folder = self._receive()
        with open(given, "rb") as file:
            settings: dict[str, Any] = pickle.load(file)
        starting_state.adopt(settings, out, err, folder[0] if folder else None)
        self._slots: int = settings["slots"]
        #: of the parent's interpreter, for fresh ones
        self._flags: list[str] = settings["flags"]
        #: see `allcores.system.own_imports`
        self._theirs: list[str] = settings["theirs"]
        self._board = Board(self._board_descriptor, self._slots)
        identity.program_name = settings["process_name"]
        self._alarm_read, self._alarm_write = map(move_fd_high, os.pipe())
        os.set_blocking(self._alarm_write, False)
        os.set_blocking(self._alarm_read, False)
        self._watchdog: Watchdog | None = None
        #: Of the hashes of texts in fresh interpreters, one for all of them, as with forked ones. None: the program's.
        self._seed = None if "PYTHONHASHSEED" in os.environ else str(int.from_bytes(os.urandom(4), "little"))
        #: what the preload function returned: () or a tuple of one; None if there is none
        self._preloaded: tuple[Any, ...] | None = None
        self._listen()
        if settings["logs"] is not None:
            import_module("allcores.worker.log_forwarding")
        if settings["preloads"]:
            self._end_if_abandoned()
            payload, report, *handed = self._receive()
            notes = -1 if settings["logs"] is None else handed.pop(0)
            inherited.begin()
            identity.take(self._board.name_of(None), 0, self._board.parent)
            if settings["authkey"] is not None:
                authkey.adopt(bytes(settings["authkey"]))
            tracker.share(handed[: settings["tracked"]])
            del handed[: settings["tracked"]]
            with inheritance.opening(handed):
                self._preload(payload, report, settings["modules"], parent, notes, settings["logs"])
            gc.collect()
            gc.freeze()
            self._tell(PRELOADED, 0, 0, 0, 0)

    def _listen(self) -> None:
        """Handle signals; also after the preload function, which may have done so, too."""
        # What the program ignores or blocks came along: nobody would tell of a child's end.
        process_reset.begin()
        signal.set_wakeup_fd(self._alarm_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # The parent's children are its to end; a polite request must not orphan them. A handler, not SIG_IGN, which
        # programs that the preload function starts would inherit.
        signal.signal(signal.SIGTERM, lambda *_: None)

    def _preload(
        self, payload: int, report: int, modules: list[str], parent: int, notes: int, logs: bytes | None
    ) -> None:
        """Run the preload function; where that does not end well, tell and end.

        Args:
            payload: Descriptor of the file with it.
            report: Of the file for what is to be said of its end.
            modules: To be imported before.
            parent: Pid of the program's template.
            notes: Of the file for what it logs and prints; -1: there is none.
            logs: What of that is wanted, as a worker is told it.
        """
        import faulthandler

        from allcores.system.watchdog import Watchdog
        from allcores.worker import preload

        template = os.getpid()
        self._watchdog = Watchdog()
        self._watchdog.tell(template)
        # A copy of the socket in a process that the function forks would hide the end of this one, and of the parent.
        os.register_at_fork(after_in_child=self._let_go)
        faulthandler.enable(report, all_threads=False)
        # The loop, which would notice that the parent is gone, is still far away.
        posix.die_with_parent(parent)
        self._tell(PRELOADING, 0, 0, 0, 0)
        before = set(sys.modules)
        log_forwarding: Any = None
        note_file: Any = None
        if logs is not None:
            log_forwarding = import_module("allcores.worker.log_forwarding")
            note_file = log_forwarding.NoteFile(notes)
            log_forwarding.install(note_file, logs)
        try:
            for name in modules:
                # Whoever needs it will say what is wrong with it.
                with contextlib.suppress(BaseException):
                    import_module(name)
            with open(payload, "rb") as file:
                data = file.read()
            self._preloaded = preload.load(data)
            del data
        except BaseException as error:
            if os.getpid() == template:
                inherited.end_soon()
                if log_forwarding is not None:
                    log_forwarding.uninstall()
                os.pwrite(report, dumps(pack_error(error, skip_frames=preload.FRAMES)), 0)
                self._tell(PRELOAD_FAILED, 0, 0, 0, 0)
            self._end(template)
        if os.getpid() != template:
            # The function forked, and this is the copy: there is one template only.
            self._end(template)
        faulthandler.disable()
        preload.flush()
        if log_forwarding is not None:
            # Each worker has its own way to the program.
            log_forwarding.uninstall()
            note_file.close()
            os.close(notes)
        self._listen()
        if preload.leaves_threads():
            os.pwrite(report, preload.describe_threads(before).encode(), 0)
            self._tell(THREADED, 0, 0, 0, 0)
            self._end(template)
        os.close(report)
        # From here on the loop looks after that, and ends first what the workers have forked.
        posix.outlive_parent(parent)

    def _let_go(self) -> None:
        """In a copy of the template: what is open here would hide the end of others."""
        self._control.close()
        if self._watchdog is not None:
            self._watchdog.abandon()
            self._watchdog = None

    def _end(self, template: int) -> None:
        with contextlib.suppress(BaseException):
            standard_streams.flush()
        if os.getpid() == template:
            self.end_all()
        os._exit(0)

    def _receive(self) -> list[int]:
        """The descriptors of the next message; ends this process if the program has none for it any more."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 1, 253)
        except OSError:
            data = b""
        if not data:
            os._exit(0)
        return list(map(move_fd_high, descriptors))

    def _end_if_abandoned(self) -> None:
        """End this process if the pool was closed before it began."""
        looking = select.poll()
        looking.register(self._control, 0)
        if looking.poll(0):
            os._exit(0)

    def serve(self) -> None:
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._alarm_read, select.POLLIN)
        while True:
            for descriptor, _ in poller.poll():
                if descriptor == self._alarm_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._alarm_read, 512)
                    self._reap()
                elif not self._execute():
                    return

    def _execute(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, REQUEST.size, 2)
        except OSError:
            return False
        if not data:
            return False
        kind, worker, slot = REQUEST.unpack(data)
        pipe, notes = descriptors
        template = os.getpid()
        if kind == FORK and self._board.by_value and "cloudpickle" not in sys.modules:
            # Once here, or in every worker after every crash: 40 to 80 ms, half of what a template takes to start. So
            # only for a pool that needs it.
            with contextlib.suppress(ImportError):
                import_module("cloudpickle")
            gc.freeze()
        try:
            pid = posix.fork()
        except OSError as error:
            self._tell(NOT_BORN, worker, 0, error.errno or 0, 0)
            pid = -1
        if pid == 0:
            self._become(kind, pipe, notes, slot, template)
        os.close(pipe)
        os.close(notes)
        if pid > 0:
            self._children[pid] = worker
            self._tell(BORN, worker, pid, 0, 0)
        return True

    def _become(self, kind: int, pipe: int, notes: int, slot: int, template: int) -> None:
        """In the child: be a worker, here or in a fresh interpreter."""
        try:
            signal.set_wakeup_fd(-1)
            self._let_go()
            os.close(self._alarm_read)
            os.close(self._alarm_write)
            if kind == FORK:
                worker_main.serve(pipe, notes, self._board, slot, template, self._preloaded)
            numbers = [pipe, notes, self._board_descriptor]
            for descriptor in numbers:
                os.set_inheritable(descriptor, True)
            words = [*map(str, numbers), str(self._slots), str(slot), str(template), identity.program_name]
            package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
            # As the program's template itself was started: see `backends.processes.templates`.
            environ, first = dict(os.environ), ""
            if self._seed is not None:
                # For this interpreter alone: tasks, and programs that they start, find what the program has.
                environ["PYTHONHASHSEED"], first = self._seed, "import os; del os.environ['PYTHONHASHSEED']; "
            code = (
                f"{first}import sys; sys.flags.safe_path or sys.path.pop(0); "
                f"sys.path.insert(0, {package!r}); from allcores.system import own_imports; sys.path.pop(0); "
                f"own_imports.install({self._theirs!r}); sys.argv[1:] = []; "
                f"from allcores.worker.main import spawned; sys.path[:] = {sys.path!r}; spawned({words!r})"
            )
            os.execve(sys.executable, [sys.executable, *self._flags, "-c", code], environ)
        except BaseException:
            posix.end_by_error()

    def _reap(self) -> None:
        """Collect dead children, and end what they forked, before their pids can be used again."""
        while self._children:
            reaped = reap(-1)
            if reaped is None:
                return
            pid, status, memory = reaped
            worker = self._children.pop(pid, None)
            if worker is not None:
                self._tell(DIED, worker, pid, status or 0, memory)

    def _tell(self, kind: int, worker: int, pid: int, status: int, memory: int) -> None:
        with contextlib.suppress(OSError):
            self._control.sendall(NOTICE.pack(kind, worker, pid, status, memory))

    def end_all(self) -> None:
        """The parent is gone or done: nobody outlives it."""
        for pid in self._children:
            posix.end_group(pid, signal.SIGKILL)
        if self._watchdog is not None:
            # What the preload function has started, and then this process itself.
            self._watchdog.tell(-os.getpid())
            self._watchdog.close()
            os.killpg(0, signal.SIGKILL)
