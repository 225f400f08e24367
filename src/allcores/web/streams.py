"""Streams of events, which tell pages that something has changed in the store (SSE): how many, and for how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from allcores.jobs.errors import StoreError

if TYPE_CHECKING:
    from allcores.jobs.store import JobStore

#: Without a change, seconds after which a line is sent all the same: so it is noticed that nobody reads any more.
KEEP_S = 15.0
#: seconds between two looks at whether the server ends
LOOK_S = 0.5
#: seconds between two events of a stream, at least
PAUSE_S = 0.25
#: Seconds after which a stream ends by itself; the page opens the next one.
MOST_S = 600.0


class Streams:
    """The open streams of one process; any thread.

    Args:
        limit: How many there may be.
    """

    def __init__(self, limit: int) -> None:
        self._free = threading.Semaphore(limit)
        self._closing = threading.Event()

    def open(self, store: JobStore) -> Stream | None:
        """One more; None if there are as many as may be."""
        return Stream(store, self._free, self._closing) if self._free.acquire(blocking=False) else None

    def close(self) -> None:
        """End all of them within half a second. Also in a signal's handler."""
        self._closing.set()


class Stream:
    """What is sent to one page. The server reads it to its end, or closes it."""

    def __init__(self, store: JobStore, free: threading.Semaphore, closing: threading.Event) -> None:
        self._lines = _lines(store, closing)
        self._free = free
        self._is_open = True

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def close(self) -> None:
        """Make room for another one."""
        if self._is_open:
            self._is_open = False
            self._free.release()


def _lines(store: JobStore, closing: threading.Event) -> Iterator[str]:
    end = time.monotonic() + MOST_S
    try:
        since, sent = store.change_number(), time.monotonic()
        # Told at once: the page was made before that.
        yield f"retry: 2000\ndata: {since}\n\n"
        while not closing.is_set() and time.monotonic() < end:
            change = store.wait_for_change(since, LOOK_S)
            if change != since:
                since, sent = change, time.monotonic()
                yield f"data: {change}\n\n"
                closing.wait(PAUSE_S)
            elif time.monotonic() - sent >= KEEP_S:
                sent = time.monotonic()
                yield ":\n\n"
    except StoreError:
        return  # the page asks, and is told why
