"""Where found settings are kept, each in a file of its own, and whether such a file can be trusted.

A file that another user could have written, or that is damaged, is not used, and not touched: it says so. Plain JSON
with a checksum: nothing in it can do more than name a number of workers, and still that is a program's behaviour.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable
from typing import Any

from allcores.errors import UsageError
from allcores.system import own_files
from allcores.system.file_locks import FileLock, Held
from allcores.system.plain_record import record
from allcores.system.whole_files import whole_text
from allcores.tuned import facts, holds
from allcores.tuned.setting import PoolSetting, setting_from

#: the layout of the files; another one is another name
VERSION = 1
#: bytes of a file that is read, at most
MOST_BYTES = 64 << 20
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@record
class Kept:
    """What was found for a function.

    Attributes:
        setting: The winner.
        facts: What it depends on.
        speedup: Over the loop, as measured; None if that was not.
        found: When, seconds since 1970.
    """

    setting: PoolSetting
    facts: holds.Facts
    speedup: float | None
    found: float


def tuned_folder() -> str:
    """Where they are kept: in $ALLCORES_HOME, $XDG_STATE_HOME, or ~/.local/state."""
    if home := os.environ.get("ALLCORES_HOME"):
        return os.path.join(os.path.abspath(os.path.expanduser(home)), "tuned")
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # as the XDG specification asks for
        state = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "allcores", "tuned")


class Place:
    """The files of one function on one machine: `path` holds what was found, `journal` what is being measured.

    Args:
        function: The function.
        folder: Where settings are kept; None: as `tuned_folder` tells.
    """

    def __init__(self, function: Callable[..., Any], folder: str | None = None) -> None:
        self.folder = tuned_folder() if folder is None else folder
        name, file, machine = facts.place_of(function)
        digest = hashlib.blake2b(json.dumps([name, file, machine]).encode(), digest_size=8).hexdigest()
        stem = f"{_UNSAFE.sub('-', name)[:100]}-{digest}-{VERSION}"
        self.path = os.path.join(self.folder, f"{stem}.json")
        self.journal = os.path.join(self.folder, f"{stem}.journal")
        self._lock = os.path.join(self.folder, f"{stem}.lock")

    def make(self) -> None:
        """Make the folder, if it is not there.

        Raises:
            UsageError: It cannot be made, or others may write to it.
        """
        try:
            own_files.make_folders(self.folder)
        except OSError as error:
            raise UsageError(
                f"the folder for tuned settings {self.folder} cannot be made: {error.strerror}. Name another one in"
                " $ALLCORES_HOME"
            ) from None
        self._check_folder()

    def locked(self) -> FileLock:
        """The lock of whoever tunes this function; its folder is there.

        Raises:
            UsageError: Another process tunes it, or the lock cannot be had.
        """
        try:
            return FileLock(self._lock)
        except Held as held:
            who = "this process already" if held.here else f"process {held.pid}" if held.pid else "another process"
            raise UsageError(f"{who} is tuning this function: wait for it, or end it") from None
        except OSError as error:
            raise UsageError(f"{self._lock} cannot be locked: {error.strerror}. $ALLCORES_HOME names another") from None

    def keep(self, kept: Kept) -> None:
        """Write what was found, in one step: who reads at that moment gets the former one.

        Raises:
            UsageError: It cannot be written, or what has its name is not ours.
        """
        self.check(self.path)
        content = {
            "version": VERSION,
            "setting": kept.setting.as_dict(),
            "facts": kept.facts.as_dict(),
            "speedup": kept.speedup,
            "found": kept.found,
        }
        text = json.dumps(content, sort_keys=True)
        try:
            with whole_text(self.path) as file:
                if hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), 0o600)  # whatever the umask: others may not write to it
                file.write(f"{zlib.crc32(text.encode()):08x} {text}\n")
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written: {error.strerror}") from None

    def read(self) -> Kept | None:
        """What was found; None if nothing was.

        Raises:
            UsageError: What is there cannot be trusted or read.
        """
        data = self.bytes_of(self.path)
        if data is None:
            return None
        checksum, _, text = data.rstrip(b"\n").partition(b" ")
        try:
            if int(checksum, 16) != zlib.crc32(text):
                raise ValueError("its checksum is another")
            found = json.loads(text)
            if not isinstance(found, dict) or found.get("version") != VERSION:
                raise ValueError("its layout is another")
            speedup, when = found["speedup"], found["found"]
            if not isinstance(when, float) or not isinstance(speedup, float | None):
                raise ValueError("its numbers are none")
            return Kept(setting_from(found["setting"]), holds.facts_from(found["facts"]), speedup, when)
        except (ValueError, KeyError, RecursionError) as error:
            reason = f"{error!r} is missing" if isinstance(error, KeyError) else error
            raise UsageError(
                f"the tuned setting in {self.path} is damaged ({reason}) and not used: tune again, which replaces it"
            ) from None

    def bytes_of(self, path: str) -> bytes | None:
        """What is in one of the files; None if it is not there.

        Raises:
            UsageError: It cannot be trusted, or not be read.
        """
        self._check_folder()
        self.check(path)
        try:
            fd = os.open(path, os.O_RDONLY | own_files.REOPEN)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from None
        with open(fd, "rb") as file:
            try:
                return file.read(MOST_BYTES)
            except OSError as error:
                raise UsageError(f"{path} cannot be read: {error.strerror}") from None

    def check(self, path: str) -> None:
        """Raise UsageError unless a file is this user's alone; one that is not there is."""
        _check_trust(path, folder=False)

    def _check_folder(self) -> None:
        _check_trust(self.folder, folder=True)


def _check_trust(path: str, *, folder: bool) -> None:
    """Raise UsageError if something speaks against what is in a file of ours, or in the folder that holds them."""
    try:
        reason = own_files.why_folder_not_trusted(path, shared=True) if folder else own_files.why_file_not_trusted(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be looked at: {error.strerror}") from None
    if reason is None:
        return
    what = f"tuned settings in {path} are" if folder else f"{path} is"
    remedy = "Name a folder of your own" if folder else "Remove it, or name another folder"
    raise UsageError(f"{what} not used, for it cannot be trusted: {reason}. {remedy} in $ALLCORES_HOME")
