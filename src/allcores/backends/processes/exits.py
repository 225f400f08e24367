"""Which workers have exited, or must: told by the launcher, by the end of a pipe, or by a look at a worker's memory.

A worker's last results count before its exit does; then the scheduler settles, retries or requeues what it held.
On the loop's thread; `reap` and `over_limit` with the host's lock held.
"""

from __future__ import annotations

import os
import signal

from allcores.backends.base import (
    BackendBroken,
    BackendEvent,
    Host,
    MemoryExceeded,
    PreloadBegan,
    PreloadEnded,
    SetupFailed,
)
from allcores.backends.processes.connection import WorkerConnection
from allcores.backends.processes.exit_report import lost, too_large
from allcores.backends.processes.launchers import BORN, DIED, PRELOAD_FAILED, PRELOADED, PRELOADING, THREADED
from allcores.backends.processes.preload import NOTICES, Preload
from allcores.backends.processes.receiver import Found, ProcessEnded, Receiver
from allcores.backends.processes.worker_table import PIPE_CLOSED, WorkerTable
from allcores.errors import BrokenPool, SetupError, WorkerLost
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.scheduler.messages import WorkerGone, WorkerProgress
from allcores.system import cores, posix, procfs
from allcores.system.clock import monotonic_ns
from allcores.transport.positions import (
    PHASE_CONTEXT,
    PHASE_FUNCTION,
    PHASE_LOADING,
    PHASE_SEALING,
    PHASE_SETUP,
    PREPARING,
)

#: signals that one process sends to end another: a death by one of them is not the worker's own doing
_SENT = ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT")

#: what a worker does, for messages; anything else is "running"
_STEPS = {
    PHASE_LOADING: "unpickling",
    PHASE_SEALING: "pickling the result of",
    PHASE_FUNCTION: "unpickling the function for",
    PHASE_CONTEXT: "unpickling the context variables for",
}

#: between two looks at the workers' memory, when it is limited, ns
SAMPLE_NS = 50_000_000
#: pause between two looks for a dead worker where nothing tells of it, after the end of a pipe, ns
LOOK_NS = 10_000_000
#: the same if no pipe has ended, ns
LOOK_IDLY_NS = 250_000_000
#: templates that end without any item done in between, until the pool is called broken
MOST_TEMPLATES = 5
#: the same if the last was killed from outside, before it had loaded anything
MOST_TEMPLATES_KILLED = 30
#: ... and at least so long after the first of them: many kills in a moment say little of the next, ns
KILLED_NS = 30_000_000_000


