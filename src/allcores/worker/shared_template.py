"""The program's template: a clean process with one thread and all imports done, of which each pool gets a copy.

A copy is the template of one pool (`worker.fork_server`), forked in a few milliseconds, where a fresh interpreter takes
over a hundred. This process runs nobody's code. It forks when the program asks, reaps its copies and tells each
pool how its template ended, and ends when the program closes its end, or is gone.

    program ──(session, told)────────► here ──fork──► template of a pool
    program ◄──BORN(pid)───── told ─── here
    program ◄──DIED(status)── told ─── here ◄─SIGCHLD─ template of a pool
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys

from allcores.system import posix
from allcores.system.sockets import socket_of
from allcores.transport import process_role
from allcores.worker import fork_server, process_reset

#: the program asks for a copy by one byte, the sum of what it is to have loaded
PLAIN, BY_VALUE, LOGS = 0, 1, 2
_LOADED = {BY_VALUE: "cloudpickle", LOGS: "allcores.worker.log_forwarding"}
#: kind and pid, wait status or error number
TOLD = struct.Struct("<ii")
BORN, DIED, NOT_BORN = 1, 2, 3


def run(control_descriptor: int) -> None:
    """Be the program's template until the program closes its end. Never returns."""
    try:
        posix.keep_standard()
        process_role.become_worker()
        # All signals as in a fresh Python, and none that is meant for the program ends this process.
        process_reset.begin()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        # What tasks start and leave behind is reaped here. Nobody else does where the program is the first process of a
        # container.
        posix.adopt_orphans()
        _let_go_of_surroundings()
        gc.collect()
        gc.freeze()
        _SharedTemplate(socket_of(posix.move_fd_high(control_descriptor))).serve()
    finally:
        os._exit(0)


def _let_go_of_surroundings() -> None:
    """Neither files nor folder of the program stay in use by a process that outlives its pools."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    if null > 2:
        os.close(null)
    with contextlib.suppress(OSError):
        os.chdir("/")


class _SharedTemplate:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        #: pid of a copy -> where its end is told
        self._copies: dict[int, int] = {}
        self._alarm_read, self._alarm_write = map(posix.move_fd_high, os.pipe())
        os.set_blocking(self._alarm_write, False)
        os.set_blocking(self._alarm_read, False)
        signal.set_wakeup_fd(self._alarm_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

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
            kind, descriptors, _, _ = socket.recv_fds(self._control, 1, 2)
        except OSError:
            return False
        if not kind:
            return False
        session, told = descriptors
        for flag, module in _LOADED.items():
            if kind[0] & flag and module not in sys.modules:
                # Once here, or in every pool's template: cloudpickle takes 40 to 80 ms.
                with contextlib.suppress(ImportError):
                    importlib.import_module(module)
                gc.freeze()
        here = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            _tell(told, NOT_BORN, error.errno or 0)
            os.close(told)
            pid = -1
        if pid == 0:
            self._become(session, told, here)
        os.close(session)
        if pid > 0:
            self._copies[pid] = told
        return True

    def _become(self, session: int, told: int, parent: int) -> None:
        """In the copy: be the template of a pool, and keep nothing by which the end of others would be hidden."""
        try:
            signal.set_wakeup_fd(-1)
            # Before anything else: whoever is not told yet knows that nothing has begun.
            _tell(told, BORN, os.getpid())
            # A group of its own: Ctrl-C in a terminal must reach the program alone.
            os.setpgid(0, 0)
            self._control.close()
            for descriptor in (told, self._alarm_read, self._alarm_write, *self._copies.values()):
                os.close(descriptor)
            fork_server.run(session, parent)
        except BaseException:
            with contextlib.suppress(BaseException):
                sys.excepthook(*sys.exc_info())
                sys.stderr.flush()
        finally:
            os._exit(127)

    def _reap(self) -> None:
        while (reaped := posix.reap(-1, ours=self._copies)) is not None:
            pid, status, _ = reaped
            told = self._copies.pop(pid, None)
            if told is not None:
                _tell(told, DIED, status or 0)
                os.close(told)


def _tell(told: int, kind: int, value: int) -> None:
    with contextlib.suppress(OSError):
        os.write(told, TOLD.pack(kind, value))
