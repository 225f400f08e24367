"""The supervisor's side of the store: ends that are not written yet, and claims. For one thread, but for `wake`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from allcores.jobs import ends, queries
from allcores.jobs.claims import Choice, Choose
from allcores.jobs.errors import BadJob
from allcores.jobs.model import Claim, Finished, JobError, State
from allcores.jobs.plain_call import failure

if TYPE_CHECKING:
    from allcores.jobs.store import Exchanged, JobStore

log = logging.getLogger("allcores.jobs")

#: seconds between two looks at the store where nobody woke us: a program that died between its commit and its call,
#: and for a store on a server, of which other machines cannot tell us
LOOK_S, LOOK_ELSEWHERE_S = 0.1, 0.02


class StoreSide:
    """See the module.

    Args:
        store: The store.
    """

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.look_s = LOOK_S if store.is_on_this_machine else LOOK_ELSEWHERE_S
        self._ends: list[ends.End] = []
        self._releases: list[Claim] = []
        self._looked_at = float("-inf")
        self._next_at: float | None = None
        #: the change number at which it was looked for jobs that are to end, and the store's `sessions_lost`: the same
        #: number says nothing if the server may have crashed, which sets it back
        self._seen = (-1, 0)
        #: jobs may be claimed in the store that nobody here knows of
        self._strays = False
        #: jobs were submitted since the last claim
        self._submitted = False
        #: ends that came too late: another attempt had the job
        self.lost_claims = 0

    def end(self, claim: Claim, end: Finished) -> None:
        """An attempt has ended: to be written with the next exchange."""
        try:
            columns = ends.checked(end)
        except BadJob as error:
            answer = failure(error)
            reason = JobError(answer.type, answer.message, cause="result")
            end = Finished(State.FAILED, error=reason, progress=end.progress, note="its result cannot be kept")
            columns = ends.checked(end)
        self._ends.append(ends.End(claim, end, columns))

    def release(self, claim: Claim) -> None:
        """A claim is to be given back."""
        self._releases.append(claim)

    @property
    def unwritten(self) -> list[Claim]:
        """Claims of attempts that have ended, and claims to give back, which are not known to be written."""
        return [*(claim for claim, _, _ in self._ends), *self._releases]

    def tell_unwritten(self, at_work: Iterable[Claim]) -> None:
        """The supervisor ends: say what it could not write.

        Args:
            at_work: Claims of jobs that run still, and are ended now.
        """
        if count := len([*at_work, *self.unwritten]):
            log.warning("%d jobs could not be written to the store %s: they are run again", count, self.store.name)

    @property
    def has_something(self) -> bool:
        """Whether there is something to write."""
        return bool(self._ends or self._releases or self._strays)

    def wake(self) -> None:
        """The store has changed: look at once. Any thread."""
        self._looked_at = float("-inf")

    def submitted(self) -> None:
        """Jobs were submitted: they can be claimed without a look. Any thread."""
        self._submitted = True

    def take_submitted(self) -> bool:
        """Whether jobs were submitted since it was asked last."""
        if not self._submitted:
            return False
        # What is submitted in this moment is in the store: the claim that follows finds it.
        self._submitted = False
        return True

    @property
    def next_look(self) -> float:
        """When to look again at the latest, by the monotonic clock."""
        at = self._looked_at + self.look_s
        if self._next_at is not None:
            at = min(at, time.monotonic() + max(0.0, self._next_at - time.time()))
        return at

    def look(self, now: float, cancel: Callable[[str], None]) -> queries.Look | None:
        """Look whether there is something to claim, and for jobs whose end was asked for; None: it is no time to look.

        Args:
            now: By the monotonic clock.
            cancel: Called with the id of each job whose end was asked for.

        Raises:
            StoreError: The store cannot be read.
        """
        if now < self.next_look:
            return None
        self._looked_at = now
        lost = self.store.sessions_lost
        found = self.store.look()
        if (found.change, lost) != self._seen:
            for job in self.store.cancel_requests():
                cancel(job)
            self._seen = (found.change, lost)
        # One that is due and cannot be claimed now waits for the end of another.
        self._next_at = None if found.due else found.next_at
        return found

    def exchange(self, choose: Choose, at_work: Callable[[], Iterable[Claim]]) -> Exchanged:
        """Write what has ended, and claim what comes next, in one commit.

        What has ended stays in the list until that is known to have worked.

        Args:
            choose: What to claim.
            at_work: Claims that this process knows of, beside those that have ended.

        Raises:
            StoreError: Something may not have been written; it is tried again with the next exchange.
        """
        if self._strays:
            self.store.release_strays([*at_work(), *self.unwritten])
            self._strays = False
        tries = 0

        def counted(waiting: frozenset[str]) -> Choice:
            nonlocal tries
            tries += 1
            return choose(waiting)

        ended, releases = self._ends[:], self._releases[:]
        try:
            done = self.store.exchange(ended, releases, counted)
        except BaseException:
            # It may have been committed all the same, and nobody has the claims.
            self._strays = tries > 0
            raise
        # So may the first try have been, if there was a second.
        self._strays = tries > 1 or done.error is not None
        if done.error is None:
            del self._ends[: len(ended)]
            del self._releases[: len(releases)]
            for (claim, _, _), holds in zip(ended, done.held, strict=True):
                if not holds:
                    self.lost_claims += 1
                    log.warning("job %s: this attempt had lost its claim; its end is not written", claim.job.id)
        return done
