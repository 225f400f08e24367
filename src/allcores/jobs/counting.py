"""How far a running job is: counted by its maps, told to the supervisor a few times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

#: seconds between two reports of progress
REPORT_S = 0.25


class Counting:
    """What is done, and when it is told; a thread of its own tells it, so that items pay for nothing but a count."""

    def __init__(self, report: Callable[[dict[str, Any]], None]) -> None:
        self._report = report
        self.done = self.failed = 0
        self.total: int | None = None
        self.run: str | None = None
        self.note = ""
        self._started: float | None = None
        self._told: tuple[Any, ...] | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        threading.Thread(target=self._tell_often, name="allcores-progress", daemon=True).start()

    def begin(self, total: int | None, *, done: int = 0, failed: int = 0, run: str | None = None) -> None:
        """A map begins."""
        with self._lock:
            self.done, self.failed, self.total, self.run = done, failed, total, run
            self._started = time.time()

    def tell(self) -> None:
        """Report now, unless nothing is new."""
        with self._lock:
            facts = (self.done, self.failed, self.total, self.run, self.note)
            if facts == self._told or facts == (0, 0, None, None, ""):
                return
            self._told = facts
            message = {
                "done": self.done,
                "failed": self.failed,
                "total": self.total,
                "run": self.run,
                "note": self.note,
                "started": self._started,
                "at": time.time(),
            }
            self._report(message)

    def close(self) -> None:
        """The last report."""
        self._over.set()
        self.tell()

    def _tell_often(self) -> None:
        while not self._over.wait(REPORT_S):
            self.tell()
