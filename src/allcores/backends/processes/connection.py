"""The parent's end of one worker: its pipe, and what is known of its process."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

from allcores.shared_memory.buffers import Decoder
from allcores.transport import authkey, frames, inheritance
from allcores.transport.spin_wait import readable
from allcores.transport.surroundings import Surroundings

#: Chunks whose progress is remembered, per worker: many times what a worker can hold.
MOST_PROGRESS = 64
#: Progress of a chunk on which the last report was read.
OVER = -1


class WorkerConnection:
    """The parent's end of one worker."""

    __slots__ = (
        "attended",
        "authkey",
        "dead",
        "decoder",
        "ended",
        "inbox",
        "known",
        "number",
        "outgoing",
        "pid",
        "pipe",
        "pollable",
        "progress",
        "reason",
        "slot",
        "surroundings",
        "writing",
    )

    def __init__(self, number: int, slot: int, pipe: socket.socket) -> None:
        self.number = number
        self.slot = slot
        self.pipe = pipe
        #: for who waits on this pipe alone
        self.pollable = readable(pipe.fileno())
        self.inbox = frames.Inbox()
        #: bytes that the pipe did not take yet
        self.outgoing: list[bytes | memoryview] = []
        self.writing = False
        #: a caller waits on this pipe itself; the loop leaves it alone
        self.attended = False
        self.pid = 0
        #: multiprocessing's key, as it was told
        self.authkey: bytes | None = None
        #: what it has around it, and its frames will have told it
        self.surroundings: Surroundings | None = None
        #: numbers of the functions it has
        self.known: set[int] = set()
        #: how far its reports on a chunk were read: sequence -> the next position, or OVER
        self.progress: dict[int, int] = {}
        #: opens what it sends by way of blocks; None where there are none
        self.decoder: Decoder | None = None
        #: end of file was seen on its pipe
        self.ended = False
        #: why we ended it, if we did
        self.reason: str | None = None
        #: its process is gone: wait status and largest resident memory, (None, None) if they are unknown
        self.dead: tuple[int | None, int | None] | None = None

    def expects(self, record: frames.Record) -> bool:
        """Whether a record is the next of its chunk. It may come twice, from the pipe and from the outbox.

        One that was read must not be opened again: its blocks may have been given back, and be used again.
        """
        sequence, start, count, flags, _, _ = record
        progress = self.progress
        if progress.get(sequence, 0) != start:
            return False
        if sequence not in progress and len(progress) >= MOST_PROGRESS:
            del progress[next(iter(progress))]
        progress[sequence] = OVER if flags & frames.ENDED else start + count
        return True

    def hand_over(self, kind: int, descriptors: Sequence[int]) -> None:
        """Send descriptors for a frame of this kind, before all else. Raises OSError.

        If its process is gone, or will never be begun, nothing is sent: its exit is noticed, as with `write`.
        """
        for start in range(0, len(descriptors), inheritance.MOST_AT_ONCE):
            part = descriptors[start : start + inheritance.MOST_AT_ONCE]
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(self.pipe, [frames.frame(frames.INHERIT, len(part), bytes([kind]))], part)

    def introduction(self) -> bytes:
        """A frame to go before others if multiprocessing's key has changed, or was made, since the last."""
        key = authkey.current()
        if key is None or key == self.authkey:
            return b""
        self.authkey = key
        return frames.frame(frames.AUTHKEY, 0, self.authkey)

    def change(self, around: Surroundings | None) -> bytes:
        """A frame to go before a chunk that wants its worker to be somewhere else than it is."""
        former = self.surroundings
        if around is None or around is former or former is None:
            return b""
        self.surroundings = around
        return frames.frame(frames.SURROUNDINGS, 0, around.changes_since(former))

    @property
    def over(self) -> bool:
        """Nothing more will come from it."""
        return self.ended or self.dead is not None

    def write(self, data: bytes) -> bool:
        """Write without waiting; False if the pipe took less, and the rest is kept for `write_more`."""
        if self.outgoing:
            self.outgoing.append(data)
            return True
        try:
            sent = self.pipe.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # It is exiting; then what it holds is requeued.
            return True
        if sent == len(data):
            return True
        self.outgoing.append(memoryview(data)[sent:])
        return False

    def write_more(self) -> bool:
        """Write what is kept; True once nothing is."""
        while self.outgoing:
            data = self.outgoing[0]
            try:
                sent = self.pipe.send(data)
            except BlockingIOError:
                return False
            except OSError:
                self.outgoing.clear()
                break
            if sent < len(data):
                self.outgoing[0] = memoryview(data)[sent:]
            else:
                self.outgoing.pop(0)
        return True
