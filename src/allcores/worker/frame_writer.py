"""The worker's way out through its pipe: whole frames, whoever writes and from whichever thread.

Results wait until the pipe takes them. Notes (log records, printed lines) never wait: what the pipe does not
take at once is kept, up to a bound, and goes before the next frame: what an item has logged is there before its result.
What is above the bound is counted and dropped.
"""

from __future__ import annotations

import contextlib
import os
import socket
from _thread import allocate_lock
from collections import deque

from allcores.failpoints import failpoint
from allcores.transport import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: notes that wait for the pipe
MOST_NOTES = 1000
#: seconds that a worker that leaves waits for a pipe that is full
FINISH_S = 1.0


class FrameWriter:
    """Writes frames to the pipe to the parent.

    Args:
        lost: Called with the error when the pipe is gone; it does not return.
    """

    def __init__(self, pipe: socket.socket, lost: Callable[[OSError], None]) -> None:
        self._pipe = pipe
        self._lost = lost
        self._lock = allocate_lock()
        #: what the pipe did not take of a note: goes before anything else
        self._rest: bytes | memoryview = b""
        self._notes: deque[bytes] = deque()
        #: notes that were dropped
        self.dropped = 0
        self._pid = os.getpid()

    def send(self, *parts: bytes | memoryview) -> None:
        """Write a frame, in parts, and wait until it is written. The worker's main thread only."""
        failpoint("frame.before")
        with self._lock:
            try:
                if self._rest:
                    self._pipe.sendall(self._rest)
                    self._rest = b""
                # Those that are here now: other threads may go on adding some.
                for _ in range(len(self._notes)):
                    self._pipe.sendall(self._notes.popleft())
                for part in parts:
                    self._pipe.sendall(part)
            except OSError as error:
                self._lost(error)
        failpoint("frame.after")
        if self._notes or self.dropped:
            self._pass_on()

    def behind(self) -> bool:
        """Notes wait for the pipe."""
        return bool(self._notes or self._rest)

    def note(self, data: bytes) -> bool:
        """Write a frame without waiting, from any thread; False in a process that a task forked."""
        if os.getpid() != self._pid:
            return False
        if len(self._notes) >= MOST_NOTES:
            self.dropped += 1
        else:
            self._notes.append(data)
            self._pass_on()
        return True

    def _pass_on(self) -> None:
        # Who holds the lock may be this very thread, in the middle of a frame (a finalizer that logs): it, or
        # whoever else has it, passes the note on when the frame is written.
        # The rest of a note counts, too: it may be all that is left when the pipe has room again.
        while (self._rest or self._notes or self.dropped) and self._lock.acquire(False):
            try:
                if not self._try_notes():
                    return
            finally:
                self._lock.release()

    def _try_notes(self) -> bool:
        """Write what the pipe takes; False if it takes no more."""
        try:
            while True:
                if not self._rest:
                    if self._notes:
                        self._rest = self._notes.popleft()
                    elif self.dropped:
                        number, self.dropped = self.dropped, 0
                        self._rest = frames.frame(frames.LOG, 2, str(number).encode())
                    else:
                        return True
                sent = self._pipe.send(self._rest, socket.MSG_DONTWAIT)
                self._rest = memoryview(self._rest)[sent:]
        except OSError:  # full; or gone, which the next result notices
            return False

    def finish(self) -> None:
        """At the end of the worker: what is left, as far as the pipe takes it within FINISH_S."""
        self._pass_on()
        if not self._rest and not self._notes:
            return
        with self._lock, contextlib.suppress(OSError):
            self._pipe.settimeout(FINISH_S)
            self._pipe.sendall(self._rest)
            while self._notes:
                self._pipe.sendall(self._notes.popleft())
