"""Whether a signal was sent to the process group, as by Ctrl-C in a terminal, or to this process alone."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import time
from collections.abc import Iterable
from types import FrameType

from allcores.system import deferral, posix

#: seconds in which another process of the group has told of a signal that was sent to all of it, also on a busy machine
BOUND_S = 0.5
#: what it tells: the signal, and when it came
_TOLD = struct.Struct("=Bd")
#: descriptors that a command may have been given, at most
_MOST_FILES = 1 << 16


class GroupWitness:
    """A process of this group that does nothing but tell which signals it is sent. Its end is that of this process.

    Args:
        numbers: The signals.
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = tuple(numbers)
        self._pid = 0
        self._held = self._told = -1
        #: when it was sent each last
        self._latest: dict[int, float] = {}
        try:
            hold, self._held = os.pipe()
            self._told, tell = os.pipe()
            # What comes meanwhile is for the handlers of each, and not for a copy of those here.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
            try:
                self._pid = posix.fork()
                if not self._pid:
                    _witness(hold, tell, self._numbers)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except OSError as error:
            if deferral.raised_by_handler(error):
                raise
            return  # there is none where the system refuses it
        os.close(hold)
        os.close(tell)

    def has_seen(self, number: int) -> bool | None:
        """Whether a signal that has just come here was sent to the whole group; None if that cannot be told."""
        if not self._pid:
            return None
        # One after the other: a handler may interrupt another one.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        try:
            begun = time.monotonic()
            poll = select.poll()
            poll.register(self._told, select.POLLIN)
            while poll.poll(self._patience_s(number, begun) * 1000):
                told = os.read(self._told, _TOLD.size)
                if len(told) < _TOLD.size:  # it was ended
                    return None
                seen, when = _TOLD.unpack(told)
                self._latest[seen] = max(when, self._latest.get(seen, 0.0))
                if seen == number:
                    break
            # Of several at once, some are one there and others here: it may be the one that was told before.
            return self._latest.get(number, 0.0) > begun - BOUND_S
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _patience_s(self, number: int, begun: float) -> float:
        """Seconds in which it may still tell of a signal that came here at a time."""
        if self._latest.get(number, 0.0) > begun - BOUND_S:
            return 0.0
        return max(0.0, begun + BOUND_S - time.monotonic())

    def end(self) -> None:
        """Let it go."""
        if self._pid:
            pid, self._pid = self._pid, 0
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(self._held)
            os.close(self._told)


def _witness(hold: int, tell: int, numbers: Iterable[int]) -> None:
    """The other process: nothing of the command's is open in it."""
    try:
        low, high = sorted((hold, tell))
        for first, behind in ((0, low), (low + 1, high), (high + 1, _MOST_FILES)):
            os.closerange(first, behind)

        def note(number: int, frame: FrameType | None) -> None:
            os.write(tell, _TOLD.pack(number, time.monotonic()))

        for number in numbers:
            signal.signal(number, note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        with contextlib.suppress(OSError):
            os.read(hold, 1)
    finally:
        os._exit(0)
