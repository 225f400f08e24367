"""Who waits for the end of a job waits on while the server of the store restarts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from allcores.jobs.errors import StoreAway

if TYPE_CHECKING:
    from allcores.jobs.model import Job
    from allcores.jobs.store_reading import StoreReading

#: seconds for which a server may be away, and between two tries
PATIENCE_S, AGAIN_S = 60.0, 0.5
R = TypeVar("R")


class TimeIsUp(Exception):
    """The time of who waits has passed while the server is away: whether a job has ended is not known."""


class Patient:
    """What a waiter reads of a store.

    Each call raises `StoreAway` if the server is away for longer than `PATIENCE_S`, counted from when it was first
    found to be, and `TimeIsUp` if the caller's time passes before that.

    Args:
        store: The store.
        until: The end of the caller's time, by the monotonic clock; None: there is none.
    """

    def __init__(self, store: StoreReading, until: float | None = None) -> None:
        self._store = store
        self._until = until
        self._begun = time.monotonic()

    def change_number(self) -> int:
        """As of the store."""
        return self._patiently(self._store.change_number)

    def get(self, id: str) -> Job | None:
        """As of the store."""
        return self._patiently(lambda: self._store.get(id))

    def wait_for_change(self, since: int, timeout: float) -> int:
        """As of the store; the time for which the server is away counts. What comes soon is noticed soon."""
        end = time.monotonic() + timeout
        return self._patiently(
            lambda: self._store.wait_for_change(since, max(0.0, end - time.monotonic()), begun=self._begun)
        )

    def _patiently(self, call: Callable[[], R]) -> R:
        end: float | None = None
        while True:
            try:
                return call()
            except StoreAway as error:
                # After the call: it may have waited for long before the server went away.
                now = time.monotonic()
                if end is None:
                    end = now + PATIENCE_S
                if self._until is not None and self._until <= min(now, end):
                    raise TimeIsUp(str(error)) from error
                if end <= now:
                    raise
                time.sleep(min(AGAIN_S, (end if self._until is None else min(end, self._until)) - now))