class Exits:
    """See the module.

    Args:
        has_setup: Workers run a setup function.
        follows_launcher: The launcher's descriptors change with each worker (start method "fork").
    """

    def __init__(
        self,
        worker_table: WorkerTable,
        receiver: Receiver,
        host: Host,
        limits: Limits,
        preload: Preload | None,
        *,
        has_setup: bool,
        follows_launcher: bool,
    ) -> None:
        self._has_setup = has_setup
        self._worker_table = worker_table
        self._receiver = receiver
        self._host = host
        self._limits = limits
        self._preload = preload
        self._follows_launcher = follows_launcher
        #: workers that died while a caller attended to them: told once it has stepped back
        self.preempted: list[WorkerConnection] = []
        #: when the workers' memory is to be looked at next, ns
        self.sample_at = 0
        self._templates_lost = 0
        self._done_at_loss = -1
        #: since when nothing was done between the ends of templates
        self._lost_since_ns = 0
        self._oom_kills = cores.oom_kills()

    def take_notices(self, found: list[Found]) -> None:
        """What the launcher tells: births, deaths, and how the preload goes."""
        worker_table = self._worker_table
        assert worker_table.launcher is not None
        notices = worker_table.launcher.notices()
        if notices is None:
            self._template_lost(found)
            return
        for kind, worker, pid, status, memory in notices:
            if kind in NOTICES:
                self._preload_notice(kind, found)
                continue
            connection = worker_table.connections.get(worker)
            if connection is None:
                continue
            if kind == BORN:
                connection.pid = pid
            elif kind == DIED:
                connection.dead = (status, memory)
                self.preempted.append(connection)
            else:
                found.append(ProcessEnded(connection, f"it could not be started: {os.strerror(status or 0)}"))
        if self._follows_launcher:
            worker_table.watch_launcher()

    def _preload_notice(self, kind: int, found: list[Found]) -> None:
        """How the preload goes in the template. No worker of it exists before it is done."""
        worker_table, preload = self._worker_table, self._preload
        assert worker_table.launcher is not None and preload is not None
        if kind == PRELOADING:
            found.append(PreloadBegan())
            return
        report = worker_table.launcher.report()
        self._take_logged()
        if kind != PRELOADED:
            worker_table.kill_launcher()
        if kind == THREADED:
            preload.unshare(report)
        found.append(PreloadEnded(preload.step))
        if kind == PRELOAD_FAILED:
            found.append(SetupFailed(preload.raised(report)))

    def _take_logged(self) -> None:
        """What the preload function has logged comes before what is told of its end."""
        launcher, records = self._worker_table.launcher, self._worker_table.records
        if launcher is not None and records is not None:
            records.take_logged(launcher.logged())

    def _oom_killed(self) -> bool:
        """Whether the kernel has ended a process for want of memory since the last look."""
        kills, before = cores.oom_kills(), self._oom_kills
        self._oom_kills = kills
        return kills is not None and before is not None and kills > before

    @property
    def must_look(self) -> bool:
        """No descriptor tells of a forked worker's death: it has to be looked for."""
        launcher = self._worker_table.launcher
        return launcher is not None and launcher.blind and bool(self._worker_table.connections)

    @property
    def look_ns(self) -> int:
        """Until the next such look: soon after the end of a pipe, which what a worker forked may hold open."""
        ended = any(connection.ended for connection in self._worker_table.connections.values())
        return LOOK_NS if ended else LOOK_IDLY_NS

    def take_exits(self, found: list[Found], *, pipes_are_ours: bool = True) -> None:
        """Deaths of workers that nobody attends to: what they left counts before their death does."""
        waiting, self.preempted = self.preempted, []
        for connection in waiting:
            with self._host.lock:
                attended = connection.attended
            if attended or not pipes_are_ours:
                self.preempted.append(connection)
                continue
            while not connection.ended and self._receiver.read(connection, found):
                pass
            used = self._worker_table.board.used(connection.slot)
            # May repeat what came through the pipe; the scheduler takes each item once.
            self._receiver.take_records(
                connection, bytes(self._worker_table.board.outbox(connection.slot)[:used]), found
            )
            found.append(ProcessEnded(connection))

    def _template_lost(self, found: list[Found]) -> None:
        """Something ended the template, and with it all its workers: start over."""
        launcher = self._worker_table.launcher
        if launcher is not None and launcher.preloading:
            self._take_logged()
        self._worker_table.drop_launcher()
        error: BrokenPool | SetupError | None = None
        most = MOST_TEMPLATES_KILLED if launcher is not None and _killed(launcher.status) else MOST_TEMPLATES
        if launcher is not None and launcher.preloading and self._preload is not None:
            oom_killed = self._oom_killed()
            error = self._preload.crashed(launcher, oom_killed=oom_killed)
            found.append(PreloadEnded(self._preload.step))
            if not _killed(launcher.status, oom_killed):
                # It would do so again.
                found.append(SetupFailed(error))
                return
            most = MOST_TEMPLATES
        for connection in self._worker_table.connections.values():
            if connection.pid:
                posix.end_group(connection.pid, signal.SIGKILL)
            if connection.dead is None:
                connection.dead = (None, None)
                self.preempted.append(connection)
        with self._host.lock:
            done = self._host.totals().done
        now = monotonic_ns()
        if done != self._done_at_loss:
            self._templates_lost, self._lost_since_ns = 0, now
        self._templates_lost += 1
        self._done_at_loss = done
        soon = most == MOST_TEMPLATES_KILLED and now - self._lost_since_ns < KILLED_NS
        if self._templates_lost >= most and not soon:
            if error is None:
                error = BrokenPool(f"The template process ended {self._templates_lost} times without an item done.")
            found.append(BackendBroken(error))

    def reap(self, connection: WorkerConnection, reason: str | None) -> WorkerGone:
        """Let go of a worker that has ended; with the host's lock held, once all that it left was applied."""
        progress = WorkerProgress(*self._worker_table.board.progress(connection.slot))
        running = progress if progress.started_ns and progress.phase >= PHASE_LOADING else None
        preparing = progress.phase in PREPARING and not progress.started_ns
        assignment = self._host.assignment(connection.number, running.sequence if running is not None else 0)
        status, memory = connection.dead or (None, None)
        unattributed = connection.dead == (None, None)
        if unattributed:
            reason = "its template process was ended"
        error = WorkerLost("It was told to end.", worker=connection.number)
        in_setup = progress.phase == PHASE_SETUP and (
            self._has_setup or (self._preload is not None and self._preload.per_worker)
        )
        oom_killed = False
        if assignment is None or (assignment.leaving and not assignment.holds_work):
            if connection.reason == PIPE_CLOSED:  # by its end, which took long: it is reaped late on a busy machine
                connection.reason = None
        else:
            oom_killed = self._oom_killed()
            chunk = assignment.chunk
            if preparing and assignment.first is not None and assignment.first.done < len(assignment.first.items):
                chunk = assignment.first
                progress = WorkerProgress(progress.sequence, chunk.done, 0, progress.phase)
            error = lost(
                connection.number,
                progress,
                chunk,
                status,
                memory,
                stack=self._worker_table.notes(connection),
                oom_killed=oom_killed,
                reason=connection.reason if connection.reason is not None and not assignment.ending else reason,
                limit=self._limits.memory_per_worker,
                step=_step(progress.phase, in_setup=in_setup, starting=assignment.starting),
            )
        self._worker_table.forget(connection)
        words = connection.reason or reason or str(error)
        killed = _killed(status, oom_killed)
        return WorkerGone(
            connection.number, running, Kind.WORKER_LOST, error, words, unattributed, killed, in_setup, preparing
        )

    def resident_tree_bytes(self, worker: int) -> int:
        """Bytes that the end of a worker would give back, about; those of its children included."""
        connection = self._worker_table.connections.get(worker)
        return procfs.tree_bytes(connection.pid) if connection is not None and connection.pid else 0

    def over_limit(self, limit: int, now: int) -> list[BackendEvent]:
        """Workers that use more than `limit` bytes; the item that runs is charged."""
        self.sample_at = now + SAMPLE_NS
        found: list[BackendEvent] = []
        for worker, connection in self._worker_table.connections.items():
            if not connection.pid:
                continue
            progress = WorkerProgress(*self._worker_table.board.progress(connection.slot))
            assignment = self._host.assignment(worker, progress.sequence)
            if assignment is None or assignment.ending or not assignment.holds_work:
                continue
            used = procfs.resident_bytes(connection.pid)
            if used is None or used <= limit:
                continue
            chunk = assignment.chunk
            position = min(progress.position, len(chunk.items) - 1) if chunk is not None else 0
            error = too_large(worker, chunk, position, used, limit)
            found.append(MemoryExceeded(worker, progress.sequence, position, error, progress.together))
        return found


def _killed(status: int | None, oom_killed: bool = False) -> bool:
    """Whether another process ended a process, by its wait status; not if it had used up the memory."""
    if status is None or not os.WIFSIGNALED(status):
        return False
    return not oom_killed and os.WTERMSIG(status) in {getattr(signal, name, None) for name in _SENT}


def _step(phase: int, *, in_setup: bool, starting: bool) -> str:
    """What a worker was doing, for messages: goes before the item, if it had one."""
    if in_setup:
        return "running setup"
    if starting:
        return "starting"
    return _STEPS.get(phase, "running")
