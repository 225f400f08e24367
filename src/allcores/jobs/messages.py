"""What a supervisor and the process of a job say to each other: a line of JSON each, through one socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

#: bytes of one message; a result that is longer is in a file
MOST_BYTES = 4 << 20


class MessagePipe:
    """One end. Any thread may send."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._lock = threading.Lock()
        self._rest = b""

    def send(self, **message: Any) -> bool:
        """Send a message; False if nobody is there any more."""
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        try:
            with self._lock:
                self.connection.sendall(data)
        except OSError:
            return False
        return True

    def received(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The messages that are complete with these bytes. Raises: ValueError: If they are none."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MOST_BYTES:
            raise ValueError("a message without an end")
        for line in lines:
            message = json.loads(line)
            if not isinstance(message, dict):
                raise ValueError("a message that is no object")
            yield message

    def close(self) -> None:
        """Close this end."""
        self.connection.close()
