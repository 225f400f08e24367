"""What travels through the socket of submissions: frames, each a length (4 bytes) and JSON; who is at its other end."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

#: bytes of a frame: what is longer is another program's
MOST_BYTES = 256 * 1024**2
_HEAD = struct.Struct(">I")


def frame_of(value: Any) -> bytes:
    """The frame of a value."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return _HEAD.pack(len(body)) + body


class FramedSocket:
    """A connection, and what has come of the next frame."""

    __slots__ = ("buffer", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.buffer = bytearray()

    def frames(self) -> list[bytes]:
        """Whole frames that have come.

        Raises:
            ValueError: It is no frame.
        """
        found = []
        while len(self.buffer) >= _HEAD.size:
            (length,) = _HEAD.unpack_from(self.buffer)
            if length > MOST_BYTES:
                raise ValueError("a frame is too long")
            if len(self.buffer) < _HEAD.size + length:
                break
            found.append(bytes(self.buffer[_HEAD.size : _HEAD.size + length]))
            del self.buffer[: _HEAD.size + length]
        return found


def is_own_user(connected: socket.socket) -> bool:
    """Whether the other end is this user's; the folder says so, too, which others cannot enter."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    try:
        raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return False
    return bool(struct.unpack("3i", raw)[1] == os.geteuid())
