"""A file that replaces another in one step once all of it is written: a full disk or a kill leaves the former one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from typing import IO, Any

from allcores.system import own_files
from allcores.system.partial_files import create_nameless, create_partial, give_name, partial_path


def whole_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Make `data` the contents of `path`, as `whole_text` does with text.

    Raises:
        OSError: If the system refuses it.
    """
    with _whole(path, mode="wb") as file:
        file.write(data)


def whole_text(path: str | os.PathLike[str], errors: str = "strict") -> contextlib.AbstractContextManager[IO[str]]:
    """A file to write text (UTF-8) to, which becomes `path` when the block ends; an exception leaves `path` as it was.

    A pipe, a terminal and the like cannot be replaced: these are written to at once.

    Args:
        path: The file. A symbolic link stays one.
        errors: What becomes of text that UTF-8 does not have.

    Raises:
        OSError: If the system refuses it.
    """
    return _whole(path, mode="w", encoding="utf-8", errors=errors)


@contextlib.contextmanager
def _whole(path: str | os.PathLike[str], **how: Any) -> Iterator[IO[Any]]:
    real = os.path.realpath(path)
    there = None
    with contextlib.suppress(FileNotFoundError):
        there = os.stat(path)
    if there is not None and not stat.S_ISREG(there.st_mode):
        with open(path, **how) as file:
            yield file
        return
    if there is not None and not os.access(path, os.W_OK):
        # The folder would allow to replace it; whoever has protected it did not mean that.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
    partial = partial_path(real, secrets.token_hex(8))
    descriptor = create_nameless(real)
    named = None if descriptor is not None else partial
    if descriptor is None:
        descriptor = create_partial(partial, real)
    try:
        with open(descriptor, **how) as file:
            yield file
            file.flush()
            if named is None:
                named = give_name(descriptor, real, partial)
        if named != real:
            os.replace(partial, real)
    except BaseException:
        if named == partial:
            own_files.remove_own_file(partial)
        raise
