"""Files and folders of our own: made so that they can be nobody else's, and removed only when proven to be ours.

All rules about that are kept here:

made      under a name that was free (O_EXCL), never through a symbolic link, open to nobody else until it is complete
trusted   if they belong to this user (or to root) and nobody else may write to them
removed   file by file, under names that only allcores gives; never recursively, and never because of an error
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable

_CREATE = (
    os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
#: for files that are there already: never through a link, and never waiting for the reader of a named pipe
REOPEN = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def make_folders(path: str) -> None:
    """Make a folder and those above it that are missing, each open to this user alone, whatever the umask.

    Raises:
        OSError: If the system refuses it.
        NotADirectoryError: If a file has the name.
    """
    try:
        os.mkdir(path, 0o700)
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if parent == path:
            raise
        make_folders(parent)
        _make_last(path)
    except FileExistsError:
        _check_is_folder(path)


def _make_last(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        _check_is_folder(path)


def _check_is_folder(path: str) -> None:
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, "there is a file of that name", path)


def create(path: str, mode: int = 0o600, *, access: int = os.O_WRONLY) -> int:
    """A descriptor of a new file.

    Raises:
        OSError: If the system refuses it.
        FileExistsError: If anything has the name, a link for one.
    """
    return os.open(path, access | _CREATE, mode)


def is_own(there: os.stat_result) -> bool:
    """True if it belongs to this user, or if the system does not tell."""
    return not hasattr(os, "geteuid") or there.st_uid == os.geteuid()


def is_own_folder(path: str) -> bool:
    """True if it is a folder, no link to one, of this user."""
    try:
        there = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(there.st_mode) and is_own(there)


def remove_own_file(path: str) -> bool:
    """Remove a file that has a name which only allcores gives; False if it stays.

    It stays if it is another user's, no plain file, or has a second name.
    """
    try:
        there = os.lstat(path)
        if not stat.S_ISREG(there.st_mode) or not is_own(there) or there.st_nlink > 1:
            return False
        os.unlink(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def remove_own_folder(path: str, is_ours: Callable[[str], bool], *, last: str | None = None) -> bool:
    """Remove a folder's plain files that `is_ours` knows by their names, and the folder if nothing else is in it.

    Args:
        last: The file that goes last; it stays if the folder does.

    Returns:
        Whether the folder is gone.
    """
    if not is_own_folder(path):
        return not os.path.lexists(path)
    left = False
    try:
        names = os.listdir(path)
    except OSError:
        return False
    for name in names:
        if name != last:
            left = not (is_ours(name) and remove_own_file(os.path.join(path, name))) or left
    if left or (last is not None and not remove_own_file(os.path.join(path, last))):
        return False
    with contextlib.suppress(OSError):
        os.rmdir(path)
        return True
    return False


def why_file_not_trusted(path: str) -> str | None:
    """The same as `why_not_trusted` of what must be a plain file; one that is not there is trusted.

    Raises:
        OSError: If the system refuses it.
    """
    try:
        reason = why_not_trusted(path)
        if reason is None and not stat.S_ISREG(os.lstat(path).st_mode):
            return "it is no file"
    except FileNotFoundError:
        return None
    return reason


def why_folder_not_trusted(path: str, *, shared: bool = False) -> str | None:
    """The same as `why_not_trusted` of a folder; one that is not there is trusted.

    Raises:
        OSError: If the system refuses it.
    """
    try:
        return why_not_trusted(path, shared=shared)
    except FileNotFoundError:
        return None


def why_not_trusted(path: str, *, shared: bool = False) -> str | None:
    """What speaks against believing what is in a file or folder, as the end of a sentence; None if nothing does.

    Args:
        shared: A folder that only holds others, each of which is looked at: it may be a link, be root's, be a sticky
            one like /tmp, and its group may write to it.

    Raises:
        OSError: If the system refuses it.
    """
    there = os.stat(path) if shared else os.lstat(path)
    if stat.S_ISLNK(there.st_mode):
        return "it is a symbolic link"
    if not hasattr(os, "geteuid"):
        return None
    if not is_own(there) and not (shared and there.st_uid == 0):
        return f"it belongs to {_user(there.st_uid)}, and this process is {_user(os.geteuid())}"
    if shared and there.st_mode & stat.S_ISVTX:
        return None
    if there.st_mode & (stat.S_IWOTH if shared else stat.S_IWOTH | stat.S_IWGRP):
        return "others may write to it (chmod go-w would end that)"
    return None


def _user(number: int) -> str:
    try:
        import pwd

        return f"user {pwd.getpwuid(number).pw_name}"
    except (ImportError, KeyError):
        return f"user {number}"
