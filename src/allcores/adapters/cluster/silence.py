"""Who was silent: the other side, or this process, which was stopped or had no turn, and so heard nobody."""

from __future__ import annotations

#: A look that comes so much later than it was to come says that this program did not run meanwhile, ns. Larger: a
#: cluster that answers may be taken for lost. Smaller: on a busy machine one that is lost is noticed late.
LATE_NS = 2_000_000_000
#: So long the cluster's scheduler may be silent while there is work, until it is looked whether its process is there,
#: ns: with a look more it is less than 10 s.
SILENT_NS = 8_000_000_000
#: So long one whose process is there may be silent, ns: it may be busy (Dask's collects garbage, or takes in a graph of
#: a million tasks), or stopped for a while. Below the lease of a node, which ends its pool then.
STALLED_NS = 60_000_000_000


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


class Silence:
    """How long the scheduler has been silent, and whether it is lost.

    Args:
        now: The time, ns.
    """

    def __init__(self, now: int) -> None:
        self._heard_ns = now
        #: when it was said last that its process is there
        self._there_ns = now
        #: how asking it fails, the end of a sentence
        self._trouble = ""

    def heard(self, now: int) -> None:
        """It has answered."""
        self._heard_ns = self._there_ns = now
        self._trouble = ""

    def failed(self, text: str) -> None:
        """It could not be asked, for the reason that the end of a sentence says: it may be asked again."""
        self._trouble = text

    def is_there(self, now: int) -> None:
        """Its process is there."""
        self._there_ns = now

    def excuse(self, late_ns: int, now: int) -> None:
        """This program did not run for so long, and could hear nobody."""
        self._heard_ns = min(now, self._heard_ns + late_ns)
        self._there_ns = min(now, self._there_ns + late_ns)

    def wants_to_know(self, now: int) -> bool:
        """Whether it is time to see if its process is there."""
        return now - max(self._heard_ns, self._there_ns) > SILENT_NS

    def lost(self, now: int, *, is_there: bool) -> str | None:
        """Why it is lost, the end of a sentence; None if it is not.

        Args:
            now: The time, ns.
            is_there: Its process is there, or nobody has looked yet.
        """
        if not is_there:
            return self._trouble or "nothing listens at its address any more"
        if now - self._heard_ns > STALLED_NS:
            return self._trouble or f"it has not answered for {STALLED_NS / 1e9:g} s, though its process is there"
        return None
