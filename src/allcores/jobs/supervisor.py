"""The supervisor: claims jobs, runs them on all cores, and writes how they ended. One for each store.

One thread does everything that is decided and written; what runs is in other processes. Whatever happens to this
process, its workers end with it, and the next supervisor runs again what it had claimed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from allcores.errors import TaskTimeout, WorkerLost
from allcores.jobs import decisions, health, stacks
from allcores.jobs.claim_choice import ClaimChoice
from allcores.jobs.claims import Choice
from allcores.jobs.core_shares import CoreShares
from allcores.jobs.decisions import Policy
from allcores.jobs.duties import KeepingDuty, ScheduleDuty
from allcores.jobs.duty import Duty, DutyTrouble, see_to
from allcores.jobs.errors import StoreAway, StoreBusy, StoreError, meant
from allcores.jobs.holding import Holding
from allcores.jobs.model import Claim, Finished
from allcores.jobs.plain_call import Answer
from allcores.jobs.pool_side import NoAnswer, PoolSide, PoolTrouble
from allcores.jobs.process_side import ProcessEnd, ProcessSide, progress_of
from allcores.jobs.retaking import Retaken
from allcores.jobs.retention import Retention
from allcores.jobs.store_side import StoreSide
from allcores.jobs.tasks import Place, Registry
from allcores.jobs.trouble import TROUBLE_S, Trouble
from allcores.jobs.wake import Listener
from allcores.jobs.wake_ups import WakeUps
from allcores.jobs.webhooks import WebhookDuty
from allcores.limits import Limits, check_seconds, check_workers
from allcores.system.cores import core_budget

if TYPE_CHECKING:
    from allcores.jobs.store import JobStore

log = logging.getLogger("allcores.jobs")

#: seconds between two looks at processes that are to end
WATCH_S = 0.01
#: seconds between two looks at what is slow: who runs what, for how long
SLOW_S = 0.25
#: a wait that ends so many seconds late does so because this program was stopped, and its jobs with it, perhaps
#: (`docker pause`): none of them is ended for that
STILL_S = 2.0
#: seconds beyond the grace in which ends that could not be written so far are tried to be
LAST_S = 5.0
#: seconds that processes have to be gone once they were killed
KILL_S = 10.0


class Supervisor:
    """Runs the jobs of a store.

    Args:
        store: The store; this process becomes its supervisor with `run`.
        tasks: Where the tasks are, or a `Registry` of them.
        workers: How many jobs run at a time; None: the core budget.
        grace: Seconds that jobs at work have to end once it was asked to end.
        max_crashes: Deaths of its process after which a job is quarantined.
        boot_s: Seconds in which the process of a job has to have loaded the tasks.
        limits: Of the pool: `Limits(memory_per_worker=...)` is the memory that one job may use.
        retention: What is kept of jobs that have ended; None: the defaults of `Retention`.

    Raises:
        UsageError: If the tasks cannot be loaded, or a number makes no sense.
    """

    def __init__(
        self,
        store: JobStore,
        tasks: Registry | Place | Iterable[Place],
        *,
        workers: int | None = None,
        grace: float = 30.0,
        max_crashes: int = 3,
        boot_s: float = Limits().setup_s,
        limits: Limits | None = None,
        retention: Retention | None = None,
    ) -> None:
        self.store = store
        self.registry = tasks if isinstance(tasks, Registry) else Registry.load(tasks)
        cores = core_budget().workers if workers is None else workers
        check_workers(cores)
        boot_s = check_seconds("boot_s", boot_s, zero=False)
        folder = os.fspath(store.folder)
        self._folder = folder
        self._grace = check_seconds("grace", grace)
        self._policy = Policy(max_crashes)
        self._shares = CoreShares(cores)
        self._wake_ups = WakeUps()
        wake = self._wake_ups.wake
        self._pool = PoolSide(cores, self.registry.places, folder, limits or Limits(), wake)
        self._processes = ProcessSide(folder, self.registry.places, self._shares, self._wake_ups.selector, boot_s)
        self._claim_choice = ClaimChoice(
            self.registry, self._pool, self._processes, self._shares, claims_ahead=store.claims_ahead
        )
        self._store_side = StoreSide(store)
        #: tasks that have jobs waiting, and are not known here: told once
        self._unknown: frozenset[str] = frozenset()
        self._random = random.Random()
        self._started = time.time()
        #: asked to end: 1 in peace, 2 now
        self._stopping = 0
        self._drain_until: float | None = None
        self._slow_at = self._health_at = 0.0
        self._trouble, self._duty_trouble = Trouble(store.name), DutyTrouble(store.name)
        self._retention = retention or Retention()
        #: what it sees to besides
        self.duties: list[Duty] = [
            ScheduleDuty(store, self.registry),
            WebhookDuty(store),
            KeepingDuty(store, self._retention),
        ]

    # --- from other threads and signal handlers ---

    def stop(self, *, now: bool = False) -> None:
        """Ask it to end: begin nothing more, let jobs at work end within the grace; the others are queued again.

        A second call, or `now`, gives them no more time. Any thread, and signal handlers.
        """
        self._stopping = 2 if now or self._stopping else 1
        self._wake_ups.wake()

    def _changed(self) -> None:
        self._store_side.wake()
        self._wake_ups.wake()

    def _submitted(self) -> None:
        self._store_side.submitted()
        self._wake_ups.wake()

    def handle_signals(self) -> None:
        """SIGTERM and Ctrl-C ask it to end, a second one at once. For the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())

    # --- the loop ---

    def run(self) -> None:
        """Run jobs until it is asked to end. The thread that calls it has to live as long: workers end with it.

        Raises:
            AlreadySupervised: Another process is the supervisor of the store.
            StoreError: The store cannot be used at all.
        """
        try:
            lock = self.store.become_supervisor()
        except BaseException:
            self._close()
            raise
        try:
            with Listener(self._folder) as listener:
                self._wake_ups.listen(listener)
                self.store.when_changed(self._changed, self._submitted)
                stacks.tidy(self._folder)
                health.tidy(self._folder)
                if not self._stopping:
                    with contextlib.suppress(PoolTrouble):
                        self._pool.start()
                most, wake = self._policy.most_crashes, self._wake_ups.wake
                holding = Holding(self.store, lock, self._trouble, most, self._claims, self._retaken, wake)
                while not self._is_over():
                    self._step(holding)
                    self._wait()
        finally:
            # Each of them, the last one first, whatever another one raises: a second Ctrl-C, say.
            with contextlib.ExitStack() as ends:
                ends.callback(self._close)
                ends.callback(lock.release)
                ends.callback(self._tell, "ended")
                ends.callback(self._processes.kill_all, KILL_S)
                ends.callback(self._pool.close)
                ends.callback(self.store.when_changed, None)
                ends.callback(self._store_side.tell_unwritten, self._at_work())

    def _claims(self) -> tuple[list[Claim], list[Claim]]:
        return list(self._at_work()), self._store_side.unwritten

    def _retaken(self, found: Retaken) -> None:
        """It was looked at which claims stand: attempts that are others' are ended, and nothing is said of them."""
        now = time.monotonic()
        for job in found.lost:
            self._claim_choice.losing.add(job)
            if not self._pool.end(job, "lost"):
                self._processes.end(job, "lost", now)
        # Which process runs what may have been undone.
        for call in self._pool.calls.values():
            call.told_pid = None
        for process in self._processes.processes.values():
            process.told_pid = False

    def _close(self) -> None:
        for each in self.duties:
            each.close()
        self._wake_ups.close()

    def _is_over(self) -> bool:
        if not self._stopping:
            return False
        return not (self._pool.calls or self._processes.processes or self._store_side.has_something) or (
            self._drain_until is not None and time.monotonic() > self._drain_until + LAST_S
        )

    def _wait(self) -> None:
        """Until something happens, or a look is due."""
        now = time.monotonic()
        busy = bool(self._pool.calls or self._processes.processes)
        watching = any(call.ending_for for call in self._pool.calls.values()) or any(
            process.kill_at is not None for process in self._processes.processes.values()
        )
        asked = now if self._store_side.has_something else self._store_side.next_look
        # While there is trouble with the store, nothing is due there before its end.
        at = self._slow_at + SLOW_S if busy else self._health_at + health.REPORT_S
        until = min(max(asked, self._trouble.until), at)
        if watching:
            until = min(until, now + WATCH_S)
        if self._wake_ups.wait(max(0.0, until - now)):
            self._store_side.wake()
        late = time.monotonic() - max(until, now)
        if late > STILL_S:
            self._processes.excuse(late)
            if self._drain_until is not None:
                self._drain_until += late

    def _step(self, holding: Holding) -> None:
        now = time.monotonic()
        usable = holding.look(now)
        if self._stopping:
            self._drain(now)
        free = self._shares.free
        self._processes.hear()
        self._processes.watch(now)
        self._collect(now)
        if self._shares.free > free and not self._store_side.has_something:
            # What is written claims in the same commit, and need not be told what waits.
            self._store_side.wake()
        if usable and now >= self._trouble.until:
            try:
                if self._exchange(now):
                    self._trouble.over(now)
            except StoreError as error:
                self._trouble.has(error, time.monotonic())
        if now - self._slow_at >= SLOW_S:
            self._slow_at = now
            # What has just cost a connection's time would cost it once more for each duty: deadlines come first.
            self._slow(usable and not (self._trouble.waits and time.monotonic() < self._trouble.until))
        if now - self._health_at >= health.REPORT_S:
            self._health_at = now
            self._tell()
            # Of jobs, of the workers of their maps, and of those of the pool.
            stacks.tidy(self._folder)

    # --- what has ended ---

    def _collect(self, now: float) -> None:
        wall = time.time()
        for call, outcome in self._pool.ended():
            claim = call.claim
            if isinstance(outcome, PoolTrouble):
                self._store_side.release(claim)
            elif isinstance(outcome, TaskTimeout):
                self._store_side.end(claim, decisions.after_deadline(call.timeout or 0.0))
            elif isinstance(outcome, WorkerLost):
                end = decisions.after_crash(claim, decisions.lost(outcome), self._policy, wall)
                self._store_side.end(claim, end)
            elif isinstance(outcome, NoAnswer):
                reason = decisions.no_message("", None)
                self._store_side.end(claim, decisions.after_crash(claim, reason, self._policy, wall))
            elif isinstance(outcome, Answer):
                self._store_side.end(claim, self._answered(claim, outcome, wall))
        for call in self._pool.gone():
            if call.ending_for == "cancel":
                self._store_side.end(call.claim, decisions.after_cancel())
            elif call.ending_for == "ahead" and call.ran:
                self._store_side.end(call.claim, decisions.after_giving_back(call.claim, self._policy, wall))
            else:
                self._store_side.release(call.claim)
        for ended in self._processes.ended():
            self._process_ended(ended, wall)

    def _answered(self, claim: Claim, answer: Answer, wall: float) -> Finished:
        if answer.ok:
            return decisions.succeeded(answer)
        task = self.registry[claim.job.task]
        return decisions.after_exception(claim, task, answer, wall, self._random.random())

    def _process_ended(self, ended: ProcessEnd, wall: float) -> None:
        process = ended.process
        claim = process.claim
        # What it raises because it is being ended says nothing of the task; what it returned all the same counts.
        answer = ended.answer
        if answer is not None and (answer.ok or process.ended_for in (None, "boot")):
            end = self._answered(claim, answer, wall)
        elif process.drained:
            self._store_side.release(claim)
            return
        elif process.ended_for == "cancel":
            end = decisions.after_cancel()
        elif process.ended_for in ("drain", "lost"):
            self._store_side.release(claim)
            return
        elif process.ended_for == "deadline":
            end = decisions.after_deadline(process.timeout or 0.0)
        else:
            assert ended.death is not None
            end = decisions.after_crash(claim, ended.death, self._policy, wall)
        progress = progress_of(process.last_progress)
        self._store_side.end(claim, end if progress is None else replace(end, progress=progress))

    # --- the store ---

    def _exchange(self, now: float) -> bool:
        """Write what has ended and claim what comes next; whether the store was asked for anything."""
        side = self._store_side
        self._report_progress()
        # Asked for first: what comes after it is met by the look, or in the next round.
        submitted = side.take_submitted()
        found = side.look(now, lambda job: self._end(job, now))
        if found is not None:
            self._tell_unknown(found.waiting.difference(self.registry))
        if not side.has_something:
            if found is None and not submitted:
                return False
            if self._choose(frozenset(self.registry) if found is None or found.due else found.waiting).most < 1:
                # The end of a job that has a core claims them.
                return found is not None
        done = side.exchange(self._choose, self._at_work)
        self._begin(done.claims, now)
        if done.error is not None:
            raise done.error
        return True

    def _tell_unknown(self, tasks: frozenset[str]) -> None:
        for task in sorted(tasks - self._unknown):
            log.warning("jobs wait for a task that is not known here: %r%s", task, meant(task, self.registry))
        self._unknown |= tasks

    def _report_progress(self) -> None:
        told = [(each, progress_of(each.progress)) for each in self._processes.processes.values()]
        reports = [(process.claim, progress) for process, progress in told if progress is not None]
        if reports:
            self.store.report_all_progress(reports)
            for process, _ in told:
                process.progress = None

    def _end(self, job: str, now: float) -> None:
        if not self._pool.end(job, "cancel"):
            self._processes.end(job, "cancel", now)

    def _at_work(self) -> Iterator[Claim]:
        yield from (call.claim for call in self._pool.calls.values())
        yield from (process.claim for process in self._processes.processes.values())

    def _choose(self, waiting: frozenset[str]) -> Choice:
        """What to claim, of tasks that have jobs waiting."""
        return Choice(0, ()) if self._stopping else self._claim_choice.of(waiting)

    def _begin(self, claims: Sequence[Claim], now: float) -> None:
        plain: list[tuple[Claim, float | None]] = []
        for claim in claims:
            task = self.registry[claim.job.task]
            timeout = decisions.timeout_of(claim.job, task)
            if not task.takes_job:
                plain.append((claim, timeout))
                continue
            try:
                self._processes.begin(claim, now, timeout)
            except OSError as error:
                self._not_begun([claim], error, now)
        if plain:
            try:
                self._pool.begin(plain)
            except (PoolTrouble, OSError) as error:
                self._not_begun([claim for claim, _ in plain], error, now)

    def _not_begun(self, claims: Iterable[Claim], error: Exception, now: float) -> None:
        for claim in claims:
            log.warning("job %s cannot be begun now: %s", claim.job.id, str(error))
            self._store_side.release(claim)
        self._trouble.until = now + TROUBLE_S

    # --- now and then ---

    def _slow(self, usable: bool) -> None:
        """Tell the store, if it is usable, which process runs which job, so that its death counts; further duties."""
        where = self._pool.where()
        self._pool.look_below(where)
        for job in self._pool.overtaken(where):
            self._pool.end(job, "ahead")
        if not usable:
            return
        calls = [(call, pid) for job, (pid, _) in where.items() if (call := self._pool.untold(job, pid)) is not None]
        processes = [each for each in self._processes.processes.values() if not each.told_pid]
        # What could not be told is told again: only what is known counts as a crash if this supervisor dies.
        try:
            if calls or processes:
                told = [(call.claim, pid) for call, pid in calls] + [(each.claim, each.pid) for each in processes]
                self.store.report_workers(told)
                for call, pid in calls:
                    call.told_pid = pid
                for each in processes:
                    each.told_pid = True
        except (StoreAway, StoreBusy):
            return
        except StoreError:
            pass
        try:
            see_to(self.duties, self._duty_trouble, stopping=bool(self._stopping))
        except StoreAway as error:
            self._trouble.has(error, time.monotonic())

    def _tell(self, state: str | None = None) -> None:
        """Write the report that pages read."""
        if not self.store.is_shown:
            return
        workers = [
            health.WorkerHealth(pid, status, call and call.job, call and call.task, round(seconds, 3), _memory(pid))
            for pid, status, call, seconds in self._pool.status()
        ]
        now = time.monotonic()
        for process in self._processes.processes.values():
            process.note_memory(_memory(process.pid))
        workers += [
            health.WorkerHealth(
                process.pid,
                "running" if process.ready else "starting",
                job,
                process.claim.job.task,
                round(now - process.started, 3),
                _memory(process.pid),
                self._shares.of(job),
            )
            for job, process in self._processes.processes.items()
        ]
        running = sum(1 for each in workers if each.job is not None)
        if state is None:
            state = "draining" if self._stopping else "working"
            if self._pool.trouble:
                state = "crash-looping"
            if self._trouble.text:
                state = "store trouble"
        found = health.SupervisorHealth(
            pid=os.getpid(),
            at=time.time(),
            started=self._started,
            state=state,
            trouble=self._trouble.text or self._pool.trouble,
            cores=self._shares.cores,
            running=running,
            claimed=max(0, len(self._pool.calls) + len(self._processes.processes) - running),
            lost_claims=self._store_side.lost_claims,
            workers=tuple(workers),
            tasks=tuple(self.registry),
            schedules={name: at for each in self.duties for name, at in each.next_times().items()},
            kept=self._retention.in_words(),
        )
        with contextlib.suppress(OSError):
            health.write(self._folder, found)

    # --- the end ---

    def _drain(self, now: float) -> None:
        """Begin nothing; what does not end in time is ended, and queued again."""
        if self._drain_until is None:
            self._drain_until = now + self._grace
            self._processes.drain()
            for job, call in list(self._pool.calls.items()):
                if not call.future.running():
                    self._pool.end(job, "drain")
        if self._stopping > 1:
            self._drain_until = min(self._drain_until, now)
        if now >= self._drain_until:
            for job in list(self._pool.calls):
                self._pool.end(job, "drain")
            for job in list(self._processes.processes):
                self._processes.end(job, "drain", now)


def _memory(pid: int) -> int | None:
    from allcores.system import procfs

    return procfs.resident_bytes(pid) if pid else None


def run_in_thread(supervisor: Supervisor) -> threading.Thread:
    """Run a supervisor in a thread of its own, which ends with it."""
    thread = threading.Thread(target=supervisor.run, name="allcores-supervisor")
    thread.start()
    return thread
