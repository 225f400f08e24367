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


class Patient:
    """What a waiter reads of a store; each call raises `StoreAway` only if the server does not come back in time.

    Args:
        store: The store.
        until: By the monotonic clock: a server is not waited for longer. None: for a minute.
    """

    def __init__(self, store: StoreReading, until: float | None = None) -> None:
        self._store = store
        self._until = until

    def change_number(self) -> int:
        """As of the store."""
        return self._patiently(self._store.change_number)

    def get(self, id: str) -> Job | None:
        """As of the store."""
        return self._patiently(lambda: self._store.get(id))

    def wait_for_change(self, since: int, timeout: float) -> int:
        """As of the store."""
        return self._patiently(lambda: self._store.wait_for_change(since, timeout))

    def _patiently(self, call: Callable[[], R]) -> R:
        end = time.monotonic() + PATIENCE_S
        end = end if self._until is None else min(end, self._until)
        while True:
            try:
                return call()
            except StoreAway:
                left = end - time.monotonic()
                if left <= 0:
                    raise
                time.sleep(min(AGAIN_S, left))
