"""Folders below the one beside a store, which itself is made by who opens the store, and by no other.

A store that was moved away or unmounted leaves nothing behind where it was: what is made there would stand in the way
of its return.
"""

from __future__ import annotations

import errno
import os

from allcores.system import own_files


def make_below(store_folder: str | os.PathLike[str], *names: str) -> str:
    """Make a folder below a store's, for this user alone; returns it.

    Raises:
        FileNotFoundError: The store's folder is gone.
        OSError: It cannot be made.
    """
    folder = os.path.join(store_folder, *names)
    if not os.path.isdir(store_folder):
        raise FileNotFoundError(errno.ENOENT, "the folder of the store is gone", os.fspath(store_folder))
    own_files.make_folders(folder)
    return folder
