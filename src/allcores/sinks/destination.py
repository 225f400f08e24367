"""Where an output is to go, looked at before a run begins: it can be written there, and no input is lost by it.

All of it is asked again when the output is published; here it is asked while nothing has been done yet.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import io
import os
import secrets
import stat
from collections import deque
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
from itertools import islice
from typing import Any

from allcores.errors import UsageError
from allcores.slices import Slice, Slices
from allcores.sources.chain import Chain, parts_of
from allcores.sources.compression import wrap_to_write
from allcores.sources.file_names import PatternError, matching_files, would_match
from allcores.sources.files import Files
from allcores.sources.sliced_inputs import SlicedInput
from allcores.sources.text import STDIN
from allcores.system.partial_files import create_partial, partial_path

#: items of a list that are looked at for being the output's file; more would cost a noticeable time before the start
ITEMS_MAX = 100_000
#: names that are looked at for what a source reads
_FILES_MAX = 1_000
#: parts of an item, likewise: a row has few, a vector many
_PARTS_MAX = 16
#: what can be looked at before it is read, and costs nothing to look at
_COLLECTIONS = (list, tuple, set, frozenset, dict, KeysView, ValuesView, ItemsView, deque)


# --- can it be written? ---


def check_file(path: str, *, whole: bool = True) -> None:
    """Raise UsageError unless a file can be written as `path`, as far as can be told now.

    Args:
        path: The file.
        whole: It is to appear complete, which needs a regular file. False: a pipe or a terminal will do as well.
    """
    real, there = looked_up(path)
    if there is not None and stat.S_ISDIR(there.st_mode):
        raise UsageError(
            f"cannot write {path}: it is a folder; name a file in it, or write '{path}/' for a file of each item"
        )
    if there is not None and not stat.S_ISREG(there.st_mode):
        if not whole:
            return
        raise UsageError(
            f"{path} is no regular file, so it cannot be published whole: use standard output (-o -) and redirect that"
        )
    check_not_protected(path, there)
    check_parent(path, real)
    out, finish = wrap_to_write(io.BytesIO(), path)  # is the library there that compresses it?
    del out
    finish()


def looked_up(path: str) -> tuple[str, os.stat_result | None]:
    """The path without links, and what is there; None for nothing.

    Raises:
        UsageError: If it cannot be one.
    """
    if not path:
        raise UsageError("the output has no name: give a path, like out.jsonl")
    check_working_folder(path)
    try:
        real = os.path.realpath(path)
        try:
            return real, os.stat(path)
        except FileNotFoundError:
            return real, None
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {path!r}: {reason_of(error)}") from None


def check_working_folder(path: str) -> None:
    """Raise UsageError if a path is relative to a working folder that is not there any more."""
    if not os.path.isabs(path):
        try:
            os.getcwd()
        except OSError as error:
            raise UsageError(
                f"{path} cannot be found: the working folder is gone ({reason_of(error)}); change to one that is there"
            ) from None


def check_not_protected(path: str, there: os.stat_result | None) -> None:
    """Raise UsageError if the file that is there may not be written. For root, access() allows everything."""
    if there is not None and not (there.st_mode & 0o222 and os.access(path, os.W_OK)):
        raise UsageError(f"{path} is write-protected: choose another output, or make it writable (chmod u+w)")


def check_parent(path: str, real: str) -> None:
    """Raise UsageError unless a file can be made beside `real`; it is tried, and nothing is left of it."""
    folder = os.path.dirname(real)
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        _probe(folder, real)
    except FileNotFoundError:
        raise UsageError(f"cannot write {path}: there is no folder {os.path.dirname(path) or folder}") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {reason_of(error)}: {folder}") from None


def _probe(folder: str, real: str) -> None:
    """Make a file in `folder` that has no name; where that is not known, one that is removed at once."""
    nameless = getattr(os, "O_TMPFILE", 0)
    if nameless:
        try:
            os.close(os.open(folder, nameless | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
                raise
    name = partial_path(real, secrets.token_hex(8))
    os.close(create_partial(name))
    os.unlink(name)


def reason_of(error: OSError | ValueError) -> str:
    """What the system says, in words."""
    return getattr(error, "strerror", None) or str(error)


# --- is an input at stake? ---


def check_inputs_survive(
    path: str, source: Iterable[Any], *functions: Callable[..., Any] | None, inside: str | None = None
) -> None:
    """Raise UsageError if writing `path` would change an input, or the file of a function.

    Links count as what they lead to, and so do further names of a file (hard links).

    Args:
        path: The file that will be replaced, or the folder if there is one of that name.
        source: Where the items come from.
        functions: What will be called.
        inside: The name of a file as the folder `path` may get it; None if `path` is no folder.
    """
    output = _Output(path)
    for part in source.parts if isinstance(source, Chain) else (source,):
        if isinstance(part, Files):
            _check_pattern(output, part.pattern, inside)
            continue
        for name in _files_of(part):
            if output.covers(name):
                raise _overwritten(path, name)
    for function in functions:
        file = _file_of(function)
        if file is not None and output.covers(file):
            raise UsageError(f"{path} is the file of the function, and would be overwritten: choose another output")


def check_file_survives(path: str, name: str, what: str) -> None:
    """Raise UsageError if writing `path` would change the file `name`.

    Args:
        path: The file that will be replaced, or the folder if there is one of that name.
        name: A file, which need not be there.
        what: What it is, in words.
    """
    if _Output(path).covers(name):
        raise UsageError(f"{path} is {what}, and would be overwritten: choose another output")


def items_survive(path: str, items: Iterable[Any]) -> Iterator[Any]:
    """The items of an iterator, looked at as they come, for nobody can look at them beforehand.

    Raises:
        UsageError: One of the first `ITEMS_MAX` names what would be replaced by writing `path`.
    """
    output = _Output(path)
    reading = iter(items)
    for item in reading if output.there is None else islice(reading, ITEMS_MAX):
        for name in _files_of_item(item) if output.there is not None else ():
            if output.covers(name):
                raise _overwritten(path, name)
        yield item
    yield from reading


def files_read(source: Iterable[Any]) -> list[str]:
    """The files that a source reads, by their whole paths, as far as it tells; not those that match a pattern."""
    named = (name for part in parts_of(source) if not isinstance(part, Files) for name in _files_of(part))
    found: dict[str, None] = {}
    for name in islice(named, _FILES_MAX):
        with contextlib.suppress(OSError, ValueError):
            path = os.path.realpath("/dev/fd/0") if name == STDIN else os.path.abspath(name)
            if stat.S_ISREG(os.stat(path).st_mode):
                found[path] = None
    return list(found)


def are_looked_at(source: Iterable[Any]) -> bool:
    """True if `check_inputs_survive` knows what a source reads; False if only the items can tell."""
    if isinstance(source, (Chain, Files, Slices, SlicedInput, range, io.IOBase, *_COLLECTIONS)):
        return True
    return (
        isinstance(getattr(source, "path", None), (str, os.PathLike))
        or isinstance(getattr(source, "paths", None), (list, tuple))
        or hasattr(source, "database")
    )


def _overwritten(path: str, name: str) -> UsageError:
    shown = "standard input" if name == STDIN else name
    return UsageError(
        f"{path} is an input, and would be overwritten: choose another output"
        + (f" ({shown} is the same file)" if os.path.normpath(shown) != os.path.normpath(path) else "")
    )


def check_not_appended(descriptor: int, source: Iterable[Any]) -> None:
    """Raise UsageError if an open file that will be written to (>> FILE) is an input: reading would never end."""
    try:
        there = os.fstat(descriptor)
    except OSError:
        return  # writing will tell
    if not stat.S_ISREG(there.st_mode):
        return
    output = _Output.opened(there)
    for part in source.parts if isinstance(source, Chain) else (source,):
        for name in _files_of(part):
            if output.covers(name):
                raise UsageError(f"{name} is an input, and standard output goes to it: write to another file")


class _Output:
    """What will be replaced: a file, or all files in a folder."""

    def __init__(self, path: str) -> None:
        self.real, self.there = looked_up(path)
        self.is_folder = self.there is not None and stat.S_ISDIR(self.there.st_mode)

    @classmethod
    def opened(cls, there: os.stat_result) -> _Output:
        """A file that is open already."""
        made = cls.__new__(cls)
        made.real, made.there, made.is_folder = "", there, False
        return made

    def covers(self, name: str) -> bool:
        """True if the file `name` is the output, or in the output's folder."""
        there = self.there
        if there is None:
            return False
        try:
            found = os.fstat(0) if name == STDIN else os.stat(name)
            if self.is_folder:
                return name != STDIN and _is_in(os.path.realpath(name), self.real)
        except (OSError, ValueError):
            return False
        same = (found.st_dev, found.st_ino) == (there.st_dev, there.st_ino)
        return same and stat.S_ISREG(there.st_mode)


