"""The parent's side of starting workers: through a template, or by forking itself.

Both answer with the same notices, (kind, worker, pid, wait status or None, largest resident bytes), where
kind is BORN, DIED or NOT_BORN of `worker.fork_server`; for worker 0 a template tells how its preload goes.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import socket
import struct
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

from allcores.system import cores, own_imports, posix
from allcores.system.watchdog import Watchdog
from allcores.transport import authkey, origins, tracker
from allcores.transport.status_board import Board
from allcores.worker.fork_server import (
    BORN,
    DIED,
    FORK,
    NOT_BORN,
    NOTICE,
    PRELOAD_FAILED,
    PRELOADED,
    PRELOADING,
    REQUEST,
    SPAWN,
    THREADED,
)

Notice = tuple[int, int, int, int | None, int]

#: seconds that the template may take to go away by itself
TEMPLATE_END_S = 2.0
#: seconds that it may take to go once it was killed: more than a busy machine needs
KILLED_END_S = 60.0


class Launcher(Protocol):
    """Starts workers and tells how they end. Used by the driver thread alone."""

    #: no descriptor of it tells of a worker's death: `notices` has to be asked
    blind: bool
    #: it can start workers now; one that still preloads cannot
    ready: bool
    #: it is in the middle of the preload function
    preloading: bool
    #: once it is closed: wait status, None if it is unknown
    status: int | None
    #: of the process between this one and the workers; 0: there is none
    pid: int

    def report(self) -> bytes:
        """What the preload left: a packed error, why it cannot be shared, or a fatal signal's stack."""

    def descriptors(self) -> list[int]:
        """What to wait on for notices."""

    def launch(self, worker: int, slot: int, pipe: int, notes: int) -> None:
        """Start a worker; it gets copies of the two descriptors."""

    def notices(self) -> list[Notice] | None:
        """What happened since; None if the launcher itself is lost."""

    def kill(self) -> None:
        """End what starts the workers, whatever it is doing."""

    def close(self) -> None:
        """Nothing of it is left after this."""

    def abandon(self) -> None:
        """In a forked copy of the parent: let go of descriptors, touch nothing else."""


