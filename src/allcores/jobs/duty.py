"""What a supervisor sees to beside its jobs."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from allcores.jobs.errors import StoreAway, StoreError
from allcores.jobs.trouble import Trouble

log = logging.getLogger("allcores.jobs")


class Duty:
    """Something that is looked at now and then, by the supervisor's thread: it may not take long."""

    def look(self, wall: float, *, stopping: bool) -> None:
        """See to it.

        Args:
            wall: The time, seconds since 1970.
            stopping: The supervisor begins nothing more.

        Raises:
            StoreError: What the store raises; it is looked at again later.
        """

    def next_times(self) -> dict[str, float]:
        """What is due next, by task."""
        return {}

    def put_down(self) -> None:
        """Another one sees to it from now on, perhaps until this one does again: what it remembers is no longer so."""

    def close(self) -> None:
        """The supervisor ends."""


def see_to(duties: Iterable[Duty], trouble: Trouble, *, stopping: bool, wall: float | None = None) -> None:
    """See to each of them; one that fails keeps no other one, and is seen to again later.

    Args:
        duties: They.
        trouble: Of theirs with the store: it is not told four times a second.
        stopping: The supervisor begins nothing more.
        wall: The time, seconds since 1970; None: now.

    Raises:
        StoreAway: The server of the store is away: for all of them.
    """
    fine = True
    for each in duties:
        try:
            each.look(time.time() if wall is None else wall, stopping=stopping)
        except StoreAway:
            raise
        except StoreError as error:
            fine = False
            trouble.has(error, time.monotonic())
        except Exception:
            # Jobs run all the same.
            log.exception("%s failed; it is seen to again later", type(each).__name__)
    if fine:
        trouble.over(time.monotonic())
