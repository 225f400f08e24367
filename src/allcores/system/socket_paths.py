"""Names of Unix sockets in folders of any length: an address holds about a hundred bytes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

#: bytes that an address holds on every system
MOST = 100


@contextlib.contextmanager
def socket_path(folder: str, name: str) -> Iterator[str]:
    """A path to bind or connect to, good within the block; a long one goes by a descriptor of the folder (Linux).

    Raises:
        OSError: The folder cannot be opened.
    """
    path = os.path.join(folder, name)
    if len(os.fsencode(path)) <= MOST:
        yield path
        return
    fd = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def identity_of(path: str) -> tuple[int, int] | None:
    """What tells the socket of this name from a later one of the same name; None if there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def remove_own(path: str, identity: tuple[int, int] | None) -> None:
    """Remove a name, unless another process has put its socket there since. To be called before ours is closed.

    Args:
        path: The name.
        identity: Of our socket, as `identity_of` said when it was bound.
    """
    if identity is not None and identity_of(path) == identity:
        with contextlib.suppress(OSError):
            os.unlink(path)
