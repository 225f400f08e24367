"""Why a store cannot be used: told once, and again each minute; and that it is over."""

from __future__ import annotations

import logging

from allcores.formatting import seconds_text
from allcores.jobs.errors import StoreAway, StoreBusy, StoreError

log = logging.getLogger("allcores.jobs")

#: seconds before the store is asked again after trouble with it
TROUBLE_S = 0.5
#: seconds before the same trouble is logged again
TELL_S = 60.0


class Trouble:
    """See the module.

    Attributes:
        text: It; "" if there is none.
        until: The store is not asked before, by the monotonic clock.
        away: It is that the server of the store is away.
        waits: To ask all the same would take a connection's or a lock's time.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.text = ""
        self.until = 0.0
        self.away = self.waits = False
        self._since = 0.0
        #: what was told, and when: several that come in turns are each told once a minute
        self._told: dict[object, float] = {}

    def has(self, error: StoreError, now: float) -> None:
        """The store cannot be used now."""
        away = isinstance(error, StoreAway)
        # A server that ends, is gone, and starts again says so in other words each time.
        what: object = StoreAway if away else str(error)
        if not self.text:
            self._since = now
        if may_tell(self._told, what, now):
            # As text: who keeps the record would keep the connection that the error refers to.
            log.warning("%s%s", str(error), "; what runs goes on, and it is tried again" if away else "")
        self.text = str(error)
        self.away, self.waits = away, away or isinstance(error, StoreBusy)
        self.until = now + TROUBLE_S

    def over(self, now: float) -> None:
        """It was used."""
        if self.text:
            log.info("the store %s can be used again, after %s", self._name, seconds_text(now - self._since))
            self.text, self.away, self.waits = "", False, False
            self._told.clear()


def may_tell(told: dict[object, float], what: object, now: float) -> bool:
    """Whether something is to be logged now: it was not, for a minute.

    Args:
        told: When what was logged; what is older than a minute goes.
        what: It.
        now: By the monotonic clock.
    """
    for each in [each for each, at in told.items() if now >= at + TELL_S]:
        del told[each]
    if what in told:
        return False
    told[what] = now
    return True
