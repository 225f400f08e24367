"""What the supervisor is to claim next: how many jobs, and of which tasks."""

from __future__ import annotations

from allcores.jobs.claims import Choice
from allcores.jobs.core_shares import CoreShares
from allcores.jobs.pool_side import PoolSide
from allcores.jobs.process_side import ProcessSide
from allcores.jobs.tasks import Registry


class ClaimChoice:
    """See the module. For one thread.

    Args:
        registry: The tasks that are known here.
        pool: Runs tasks that map nothing.
        processes: Run the others.
        shares: Of cores.
        claims_ahead: Whether short jobs may be claimed before there is a core for them.

    Attributes:
        losing: Jobs that others have taken over, whose attempts here have not ended yet: nothing is claimed meanwhile.
    """

    def __init__(
        self,
        registry: Registry,
        pool: PoolSide,
        processes: ProcessSide,
        shares: CoreShares,
        *,
        claims_ahead: bool,
    ) -> None:
        self.losing: set[str] = set()
        self._registry = registry
        self._pool = pool
        self._processes = processes
        self._shares = shares
        self._claims_ahead = claims_ahead
        #: tasks that have processes of their own
        self._with_job = frozenset(name for name in registry if registry[name].takes_job)

    def of(self, waiting: frozenset[str]) -> Choice:
        """What to claim, of tasks that have jobs waiting."""
        if self.losing:
            self.losing &= self._pool.calls.keys() | self._processes.processes.keys()
        if self._processes.wanting or self.losing:
            return Choice(0, ())
        self._shares.plain = min(len(self._pool.calls), self._shares.cores)
        cores = self._shares.free
        wanted = waiting & self._registry.keys()
        if not self._pool.usable:
            wanted &= self._with_job
        alone = wanted & self._with_job
        # With nothing but those there is nothing to claim ahead.
        ahead = self._ahead() if wanted > alone else 0
        return Choice(cores + ahead if wanted else 0, wanted, alone, cores, self._doubtful(wanted, alone))

    def _doubtful(self, wanted: frozenset[str], alone: frozenset[str]) -> frozenset[str]:
        """Of which tasks a job may be claimed that may be what ends supervisors.

        Of none until the one before has ended, or its process is told; and of none that would not begin at once.
        """
        calls, processes = self._pool.calls.values(), self._processes.processes.values()
        if any(each.claim.in_doubt and each.told_pid is None for each in calls) or any(
            each.claim.in_doubt and not each.told_pid for each in processes
        ):
            return frozenset()
        return wanted if self._pool.is_ready else alone

    def _ahead(self) -> int:
        """How many short jobs may be claimed now that have no core yet."""
        left = self._shares.for_plain
        # All workers of the pool run what is in it: where others have the cores, it is to hold no more than those left.
        if not self._claims_ahead or left < self._shares.cores - 1:
            return 0
        return max(0, self._pool.ahead - max(0, len(self._pool.calls) - left))
