"""Who has died, or must: told by the launcher, by the end of a pipe, or by a look at a worker's memory.

A worker's last results count before its death does, and each item that it held gets what it deserves.
On the driver's thread; `bury` and `sample_memory` with the driver's lock held.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from allcores import budget
from allcores.backends.crew import Crew
from allcores.backends.link import Link
from allcores.backends.mailroom import Found, Mailroom
from allcores.backends.obituary import lost, too_large
from allcores.backends.preload import NOTICES, Preload
from allcores.clock import monotonic_ns
from allcores.engine.desk import Doom, Life
from allcores.engine.events import Glance, WorkerGone
from allcores.errors import BrokenPool, SetupError, WorkerLost
from allcores.limits import Limits
from allcores.outcome import Kind
from allcores.supervision import system
from allcores.supervision.launcher import BORN, DIED, PRELOAD_FAILED, PRELOADED, PRELOADING, THREADED
from allcores.transport.marks import PHASE_LOADING, PHASE_SEALING, PHASE_SETUP

if TYPE_CHECKING:
    from allcores.engine.driver import Driver

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


class Deaths:
    """See the module.

    has_setup: workers run a setup function. follows_launcher: the launcher's descriptors change with each worker
    (start method "fork").
    """

    def __init__(
        self,
        crew: Crew,
        mailroom: Mailroom,
        limits: Limits,
        preload: Preload | None,
        *,
        has_setup: bool,
        follows_launcher: bool,
    ) -> None:
        self._has_setup = has_setup
        self._crew = crew
        self._mailroom = mailroom
        self._limits = limits
        self._preload = preload
        self._follows_launcher = follows_launcher
        #: workers that died while a caller attended to them: told once it has stepped back
        self.postponed: list[Link] = []
        #: when the workers' memory is to be looked at next, ns
        self.sample_at = 0
        self._templates_lost = 0
        self._done_at_loss = -1
        #: since when nothing was done between the ends of templates
        self._lost_since_ns = 0
        self._oom_kills = budget.oom_kills()

    def take_notices(self, driver: Driver, found: list[Found]) -> None:
        """What the launcher tells: births, deaths, and how the preload goes."""
        crew = self._crew
        assert crew.launcher is not None
        notices = crew.launcher.notices()
        if notices is None:
            self._template_lost(driver)
            return
        for kind, worker, pid, status, memory in notices:
            if kind in NOTICES:
                self._preload_notice(driver, kind)
                continue
            link = crew.links.get(worker)
            if link is None:
                continue
            if kind == BORN:
                link.pid = pid
            elif kind == DIED:
                link.dead = (status, memory)
                self.postponed.append(link)
            else:
                found.append(("not born", link, os.strerror(status or 0)))
        if self._follows_launcher:
            crew.watch_launcher()

    def _preload_notice(self, driver: Driver, kind: int) -> None:
        """How the preload goes in the template. No worker of it exists before it is done."""
        crew, preload = self._crew, self._preload
        assert crew.launcher is not None and preload is not None
        if kind == PRELOADING:
            with driver.guard:
                driver.dispatcher.preload_began(monotonic_ns())
            return
        report = crew.launcher.report()
        if kind != PRELOADED:
            crew.kill_launcher()
        if kind == THREADED:
            preload.unshare(report)
        with driver.guard:
            driver.dispatcher.preload_ended(monotonic_ns())
            if kind == PRELOAD_FAILED:
                driver.dispatcher.setup_failed(preload.raised(report))
            driver.dispatcher.setup_step = preload.step

    def _oom_killed(self) -> bool:
        """Whether the kernel has ended a process for want of memory since the last look."""
        kills, before = budget.oom_kills(), self._oom_kills
        self._oom_kills = kills
        return kills is not None and before is not None and kills > before

    @property
    def must_look(self) -> bool:
        """No descriptor tells of a forked worker's death: it has to be looked for."""
        launcher = self._crew.launcher
        return launcher is not None and launcher.blind and bool(self._crew.links)

    @property
    def look_ns(self) -> int:
        """Until the next such look: soon after the end of a pipe, which what a worker forked may hold open."""
        ended = any(link.ended for link in self._crew.links.values())
        return LOOK_NS if ended else LOOK_IDLY_NS

    def take_postponed(self, driver: Driver, found: list[Found]) -> None:
        """Deaths of workers that nobody attends to: what they left counts before their death does."""
        waiting, self.postponed = self.postponed, []
        for link in waiting:
            with driver.guard:
                attended = link.attended
            if attended:
                self.postponed.append(link)
                continue
            while not link.ended and self._mailroom.read(driver, link, found):
                pass
            used = self._crew.board.used(link.slot)
            # May repeat what came through the pipe; the ledger takes each item once.
            self._mailroom.take_records(driver, link, bytes(self._crew.board.outbox(link.slot)[:used]), found)
            found.append(("died", link, None))

    def _template_lost(self, driver: Driver) -> None:
        """Something ended the template, and with it all its workers: start over."""
        launcher = self._crew.launcher
        self._crew.drop_launcher()
        error: BrokenPool | SetupError | None = None
        most = MOST_TEMPLATES_KILLED if launcher is not None and _killed(launcher.status) else MOST_TEMPLATES
        if launcher is not None and launcher.preloading and self._preload is not None:
            oom_killed = self._oom_killed()
            error = self._preload.crashed(launcher, oom_killed=oom_killed)
            with driver.guard:
                driver.dispatcher.preload_ended(monotonic_ns())
                if not _killed(launcher.status, oom_killed):
                    # It would do so again.
                    driver.dispatcher.setup_failed(error)
                    return
            most = MOST_TEMPLATES
        for link in self._crew.links.values():
            if link.pid:
                system.end_group(link.pid, signal.SIGKILL)
            if link.dead is None:
                link.dead = (None, None)
                self.postponed.append(link)
        done, now = driver.dispatcher.items_done, monotonic_ns()
        if done != self._done_at_loss:
            self._templates_lost, self._lost_since_ns = 0, now
        self._templates_lost += 1
        self._done_at_loss = done
        soon = most == MOST_TEMPLATES_KILLED and now - self._lost_since_ns < KILLED_NS
        if self._templates_lost >= most and not soon:
            if error is None:
                error = BrokenPool(f"The template process ended {self._templates_lost} times without an item done.")
            with driver.guard:
                driver.dispatcher.break_off(error)

    def bury(self, driver: Driver, link: Link, now: int, *, reason: str | None = None) -> None:
        """Tell the dispatcher of a worker's end; with the driver's lock held."""
        dispatcher = driver.dispatcher
        desk = dispatcher.desks.get(link.number)
        glance = Glance(*self._crew.board.glance(link.slot))
        running = glance if glance.started_ns and glance.phase >= PHASE_LOADING else None
        status, memory = link.dead or (None, None)
        innocent = link.dead == (None, None)
        if innocent:
            reason = "its template process was ended"
        error = WorkerLost("It was told to end.", worker=link.number)
        in_setup = glance.phase == PHASE_SETUP and (
            self._has_setup or (self._preload is not None and self._preload.per_worker)
        )
        oom_killed = False
        if desk is not None and (desk.life is not Life.LEAVING or desk.chunks):
            oom_killed = self._oom_killed()
            error = lost(
                link.number,
                glance,
                desk.find(running.sequence) if running is not None else None,
                status,
                memory,
                stack=self._crew.notes(link),
                oom_killed=oom_killed,
                reason=link.reason if link.reason is not None and desk.doom is None else reason,
                limit=self._limits.memory_per_worker,
                step=_step(glance.phase, in_setup=in_setup, starting=desk.life is Life.STARTING),
            )
        self._crew.forget(link)
        words = link.reason or reason or str(error)
        killed = _killed(status, oom_killed)
        event = WorkerGone(
            link.number, running, Kind.WORKER_LOST, error, words, innocent, killed=killed, in_setup=in_setup
        )
        dispatcher.gone(event, now)

    def weigh(self, worker: int) -> int:
        """Bytes that the end of a worker would give back, about; those of its children included."""
        link = self._crew.links.get(worker)
        return system.tree_bytes(link.pid) if link is not None and link.pid else 0

    def sample_memory(self, driver: Driver, limit: int, now: int) -> None:
        """End workers that use more than `limit` bytes; the item in hand is to blame."""
        self.sample_at = now + int(SAMPLE_S * 1e9)
        for desk in list(driver.dispatcher.desks.values()):
            link = self._crew.links.get(desk.worker)
            if link is None or not link.pid or desk.doom is not None or not desk.chunks:
                continue
            used = system.resident_bytes(link.pid)
            if used is None or used <= limit:
                continue
            glance = Glance(*self._crew.board.glance(link.slot))
            chunk = desk.find(glance.sequence)
            position = min(glance.position, len(chunk.items) - 1) if chunk is not None else 0
            error = too_large(desk.worker, chunk, position, used, limit)
            doom = Doom(Kind.WORKER_LOST, error, "it used more memory than allowed", glance.sequence, position)
            driver.dispatcher.doom(desk, doom, now)


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
