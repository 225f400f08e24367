"""The parent's side of starting workers: through a template, or by forking itself.

Both answer with the same notices, (kind, worker, pid, wait status, largest resident bytes), where
kind is BORN, DIED or NOT_BORN of `worker.template`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import struct
import sys
import warnings
from typing import Protocol

from allcores import budget
from allcores.supervision import system
from allcores.transport.board import Board
from allcores.worker.template import BORN, DIED, FORK, NOT_BORN, NOTICE, REQUEST, SPAWN

Notice = tuple[int, int, int, int, int]

#: seconds that the template may take to go away by itself
TEMPLATE_END_S = 2.0


class Launcher(Protocol):
    """Starts workers and tells how they end. Used by the driver thread alone."""

    #: no descriptor of it tells of a worker's death: `notices` has to be asked
    blind: bool

    def descriptors(self) -> list[int]:
        """What to wait on for notices."""

    def launch(self, worker: int, slot: int, pipe: int, notes: int) -> None:
        """Start a worker; it gets copies of the two descriptors."""

    def notices(self) -> list[Notice] | None:
        """What happened since; None if the launcher itself is lost."""

    def close(self) -> None:
        """Nothing of it is left after this."""

    def abandon(self) -> None:
        """In a forked copy of the parent: let go of descriptors, touch nothing else."""


class TemplateLauncher:
    """Workers are forked from a clean process ("template"), or are fresh interpreters ("spawn")."""

    blind = False

    def __init__(self, board_descriptor: int, slots: int, threads: int, share: int, *, spawn: bool, logs: bool) -> None:
        self._kind = SPAWN if spawn else FORK
        ours, theirs = socket.socketpair()
        environment = {**os.environ, **budget.thread_environment(threads), "ALLCORES_BUDGET": str(share)}
        import subprocess  # 7 ms that only this start method needs

        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        code = (
            f"import sys; sys.path.insert(0, {package!r}); "
            f"from allcores.worker.template import run; run({theirs.fileno()})"
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
        theirs.close()
        settings = pickle.dumps(
            {
                "path": list(sys.path),
                "argv": list(sys.argv),
                "folder": _folder(),
                "slots": slots,
                "flags": flags,
                "logs": logs,
            }
        )
        # One that ended at once shows as end of file in notices(), like one that is lost later.
        with contextlib.suppress(OSError):
            ours.sendall(struct.pack("<Q", len(settings)) + settings)
            socket.send_fds(ours, [b"b"], [board_descriptor])
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
            return None
        data = self._rest + data
        whole = len(data) // NOTICE.size * NOTICE.size
        self._rest = data[whole:]
        return [NOTICE.unpack_from(data, offset) for offset in range(0, whole, NOTICE.size)]

    def close(self) -> None:
        self._control.close()
        try:
            self._process.wait(TEMPLATE_END_S)
        except Exception:  # subprocess.TimeoutExpired
            self._process.kill()
            self._process.wait()

    def abandon(self) -> None:
        # A copy of our end would hide the parent's death from the template.
        self._control.close()


class ForkLauncher:
    """Workers are forked from this very process: they have everything it has, threads excepted."""

    blind = not hasattr(os, "pidfd_open")

    def __init__(self, board: Board, share: int) -> None:
        self._board = board
        #: cores that a worker's nested pools may use
        self._share = share
        #: pid -> (worker, pidfd or -1)
        self._children: dict[int, tuple[int, int]] = {}
        self._pending: list[Notice] = []
        self._watchman = Watchman()
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
                # The parent's ends of all pipes were closed by the at-fork hook of engine.driver:
                # a worker that kept one would hide the parent's death from the others.
                os.environ["ALLCORES_BUDGET"] = str(self._share)
                null = os.open(os.devnull, os.O_RDONLY)
                os.dup2(null, 0)
                os.close(null)
                _renew_streams()
                serve(os.dup(pipe), os.dup(notes), self._board, slot, parent)
            finally:
                os._exit(127)
        pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
        self._children[pid] = (worker, pidfd)
        self._watchman.tell(pid)
        self._pending.append((BORN, worker, pid, 0, 0))
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def notices(self) -> list[Notice] | None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        found, self._pending = self._pending, []
        for pid, (worker, pidfd) in list(self._children.items()):
            buried = system.bury(pid)
            if buried is None:
                continue
            del self._children[pid]
            self._watchman.tell(-pid)
            if pidfd >= 0:
                os.close(pidfd)
            found.append((DIED, worker, *buried))
        return found

    def close(self) -> None:
        for pid, (_, pidfd) in self._children.items():
            system.end_group(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            if pidfd >= 0:
                os.close(pidfd)
        self._children.clear()
        self._watchman.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def abandon(self) -> None:
        for _, pidfd in self._children.values():
            if pidfd >= 0:
                os.close(pidfd)
        self._children.clear()
        self._watchman.abandon()


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


class Watchman:
    """A small process that ends the groups of forked workers when the parent is gone.

    The kernel ends the workers themselves (PR_SET_PDEATHSIG), but not what their tasks have forked.
    With a template, the template does this.
    """

    def __init__(self) -> None:
        read, self._write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            self._watch(read)
        os.close(read)

    def _watch(self, read: int) -> None:
        """In the child: note pids (a negative one is gone) until the pipe ends; then end their groups."""
        try:
            os.setpgid(0, 0)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            # A copy of anybody's descriptor would keep it open for as long as we live.
            low = os.dup2(read, 3) if read != 3 else 3
            os.closerange(0, 3)
            os.closerange(low + 1, os.sysconf("SC_OPEN_MAX"))
            alive: set[int] = set()
            while data := os.read(low, 8 * 512):
                for (pid,) in struct.iter_unpack("<q", data):
                    (alive.add if pid > 0 else alive.discard)(abs(pid))
            for pid in alive:
                system.end_group(pid, signal.SIGKILL)
        finally:
            os._exit(0)

    def tell(self, pid: int) -> None:
        """A worker was born, or (negative) is gone."""
        with contextlib.suppress(OSError):
            os.write(self._write, struct.pack("<q", pid))

    def close(self) -> None:
        """End it; every worker is gone."""
        os.close(self._write)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def abandon(self) -> None:
        """In a forked copy of the parent: a copy of our end would hide the parent's death."""
        os.close(self._write)


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return os.path.sep


__all__ = ["BORN", "DIED", "NOT_BORN", "ForkLauncher", "Launcher", "Notice", "TemplateLauncher"]
