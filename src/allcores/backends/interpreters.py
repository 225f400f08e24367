"""Tasks run in interpreters of this process, each with a lock (GIL) of its own: Python 3.14 and later.

All that processes have of pipes, status board and shared memory serves them, too; what they cannot do is end a task.
"""

from __future__ import annotations

import heapq
from typing import Any

from allcores.backends.base import WorkerInit
from allcores.backends.interpreter_launcher import InterpreterLauncher, at_exit
from allcores.backends.processes.backend import ProcessBackend
from allcores.backends.processes.launchers import Launcher
from allcores.backends.processes.preload import INTERPRETERS
from allcores.backends.processes.worker_logs import WorkerLogReceiver
from allcores.backends.processes.worker_table import WorkerTable
from allcores.limits import Limits
from allcores.shared_memory.parent_side import ParentMemory
from allcores.transport import frames

#: workers that were let go and are still in the middle of their items, at most; with more of them none is started
MOST_LET_GO = 64


class InterpreterTable(WorkerTable):
    """The same for interpreters: there is no process to send a signal to."""

    launcher: InterpreterLauncher | None

    spare_slots = MOST_LET_GO

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        #: slots of those that were let go and go on
        self._in_use: dict[int, int] = {}

    def _new_launcher(self) -> Launcher:
        return InterpreterLauncher(self._board_descriptor, self._slots, self._share, self.connections)

    def end(self, worker: int, reason: str, *, at_once: bool = False) -> None:
        """Let go of a worker now."""
        connection = self.connections.get(worker)
        if connection is None:
            if worker in self.to_launch:
                self.to_launch.remove(worker)
            return
        connection.reason = reason
        self.signal_later(0.0, worker)

    def is_stopped(self, worker: int) -> bool:
        """A thread cannot be stopped alone."""
        return False

    def stop(self, worker: int, seconds: float) -> None:
        """Let a worker end by itself, and let go of it if it does not within `seconds`."""
        connection = self.connections.get(worker)
        if connection is not None:
            self.write(connection, frames.frame(frames.STOP, 0))
            self.signal_later(seconds, worker)

    def signal_due(self, now: int) -> None:
        """Let go of those whose time has come."""
        while self._to_signal and self._to_signal[0][0] <= now:
            _, worker, _ = heapq.heappop(self._to_signal)
            connection = self.connections.get(worker)
            if connection is not None and self.launcher is not None:
                self.board.set_limit(connection.slot, 0)
                self.launcher.let_go(worker)

    def release(self, worker: int, slot: int) -> None:
        """It has ended, or was let go: then what it used is free once it is done."""
        launcher = self.launcher
        if launcher is not None and launcher.is_in_use(worker):
            self._in_use[worker] = slot
        else:
            super().release(worker, slot)

    def launch_waiting(self) -> None:
        """See WorkerTable; first what is done by now makes room."""
        for number in self.launcher.over() if self.launcher is not None else ():
            if number in self._in_use:
                super().release(number, self._in_use.pop(number))
        super().launch_waiting()


class InterpreterBackend(ProcessBackend):
    """See the module."""

    name = "interpreters"
    can_end_tasks = False
    table: type[WorkerTable] = InterpreterTable

    def __init__(
        self,
        workers: int,
        worker_init: WorkerInit,
        limits: Limits,
        share: int,
        records: WorkerLogReceiver | None = None,
        sees: ParentMemory | None = None,
    ) -> None:
        # Before the pool's own finalizer is made, which is therefore called first.
        at_exit()
        super().__init__(workers, worker_init, limits, INTERPRETERS, share, records, sees)
        # It would end what holds most of it: here there is nothing that could be ended.
        self.memory_gauge = None
