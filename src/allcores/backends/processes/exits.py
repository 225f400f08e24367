"""Who has died, or must: told by the launcher, by the end of a pipe, or by a look at a worker's memory.

A worker's last results count before its death does, and each item that it held gets what it deserves.
On the driver's thread; `reap` and `sample_memory` with the driver's lock held.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from allcores.backends.processes.connection import WorkerConnection
from allcores.backends.processes.exit_report import lost, too_large
from allcores.backends.processes.launchers import BORN, DIED, PRELOAD_FAILED, PRELOADED, PRELOADING, THREADED
from allcores.backends.processes.preload import NOTICES, Preload
from allcores.backends.processes.receiver import Found, Receiver
from allcores.backends.processes.worker_table import WorkerTable
from allcores.errors import BrokenPool, SetupError, WorkerLost
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.scheduler.messages import WorkerGone, WorkerProgress
from allcores.scheduler.worker_state import Lifecycle, Termination
from allcores.system import cores, posix
from allcores.system.clock import monotonic_ns
from allcores.transport.positions import PHASE_LOADING, PHASE_SEALING, PHASE_SETUP

if TYPE_CHECKING:
    from allcores.pool.driver import Driver

#: signals that one process sends to end another: a death by one of them is not the worker's own doing
_SENT = ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT")

#: seconds between two looks at the workers' memory, when it is limited
SAMPLE_S = 0.05
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

    has_setup: workers run a setup function. follows_launcher: the launcher's descriptors change with each worker
    (start method "fork").
    """

    def __init__(
        self,
        worker_table: WorkerTable,
        receiver: Receiver,
        limits: Limits,
        preload: Preload | None,
        *,
        has_setup: bool,
        follows_launcher: bool,
    ) -> None:
        self._has_setup = has_setup
        self._worker_table = worker_table
        self._receiver = receiver
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

    def take_notices(self, driver: Driver, found: list[Found]) -> None:
        """What the launcher tells: births, deaths, and how the preload goes."""
        worker_table = self._worker_table
        assert worker_table.launcher is not None
        notices = worker_table.launcher.notices()
        if notices is None:
            self._template_lost(driver)
            return
        for kind, worker, pid, status, memory in notices:
            if kind in NOTICES:
                self._preload_notice(driver, kind)
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
                found.append(("not born", connection, os.strerror(status or 0)))
        if self._follows_launcher:
            worker_table.watch_launcher()

    def _preload_notice(self, driver: Driver, kind: int) -> None:
        """How the preload goes in the template. No worker of it exists before it is done."""
        worker_table, preload = self._worker_table, self._preload
        assert worker_table.launcher is not None and preload is not None
        if kind == PRELOADING:
            with driver.lock:
                driver.scheduler.preload_began(monotonic_ns())
            return
        report = worker_table.launcher.report()
        if kind != PRELOADED:
            worker_table.kill_launcher()
        if kind == THREADED:
            preload.unshare(report)
        with driver.lock:
            driver.scheduler.preload_ended(monotonic_ns())
            if kind == PRELOAD_FAILED:
                driver.scheduler.setup_failed(preload.raised(report))
            driver.scheduler.setup_step = preload.step

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

    def take_postponed(self, driver: Driver, found: list[Found], *, pipes_are_ours: bool = True) -> None:
        """Deaths of workers that nobody attends to: what they left counts before their death does."""
        waiting, self.preempted = self.preempted, []
        for connection in waiting:
            with driver.lock:
                attended = connection.attended
            if attended or not pipes_are_ours:
                self.preempted.append(connection)
                continue
            while not connection.ended and self._receiver.read(driver, connection, found):
                pass
            used = self._worker_table.board.used(connection.slot)
            # May repeat what came through the pipe; the ledger takes each item once.
            self._receiver.take_records(
                driver, connection, bytes(self._worker_table.board.outbox(connection.slot)[:used]), found
            )
            found.append(("died", connection, None))

    def _template_lost(self, driver: Driver) -> None:
        """Something ended the template, and with it all its workers: start over."""
        launcher = self._worker_table.launcher
        self._worker_table.drop_launcher()
        error: BrokenPool | SetupError | None = None
        most = MOST_TEMPLATES_KILLED if launcher is not None and _killed(launcher.status) else MOST_TEMPLATES
        if launcher is not None and launcher.preloading and self._preload is not None:
            oom_killed = self._oom_killed()
            error = self._preload.crashed(launcher, oom_killed=oom_killed)
            with driver.lock:
                driver.scheduler.preload_ended(monotonic_ns())
                if not _killed(launcher.status, oom_killed):
                    # It would do so again.
                    driver.scheduler.setup_failed(error)
                    return
            most = MOST_TEMPLATES
        for connection in self._worker_table.connections.values():
            if connection.pid:
                posix.end_group(connection.pid, signal.SIGKILL)
            if connection.dead is None:
                connection.dead = (None, None)
                self.preempted.append(connection)
        done, now = driver.scheduler.items_done, monotonic_ns()
        if done != self._done_at_loss:
            self._templates_lost, self._lost_since_ns = 0, now
        self._templates_lost += 1
        self._done_at_loss = done
        soon = most == MOST_TEMPLATES_KILLED and now - self._lost_since_ns < KILLED_NS
        if self._templates_lost >= most and not soon:
            if error is None:
                error = BrokenPool(f"The template process ended {self._templates_lost} times without an item done.")
            with driver.lock:
                driver.scheduler.break_off(error)

    def reap(self, driver: Driver, connection: WorkerConnection, now: int, *, reason: str | None = None) -> None:
        """Tell the dispatcher of a worker's end; with the driver's lock held."""
        scheduler = driver.scheduler
        worker_state = scheduler.worker_states.get(connection.number)
        progress = WorkerProgress(*self._worker_table.board.progress(connection.slot))
        running = progress if progress.started_ns and progress.phase >= PHASE_LOADING else None
        status, memory = connection.dead or (None, None)
        unattributed = connection.dead == (None, None)
        if unattributed:
            reason = "its template process was ended"
        error = WorkerLost("It was told to end.", worker=connection.number)
        in_setup = progress.phase == PHASE_SETUP and (
            self._has_setup or (self._preload is not None and self._preload.per_worker)
        )
        oom_killed = False
        if worker_state is not None and (worker_state.lifecycle is not Lifecycle.LEAVING or worker_state.chunks):
            oom_killed = self._oom_killed()
            error = lost(
                connection.number,
                progress,
                worker_state.find(running.sequence) if running is not None else None,
                status,
                memory,
                stack=self._worker_table.notes(connection),
                oom_killed=oom_killed,
                reason=connection.reason
                if connection.reason is not None and worker_state.termination is None
                else reason,
                limit=self._limits.memory_per_worker,
                step=_step(progress.phase, in_setup=in_setup, starting=worker_state.lifecycle is Lifecycle.STARTING),
            )
        self._worker_table.forget(connection)
        words = connection.reason or reason or str(error)
        killed = _killed(status, oom_killed)
        event = WorkerGone(
            connection.number, running, Kind.WORKER_LOST, error, words, unattributed, killed=killed, in_setup=in_setup
        )
        scheduler.gone(event, now)

    def resident_tree_bytes(self, worker: int) -> int:
        """Bytes that the end of a worker would give back, about; those of its children included."""
        connection = self._worker_table.connections.get(worker)
        return posix.tree_bytes(connection.pid) if connection is not None and connection.pid else 0

    def sample_memory(self, driver: Driver, limit: int, now: int) -> None:
        """End workers that use more than `limit` bytes; the item in hand is to blame."""
        self.sample_at = now + int(SAMPLE_S * 1e9)
        for worker_state in list(driver.scheduler.worker_states.values()):
            connection = self._worker_table.connections.get(worker_state.worker)
            if (
                connection is None
                or not connection.pid
                or worker_state.termination is not None
                or not worker_state.chunks
            ):
                continue
            used = posix.resident_bytes(connection.pid)
            if used is None or used <= limit:
                continue
            progress = WorkerProgress(*self._worker_table.board.progress(connection.slot))
            chunk = worker_state.find(progress.sequence)
            position = min(progress.position, len(chunk.items) - 1) if chunk is not None else 0
            error = too_large(worker_state.worker, chunk, position, used, limit)
            termination = Termination(
                Kind.WORKER_LOST, error, "it used more memory than allowed", progress.sequence, position
            )
            driver.scheduler.termination(worker_state, termination, now)


def _killed(status: int | None, oom_killed: bool = False) -> bool:
    """Whether somebody else ended a process, by its wait status; not if it had used up the memory."""
    if status is None or not os.WIFSIGNALED(status):
        return False
    return not oom_killed and os.WTERMSIG(status) in {getattr(signal, name, None) for name in _SENT}


def _step(phase: int, *, in_setup: bool, starting: bool) -> str:
    """What a worker was doing, for messages: goes before the item, if it had one."""
    if in_setup:
        return "running setup"
    if starting:
        return "starting"
    return {PHASE_LOADING: "unpickling", PHASE_SEALING: "pickling the result of"}.get(phase, "running")
