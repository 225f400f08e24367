"""A store is opened: its place is looked at first, and nothing is made in the place of what is missing or not ours."""

from __future__ import annotations

import contextlib
import os
import stat

from allcores.errors import UsageError
from allcores.jobs import migrations
from allcores.jobs.database import Database
from allcores.jobs.errors import StoreError, StoreGone
from allcores.jobs.location import Location
from allcores.system import own_files
from allcores.system.file_systems import network_file_system
from allcores.system.partial_files import create_private

#: in the folder beside a store: the store's own name
IDENTITY = "store"
RESULTS = "results"


def opened(
    location: Location, *, allow_network: bool, busy_s: float, synchronous: str, create: bool = True
) -> tuple[Database, str]:
    """A database with its tables, and the store's own name.

    Args:
        location: Where it is.
        allow_network: Use a file on a network's file system all the same.
        busy_s: Seconds for which another process's lock is waited for.
        synchronous: Of SQLite: FULL or NORMAL.
        create: Begin one where there is none.

    Raises:
        NoStore: There is none, and none is to be begun.
        UsageError: It is no place for a store, or cannot be trusted.
        StoreError: It cannot be opened.
    """
    if location.path is not None:
        _check_network(location, allow_network)
        # With a name of its own in the folder beside it there was one: what that says is told below.
        if not create and not os.path.exists(location.path) and _identity(location) is None:
            raise migrations.no_store(location.name)
    is_there = os.path.lexists(location.folder)
    try:
        return _opened(location, busy_s=busy_s, synchronous=synchronous, create=create)
    except BaseException:
        if not is_there:
            # What was named is no store: no folder is left beside it, unless another process has put something in.
            with contextlib.suppress(OSError):
                os.rmdir(location.folder / RESULTS)
                os.rmdir(location.folder)
        raise


def _opened(location: Location, *, busy_s: float, synchronous: str, create: bool) -> tuple[Database, str]:
    _make_folder(location)
    known = _identity(location)
    if location.path is not None:
        _make_file(location, location.path, known)
    database = Database(location, busy_s=busy_s, synchronous=synchronous)
    try:
        identity = migrations.prepare(database, create=create)
    except BaseException:
        database.close()
        raise
    if known is not None and known != identity:
        database.close()
        raise StoreGone(
            f"the store {location.name} is another one than the folder {location.folder} beside it belongs to: put the"
            " right file back, or remove that folder (it has results of jobs) to go on with this one"
        )
    if known is None:
        _write_identity(location, identity)
    return database, identity


def _check_network(location: Location, allow: bool) -> None:
    kind = network_file_system(os.path.dirname(str(location.path)))
    if kind is not None and not allow:
        raise UsageError(
            f"the store {location.name} would be on a network's file system ({kind}), whose locks do not keep two"
            " machines from damaging it: name a file on a disk of this machine, use PostgreSQL, or, if you know that"
            " only this machine uses it, allow_network=True"
        )


def _make_folder(location: Location) -> None:
    folder = str(location.folder)
    try:
        _check_place(os.path.dirname(folder), location.name)
        own_files.make_folders(folder)
        _check_trust(folder, folder)
        own_files.make_folders(os.path.join(folder, RESULTS))
    except OSError as error:
        raise StoreError(
            f"the folder of the store {location.name} cannot be made: {error.filename or folder}: {error.strerror}"
        ) from None


def _check_place(path: str, name: str) -> None:
    # Who may rename what is in it may put something else there, while it is used: SQLite opens its log by name.
    if (reason := own_files.why_folder_not_trusted(path, shared=True)) is not None:
        raise UsageError(
            f"the store {name} is not used, for the folder {path} cannot be trusted: {reason}. Who can write to it can"
            " run tasks as this user: name a file in a folder of your own (one below it that is not there is made so)"
        )


def _check_trust(path: str, name: str) -> None:
    if (reason := own_files.why_not_trusted(path)) is not None:
        raise UsageError(
            f"the store {name} is not used, for {path} cannot be trusted: {reason}. Who can write to it can run tasks"
            " as this user: use a file of your own"
        )


def _make_file(location: Location, path: str, known: str | None) -> None:
    for end in ("", "-wal", "-shm", "-journal"):
        try:
            _check_trust(path + end, location.name)
            if not stat.S_ISREG(os.lstat(path + end).st_mode):
                raise UsageError(
                    f"the store {location.name} is not used, for {path + end} is no file: name another one"
                )
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreError(f"the store {location.name} cannot be looked at: {error.strerror}") from None
    try:
        empty = os.stat(path).st_size == 0
    except FileNotFoundError:
        empty = True
    if empty and known is not None:
        raise StoreGone(
            f"the store {location.name} is gone, and the folder {location.folder} beside it is there: put the file"
            " back (a backup, say), or remove that folder (it has results of jobs) to begin anew"
        )
    try:
        if empty and not os.path.lexists(path):
            with contextlib.suppress(FileExistsError):  # of another process that begins it
                # Before SQLite does: it would let others read it.
                os.close(own_files.create(path))
    except OSError as error:
        raise StoreError(f"the store {location.name} cannot be made: {error.strerror}") from None


def _identity(location: Location) -> str | None:
    try:
        # A named pipe in its place is not waited for.
        descriptor = os.open(location.folder / IDENTITY, os.O_RDONLY | own_files.REOPEN)
        with open(descriptor, encoding="ascii", errors="replace") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StoreError(f"{location.folder / IDENTITY} is no file: remove it, or name another store")
            return file.read(100).strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"the folder of the store {location.name} cannot be read: {error.strerror}") from None


def _write_identity(location: Location, identity: str) -> None:
    path = str(location.folder / IDENTITY)
    try:
        # One that is there is empty; one of another process, made a moment ago, is the same.
        create_private(path, f"{identity}\n".encode(), replace=True)
    except OSError as error:
        raise StoreError(f"the folder of the store {location.name} cannot be written: {error.strerror}") from None
