"""A sink that is a folder: a file for each item."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import Any

from allcores.errors import UsageError
from allcores.failpoints import failpoint
from allcores.formatting import kind_text
from allcores.sinks.base import Block, Entries
from allcores.sinks.destination import check_parent, looked_up, reason_of
from allcores.sinks.json_text import NotJson
from allcores.sinks.publishing import sync_names
from allcores.system import own_files
from allcores.system.partial_files import NAME_BYTES_MAX, partial_path

#: the file that says that a folder may be replaced
MARK = ".allcores"
_HEADER = b"Made by allcores: a run that writes here again replaces this folder. Files in it:\n"
#: bytes of a suffix; with an index before it, it makes a name
_SUFFIX_BYTES_MAX = 200
#: a name that is made from the index, without its suffix
_INDEX = re.compile(r"\d{8,}")
_decode = json.JSONDecoder().raw_decode
_SAFE = re.compile(r"[^\0/\\]+")


class FileFunction:
    """`function`, but its value (the content of a file) as a line of text. Runs in the workers."""

    def __init__(self, function: Callable[..., Any], suffix: str) -> None:
        """See the class.

        Args:
            suffix: Of names that are made from the index.
        """
        self.function = function
        self.suffix = suffix

    def __call__(self, *args: Any) -> str:
        value = self.function(*args)
        name = None
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
            name, value = value
            if not _SAFE.fullmatch(name) or name in (".", "..", MARK):
                raise NotJson(f"value[0] is {name!r}, which cannot be the name of a file: it may hold no slash")
            if name.endswith(self.suffix) and _INDEX.fullmatch(name.removesuffix(self.suffix)):
                raise NotJson(f"value[0] is {name!r}, a name as files get whose items give none: give another")
            try:
                too_long = len(os.fsencode(name)) > NAME_BYTES_MAX
            except UnicodeEncodeError:
                raise NotJson(f"value[0] is {name!r}, which is no text: it cannot be the name of a file") from None
            if too_long:
                raise NotJson(f"value[0] is {name!r}, too long for the name of a file ({NAME_BYTES_MAX} bytes)")
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogateescape")
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise NotJson(
                f"value is {kind_text(value)}, which cannot be the content of a file: return text or bytes,"
                " or (name, text or bytes)"
            )
        return json.dumps([name, base64.b64encode(value).decode("ascii")])

    def __repr__(self) -> str:
        return repr(self.function)


class FolderOfFiles:
    """A folder with a file for each item that returned text or bytes, or a name and one of these.

    Args:
        path: The folder; it is made. One that is there already must be empty or have been made in this way (the file
            `.allcores` in it says so, and names its files), with nothing else put into it: then it is replaced.
        suffix: Of names that are made from the index: 00000812.txt.
    """

    looks_twice = False
    wants_details = False
    takes_failures = False

    def __init__(self, path: str | os.PathLike[str], *, suffix: str = ".txt") -> None:
        given = os.fspath(path)
        self.path = given.rstrip("/" + os.sep) or given[:1]
        if os.sep in suffix or "\0" in suffix or len(os.fsencode(suffix)) > _SUFFIX_BYTES_MAX:
            raise UsageError(f"suffix={suffix!r} cannot end the name of a file")
        self.suffix = suffix

    def describe(self) -> dict[str, Any]:
        """See `WholeSink`."""
        return {"kind": "FolderOfFiles", "path": os.path.abspath(self.path), "suffix": self.suffix}

    @property
    def inside(self) -> str:
        """The name of a file in the folder, as they are made from the index."""
        return f"{0:08}{self.suffix}"

    @staticmethod
    def name_of(line: str) -> str | None:
        """The name that a function gave, in a line that `FileFunction` made of its value."""
        return None if line.startswith("[null") else str(_decode(line, 1)[0])

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
        if not names:
            return
        ours = _names_in(whole)
        if ours is None:
            raise UsageError(f"{self.path} is there already, and not empty: name another folder, or remove it")
        for name in sorted(names):
            if name != MARK and (name not in ours or not _is_plain_file(os.path.join(whole, name))):
                raise UsageError(
                    f"{self.path} would be replaced, and there is something in it that allcores did not write: {name}."
                    " Move that away, or name another folder"
                )

    def wrap(self, function: Callable[..., Any]) -> Callable[..., str]:
        """See `WholeSink`."""
        return FileFunction(function, self.suffix)

    def publish(self, entries: Entries, *, mark: str, sync: bool) -> None:
        """See `WholeSink`.

        Raises:
            UsageError: If something is in the way, or two items have one name.
        """
        whole = os.path.realpath(self.path)  # a link stays one
        unfinished = partial_path(whole, mark)
        earlier = partial_path(whole, mark, ".earlier")
        failpoint("publish.begin")
        _clear_up(whole)
        self._check_ours(whole)
        before = os.stat(whole) if os.path.isdir(whole) else None
        for path in (unfinished, earlier):
            if os.path.lexists(path):
                raise UsageError(f"{path} is in the way, and allcores did not make all of it: move it away")
        # One that replaces another is this user's alone until it is complete.
        os.mkdir(unfinished, 0o777 if before is None else 0o700)
        try:
            with _Names(unfinished) as names:
                self._fill(unfinished, entries, names, sync=sync)
                failpoint("publish.write")
                failpoint("publish.rename.before")
                if before is not None:
                    os.chmod(unfinished, stat.S_IMODE(before.st_mode) & 0o777)
                if os.path.isdir(whole) and os.listdir(whole):
                    with _in_use(whole):
                        os.rename(whole, earlier)
                        os.replace(unfinished, whole)
                else:
                    os.replace(unfinished, whole)
            if sync:
                sync_names(os.path.dirname(whole))
            failpoint("publish.rename.after")
            remove_made(earlier)
        except BaseException:
            _restore(whole, earlier)
            remove_made(unfinished)
            raise

    def _fill(self, folder: str, entries: Entries, names: _Names, *, sync: bool) -> None:
        for entry in entries():
            if not isinstance(entry, Block):
                continue
            files: list[tuple[str, str]] = []
            for offset, line in enumerate(entry.lines.split(b"\n")[: entry.count]):
                name, text = json.loads(line)
                files.append((f"{entry.start + offset:08}{self.suffix}" if name is None else name, text))
            names.add([name for name, _ in files])
            for offset, (name, text) in enumerate(files):
                try:
                    with open(os.path.join(folder, name), "xb") as file:
                        file.write(binascii.a2b_base64(text))
                        if sync:
                            file.flush()
                            os.fsync(file.fileno())
                except FileExistsError:
                    raise UsageError(
                        f"item {entry.start + offset} gave the name {name!r}, which an earlier item has"
                    ) from None
        names.flush(sync=sync)
        if sync:
            sync_names(folder)


class _Names:
    """The file `MARK` of a folder that is being made: says that allcores made it, and the name of each file in it.

    A name stands here before there is a file of it, so a folder that was left half done can be told from any other,
    file by file. The file is locked as long as its folder is being made.
    """

    def __init__(self, folder: str) -> None:
        self._file = open(own_files.create(os.path.join(folder, MARK), 0o666), "wb")  # noqa: SIM115
        try:
            _lock(self._file.fileno())
            self._file.write(_HEADER)
            self._file.flush()
        except BaseException:
            self._file.close()
            raise

    def add(self, names: list[str]) -> None:
        """Files of these names are to be made next."""
        self._file.write("".join(f"{json.dumps(name)}\n" for name in names).encode())
        self._file.flush()

    def flush(self, *, sync: bool) -> None:
        """Have the disk take what was written, if that is wanted."""
        if sync:
            os.fsync(self._file.fileno())

    def __enter__(self) -> _Names:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _names_in(folder: str) -> set[str] | None:
    """The names that allcores gave in a folder; None if it did not make that folder."""
    try:
        descriptor = os.open(os.path.join(folder, MARK), os.O_RDONLY | own_files.REOPEN)
    except OSError:
        return None
    names: set[str] = set()
    with open(descriptor, "rb") as file:
        try:
            if file.readline() != _HEADER:
                return None
            for line in file:
                with contextlib.suppress(ValueError):  # torn: then there is no file of that name
                    names.add(json.loads(line))
        except (OSError, TypeError):
            return None
    return names


def remove_made(folder: str) -> None:
    """Remove what allcores made in a folder, and the folder, unless there is more in it."""
    names = _names_in(folder) if own_files.is_own_folder(folder) else None
    if names is not None:
        own_files.remove_own_folder(folder, names.__contains__, last=MARK)
    elif own_files.is_own_folder(folder):
        with contextlib.suppress(OSError):  # killed before its first file: only an empty one goes
            os.rmdir(folder)


def _clear_up(whole: str) -> None:
    """Put right what publications to `whole` left that were killed: those of a living program are locked."""
    parent, start = os.path.split(partial_path(whole, "", ""))
    with contextlib.suppress(OSError):
        for each in os.listdir(parent):
            if not each.startswith(start) or not each.endswith((".partial", ".earlier")):
                continue
            path = os.path.join(parent, each)
            if not own_files.is_own_folder(path) or _names_in(path) is None:
                continue
            with contextlib.suppress(BlockingIOError), _in_use(path):
                if each.endswith(".earlier"):
                    _restore(whole, path)
                remove_made(path)


def _restore(whole: str, earlier: str) -> None:
    """Give the earlier output its name again, if none took its place."""
    if os.path.isdir(earlier) and not os.path.lexists(whole):
        os.rename(earlier, whole)


def _is_plain_file(path: str) -> bool:
    return stat.S_ISREG(os.lstat(path).st_mode)


@contextlib.contextmanager
def _in_use(folder: str) -> Iterator[None]:
    """The folder's mark is locked within the block.

    Raises:
        BlockingIOError: If another process is making it.
    """
    descriptor = os.open(os.path.join(folder, MARK), os.O_RDWR | own_files.REOPEN)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    # flock, not a record lock: it counts between threads of one process, too.
    if os.name != "nt":
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass  # a file system without locks
