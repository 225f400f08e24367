"""The supervisor's pool: attempts of tasks that map nothing, each a call in a warm worker."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from allcores.errors import BrokenPool, InternalError, PoolClosed, SetupError, TaskTimeout, WorkerLost
from allcores.jobs import descendants, plain_call
from allcores.jobs.model import Claim
from allcores.jobs.plain_call import Answer, JobCall, answer_of
from allcores.limits import Limits
from allcores.pool.many_calls import begin_calls
from allcores.pool.pool import Pool
from allcores.system import procfs

log = logging.getLogger("allcores.jobs")

#: seconds of work that may wait in the pool: short jobs are claimed by the dozen, for a claim costs a commit
AHEAD_S = 0.05
MOST_AHEAD = 256
#: seconds between two starts of a pool whose workers cannot start, doubled up to the second
RESTART_S = (0.5, 30.0)
#: seconds before its deadline in which it is seen to what a call has started; looks are every 0.25 s
NEAR_S = 0.75
#: Seconds that each worker has been at its job, after which what waits behind them is given back: it was claimed
#: because jobs were short so far, and the next one to begin may be another. Less gives back what begins in a moment
LONG_S = 0.5
#: states of workers that take no calls yet
_STARTING = ("starting", "setup")
#: how much a job's time counts in the mean
_SHARE = 0.1


class PoolTrouble(Exception):
    """No worker can be had: what was claimed did not run."""


class NoAnswer(Exception):
    """A worker has sent what is no answer."""


@dataclass(slots=True, eq=False)
class PlainCall:
    """One attempt in the pool.

    Attributes:
        claim: The job.
        pool: That was given it.
        future: Of its call.
        timeout: Seconds that it may take.
        begun: When it was handed to the pool, by the monotonic clock.
        ending_for: Why it is being ended ("cancel", "drain", "ahead"); None: it is not.
        ending: Processes that have to be gone for that.
        below: What its worker had started when that was looked at last.
        met: A worker may have begun it by the time its end was asked for.
        ran: A worker was seen to run it when its end had been asked for.
        searched: All that it started was looked for, now that its worker is gone.
        told_pid: The process that the store knows of.
    """

    claim: Claim
    pool: Pool
    future: Future[Any]
    timeout: float | None
    begun: float
    ending_for: str | None = None
    ending: set[int] = field(default_factory=set)
    below: set[descendants.Process] = field(default_factory=set)
    met: bool = False
    ran: bool = False
    searched: bool = False
    told_pid: int | None = None

    @property
    def mark(self) -> str:
        """What processes that it starts have in their environment."""
        return descendants.mark_of(self.claim.job.id, self.claim.attempt)


class PoolSide:
    """See the module. For one thread.

    Args:
        workers: Of the pool.
        places: Where the tasks are.
        store_folder: Of the store.
        limits: Of the pool.
        wake: Called by any thread when an attempt has ended.
    """

    def __init__(
        self, workers: int, places: tuple[str, ...], store_folder: str, limits: Limits, wake: Callable[[], None]
    ) -> None:
        self.workers = workers
        self._places = places
        self._store_folder = store_folder
        self._limits = limits
        self._wake = wake
        self._pool: Pool | None = None
        #: one whose workers were seen to have started
        self._ready_pool: Pool | None = None
        self.calls: dict[str, PlainCall] = {}
        self._done: deque[PlainCall] = deque()
        #: mean seconds of a job; long until it is known to be short
        self.mean_s = 0.2
        #: all workers are at long jobs: nothing is claimed ahead until one of these has ended
        self._long = False
        self.trouble = ""
        self._restart_at = 0.0
        self._restarts = 0

    @property
    def usable(self) -> bool:
        """Whether it takes work now; a pool that broke is started again in time."""
        return self._pool is not None or time.monotonic() >= self._restart_at

    @property
    def ahead(self) -> int:
        """How many more short jobs than workers may be in the pool."""
        return 0 if self._long else min(MOST_AHEAD, int(AHEAD_S * self.workers / max(self.mean_s, 1e-4)))

    @property
    def is_ready(self) -> bool:
        """Whether it has workers that have started: what is given to one that does nothing else begins at once."""
        pool = self._pool
        if pool is None:
            return False
        if self._ready_pool is not pool and any(each.state not in _STARTING for each in pool.worker_status()):
            self._ready_pool = pool
        return self._ready_pool is pool

    def start(self) -> None:
        """Start the workers. Raises: PoolTrouble."""
        try:
            self._pool = Pool(
                self.workers,
                preload=plain_call.load,
                preload_args=(self._places, self._store_folder),
                limits=self._limits,
                name="jobs",
            )
        except (BrokenPool, SetupError, OSError) as error:
            self.broke(error)
            raise PoolTrouble(str(error)) from error

    def broke(self, error: BaseException) -> None:
        """No worker can be had: another pool is started in a while."""
        pool, self._pool = self._pool, None
        wait_s = min(RESTART_S[0] * 2**self._restarts, RESTART_S[1])
        self._restarts += 1
        self._restart_at = time.monotonic() + wait_s
        self.trouble = f"workers cannot be started, the next try is in {wait_s:g} s: {error}"
        log.warning("%s", self.trouble)
        if pool is not None:
            with contextlib.suppress(Exception):
                pool.close()

    def begin(self, attempts: Sequence[tuple[Claim, float | None]]) -> None:
        """Begin attempts, each with the seconds that it may take: all of them, or none.

        Raises:
            PoolTrouble: None was begun.
        """
        if self._pool is None:
            self.start()
        assert self._pool is not None
        told = [
            ((JobCall(claim.job.id, claim.attempt, claim.job.task, claim.job.arguments, self._store_folder),), timeout)
            for claim, timeout in attempts
        ]
        try:
            # A job that ends the template is counted each time, and not after the third only.
            futures = begin_calls(self._pool, plain_call.run, told, words=plain_call.words, requeues_unattributed=False)
        except (BrokenPool, PoolClosed, SetupError, InternalError) as error:
            self.broke(error)
            raise PoolTrouble(str(error)) from error
        begun = time.monotonic()
        for (claim, timeout), future in zip(attempts, futures, strict=True):
            call = PlainCall(claim, self._pool, future, timeout, begun)
            self.calls[claim.job.id] = call
            future.add_done_callback(partial(self._ended, call))

    def _ended(self, call: PlainCall, _: object) -> None:
        self._done.append(call)
        self._wake()

    def ended(self) -> Iterator[tuple[PlainCall, Answer | BaseException]]:
        """Attempts that have ended since; not those that are being ended."""
        while self._done:
            call = self._done.popleft()
            if call.ending_for is not None or self.calls.get(call.claim.job.id) is not call:
                continue
            del self.calls[call.claim.job.id]
            self._long = False
            if call.future.cancelled():
                # By the end of a pool that broke: another call has told of it.
                yield call, PoolTrouble("its pool was closed")
                continue
            error = call.future.exception()
            if error is None or isinstance(error, plain_call.TaskFailed):
                try:
                    answer = answer_of(call.future.result() if error is None else error.args[0])
                except (LookupError, TypeError, ValueError, AttributeError) as odd:
                    yield call, NoAnswer(str(odd))
                    continue
                self.mean_s += _SHARE * (answer.seconds - self.mean_s)
                self.trouble, self._restarts = "", 0
                yield call, answer
            elif isinstance(error, (TaskTimeout, WorkerLost)):
                self._kill_rest(call)
                yield call, error
            elif isinstance(error, (BrokenPool, PoolClosed, SetupError, InternalError)):
                if self._pool is call.pool:
                    self.broke(error)
                yield call, PoolTrouble(str(error))
            else:
                yield call, plain_call.failure(error)

    def end(self, job: str, why: str) -> bool:
        """End an attempt; `gone` tells when that is so. False if it is ended already.

        Args:
            job: Its id.
            why: "ahead" ends none that a worker has begun.
        """
        call = self.calls.get(job)
        if call is None or call.ending_for is not None:
            return False
        at_work = self.where()
        before = at_work.get(job)
        # One that can begin in a moment is not given back.
        if why == "ahead" and (before is not None or len(at_work) < self.workers):
            return False
        if before is not None:
            call.met = True
            call.below |= descendants.below(*before, call.mark)
        call.ending_for = why
        if not call.future.cancel():
            call.ending_for = None
            return False
        # Again: it may have begun in between.
        now_at_work = self.where()
        place = before or now_at_work.get(job)
        if place is not None:
            call.ran = True
            call.ending.add(place[0])
        elif why == "ahead" and not at_work.keys() <= now_at_work.keys():
            # ... and have come to its end, of which nothing is told any more: a worker was done with what it ran.
            call.met = call.ran = True
        if self._pool is not None:
            # One that began in this moment is among those that are being ended.
            call.ending |= {each.pid for each in self._pool.worker_status() if each.pid and each.state == "ending"}
        call.met = call.met or bool(call.ending)
        return True

    def gone(self) -> list[PlainCall]:
        """Attempts that were to be ended and whose processes are gone."""
        ending = [call for call in self.calls.values() if call.ending_for is not None]
        if not ending:
            return []
        workers = {each.pid: each for each in self._pool.worker_status()} if self._pool is not None else {}
        where = {called.job: pid for pid, each in workers.items() if (called := _job_of(each.item)) is not None}
        found = []
        for call in ending:
            job = call.claim.job.id
            place = where.get(job)
            if place is not None:
                call.met = call.ran = True
                call.ending.add(place)
            # A worker that had done with it in the moment of the cancel is not ended for it, and lives on.
            call.ending = {
                pid
                for pid in call.ending
                if is_alive(pid) and (pid == place or pid not in workers or workers[pid].state == "ending")
            }
            if call.ending or place is not None:
                continue
            if call.met and not call.searched:
                call.searched = True
                call.below |= descendants.marked(call.claim.job.id, call.claim.attempt)
            if not descendants.kill(call.below):
                del self.calls[call.claim.job.id]
                found.append(call)
        return found

    def look_below(self, where: Mapping[str, tuple[int, float]]) -> None:
        """Remember what calls have started whose deadline is near: once the worker is gone, nothing is below it.

        Args:
            where: What `where` said a moment ago.
        """
        for job, (pid, seconds) in where.items():
            call = self.calls.get(job)
            if call is not None and call.timeout is not None and call.timeout - seconds < NEAR_S:
                call.below |= descendants.below(pid, seconds, call.mark)

    def overtaken(self, where: Mapping[str, tuple[int, float]]) -> list[str]:
        """Jobs that were claimed ahead and wait behind long ones: they are to be given back.

        Args:
            where: What `where` said a moment ago.
        """
        at_work = [seconds for job, (_, seconds) in where.items() if job in self.calls]
        if len(at_work) < self.workers or min(at_work) < LONG_S:
            return []
        self._long = True
        begun = time.monotonic() - LONG_S
        calls = [call for call in self.calls.values() if call.ending_for is None and call.begun < begun]
        return [call.claim.job.id for call in calls if call.claim.job.id not in where and not call.future.done()]

    def _kill_rest(self, call: PlainCall) -> None:
        """What a call started, and what left its worker's group: that ends with it otherwise."""
        descendants.kill(call.below | descendants.marked(call.claim.job.id, call.claim.attempt))

    def where(self) -> dict[str, tuple[int, float]]:
        """Which process runs which job, and for how many seconds."""
        found: dict[str, tuple[int, float]] = {}
        if self._pool is None:
            return found
        for each in self._pool.worker_status():
            job = _job_of(each.item)
            if job is not None and each.pid is not None:
                found[job.job] = (each.pid, each.seconds)
        return found

    def untold(self, job: str, pid: int) -> PlainCall | None:
        """The call of a job, if the store does not know of the process that runs it."""
        call = self.calls.get(job)
        return None if call is None or call.told_pid == pid else call

    def status(self) -> list[tuple[int, str, JobCall | None, float]]:
        """Each worker: its process, state, what it runs, for how long."""
        if self._pool is None:
            return []
        found = self._pool.worker_status()
        return [(each.pid or 0, each.state, _job_of(each.item), each.seconds) for each in found]

    def close(self) -> None:
        """End the workers."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


def _job_of(item: Any) -> JobCall | None:
    """The call that a worker's item is: its arguments, by place and by name."""
    try:
        found = item[0][0]
    except (TypeError, IndexError, KeyError):
        return None
    return found if isinstance(found, JobCall) else None


def is_alive(pid: int) -> bool:
    """Whether a process runs code: one that only waits to be reaped does not."""
    fields = procfs.stat_fields(pid)
    if fields is not None:
        return fields[0] not in (b"Z", b"X")
    if procfs.read("self/stat") is not None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
