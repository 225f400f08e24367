"""What the workers of a node log, on its way to the program: it goes with the next reply."""

from __future__ import annotations

import threading
from time import monotonic

from allcores.adapters.cluster.messages import NodeRecord
from allcores.backends.processes.worker_logs import MOST_WAITING, WorkerLogReceiver

#: of a `NodeRecord` that only says how many were dropped
DROPPED = 2


class NodeLogs(WorkerLogReceiver):
    """Takes what a node's workers log, and handles nothing of it.

    Args:
        greeting: What tells a worker which records are wanted; the program made it of the levels of its own loggers.
    """

    def __init__(self, greeting: bytes) -> None:
        super().__init__("node", records=True, prints=False)
        self._greeting = greeting
        self._lock = threading.Lock()
        self._kept: list[NodeRecord] = []
        self._lost = 0
        self._since_s = 0.0

    def greeting(self) -> bytes:
        """See WorkerLogReceiver."""
        return self._greeting

    def take(self, worker: int, kind: int, body: bytes) -> None:
        """See WorkerLogReceiver. Never waits."""
        with self._lock:
            if kind == DROPPED:
                self._lost += int(body)
            elif len(self._kept) >= MOST_WAITING:
                self._lost += 1
            else:
                self._since_s = self._since_s or monotonic()
                self._kept.append(NodeRecord(kind, body))

    def is_due(self, seconds: float) -> bool:
        """Something has been here for so long."""
        return bool(self._since_s) and monotonic() - self._since_s > seconds

    def taken(self) -> list[NodeRecord]:
        """All that is here, which then is not any more."""
        with self._lock:
            kept, self._kept, self._since_s = self._kept, [], 0.0
            if self._lost:
                kept.append(NodeRecord(DROPPED, b"%d" % self._lost))
                self._lost = 0
            return kept
