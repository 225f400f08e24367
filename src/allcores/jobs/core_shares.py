"""Who may use how many cores: plain jobs in the pool, and jobs that map in processes of their own. Pure.

Each job at work costs one core. A job that maps is given, for as long as it maps, what is free beside its own core; it
never waits for another one to give back, so nobody waits for ever. Where maps hold all cores, one more job may run all
the same: short jobs do not wait for a run of hours, and there is at most one process more than cores.
"""

from __future__ import annotations


class CoreShares:
    """Counts cores.

    Args:
        cores: The core budget.
    """

    def __init__(self, cores: int) -> None:
        self.cores = max(1, cores)
        #: jobs in the pool
        self.plain = 0
        #: jobs with a process of their own that do not map now
        self._single: set[str] = set()
        #: those that map, and how many cores they have for that
        self._mapping: dict[str, int] = {}

    @property
    def beside(self) -> int:
        """Jobs that run and do not map."""
        return self.plain + len(self._single)

    @property
    def unused(self) -> int:
        """Cores that nobody uses."""
        return max(0, self.cores - self.beside - sum(self._mapping.values()))

    @property
    def for_plain(self) -> int:
        """Cores that jobs with processes of their own leave to those in the pool."""
        return max(0, self.cores - len(self._single) - sum(self._mapping.values()))

    @property
    def free(self) -> int:
        """How many more jobs may begin."""
        return self.unused or int(bool(self._mapping) and self.beside == 0)

    def begin(self, job: str) -> None:
        """A job with a process of its own begins."""
        self._single.add(job)

    def grant(self, job: str, wanted: int | None = None) -> int:
        """A job maps: how many cores it may use now; at least one.

        Args:
            job: Its id.
            wanted: Most that it can use; None: all.
        """
        self._single.discard(job)
        self._mapping.pop(job, None)
        self._mapping[job] = max(1, min(self.unused, self.cores if wanted is None else wanted))
        return self._mapping[job]

    def could_have(self, job: str) -> int:
        """What `grant` would give now."""
        return max(1, self.unused + int(job in self._single) + self._mapping.get(job, 0))

    def of(self, job: str) -> int:
        """Cores that a job with a process of its own uses."""
        return self._mapping.get(job, 1)

    def give_back(self, job: str) -> None:
        """It does not map any more, and goes on with one."""
        if self._mapping.pop(job, None) is not None:
            self._single.add(job)

    def end(self, job: str) -> None:
        """Its process is gone."""
        self._single.discard(job)
        self._mapping.pop(job, None)
