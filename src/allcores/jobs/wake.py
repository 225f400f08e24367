"""Who has submitted a job wakes the supervisor, so that it need not look again and again; nothing depends on it."""

from __future__ import annotations

import contextlib
import os
import socket
from types import TracebackType

from allcores.system.socket_paths import identity_of, remove_own

#: in the store's folder
FILE = "wake"


class Listener:
    """The supervisor's end. Where the name of the socket would be too long, there is none, and it only looks."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, FILE)
        self._identity: tuple[int, int] | None = None
        self.socket: socket.socket | None = None

    def __enter__(self) -> Listener:
        with contextlib.suppress(OSError, AttributeError):
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                made.setblocking(False)
                # That of a supervisor that is gone; of several on this machine, the latest one is woken.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
                made.bind(self._path)
                self._identity = identity_of(self._path)
            except OSError:
                made.close()
                raise
            self.socket = made
        return self

    def take(self) -> None:
        """Take what has arrived."""
        with contextlib.suppress(OSError):
            while self.socket is not None:
                self.socket.recv(16)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.socket is not None:
            remove_own(self._path, self._identity)
            self.socket.close()


def wake(folder: str | os.PathLike[str]) -> None:
    """Wake the supervisor of a store, if there is one on this machine."""
    with contextlib.suppress(OSError, AttributeError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(b"w", os.path.join(os.fspath(folder), FILE))
