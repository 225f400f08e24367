"""Files that people hand in with a job: kept below the store's folder, passed on by name.

An argument of the type `UploadedFile` is, as JSON, what `keep` returned. Names that people gave are shown, and never
used as paths.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

from allcores.errors import UsageError
from allcores.jobs.errors import StoreError, StoreFull, TooLarge
from allcores.jobs.rows import shown
from allcores.jobs.store_folder import make_below
from allcores.system import own_files
from allcores.system.partial_files import sync_folder

#: below the store's folder
FOLDER = "uploads"
#: at random, and behind it what tells the content
_ID = re.compile(r"[0-9a-f]{32}")
_AT_RANDOM = 16
#: the parts of an argument that stands for a file
_PARTS = frozenset(("upload", "name", "size", "media_type"))
_READ_BYTES = 1 << 20

#: where this process finds them, see `use`
_folder: str | None = None


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file that was handed in with a job, as an argument of a task.

    Attributes:
        upload: What it is kept under.
        name: As the person called it, for display; it may hold anything.
        size: Its bytes.
        media_type: As the browser called it, which proves nothing.
    """

    upload: str
    name: str = ""
    size: int = 0
    media_type: str = "application/octet-stream"

    @property
    def path(self) -> str:
        """Where it is. Raises: UsageError: If this process runs no task, or the file is gone."""
        if _folder is None:
            raise UsageError(f"the uploaded file {self.name!r} can be read where its task runs, and nowhere else")
        return path_of(_folder, self.upload)

    def open(self) -> BinaryIO:
        """The file, to be read; close it. Raises: OSError, UsageError."""
        return open(self.path, "rb")


def use(store_folder: str | os.PathLike[str]) -> None:
    """From now on, files are found below this store's folder."""
    global _folder
    _folder = os.fspath(store_folder)


def path_of(store_folder: str | os.PathLike[str], upload: str) -> str:
    """Where a file is kept.

    Raises:
        UsageError: If that is no name `keep` gave, or nothing is kept under it.
    """
    path = os.path.join(os.fspath(store_folder), FOLDER, upload)
    if not _ID.fullmatch(upload) or not os.path.isfile(path):
        raise UsageError(f"there is no uploaded file {upload!r}: hand it in again")
    return path


def keep(
    store_folder: str | os.PathLike[str],
    stream: IO[bytes],
    *,
    name: str = "",
    media_type: str = "application/octet-stream",
    limit: int | None = None,
) -> dict[str, Any]:
    """Keep what a stream gives; the argument that stands for it, as JSON.

    Args:
        store_folder: Of the store.
        stream: Read to its end, by the megabyte.
        name: What the person called it.
        media_type: What the browser called it.
        limit: Most bytes; None: any number.

    Raises:
        TooLarge: If it has more; nothing is kept then.
        StoreError: If it cannot be written (`StoreFull`: there is no room); nothing is kept then.
        OSError: If the stream cannot be read; nothing is kept then.
    """
    with _kept(name):
        folder = make_below(store_folder, FOLDER)
        new = os.path.join(folder, f"{secrets.token_hex(16)}.new")
        descriptor = own_files.create(new)
    size, content = 0, hashlib.sha256()
    try:
        with _kept(name), open(descriptor, "wb") as file:
            while block := _read(stream):
                size += len(block)
                if limit is not None and size > limit:
                    raise TooLarge(f"the file {name!r} is larger than the {limit:,} bytes that are allowed")
                content.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            upload = secrets.token_hex(_AT_RANDOM // 2) + content.hexdigest()[:_AT_RANDOM]
            os.rename(new, os.path.join(folder, upload))
            new = os.path.join(folder, upload)
            # The job that names it may be committed next.
            sync_folder(folder)
    except BaseException:
        own_files.remove_own_file(new)
        raise
    return {"upload": upload, "name": name, "size": size, "media_type": media_type}


def remove(store_folder: str | os.PathLike[str], upload: str) -> None:
    """Remove what `keep` has kept, for which there is no job; idempotent. What cannot be removed is, after a day."""
    if _ID.fullmatch(upload):
        own_files.remove_own_file(os.path.join(os.fspath(store_folder), FOLDER, upload))


def by_content(value: Any) -> Any:
    """Arguments with files as what is in them: a file that is handed in twice is kept twice, and is the same."""
    if isinstance(value, list):
        return [by_content(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: by_content(each) for key, each in value.items()}
    if found.keys() == _PARTS and isinstance(upload := found["upload"], str) and _ID.fullmatch(upload):
        found["upload"] = upload[_AT_RANDOM:]
    return found


class _Unread(Exception):
    """What the stream raised: its argument."""


def _read(stream: IO[bytes]) -> bytes:
    try:
        return stream.read(_READ_BYTES)
    except Exception as error:
        raise _Unread(error) from None


@contextlib.contextmanager
def _kept(name: str) -> Iterator[None]:
    """Trouble with the disk is the store's, and what the stream raises stays what it is."""
    try:
        yield
    except OSError as error:
        kind = StoreFull if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else StoreError
        raise kind(f"the file {shown(name)} cannot be kept beside the store: {error.strerror or error}") from error
    except _Unread as error:
        raise error.args[0] from None


def is_ours(name: str) -> bool:
    """Whether a file in the folder has a name that `keep` gives."""
    return _ID.fullmatch(name.removesuffix(".new")) is not None
