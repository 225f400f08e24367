"""How a file appears under its name complete, or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO

from allcores.failpoints import failpoint
from allcores.sources.compression import wrap_to_write
from allcores.system import own_files
from allcores.system.partial_files import create_nameless, create_partial, give_name, partial_path, sync_folder


@contextlib.contextmanager
def published(path: str, *, mark: str, sync: bool) -> Iterator[IO[bytes]]:
    """A file to write that becomes `path` when the block ends, in one step; an exception leaves `path` as it was.

    Args:
        mark: Makes the name that it has for a moment, or all the time where the file system knows no nameless files.
            sync: have the disk take the content before the name, and the name before this returns.

    Raises:
        OSError: If the system refuses it.
    """
    path = os.path.realpath(path)  # a link stays one
    partial = partial_path(path, mark)
    failpoint("publish.begin")
    own_files.remove_own_file(partial)
    descriptor = create_nameless(path)
    named = None if descriptor is not None else partial
    if descriptor is None:
        descriptor = create_partial(partial, path)
    try:
        with open(descriptor, "wb") as file:
            out, finish = wrap_to_write(file, path)
            try:
                yield out
                failpoint("publish.write")
            finally:
                finish()  # in any case: a compressor that is left open warns when it is collected
            file.flush()
            if sync:
                failpoint("publish.sync.before")
                os.fsync(descriptor)
                failpoint("publish.sync.after")
            failpoint("publish.rename.before")
            if named is None:
                named = give_name(descriptor, path, partial)
        if named != path:
            os.replace(partial, path)
        if sync:
            sync_names(os.path.dirname(path))
        failpoint("publish.rename.after")
    except BaseException:
        if named == partial:
            own_files.remove_own_file(partial)
        raise


def sync_names(folder: str) -> None:
    """Have the disk take the names in a folder, where that can be asked for."""
    with contextlib.suppress(OSError):  # some network file systems refuse, and need it not
        sync_folder(folder)
