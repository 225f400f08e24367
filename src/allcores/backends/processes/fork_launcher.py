"""The parent's side of start_method="fork": workers are forked from this very process."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import signal
import sys
from typing import Any

from allcores.backends.processes.launchers import BORN, DIED, NOT_BORN, Notice
from allcores.system import posix
from allcores.system.portable import PORTABLE
from allcores.system.wake_pipe import WakePipe
from allcores.system.watchdog import Watchdog
from allcores.transport import origins, surroundings
from allcores.transport.status_board import Board
from allcores.transport.surroundings import Surroundings


class ForkLauncher:
    """Workers are forked from this very process: they have everything it has, threads excepted."""

    blind: bool = PORTABLE or not hasattr(os, "pidfd_open")
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
        self._wake_pipe = WakePipe()

    def descriptors(self) -> list[int]:
        return [self._wake_pipe.reads, *(pidfd for _, pidfd in self._children.values() if pidfd >= 0)]

    def launch(self, worker: int, slot: int, pipe: int, notes: int) -> Surroundings:
        from allcores.worker.main import serve

        before = surroundings.current()
        parent = os.getpid()
        origins.know_script()
        try:
            # The child runs our worker loop only, and a warning has told the caller.
            pid = posix.fork()
        except OSError as error:
            self._pending.append((NOT_BORN, worker, 0, error.errno or 0, 0))
            self._wake_pipe.wake()
            return before
        if pid == 0:
            try:
                # The parent's ends of all pipes were closed by the at-fork hook of pool.driver:
                # a worker that kept one would hide the parent's death from the others.
                os.environ["ALLCORES_BUDGET"] = str(self._share)
                posix.keep_standard()
                _renew_streams()
                origins.inherit()
                serve(os.dup(pipe), os.dup(notes), self._board, slot, parent, self._preloaded)
            except BaseException:
                posix.end_by_error()
        pidfd = -1
        if not self.blind:
            # Where SIGCHLD is ignored it may be gone already: the end of its pipe is a reason to look, then.
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
            self.blind = pidfd < 0
        self._children[pid] = (worker, pidfd)
        self._watchdog.tell(pid)
        self._pending.append((BORN, worker, pid, 0, 0))
        self._wake_pipe.wake()
        return surroundings.current().of_a_forked_process(before)

    def logged(self) -> bytes:
        return b""

    def report(self) -> bytes:
        return b""

    def resume(self) -> None:
        """There is no process between."""

    def kill(self) -> None:
        """There is no process between."""

    def notices(self) -> list[Notice] | None:
        self._wake_pipe.take()
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
        self._wake_pipe.close()

    def abandon(self) -> None:
        for _, pidfd in self._children.values():
            if pidfd >= 0:
                os.close(pidfd)
        self._children.clear()
        self._watchdog.abandon()


def _renew_streams() -> None:
    """In a forked worker: streams of its own, and the null device as standard input.

    The copies may hold text that the parent has yet to write, or to read, and a lock that another of its threads held.
    """
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    _kept.extend((sys.stdin, sys.__stdin__, sys.__stdout__, sys.__stderr__))
    encoding, errors = _text_of(sys.stdin)
    stdin = open(0, encoding=encoding, errors=errors, closefd=False)  # noqa: SIM115
    sys.stdin = sys.__stdin__ = stdin  # type: ignore[misc]
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        old = getattr(sys, name)
        if old is None:
            setattr(sys, f"__{name}__", None)
            continue
        _kept.append(old)  # its end would write what it holds
        encoding, errors = _text_of(old)
        stream = open(descriptor, "w", encoding=encoding, errors=errors, closefd=False, buffering=1)  # noqa: SIM115
        unbuffered = False
        with contextlib.suppress(Exception):
            unbuffered = bool(old.write_through)  # PYTHONUNBUFFERED
        if unbuffered:
            raw = stream.buffer.detach()  # type: ignore[attr-defined]
            stream = io.TextIOWrapper(raw, encoding=encoding, errors=errors, write_through=True)
        setattr(sys, name, stream)
        # What goes back to these finds the worker's own.
        setattr(sys, f"__{name}__", stream)


def _text_of(stream: Any) -> tuple[str, str | None]:
    """Encoding and errors of a stream, which may be of any class: UTF-8 and None where it names none that there are."""
    encoding, errors = "utf-8", None
    with contextlib.suppress(Exception):
        encoding = io.TextIOWrapper(io.BytesIO(), encoding=stream.encoding or "utf-8").encoding
    with contextlib.suppress(Exception):
        codecs.lookup_error(stream.errors)
        errors = stream.errors
    return encoding, errors


_kept: list[object] = []
