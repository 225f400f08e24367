"""The template: a clean process with one thread, from which workers are forked in milliseconds.

It does three things, in one loop: forks when the parent asks, buries its children and tells the
parent how they died, and ends everything when the parent is gone. It runs no user code.

    parent ──FORK(worker, slot, pipe, notes)──► template ──fork──► worker
    parent ◄──BORN(worker, pid)──────────────── template
    parent ◄──DIED(worker, pid, status, rss)─── template ◄─SIGCHLD─ worker
"""

from __future__ import annotations

import contextlib
import ctypes  # noqa: F401  (every worker needs it: imported once, here)
import gc
import os
import select
import signal
import socket
import struct
import sys
from importlib import import_module

from allcores.supervision import system
from allcores.supervision.system import bury
from allcores.transport.board import Board
from allcores.worker import main as worker_main

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: kind, worker, slot
REQUEST = struct.Struct("<III")
FORK, SPAWN = 1, 2
#: kind, worker, pid, wait status, largest resident memory in bytes
NOTICE = struct.Struct("<IIiiQ")
BORN, DIED, NOT_BORN = 11, 12, 13


def run(control_descriptor: int) -> None:
    """Be the template until the parent closes its end. Never returns."""
    control = socket.socket(fileno=control_descriptor)
    template = _Template(control)
    try:
        template.serve()
    finally:
        template.end_all()
        os._exit(0)


class _Template:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        #: pid -> worker
        self._children: dict[int, int] = {}
        length = struct.unpack("<Q", self._read(8))[0]
        import pickle

        settings: dict[str, Any] = pickle.loads(self._read(length))
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        self._board_descriptor = descriptors[0]
        self._slots: int = settings["slots"]
        #: of the parent's interpreter, for fresh ones
        self._flags: list[str] = settings["flags"]
        self._board = Board(self._board_descriptor, self._slots)
        sys.path[:] = settings["path"]
        sys.argv[:] = settings["argv"]
        with contextlib.suppress(OSError):
            os.chdir(settings["folder"])
        self._alarm_read, self._alarm_write = os.pipe()
        os.set_blocking(self._alarm_write, False)
        os.set_blocking(self._alarm_read, False)
        signal.set_wakeup_fd(self._alarm_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # The parent's children are its to end; a polite request must not orphan them.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # Functions of __main__ and lambdas need it: 40 ms once here, or in every worker after every crash.
        with contextlib.suppress(ImportError):
            import_module("cloudpickle")
        if settings["logs"]:
            import_module("allcores.worker.logs")
        gc.collect()
        gc.freeze()

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._control.recv(count - len(data))
            if not more:
                os._exit(0)
            data += more
        return data

    def serve(self) -> None:
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._alarm_read, select.POLLIN)
        while True:
            for descriptor, _ in poller.poll():
                if descriptor == self._alarm_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._alarm_read, 512)
                    self._bury()
                elif not self._obey():
                    return

    def _obey(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, REQUEST.size, 2)
        except OSError:
            return False
        if not data:
            return False
        kind, worker, slot = REQUEST.unpack(data)
        pipe, notes = descriptors
        template = os.getpid()
        try:
            pid = os.fork()
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
            self._control.close()
            os.close(self._alarm_read)
            os.close(self._alarm_write)
            if kind == FORK:
                worker_main.serve(pipe, notes, self._board, slot, template)
            numbers = [pipe, notes, self._board_descriptor]
            for descriptor in numbers:
                os.set_inheritable(descriptor, True)
            words = [*map(str, numbers), str(self._slots), str(slot), str(template)]
            code = (
                f"import sys; sys.path[:] = {sys.path!r}; sys.argv[1:] = []; "
                f"from allcores.worker.main import spawned; spawned({words!r})"
            )
            os.execv(sys.executable, [sys.executable, *self._flags, "-c", code])
        finally:
            os._exit(127)

    def _bury(self) -> None:
        """Collect dead children, and end what they forked, before their pids can be used again."""
        while self._children:
            buried = bury(-1)
            if buried is None:
                return
            pid, status, memory = buried
            worker = self._children.pop(pid, None)
            if worker is not None:
                self._tell(DIED, worker, pid, status, memory)

    def _tell(self, kind: int, worker: int, pid: int, status: int, memory: int) -> None:
        with contextlib.suppress(OSError):
            self._control.sendall(NOTICE.pack(kind, worker, pid, status, memory))

    def end_all(self) -> None:
        """The parent is gone or done: nobody outlives it."""
        for pid in self._children:
            system.end_group(pid, signal.SIGKILL)
