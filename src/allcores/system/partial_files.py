"""Files that are written beside their destination and renamed to it once they are whole.

Where the file system can do that, such a file has no name until then, so a kill leaves nothing of it. Nobody else's
file is ever opened, followed or removed here, and none of ours can be read by more users than the file it will replace.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat

from allcores.system import own_files

#: bytes of a file's name that every usual file system takes
NAME_BYTES_MAX = 255


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
    there = _stat(destination)
    try:
        descriptor = own_files.create(path, _first_mode(there))
    except FileExistsError:
        if not own_files.remove_own_file(path):
            raise
        descriptor = own_files.create(path, _first_mode(there))
    try:
        _take_over_mode(descriptor, there)
    except BaseException:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    return descriptor


def create_nameless(destination: str) -> int | None:
    """Create a file that has no name, and so is gone with its process, beside `destination`, and open it for writing.

    Args:
        destination: The file that it will replace; see `create_partial`.

    Returns:
        A descriptor, for `give_name`; None if the file system has no such files, or refuses for any other reason, which
        `create_partial` will tell.
    """
    there = _stat(destination)
    flag = getattr(os, "O_TMPFILE", 0)
    if not flag or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        folder = os.path.dirname(destination) or "."
        descriptor = os.open(folder, flag | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), _first_mode(there))
    except OSError:
        return None
    try:
        _take_over_mode(descriptor, there)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def give_name(descriptor: int, destination: str, partial: str, *, only: bool = False) -> str:
    """Give a nameless file its name, or `partial` if there is a file to be replaced.

    Args:
        descriptor: Of the file.
        destination: Its name.
        partial: The other name.
        only: Give it no other name than its own.

    Returns:
        The name that it has.

    Raises:
        OSError: It can have neither.
    """
    for path in (destination, partial):
        try:
            # With a folder's descriptor, which is not used, for the first path is absolute: without one Python calls
            # link(), which would name the link in /proc rather than the file.
            os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
            return path
        except FileExistsError:
            if only or path == partial:
                raise
    raise AssertionError("unreachable")


def sync_folder(folder: str) -> None:
    """Have the disk take the names in a folder; where folders cannot be synced, nothing is done.

    Raises:
        OSError: If it cannot be done.
    """
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_private(path: str, data: bytes, *, replace: bool = False) -> bool:
    """Make a file of this user alone, whatever the umask: all of it is on the disk when it has its name.

    Of several processes that make one, the first has made it.

    Args:
        path: The file.
        data: What is in it.
        replace: Put it in the place of another one.

    Returns:
        Whether it was made; False: there is one.

    Raises:
        OSError: It cannot be made; nothing is left of it.
    """
    path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    partial = partial_path(path, f"{os.getpid()}.{secrets.token_hex(8)}")
    descriptor = create_nameless(path)
    named = descriptor is None
    if descriptor is None:
        descriptor = own_files.create(partial)
    try:
        with open(descriptor, "wb") as file:
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, 0o600)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
            if not named:
                if give_name(descriptor, path, partial, only=not replace) == path:
                    return True
                named = True
        if replace:
            os.replace(partial, path)
            named = False
            return True
        try:
            os.link(partial, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without second names
            if os.path.lexists(path):
                return False
            os.rename(partial, path)
            named = False
        return True
    except FileExistsError:
        return False
    finally:
        if named:
            with contextlib.suppress(OSError):
                os.unlink(partial)


def _stat(path: str | None) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return None if path is None else os.stat(path)
    return None


def _first_mode(there: os.stat_result | None) -> int:
    return 0o666 if there is None else stat.S_IMODE(there.st_mode) & 0o600


def _take_over_mode(descriptor: int, there: os.stat_result | None) -> None:
    """Give a file the group and mode of another; without its group, also without what the group may do."""
    if there is None or not hasattr(os, "fchmod"):
        return
    mode = stat.S_IMODE(there.st_mode)
    if os.fstat(descriptor).st_gid != there.st_gid:
        try:
            os.fchown(descriptor, -1, there.st_gid)
        except OSError:
            mode &= ~stat.S_IRWXG
    with contextlib.suppress(OSError):  # a file system without modes
        os.fchmod(descriptor, mode & 0o777)
