"""What one of several supervisors sees to: that it is heard of; and if it leads, what a supervisor alone sees to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from allcores.jobs import descendants
from allcores.jobs.duty import Duty, DutyTrouble, see_to
from allcores.jobs.leases import beat_of
from allcores.jobs.shared_store import SharedStore
from allcores.jobs.silence import Silence

log = logging.getLogger("allcores.jobs")

#: Seconds between two renewals of a lease, and how many of the leader's one may miss: together, how long the jobs of a
#: machine that is lost wait. Less costs commits, and leases of processes that were only slow.
BEAT_S, MISSED = 2.0, 8


class LeadDuty(Duty):
    """See the module.

    Args:
        store: The store.
        duties: What is seen to by the one that leads.
        leads: Called with whether this process leads, whenever that changes; the supervisor's thread.
        beat_s: Seconds between two renewals.
        clock: Monotonic.
    """

    def __init__(
        self,
        store: SharedStore,
        duties: Sequence[Duty],
        leads: Callable[[bool], None],
        beat_s: float = BEAT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._duties = duties
        self._leads = leads
        self._beat_s = beat_s
        self._clock = clock
        self._beat_at = float("-inf")
        self._silence = Silence(MISSED)
        self._trouble = DutyTrouble(store.name)
        self._leading = False
        self._told = False

    def look(self, wall: float, *, stopping: bool) -> bool:
        """Renew the lease, and lead if nobody does."""
        now = self._clock()
        done = False
        if now >= self._beat_at + self._beat_s:
            self._beat_at = now
            done = self._beat(stopping)
        if self._leading:
            see_to(self._duties, self._trouble, stopping=stopping, wall=wall)
        return done

    def _beat(self, stopping: bool) -> bool:
        """Whether it still has a lease."""
        if not self._store.renew():
            self._lead(False)
            return False
        if stopping:
            # Another one may lead while jobs here come to their ends.
            self._lead(False)
            self._store.stop_leading()
            return True
        leases = self._store.leases()
        beats = {holder: beat_of(said) for holder, said in leases.items() if holder != self._store.holder}
        if silent := self._silence.look(beats):
            self._take_over(silent)
        leading = self._store.lead()
        if leading and not self._leading:
            # What was left behind before there were leases.
            self._take_over({})
        elif not leading and not beats and not self._told:
            # On another machine: on this one it would have been seen at the start.
            self._told = True
            log.warning("another process has the store %s for itself, and runs its jobs: end it", self._store.name)
        self._lead(leading)
        return True

    def _take_over(self, silent: dict[str, int]) -> None:
        recovered = self._store.recover_lost(silent)
        for job in recovered:
            log.info("job %s (%s): %s", job.id, job.task, job.note)
        # What its processes had started, and what left them, did not end with it, if that was here.
        descendants.kill(descendants.of_jobs({job.id for job in recovered}))

    def _lead(self, leading: bool) -> None:
        if leading == self._leading:
            return
        if leading:
            # First: if it raises, it is tried again with the next beat.
            self._leads(True)
            self._leading = True
            return
        self._leading = False
        for each in self._duties:
            each.put_down()
        # Whoever leads now tells of its own.
        self._trouble = DutyTrouble(self._store.name)
        self._leads(False)

    def next_times(self) -> dict[str, float]:
        """What is due next, by task."""
        return {name: at for each in self._duties for name, at in each.next_times().items()}

    def close(self) -> None:
        """The supervisor ends."""
        self._lead(False)
        for each in self._duties:
            each.close()
