"""The supervisor's hold on its store: whether it may be used now, and what is told where it may not. For one thread.

What runs goes on while the store cannot be used; ends of jobs wait until they can be written. The server of a store
takes the supervisor's lock along when it ends. Once it is back, the lock is taken again, and before anything is claimed
it is looked at what is left of the claims: they may be another supervisor's by then, or undone by the server's crash.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from allcores.formatting import seconds_text
from allcores.jobs import descendants
from allcores.jobs.errors import StoreAway, StoreBusy, StoreError, StoreFull
from allcores.jobs.leases import LeaseLost
from allcores.jobs.model import Claim
from allcores.jobs.retaking import Retaken
from allcores.jobs.trouble import TROUBLE_S, Trouble

if TYPE_CHECKING:
    from allcores.jobs.shared_store import Lease
    from allcores.jobs.store import JobStore
    from allcores.jobs.supervisor_lock import SupervisorLock

log = logging.getLogger("allcores.jobs")

#: Seconds for which the server of a store may be away. Less ends jobs of hours for a server that is moved or restored,
#: more lets jobs run on here for longer that a supervisor on another machine may have begun again meanwhile.
AWAY_S = 3_600.0


class _Attempt(threading.Thread):
    """One attempt to take the lock again, or to reach the server that has its record.

    A server that does not answer takes its time, and jobs need not wait for it.

    Attributes:
        done: It has ended.
        error: Why it failed; None: it did not.
    """

    def __init__(self, lock: SupervisorLock | Lease, wake: Callable[[], None]) -> None:
        super().__init__(name="allcores-regain", daemon=True)
        self._lock = lock
        self._wake = wake
        self.done = False
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        """See the class."""
        try:
            self._lock.regain()
        except Exception as error:
            self.error = error
        self.done = True
        self._wake()


class Holding:
    """See the module.

    Args:
        store: The store.
        lock: Of its supervisor.
        trouble: Of the store.
        max_crashes: Deaths of its process after which a job is quarantined.
        claims: What this process has: claims of jobs that run, and of those whose ends are not written yet.
        retaken: Called with what is left of them, whenever that was looked at.
        wake: Called by another thread when it is to be looked again.
    """

    def __init__(
        self,
        store: JobStore,
        lock: SupervisorLock | Lease,
        trouble: Trouble,
        max_crashes: int,
        claims: Callable[[], tuple[Sequence[Claim], Sequence[Claim]]],
        retaken: Callable[[Retaken], None],
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._lock = lock
        self._trouble = trouble
        self._max_crashes = max_crashes
        self._claims = claims
        self._retaken = retaken
        self._wake = wake
        self._attempt: _Attempt | None = None
        self._began = False
        #: the store's `sessions_lost` when it was last looked at what is left; None: since then the lock was lost
        self._seen: int | None = None
        self._away_since: float | None = None

    def look(self, now: float) -> bool:
        """Whether the store may be used now.

        Args:
            now: By the monotonic clock.

        Raises:
            AlreadySupervised: Another supervisor has taken over.
            StoreError: The right to claim is lost for good, or the server was away for too long.
        """
        if (self._attempt is not None or self._is_missing()) and not self._regained(now):
            return False
        return self._seen == self._store.sessions_lost or self._is_sure(now)

    def _is_missing(self) -> bool:
        """Whether the lock was lost, or is in a store whose server is away."""
        return not self._lock.held or (self._lock.in_store and self._trouble.away)

    def _regained(self, now: float) -> bool:
        """Take the lock again, if it was lost with its session in the server; see that the server is there."""
        if not self._lock.may_return:
            raise self._lock.loss()
        self._seen = None
        if self._away_since is None:
            self._away_since = now
        attempt = self._attempt
        if attempt is not None:
            if attempt.done:
                return self._has_ended(attempt)
            # It wakes us; until then nothing is due.
            self._trouble.until = now + TROUBLE_S
            return False
        if now < self._trouble.until:
            return False
        if now > self._away_since + AWAY_S and not self._lock.in_store:
            raise StoreAway(
                f"the server of the store {self._store.name} was away for {seconds_text(now - self._away_since)}, and"
                " another supervisor may have its jobs by now: this one ends, and what still runs here is run again"
            )
        self._attempt = _Attempt(self._lock, self._wake)
        self._trouble.until = now + TROUBLE_S
        return False

    def _has_ended(self, attempt: _Attempt) -> bool:
        """Whether it has the lock."""
        self._attempt = None
        if attempt.error is None:
            self._trouble.until = 0.0
            return True
        if not isinstance(attempt.error, StoreError):
            raise attempt.error
        self._trouble.has(attempt.error, time.monotonic())
        return False

    def _is_sure(self, now: float) -> bool:
        """See what is left of the claims, and queue again what a supervisor that is gone had."""
        if now < self._trouble.until:
            return False
        # Before: what ends while it is looked at is looked at once more.
        seen = self._store.sessions_lost
        try:
            if self._began:
                found = self._store.retake(*self._claims(), max_crashes=self._max_crashes)
            else:
                found = Retaken(recovered=self._store.recover(max_crashes=self._max_crashes))
        except StoreError as error:
            if isinstance(error, LeaseLost) or not (
                self._began or isinstance(error, StoreAway | StoreBusy | StoreFull)
            ):
                raise
            self._trouble.has(error, time.monotonic())
            return False
        # That it can be used is told once it was: one of several supervisors that runs nothing has asked it nothing.
        self._began, self._seen, self._away_since = True, seen, None
        for job in found.recovered:
            log.info("job %s (%s): %s", job.id, job.task, job.note)
        # What its processes had started, and what left them, did not end with the supervisor.
        if others := {job.id for job in found.recovered}.difference(found.lost):
            descendants.kill(descendants.of_jobs(others))
        for id in found.lost:
            log.warning("job %s was taken over while the store was away: its attempt here is ended", id)
        self._retaken(found)
        return True
