"""Who was silent: the cluster, or this program, which was stopped or had no turn, and so heard nobody."""

from __future__ import annotations

#: A look that comes so much later than it was to come says that this program did not run meanwhile, ns. Larger: a
#: cluster that answers may be taken for lost. Smaller: on a busy machine one that is lost is noticed late.
LATE_NS = 2_000_000_000


class Looks:
    """Looks at what has arrived, each of which says how long it was to sleep before.

    Args:
        now: The time, ns.
    """

    def __init__(self, now: int) -> None:
        self._looked_ns = now

    def late_ns(self, now: int, asleep_ns: int) -> int:
        """How much later a look comes than it was to come, ns; 0 if that is not long."""
        late = now - self._looked_ns - asleep_ns
        self._looked_ns = now
        return late if late > LATE_NS else 0
