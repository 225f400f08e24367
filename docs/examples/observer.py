"""An observer that counts what happens, and keeps the failures."""

import collections
import os
import threading

import allcores
from allcores.events import TaskFailed, WorkerEnded


class Diary:
    """Counts events by type; remembers which items failed and why workers ended."""

    def __init__(self):
        self._lock = threading.Lock()
        self.counts = collections.Counter()
        self.failures = []
        self.ends = []

    def __call__(self, event):
        with self._lock:
            self.counts[type(event).__name__] += 1
            if isinstance(event, TaskFailed):
                self.failures.append(event.outcome.index)
            elif isinstance(event, WorkerEnded):
                self.ends.append(event.reason)


def work(x):
    if x == 3:
        raise ValueError("three")
    if x == 5:
        os._exit(1)
    return x


diary = Diary()
with allcores.Pool(2, observers=[diary]) as pool:
    pool.map(work, range(8), on_error="skip")
print("items that failed:", diary.failures)
print("workers lost:", sum("code 1" in reason for reason in diary.ends))
print("maps:", diary.counts["MapStarted"], "started,", diary.counts["MapEnded"], "ended")
