"""Descriptors that a worker is sent when it starts, and which frame each is for."""

from __future__ import annotations

import socket
from collections import deque

from allcores.system.posix import move_fd_high

#: the kernel sends no more of them in one message
MOST = 253


class Arrivals:
    """See the module."""

    def __init__(self) -> None:
        self._new: deque[int] = deque()
        self._sorted: dict[int, list[int]] = {}

    def receive(self, pipe: socket.socket, size: int) -> bytes:
        """As `pipe.recv(size)`, with the descriptors that come along."""
        flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        data, descriptors, _, _ = socket.recv_fds(pipe, size, MOST, flags)
        self._new.extend(map(move_fd_high, descriptors))
        return data

    def sort(self, kind: int, count: int) -> None:
        """So many are for the next frame of this kind."""
        self._sorted.setdefault(kind, []).extend(self._new.popleft() for _ in range(count))

    def of(self, kind: int) -> list[int]:
        """Those for the frame of this kind; the caller closes them."""
        return self._sorted.pop(kind, [])
