"""The parent's end of one worker: its pipe, and what is known of its process."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from allcores.transport import frames

if TYPE_CHECKING:
    from allcores.backends.freight import Delivery


class Link:
    """The parent's end of one worker."""

    __slots__ = (
        "attended",
        "dead",
        "delivery",
        "ended",
        "inbox",
        "known",
        "lent",
        "number",
        "outgoing",
        "pid",
        "pipe",
        "reason",
        "slot",
        "writing",
    )

    def __init__(self, number: int, slot: int, pipe: socket.socket) -> None:
        self.number = number
        self.slot = slot
        self.pipe = pipe
        self.inbox = frames.Inbox()
        #: bytes that the pipe did not take yet
        self.outgoing: list[bytes | memoryview] = []
        self.writing = False
        #: a caller waits on this pipe itself; the loop leaves it alone
        self.attended = False
        self.pid = 0
        #: numbers of the functions it has
        self.known: set[int] = set()
        #: what it was sent by way of blocks and has not given back, by the blocks' offsets
        self.lent: dict[int, list[object]] = {}
        #: what it sent by way of blocks
        self.delivery: Delivery | None = None
        #: end of file was seen on its pipe
        self.ended = False
        #: why we ended it, if we did
        self.reason: str | None = None
        #: its process is gone: wait status and largest resident memory, (None, None) if they are unknown
        self.dead: tuple[int | None, int | None] | None = None

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
            # It is dying; its death will put back what it holds.
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
