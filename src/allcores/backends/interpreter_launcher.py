"""Starts workers that are interpreters of this process, each on a thread of its own and with a lock (GIL) of its own.

A thread cannot be ended from outside, and an interpreter not as long as a thread runs in it. So a worker that is to end
in the middle of an item is let go: it is told as dead, nobody listens to it any more, and it ends when its item does.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any
from weakref import finalize

from allcores.backends.processes.connection import WorkerConnection
from allcores.backends.processes.launchers import BORN, DIED, NOT_BORN, Notice
from allcores.system.wake_pipe import WakePipe
from allcores.system.weak_objects import WeakObjects
from allcores.transport import surroundings
from allcores.transport.surroundings import Surroundings

#: seconds that closing waits for threads whose workers have ended, while they clear their interpreters away
CLOSE_S = 5.0
#: seconds that the end of the program waits for interpreters in which something still runs
EXIT_S = 5.0
#: the threads that have an interpreter
_keepers: WeakObjects[threading.Thread] = WeakObjects()

_ENTRY = """\
import sys
sys.path[:] = {path!r}
sys.argv[:] = {argv!r}
sys.dont_write_bytecode = {bytecode!r}
from allcores.worker.interpreter import serve
serve({pipe}, {board}, {slots}, {slot}, {share}, {environ!r})
"""


class InterpreterLauncher:
    """See the module, and `Launcher`.

    Args:
        board_descriptor: Of the status board's file, which each worker gets a copy of.
        slots: On the board.
        share: Cores that a worker and its nested pools may use.
        connections: The workers', for the reasons of their ends; on the driver thread alone.
    """

    blind = False
    ready = True
    preloading = False
    status: int | None = None
    pid = 0

    def __init__(
        self, board_descriptor: int, slots: int, share: int, connections: Mapping[int, WorkerConnection]
    ) -> None:
        self._board_descriptor = board_descriptor
        self._slots = slots
        self._share = share
        self._connections = connections
        #: of the workers whose interpreters are in use, also of those that were let go
        self._threads: dict[int, threading.Thread] = {}
        #: ... and of those that clear their interpreters away
        self._leaving: list[threading.Thread] = []
        #: (worker, why it ended if not by itself), from their threads
        self._ended: deque[tuple[int, str]] = deque()
        self._let_go: deque[int] = deque()
        self._pending: list[Notice] = []
        #: those whose interpreters are not in use any more, since `over` was asked
        self._over: list[int] = []
        self._wake_pipe = WakePipe()
        #: the write end is not closed while a thread uses it
        self._lock = threading.Lock()

    def descriptors(self) -> list[int]:
        """See Launcher."""
        return [self._wake_pipe.reads]

    def logged(self) -> bytes:
        return b""

    def report(self) -> bytes:
        """See Launcher: nothing is loaded for all workers."""
        return b""

    def resume(self) -> None:
        """A thread cannot be stopped alone."""

    def kill(self) -> None:
        """See Launcher: there is no process between."""

    def launch(self, worker: int, slot: int, pipe: int, notes: int) -> Surroundings:
        """See Launcher: the process is the same, and of the rest an interpreter has what a fresh one has."""
        around = surroundings.current()
        path = [each for each in around.path if isinstance(each, str)]
        descriptors = [os.dup(pipe), os.dup(self._board_descriptor)]
        code = _ENTRY.format(
            path=path,
            argv=list(sys.argv),
            bytecode=sys.dont_write_bytecode,
            pipe=descriptors[0],
            board=descriptors[1],
            slots=self._slots,
            slot=slot,
            share=self._share,
            environ=around.environ,
        )
        thread = threading.Thread(
            target=self._keep, args=(worker, code, descriptors), name=f"allcores-interpreter-{worker}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no thread can be had
            for descriptor in descriptors:
                os.close(descriptor)
            self._pending.append((NOT_BORN, worker, 0, 11, 0))
            self._wake()
            return around
        self._threads[worker] = thread
        self._pending.append((BORN, worker, 0, 0, 0))
        return around.of_a_fresh_process()

    def _keep(self, worker: int, code: str, descriptors: list[int]) -> None:
        """A worker's thread: its interpreter's whole life."""
        interpreters: Any = importlib.import_module("concurrent.interpreters")
        _keepers.add(threading.current_thread())
        reason, interpreter = "", None
        try:
            interpreter = interpreters.create()
            interpreter.exec(code)
        except Exception as error:
            reason = f"its interpreter failed: {_first_line(error)}"
            if interpreter is None:
                for descriptor in descriptors:
                    os.close(descriptor)
        self._ended.append((worker, reason))
        self._wake()
        if interpreter is not None:
            # Threads that tasks have left running in it are waited for, by this thread alone.
            with contextlib.suppress(Exception):
                interpreter.close()

    def let_go(self, worker: int) -> None:
        """A worker is to be told as dead, whatever it does."""
        self._let_go.append(worker)
        self._wake()

    def is_in_use(self, worker: int) -> bool:
        """Whether its interpreter may still use its slot and what it was sent."""
        return worker in self._threads

    def over(self) -> list[int]:
        """Workers that do so no more, since the last call."""
        over, self._over = self._over, []
        return over

    def notices(self) -> list[Notice] | None:
        """See Launcher."""
        self._wake_pipe.take()
        found, self._pending = self._pending, []
        self._leaving = [thread for thread in self._leaving if thread.is_alive()]
        while self._let_go:
            found.append((DIED, self._let_go.popleft(), 0, 0, 0))
        while self._ended:
            worker, reason = self._ended.popleft()
            self._leaving.append(self._threads.pop(worker))
            self._over.append(worker)
            connection = self._connections.get(worker)
            if connection is not None and reason and connection.reason is None:
                connection.reason = reason
            found.append((DIED, worker, 0, 0, 0))
        return found

    def _wake(self) -> None:
        with self._lock:
            self._wake_pipe.wake()

    def close(self) -> None:
        """See Launcher. What was let go is not waited for."""
        until = time.monotonic() + CLOSE_S
        self.notices()
        for thread in self._leaving:
            thread.join(max(0.0, until - time.monotonic()))
        with self._lock:
            self._wake_pipe.close()

    def abandon(self) -> None:
        """See Launcher."""
        # Without the lock, which a thread that is not here may have had.
        with contextlib.suppress(OSError):
            self._wake_pipe.close()


def at_exit() -> None:
    """From now on the end of the program, after its pools are closed, waits for what runs in interpreters; boundedly.

    Python destroys interpreters at its end whether or not something runs in them, which may crash it.
    """
    global _finalizer
    if _finalizer is None:
        _finalizer = finalize(_lives_for_ever, _end)


def _lives_for_ever() -> None:
    """What the finalizer is of."""


_finalizer: Any = None


def _end() -> None:
    until = time.monotonic() + EXIT_S
    for thread in _keepers.all():
        thread.join(max(0.0, until - time.monotonic()))
    left = sum(thread.is_alive() for thread in _keepers.all())
    if not left:
        return
    # Whatever else is to be done at the end is done, then there is no end but this.
    with contextlib.suppress(Exception):
        getattr(atexit, "_run_exitfuncs")()  # noqa: B009
    with contextlib.suppress(Exception):
        sys.stderr.write(
            f"allcores: {left} of the interpreters still run something that cannot be ended (C code, a thread that a "
            "task has started): the program ends without them, with exit code 1.\n"
        )
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(1)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
