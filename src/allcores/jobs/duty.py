"""What a supervisor sees to beside its jobs."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from allcores.jobs.errors import StoreAway, StoreError
from allcores.jobs.trouble import Trouble, may_tell

log = logging.getLogger("allcores.jobs")


class Duty:
    """Something that is looked at now and then, by the supervisor's thread: it may not take long."""

    def look(self, wall: float, *, stopping: bool) -> bool:
        """See to it.

        Args:
            wall: The time, seconds since 1970.
            stopping: The supervisor begins nothing more.

        Returns:
            Whether that shows that the store can be used: all that has raised was done since, and something was now.
            False where nothing was due.

        Raises:
            StoreError: What the store raises; it is looked at again later.
        """
        raise NotImplementedError

    def next_times(self) -> dict[str, float]:
        """What is due next, by task."""
        return {}

    def put_down(self) -> None:
        """Another one sees to it from now on, perhaps until this one does again: what it remembers is no longer so."""

    def close(self) -> None:
        """The supervisor ends."""


class DutyTrouble:
    """What duties cannot do: told once and again each minute; and that it is over, once each of them was done.

    Args:
        name: Of the store.
    """

    def __init__(self, name: str) -> None:
        self._trouble = Trouble(name)
        self._troubled: set[Duty] = set()
        self._mistakes: dict[object, float] = {}

    def has(self, duty: Duty, error: StoreError) -> None:
        """The store did not let a duty be done."""
        self._troubled.add(duty)
        self._trouble.has(error, time.monotonic())

    def over(self, duty: Duty) -> None:
        """A duty was done."""
        self._troubled.discard(duty)
        if not self._troubled:
            self._trouble.over(time.monotonic())

    def failed(self, duty: Duty, error: Exception) -> None:
        """A duty failed, and the store is not why; for an `except` block."""
        name = type(duty).__name__
        if may_tell(self._mistakes, (name, type(error), str(error)), time.monotonic()):
            log.exception("%s failed; it is seen to again later", name)


def see_to(duties: Iterable[Duty], trouble: DutyTrouble, *, stopping: bool, wall: float | None = None) -> None:
    """See to each of them; one that fails keeps no other one, and is seen to again later.

    Args:
        duties: They.
        trouble: Of theirs: it is not told four times a second.
        stopping: The supervisor begins nothing more.
        wall: The time, seconds since 1970; None: now.

    Raises:
        StoreAway: The server of the store is away: for all of them.
    """
    for each in duties:
        try:
            if each.look(time.time() if wall is None else wall, stopping=stopping):
                trouble.over(each)
        except StoreAway:
            raise
        except StoreError as error:
            trouble.has(each, error)
        except Exception as error:
            # Jobs run all the same.
            trouble.failed(each, error)
