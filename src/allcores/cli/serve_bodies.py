"""Bodies of requests that waitress puts into temporary files, where their disk has no room for them.

Waitress itself would close the connection without a word. Here the rest of the body is read and dropped, and the
answer is 507, as it is where the store's disk is full.
"""

from __future__ import annotations

import contextlib
import errno
import json
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.utilities import Error

from allcores.web.answers import no_room

#: bytes of an answer that wait in memory: from a megabyte on waitress would have a temporary file, and pages have to go
#: on while the disk is full. With 16 MB of them it makes a thread wait.
ANSWER_BYTES = 1 << 40


class _NoRoom(Error):  # type: ignore[misc]
    code = 507
    reason = "Insufficient Storage"

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        body = json.dumps({"error": {"code": "no_room", "message": self.body}}).encode() + b"\n"
        return f"{self.code} {self.reason}", [("Content-Type", "application/json")], body


class _Body:
    """A buffer of waitress; what it has no room for is dropped."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer
        self.error: OSError | None = None

    def append(self, data: bytes) -> None:
        if self.error is None:
            try:
                self._buffer.append(data)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                self.error = error
                # Others may have the room; a file that is closed writes once more what it could not.
                with contextlib.suppress(OSError):
                    self._buffer.close()

    def __len__(self) -> int:
        return 0 if self.error is not None else len(self._buffer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._buffer, name)


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    error: Error | None = None

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        receiver = self.body_rcv
        if receiver is not None and not isinstance(receiver.buf, _Body):
            # It has the header so far, and nothing of the body.
            receiver.buf = _Body(receiver.buf)
        elif receiver is not None and self.completed and self.error is None and receiver.buf.error is not None:
            self.error = _NoRoom(no_room(receiver.buf.error))
        return consumed


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection of waitress that tells when there is no room for what is sent."""

    parser_class = _Parser


def tell_of_full_disks(server: Any) -> None:
    """Have all that a server of waitress listens at take connections like these."""
    for each in [server, *server.map.values()] if hasattr(server, "map") else [server]:
        if hasattr(each, "channel_class"):
            each.channel_class = Channel
