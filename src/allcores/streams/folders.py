"""A sink that is a folder: a file for each item."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from typing import Any

from allcores.errors import UsageError
from allcores.partial_files import partial_path
from allcores.streams.destination import check_parent, looked_up, reason_of
from allcores.streams.jsontext import NotJson
from allcores.streams.outputs import Block, Entries, nothing, sync_names

#: the file that says that a folder may be replaced
MARK = ".allcores"
_SAFE = re.compile(r"[^\0/\\]+")


class FileFunction:
    """`function`, but its value (the content of a file) as a line of text. Runs in the workers."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> str:
        value = self.function(*args)
        name = None
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
            name, value = value
            if not _SAFE.fullmatch(name) or name in (".", "..", MARK):
                raise NotJson(f"value[0] is {name!r}, which cannot be the name of a file: it may hold no slash")
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogateescape")
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise NotJson(
                f"value is a {type(value).__qualname__}, which cannot be the content of a file: return text or bytes,"
                " or (name, text or bytes)"
            )
        return json.dumps([name, base64.b64encode(value).decode("ascii")])

    def __repr__(self) -> str:
        return repr(self.function)


class FolderOfFiles:
    """A folder with a file for each item that returned text or bytes, or a name and one of these.

    path: the folder; it is made. One that is there already must be empty or have been made in this way (the file
        `.allcores` in it says so): then it is replaced.
    suffix: of names that are made from the index: 00000812.txt.
    """

    looks_twice = False
    wants_details = False
    takes_failures = False

    def __init__(self, path: str | os.PathLike[str], *, suffix: str = ".txt") -> None:
        given = os.fspath(path)
        self.path = given.rstrip("/" + os.sep) or given[:1]
        self.suffix = suffix

    def describe(self) -> dict[str, Any]:
        """See `WholeSink`."""
        return {"kind": "FolderOfFiles", "path": os.path.abspath(self.path), "suffix": self.suffix}

    @property
    def inside(self) -> str:
        """The name of a file in the folder, as they are made from the index."""
        return f"{0:08}{self.suffix}"

    def check(self) -> None:
        """See `WholeSink`."""
        real, there = looked_up(self.path)
        if there is not None and not stat.S_ISDIR(there.st_mode):
            raise UsageError(f"{self.path} is there already, and no folder: name another, or remove it")
        if there is not None and (os.path.ismount(real) or os.path.samestat(there, os.stat(os.curdir))):
            raise UsageError(f"{self.path} cannot be replaced by another folder: name one in it")
        self._check_ours(real)
        check_parent(self.path, real)

    def _check_ours(self, whole: str) -> None:
        """Raise UsageError if there is something that was not made here."""
        try:
            names = os.listdir(whole)
        except FileNotFoundError:
            return
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {reason_of(error)}") from None
        if names and MARK not in names:
            raise UsageError(f"{self.path} is there already, and not empty: name another folder, or remove it")

    def wrap(self, function: Callable[..., Any]) -> Callable[..., str]:
        """See `WholeSink`."""
        return FileFunction(function)

    def publish(self, entries: Entries, *, mark: str, sync: bool, moment: Callable[[str], None] = nothing) -> None:
        """See `WholeSink`. Raises: UsageError if something is in the way, or two items have one name."""
        whole = os.path.realpath(self.path)  # a link stays one
        parent = os.path.dirname(whole)
        unfinished = partial_path(whole, mark)
        earlier = partial_path(whole, mark, ".earlier")
        moment("begin")
        shutil.rmtree(unfinished, ignore_errors=True)
        self._go_on(whole, earlier)
        self._check_ours(whole)
        mode = stat.S_IMODE(os.stat(whole).st_mode) if os.path.isdir(whole) else None
        os.mkdir(unfinished, 0o777 if mode is None else 0o700)
        try:
            self._fill(unfinished, entries, sync=sync)
            with open(os.path.join(unfinished, MARK), "w", encoding="utf-8") as file:
                file.write("Made by allcores: a run that writes here again replaces this folder.\n")
            if mode is not None:
                os.chmod(unfinished, mode)
            moment("write")
            moment("rename.before")
            if os.path.isdir(whole) and os.listdir(whole):
                os.rename(whole, earlier)
            os.replace(unfinished, whole)
            if sync:
                sync_names(parent)
            moment("rename.after")
            shutil.rmtree(earlier, ignore_errors=True)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    @staticmethod
    def _go_on(whole: str, earlier: str) -> None:
        """Put back what a session that was killed between two renames had moved away."""
        if os.path.isdir(earlier):
            if os.path.isdir(whole):
                shutil.rmtree(earlier, ignore_errors=True)
            else:
                os.rename(earlier, whole)

    def _fill(self, folder: str, entries: Entries, *, sync: bool) -> None:
        for entry in entries():
            if not isinstance(entry, Block):
                continue
            for offset, line in enumerate(entry.lines.split(b"\n")[: entry.count]):
                name, text = json.loads(line)
                index = entry.start + offset
                path = os.path.join(folder, f"{index:08}{self.suffix}" if name is None else name)
                try:
                    with open(path, "xb") as file:
                        file.write(binascii.a2b_base64(text))
                        if sync:
                            file.flush()
                            os.fsync(file.fileno())
                except FileExistsError:
                    raise UsageError(f"item {index} gave the name {name!r}, which an earlier item has") from None
        if sync:
            sync_names(folder)