class TemplateLauncher:
    """Workers are forked from a clean process ("template"), or are fresh interpreters ("spawn").

    Args:
        preload: What the template loads before it forks, as bytes; None: nothing.
        modules: What it imports before.
        descriptors: What goes along with that.
    """

    blind = False

    def __init__(
        self,
        board_descriptor: int,
        slots: int,
        threads: int,
        share: int,
        *,
        spawn: bool,
        logs: bool = False,
        preload: bytes | None = None,
        modules: Sequence[str] = (),
        descriptors: Sequence[int] = (),
    ) -> None:
        self._kind = SPAWN if spawn else FORK
        self.ready = preload is None
        self.preloading = False
        self.status: int | None = None
        #: end of file was seen: it is about to go by itself
        self._ended = False
        self._report = -1
        self._last_report = b""
        ours, theirs = socket.socketpair()
        environment = {**os.environ, **cores.thread_environment(threads), "ALLCORES_BUDGET": str(share)}
        import subprocess  # 7 ms that only this start method needs

        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
        # What we import comes from where Python keeps it: not from the working folder, and from the folder of
        # allcores only allcores itself. Functions of the program find theirs once its sys.path is there.
        foreign = own_imports.foreign()
        code = (
            "import sys; sys.flags.safe_path or sys.path.pop(0); "
            f"sys.path.insert(0, {package!r}); from allcores.system import own_imports; sys.path.pop(0); "
            f"own_imports.install({foreign!r}); "
            f"from allcores.worker.fork_server import run; run({theirs.fileno()})"
        )
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        # A group of its own: Ctrl-C in a terminal must reach the parent alone.
        self._process = subprocess.Popen(
            [sys.executable, *flags, "-c", code],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=environment,
            process_group=0,
        )
        self.pid = self._process.pid
        theirs.close()
        tracked = tracker.descriptors() if preload is not None else []
        settings = pickle.dumps(
            {
                "path": list(sys.path),
                "argv": list(sys.argv),
                "folder": _folder(),
                "slots": slots,
                "flags": flags,
                "theirs": foreign,
                "parent": os.getpid(),
                "modules": list(modules),
                "logs": logs,
                "authkey": authkey.current(),
                "tracked": len(tracked),
            }
        )
        files = [board_descriptor]
        if preload is not None:
            # In a file: what is handed over may be large, and a template that has yet to start reads nothing.
            files += (_file_with(preload), posix.anonymous_file("report"))
            self._report = files[2]
        # One that ended at once shows as end of file in notices(), like one that is lost later.
        with contextlib.suppress(OSError):
            ours.sendall(struct.pack("<Q", len(settings)) + settings)
            socket.send_fds(ours, [b"b"], [*files, *tracked, *descriptors])
        if preload is not None:
            os.close(files[1])
        ours.setblocking(False)
        self._control = ours
        self._rest = b""

    def descriptors(self) -> list[int]:
        return [self._control.fileno()]

    def launch(self, worker: int, slot: int, pipe: int, notes: int) -> None:
        request = REQUEST.pack(self._kind, worker, slot)
        self._control.setblocking(True)
        self._control.settimeout(10.0)
        try:
            # A lost template shows as end of file in notices(), which starts a new one.
            with contextlib.suppress(OSError):
                socket.send_fds(self._control, [request], [pipe, notes])
        finally:
            self._control.setblocking(False)

    def notices(self) -> list[Notice] | None:
        try:
            data = self._control.recv(NOTICE.size * 256)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self._ended = True
            return None
        data = self._rest + data
        whole = len(data) // NOTICE.size * NOTICE.size
        self._rest = data[whole:]
        notices = [NOTICE.unpack_from(data, offset) for offset in range(0, whole, NOTICE.size)]
        for kind, *_ in notices:
            if kind == PRELOADING:
                self.preloading = True
            elif kind in (PRELOADED, PRELOAD_FAILED, THREADED):
                self.preloading = False
                self.ready = kind == PRELOADED
        return notices

    def report(self) -> bytes:
        return os.pread(self._report, os.fstat(self._report).st_size, 0) if self._report >= 0 else self._last_report

    def kill(self) -> None:
        """End it, whatever it is doing, and what its preload has started."""
        posix.end_group(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        self._control.close()
        if not self.ready and not self._ended:
            # Its loop, which would see the end of the socket, is still far away.
            self.kill()
        try:
            self.status = posix.wait_for(self.pid, TEMPLATE_END_S)
        except TimeoutError:
            self.kill()
            self.status = posix.wait_for(self.pid, KILLED_END_S)
        # Popen takes a child that was reaped elsewhere for one that ended well.
        self._process.returncode = os.waitstatus_to_exitcode(self.status) if self.status is not None else 0
        if self._report >= 0:
            self._last_report = self.report()
            os.close(self._report)
            self._report = -1

    def abandon(self) -> None:
        # A copy of our end would hide the parent's death from the template.
        self._control.close()
        if self._report >= 0:
            os.close(self._report)
            self._report = -1


class ForkLauncher:
    """Workers are forked from this very process: they have everything it has, threads excepted."""

    blind: bool = not hasattr(os, "pidfd_open")
    ready = True
    preloading = False
    status: int | None = None
    pid = 0

    def __init__(self, board: Board, share: int, preloaded: tuple[Any, ...] | None = None) -> None:
        self._board = board
        #: what the preload function returned, in a tuple, for the workers to have in common; None: there was none
        self._preloaded = preloaded
        #: cores that a worker's nested pools may use
        self._share = share
        #: pid -> (worker, pidfd or -1)
        self._children: dict[int, tuple[int, int]] = {}
        self._pending: list[Notice] = []
        self._watchdog = Watchdog()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)

    def descriptors(self) -> list[int]:
        return [self._wake_read, *(pidfd for _, pidfd in self._children.values() if pidfd >= 0)]

    def launch(self, worker: int, slot: int, pipe: int, notes: int) -> None:
        from allcores.worker.main import serve

        parent = os.getpid()
        try:
            with warnings.catch_warnings():
                # Python 3.12 warns that forking with threads may deadlock: the child runs our worker
                # loop only, and the warning above has told the caller.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
        except OSError as error:
            self._pending.append((NOT_BORN, worker, 0, error.errno or 0, 0))
            self._wake()
            return
        if pid == 0:
            try:
                # The parent's ends of all pipes were closed by the at-fork hook of pool.driver:
                # a worker that kept one would hide the parent's death from the others.
                os.environ["ALLCORES_BUDGET"] = str(self._share)
                posix.keep_standard()
                null = os.open(os.devnull, os.O_RDONLY)
                os.dup2(null, 0)
                os.close(null)
                _renew_streams()
                origins.inherit()
                if self._preloaded is not None:
                    # Or the first collection would write into the head of each object, and so copy its page.
                    gc.freeze()
                serve(os.dup(pipe), os.dup(notes), self._board, slot, parent, self._preloaded)
            finally:
                os._exit(127)
        pidfd = -1
        if not self.blind:
            # Where SIGCHLD is ignored it may be gone already: the end of its pipe is a reason to look, then.
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
            self.blind = pidfd < 0
        self._children[pid] = (worker, pidfd)
        self._watchdog.tell(pid)
        self._pending.append((BORN, worker, pid, 0, 0))
        self._wake()

    def report(self) -> bytes:
        return b""

    def kill(self) -> None:
        """There is no process between."""

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def notices(self) -> list[Notice] | None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        found, self._pending = self._pending, []
        for pid, (worker, pidfd) in list(self._children.items()):
            reaped = posix.reap(pid)
            if reaped is None:
                continue
            del self._children[pid]
            self._watchdog.tell(-pid)
            if pidfd >= 0:
                os.close(pidfd)
            found.append((DIED, worker, *reaped))
        return found

    def close(self) -> None:
        for pid, (_, pidfd) in self._children.items():
            posix.end_group(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            if pidfd >= 0:
                os.close(pidfd)
        self._children.clear()
        self._watchdog.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def abandon(self) -> None:
        for _, pidfd in self._children.values():
            if pidfd >= 0:
                os.close(pidfd)
        self._children.clear()
        self._watchdog.abandon()


def _renew_streams() -> None:
    """In a forked worker: streams of its own.

    The copies may hold text that the parent has yet to write, and a lock that another of its threads held.
    """
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        old = getattr(sys, name)
        if old is None:
            continue
        _kept.append(old)  # its end would write what it holds
        encoding, errors = getattr(old, "encoding", "utf-8"), getattr(old, "errors", None)
        stream = open(descriptor, "w", encoding=encoding, errors=errors, closefd=False, buffering=1)  # noqa: SIM115
        setattr(sys, name, stream)


_kept: list[object] = []


def _file_with(data: bytes) -> int:
    """Descriptor of a file in memory that holds `data`."""
    descriptor = posix.anonymous_file("preload")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    # Whoever gets the descriptor shares the position.
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return os.path.sep


__all__ = [
    "BORN",
    "DIED",
    "NOT_BORN",
    "PRELOADED",
    "PRELOADING",
    "PRELOAD_FAILED",
    "THREADED",
    "ForkLauncher",
    "Launcher",
    "Notice",
    "TemplateLauncher",
]
