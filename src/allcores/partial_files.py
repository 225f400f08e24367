"""Files that are written beside their destination and renamed to it once they are whole.

Nobody else's file is ever opened, followed or removed here, and none of ours can be read by more users than the file
it will replace.
"""

from __future__ import annotations

import contextlib
import os
import stat

#: bytes of a file's name that every usual file system takes
NAME_BYTES_MAX = 255

#: O_EXCL with O_CREAT fails if anything is there, links that lead nowhere included
_NEW = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def partial_path(destination: str, mark: str, suffix: str = ".partial") -> str:
    """The hidden name beside `destination` under which it is written.

    Args:
        destination: The file or folder that is to appear.
        mark: Tells this writer from others, the name of a run for one.
        suffix: Ends the name.

    Returns:
        A path in the same folder whose name is no longer than file systems take, however long that of `destination` is.
    """
    folder, name = os.path.split(destination)
    room = NAME_BYTES_MAX - len(os.fsencode(f"..{mark}{suffix}"))
    short = os.fsencode(name)[:room].decode("utf-8", "ignore") if len(os.fsencode(name)) > room else name
    return os.path.join(folder, f".{short}.{mark}{suffix}")


def create_partial(path: str, destination: str | None = None) -> int:
    """Create a file that was not there, and open it for writing.

    What an earlier writer of the same name left (a regular file of this user, without another name) is replaced; links
    and files of others are left alone.

    Args:
        path: The file to create.
        destination: The file that it will replace. If that exists, the new file gets its group and its mode, and is
            never open to more users than that, not even while it is empty. None, or one that is not there: the
            usual mode of new files.

    Returns:
        A descriptor, which new processes do not inherit.

    Raises:
        FileExistsError: Something is there that is not ours.
        OSError: It cannot be created.
    """
    there: os.stat_result | None = None
    if destination is not None:
        with contextlib.suppress(OSError):
            there = os.stat(destination)
    mode = 0o666 if there is None else stat.S_IMODE(there.st_mode) & 0o600
    try:
        descriptor = os.open(path, _NEW, mode)
    except FileExistsError:
        if not _is_own_leftover(path):
            raise
        os.unlink(path)
        descriptor = os.open(path, _NEW, mode)
    if there is not None and hasattr(os, "fchmod"):
        try:
            _take_over_mode(descriptor, there)
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
    return descriptor


def _is_own_leftover(path: str) -> bool:
    """True if `path` is a regular file of this user with no other name."""
    found = os.lstat(path)
    own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    return own and stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _take_over_mode(descriptor: int, there: os.stat_result) -> None:
    """Give a file the group and mode of another; without its group, also without what the group may do."""
    mode = stat.S_IMODE(there.st_mode)
    if os.fstat(descriptor).st_gid != there.st_gid:
        try:
            os.fchown(descriptor, -1, there.st_gid)
        except OSError:
            mode &= ~stat.S_IRWXG
    with contextlib.suppress(OSError):  # a file system without modes
        os.fchmod(descriptor, mode & 0o777)
