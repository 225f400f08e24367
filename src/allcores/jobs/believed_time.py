"""How late it is for what is removed by its age: a clock that is set ahead makes nothing older at once.

The wall clock is compared with the time that supervisors have seen pass, which the store keeps. Where it is further
ahead than that explains (a clock that was set wrong, or a machine that was off for long), it is believed once
supervisors have run for a while with it. Pure: times are handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: kind and name of the record that a store has of it
KIND, NAME = "retention", "time"
#: a jump is believed at once if it is no more than that part of the age after which things are removed
AT_ONCE = 1 / 30
#: seconds that a larger one is doubted at most, of the time in which supervisors run
DOUBT_S = 86_400.0
#: seconds between two notes in the store, at least and at most
_WRITE_S = (60.0, 3_600.0)


def is_note(known: object) -> bool:
    """Whether that is what `BelievedTime.note` made, and not a damaged row."""
    if not isinstance(known, dict):
        return False
    time, doubt = known.get("time"), known.get("doubt")
    return isinstance(time, int | float) and (doubt is None or isinstance(doubt, int | float))


class BelievedTime:
    """See the module.

    Args:
        known: The store's record of it; None if it has none.
        newest: The newest time in the store, for one that has no record; None: there is none.

    Attributes:
        doubt: Seconds of supervisors' time after which the wall clock is believed; None: it is.
        ahead: Seconds by which the wall clock is ahead of what is believed.
    """

    def __init__(self, known: Mapping[str, Any] | None, newest: float | None) -> None:
        self._time = newest if known is None else float(known["time"])
        self.doubt: float | None = None if known is None else known["doubt"]
        self.ahead = 0.0
        #: by the monotonic clock
        self._looked: float | None = None
        self._noted = float("-inf")
        self._noted_doubt = self.doubt is not None

    def look(self, wall: float, now: float, age: float) -> float:
        """How late it is, seconds since 1970.

        Args:
            wall: What the wall clock says.
            now: The monotonic clock.
            age: Seconds after which things are removed.
        """
        passed = 0.0 if self._looked is None else max(0.0, now - self._looked)
        self._looked = now
        expected = wall if self._time is None else self._time + passed
        self.ahead = max(0.0, wall - expected)
        if self.ahead <= age * AT_ONCE:
            # Also a clock that was set back: what ended before that is younger now, and is kept.
            self._time, self.doubt = wall, None
            return wall
        self.doubt = min(age, DOUBT_S) if self.doubt is None else self.doubt - passed
        if self.doubt <= 0.0:
            self._time, self.doubt = wall, None
            return wall
        self._time = expected
        return expected

    def note(self, age: float) -> dict[str, Any] | None:
        """What the store is to keep now; None: what it has will do."""
        assert self._looked is not None
        doubted = self.doubt is not None
        least, most = _WRITE_S
        if doubted == self._noted_doubt and self._looked < self._noted + max(least, min(most, age / 60)):
            return None
        self._noted, self._noted_doubt = self._looked, doubted
        return {"time": self._time, "doubt": self.doubt}
