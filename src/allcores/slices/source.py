"""A file as a sequence of slices, and the slices as what travels: which file, from where to where.

    Slices (a sequence, its length known) ──► Slice(file, start, stop) ══ pipe ══► worker: file.open, file.read

What a format has to know is a `SlicedFile`. It is pickled once per chunk, however many slices the chunk has.
"""

from __future__ import annotations

import abc
import errno
import operator
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

from allcores.errors import SliceError, UsageError
from allcores.system import deferral
from allcores.system.tracebacks import hide
from allcores.transport.references import OpenFiles, Reference

#: Bytes of a slice, where nobody says how many rows. More costs memory in each worker, and leaves cores idle at the
#: end; less costs more calls, and more seeks where the file is on a disk that turns.
SLICE_BYTES = 8 * 1024 * 1024
#: Errors that have to do with who reads, and nothing with what is in the file.
_OF_THE_PLACE = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class Stamp:
    """A file as it was when its source was made; any change shows in its size or its time.

    Attributes:
        path: Absolute, for a function may change its worker's folder.
        name: As it was given, for messages.
        size: Bytes.
        modified_ns: Time of the last change, ns.
    """

    path: str
    name: str
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Stamp:
        """The stamp of a file.

        Raises:
            UsageError: If it is missing, no regular file, or not readable.
        """
        name = os.fsdecode(path)
        try:
            facts = os.stat(name)
            readable = os.access(name, os.R_OK)
        except (OSError, ValueError) as error:
            if deferral.raised_by_handler(error):
                raise
            raise UsageError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from None
        if not stat.S_ISREG(facts.st_mode):
            kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "no regular file"
            raise UsageError(f"cannot read {name} in slices: it is {kind}")
        if not readable:
            raise UsageError(f"cannot read {name}: Permission denied")
        return cls(os.path.abspath(name), name, facts.st_size, facts.st_mtime_ns)

    def trouble(self) -> str | None:
        """What is wrong with the file now, and the way out; None if it is as it was."""
        try:
            facts = os.stat(self.path)
        except FileNotFoundError:
            return "the file is gone; put it back, or make the source again"
        except OSError as error:
            if deferral.raised_by_handler(error):
                raise
            return f"{error.strerror}; see that the workers can reach {self.path}"
        if facts.st_size != self.size:
            changed = f"it had {self.size:,} bytes when the source was made and has {facts.st_size:,} now"
        elif facts.st_mtime_ns != self.modified_ns:
            changed = "it was written to after the source was made"
        else:
            return None
        return f"{changed}; make the source again once the file is complete"


class SlicedFile(abc.ABC):
    """What a format knows: how to open a file and to read a part of it.

    Attributes:
        stamp: Of the file. All else are fields of a subclass; all of it is small, frozen, and travels.
    """

    stamp: Stamp

    @abc.abstractmethod
    def open(self) -> Any:
        """The open file: something with `close()`."""

    @abc.abstractmethod
    def read(self, handle: Any, start: int, stop: int) -> Any:
        """The slice [start:stop] of what `open` returned."""

    def label(self, start: int, stop: int) -> str:
        """What messages call the slice."""
        return f"{self.stamp.name}[{start}:{stop}]"

    def explain(self, error: Exception) -> str:
        """Why reading failed, and the way out."""
        if isinstance(error, MemoryError):
            return "not enough memory for it; make the source with fewer rows per slice"
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = " ".join(reason.split())
        if isinstance(error, OSError) and error.errno in _OF_THE_PLACE:
            return f"{reason}; see that the workers may open it"
        return f"{reason}; the file is most likely damaged there: restore it, or go on without the slice"


class Slice(Reference):
    """One slice of a file: as an item or an argument, the function gets its data in its place.

    Args:
        file: Which file, and how it is read.
        start: Rows, bytes or row groups of it.
        stop: Rows, bytes or row groups of it.
    """

    __slots__ = ("file", "start", "stop")

    def __init__(self, file: SlicedFile, start: int, stop: int) -> None:
        self.file = file
        self.start = start
        self.stop = stop

    def load(self, files: OpenFiles | None = None) -> Any:
        """The data, read now. The pool does this in the worker; call it to look at a slice yourself.

        Raises:
            SliceError: If the file is gone, has changed since the source was made, or cannot be read there.
        """
        if files is None:
            files = OpenFiles()
            try:
                return self.load(files)
            except BaseException as error:
                hide(error)
                raise
            finally:
                files.close()
        file = self.file
        key = (type(file), file.stamp)
        trouble = file.stamp.trouble()
        cause: Exception | None = None
        if trouble is None:
            # It may change in the middle of being read.
            try:
                data = file.read(files.handle(key, file.open), self.start, self.stop)
                trouble = file.stamp.trouble()
                if trouble is None:
                    return data
            except Exception as error:
                if deferral.raised_by_handler(error):
                    raise
                cause, trouble = error, file.stamp.trouble() or file.explain(error)
        files.drop(key)
        message = f"{self!r} cannot be read: {trouble}."
        raise SliceError(message, path=file.stamp.path, start=self.start, stop=self.stop) from cause

    def arguments(self) -> tuple[SlicedFile, int, int]:
        return self.file, self.start, self.stop

    def __repr__(self) -> str:
        return self.file.label(self.start, self.stop)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slice) and self.arguments() == other.arguments()

    def __hash__(self) -> int:
        return hash(self.arguments())


class Slices(Sequence[Any]):
    """A file as a sequence of slices: an input for `map` and its like. It reads nothing; workers do.

    `slices[2:5]` are fewer slices, and `itertools.chain(a, b)` is the slices of two files.

    Args:
        file: Which file, and how it is read.
        total: Rows, bytes or row groups it has.
        step: How many of them are one slice; the last may be shorter.
    """

    def __init__(self, file: SlicedFile, total: int, step: int) -> None:
        self.file = file
        self.total = total
        self.step = step
        self._starts = range(0, total, step)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Slice: ...
    @overload
    def __getitem__(self, index: slice) -> Slices: ...
    def __getitem__(self, index: int | slice) -> Slice | Slices:
        starts = self._starts[index]
        if isinstance(starts, range):
            part = Slices(self.file, self.total, self.step)
            part._starts = starts
            return part
        return Slice(self.file, starts, min(starts + self.step, self.total))

    def __repr__(self) -> str:
        return f"<{len(self)} slices of {self.file.stamp.name}>"


def rows_per_slice(rows: int | None, row_bytes: int, *, multiple: int = 1) -> int:
    """Rows of a slice: what was asked for, or as many as make SLICE_BYTES; then up to a multiple.

    Args:
        rows: What was asked for; None for as many as make SLICE_BYTES.
        row_bytes: Bytes of one row.
        multiple: Rows that the file keeps together.

    Raises:
        UsageError: Unless `rows` is None or a whole number, 1 or more.
    """
    if rows is None:
        # Down: a slice of the usual size is not to grow by half for the sake of the chunks.
        return max(1, SLICE_BYTES // max(1, row_bytes) // multiple) * multiple
    return -(-whole(rows, "rows") // multiple) * multiple


def whole(number: Any, name: str, least: int = 1) -> int:
    """`number` as an int.

    Raises:
        UsageError: Unless it is a whole number, `least` or more.
    """
    try:
        value = operator.index(number)
    except TypeError:
        value = least - 1
    if isinstance(number, bool) or value < least:
        raise UsageError(f"{name}={number!r} must be a whole number, {least} or more")
    return value