def _check_pattern(output: _Output, pattern: str, inside: str | None) -> None:
    if would_match(pattern, output.real if inside is None else os.path.join(output.real, inside)):
        raise UsageError(
            f"the output {output.real} would itself be one of the inputs '{pattern}': choose an output elsewhere"
        )
    if output.there is None:
        return
    with contextlib.suppress(OSError, PatternError):  # the reading itself will tell
        for name in matching_files(pattern):
            if output.covers(name):
                raise UsageError(
                    f"{output.real} is an input, and would be overwritten: choose another output ({name} matches"
                    f" '{pattern}')"
                )


def _files_of(part: Any) -> Iterator[str]:
    """The files that a source reads, as far as it tells."""
    if isinstance(part, SlicedInput):
        part = part.slices
    if isinstance(part, Slices):
        yield part.file.stamp.path
    elif isinstance(part, _COLLECTIONS):
        for item in islice(part, ITEMS_MAX):
            yield from _files_of_item(item)
    elif isinstance(part, io.IOBase):
        name = getattr(part, "name", None)
        if isinstance(name, (str, bytes)) and os.path.lexists(name):
            yield os.fsdecode(name)
        else:
            with contextlib.suppress(OSError, ValueError):  # it has no descriptor
                yield f"/dev/fd/{part.fileno()}"
    else:
        database = getattr(part, "database", None)
        several = getattr(part, "paths", None)
        for found in (
            getattr(part, "path", None),
            database() if callable(database) else None,
            *(several if isinstance(several, (list, tuple)) else ()),
        ):
            if isinstance(found, (str, os.PathLike)):
                yield os.fspath(found)


def _files_of_item(item: Any) -> Iterator[str]:
    """The files that an item is likely to name: itself, or one of its parts."""
    if isinstance(item, (str, bytes, os.PathLike)):
        yield os.fsdecode(item)
    elif isinstance(item, Slice):
        yield item.file.stamp.path
    elif isinstance(item, (tuple, list, dict)):
        for part in islice(item.values() if isinstance(item, dict) else item, _PARTS_MAX):
            if isinstance(part, (str, bytes, os.PathLike)):
                yield os.fsdecode(part)


def _file_of(function: Callable[..., Any] | None) -> str | None:
    """The file of a function's source, if it has one."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(inspect.unwrap(function), "__code__", None) if function is not None else None
    return getattr(code, "co_filename", None)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
