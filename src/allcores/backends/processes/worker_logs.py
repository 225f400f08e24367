"""What workers log and print, on its way to the parent's own logging and streams.

Handlers are foreign code: they may wait, for a lock of a thread that waits for this very pool. So they
run on a thread of their own, behind a queue with a bound; the thread begins with the first record.

Whoever hands out results waits, boundedly, until the records that came before them are handled: a program that has a
result finds what was logged on the way to it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from queue import SimpleQueue
from typing import Any

from allcores.system import log_levels
from allcores.transport import frames, pickling
from allcores.transport.status_board import worker_name

#: records that wait for the parent's handlers; what comes then is counted and dropped
MOST_WAITING = 10_000
#: seconds that closing waits for handlers that are slow
CLOSE_S = 3.0


class WorkerLogReceiver:
    """What workers log, and print if that is wanted, handled in this process.

    Args:
        name: Of the pool.
        records: What is wanted of the workers.
        prints: What is wanted of the workers.
    """

    def __init__(self, name: str, *, records: bool, prints: bool) -> None:
        self._name = name
        self._records = records
        self._prints = prints
        #: what is not handled yet, and the marks of those who wait until it is; the first is being handled
        self.unhandled: deque[tuple[int, int, bytes] | threading.Event] = deque()
        #: an entry for each of them; False is the end
        self._entries: SimpleQueue[bool] = SimpleQueue()
        self._thread: threading.Thread | None = None
        #: whoever takes it out begins the thread: several threads read from workers' pipes
        self._unbegun = [True]
        #: a thread has waited in vain: no other does before all is handled
        self._behind = False
        self._dropped = 0

    def greeting(self) -> bytes:
        """The frame that tells a new worker what to send: levels are those of this moment."""
        return frames.frame(frames.LOGS, 0, self.wanted())

    def wanted(self) -> bytes:
        """What is in that frame."""
        levels, disabled = log_levels.current()
        return pickling.dumps((levels if self._records else None, disabled, self._prints))

    def take_logged(self, data: bytes) -> None:
        """All that the preload function has logged and printed."""
        for kind, number, body in frames.Inbox().feed(data):
            if kind == frames.LOG:
                self.take(0, number, body)

    def take(self, worker: int, kind: int, body: bytes) -> None:
        """A record (kind 0), lines (kind 1), or how many of these were dropped (kind 2). Never waits.

        Args:
            worker: Whose; 0: what the preload function did for all of them.
            kind: What it is.
            body: It.
        """
        if kind == 2:
            self._dropped += int(body)
            return
        if len(self.unhandled) >= MOST_WAITING:
            self._dropped += 1
            return
        self.unhandled.append((worker, kind, body))
        self._entries.put(True)
        if self._unbegun:
            self._begin()

    def _begin(self) -> None:
        """Begin the thread, unless another one does so just now."""
        try:
            self._unbegun.pop()
        except IndexError:
            return
        self._thread = threading.Thread(target=self._run, name=f"allcores-logs-{self._name}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the program ends, and no thread can be had: said here, before it is lost
            self._entries.put(False)
            self._run()
            self._thread = None
            self._unbegun.append(True)

    def settle(self, seconds: float) -> None:
        """Wait until everything that was taken so far is handled.

        Args:
            seconds: At most. Handlers that need longer, or that wait for the caller, delay only the first who waits:
                until they have caught up, all others go on without.
        """
        if not self.unhandled or self._behind or threading.current_thread() is self._thread:
            return
        mark = threading.Event()
        self.unhandled.append(mark)
        self._entries.put(True)
        if not mark.wait(seconds):
            self._behind = True

    def close(self) -> None:
        """Wait, boundedly, until everything is handled."""
        thread = self._thread
        if thread is None:
            return
        self._entries.put(False)
        if thread.is_alive() and thread is not threading.current_thread():
            thread.join(CLOSE_S)

    def _run(self) -> None:
        while self._entries.get():
            found = self.unhandled[0]
            if isinstance(found, threading.Event):
                found.set()
            else:
                worker, kind, body = found
                # A filter or handler that raises must not silence the others.
                with contextlib.suppress(BaseException):
                    (self._print if kind else self._log)(worker, body)
            self.unhandled.popleft()
            if not self.unhandled:
                self._behind = False
                if self._dropped:
                    self._complain()
        if self._dropped:
            self._complain()

    def _complain(self) -> None:
        import logging

        number, self._dropped = self._dropped, 0
        logging.getLogger("allcores").warning(
            "pool %s: %d log records of workers were dropped: they came faster than they were handled",
            self._name,
            number,
        )

    def _log(self, worker: int, body: bytes) -> None:
        import logging

        facts, extra = pickling.loads(body)
        if extra:
            with contextlib.suppress(Exception):  # of a class that the parent cannot import
                facts |= pickling.loads(extra)
        facts["processName"], facts["worker"] = self._place(worker), worker
        record = logging.makeLogRecord(facts)
        # A worker has no names of levels but its own.
        name = logging.getLevelName(record.levelno)
        if name != f"Level {record.levelno}":
            record.levelname = name
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)

    def _place(self, worker: int) -> str:
        return worker_name(self._name, worker)

    def _print(self, worker: int, body: bytes) -> None:
        stream, lines = pickling.loads(body)
        text = "".join(f"[{self._place(worker)}] {line}\n" for line in lines)
        to: Any = getattr(sys, stream)
        if to is not None:
            to.write(text)
            to.flush()
