"""Arrays of `joblib.Parallel`: large ones lie in a file in memory that has no name, and all tasks map it.

A program that was written for joblib finds what it knows: `numpy.memmap`, with the mode that was asked for. Nothing
is left behind, whatever dies: the memory is gone with the last process that has it. The path by which workers open
such a file goes through the thread that serves the call (`/proc/<process>/task/<thread>/fd/<number>`), so it is the
same for all tasks of a call, and another for each call.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from allcores.shared_memory.arrays import bounds
from allcores.system import posix, procfs

#: Files of a call that are open at once, at most: what finds no room travels with its task.
MOST_FILES = 128
#: how the folders of calls begin
OWN_FOLDER = "allcores-joblib-"


class InMemory:
    """Files that have no name.

    Args:
        thread: The number, in the system, of the thread through which other processes open them.
    """

    def __init__(self, thread: int) -> None:
        self._folder = procfs.descriptors_folder(thread)

    def file(self) -> tuple[int, str | None]:
        """The descriptor of a new file, and no path: it is gone with the descriptor. Raises OSError."""
        if not os.path.isdir(self._folder):
            raise OSError("the thread is gone")
        return posix.anonymous_file("joblib", 0), None

    def path(self, descriptor: int) -> str:
        """By which workers open it."""
        return f"{self._folder}/{descriptor}"

    def close(self) -> None:
        """There is nothing to do."""


class InFolder:
    """Files in a folder of their own, in one that the program has named. Removed by `close`.

    Args:
        folder: The one that was named; it is made.
    """

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        self._folder = tempfile.mkdtemp(prefix=OWN_FOLDER, dir=folder)
        self._process = os.getpid()
        self._paths: dict[int, str] = {}

    def file(self) -> tuple[int, str | None]:
        """The descriptor of a new file, and its path. Raises OSError."""
        descriptor, path = tempfile.mkstemp(dir=self._folder)
        self._paths[descriptor] = path
        return descriptor, path

    def path(self, descriptor: int) -> str:
        """By which workers open it."""
        return self._paths[descriptor]

    def close(self) -> None:
        """Remove the folder, and what is in it; in a fork of its process it is the parent's."""
        if self._process == os.getpid():
            shutil.rmtree(self._folder, ignore_errors=True)


def place_of(folder: Any, thread: int) -> InMemory | InFolder:
    """Where the arrays of a call lie: in a folder, if one was named.

    Raises:
        OSError: The folder cannot be written to.
    """
    return InMemory(thread) if folder is None else InFolder(os.fspath(folder))


class SharedFile:
    """A copy of an array that all tasks map; gone once nobody refers to it."""

    def __init__(self, array: np.ndarray[Any, Any], place: InMemory | InFolder) -> None:
        self.descriptor, name = place.file()
        self.path = place.path(self.descriptor)
        try:
            # Taken now: a lack of memory is an error here, and no SIGBUS later.
            os.posix_fallocate(self.descriptor, 0, array.nbytes)
            fortran = array.flags.f_contiguous and not array.flags.c_contiguous
            self.order: Literal["C", "F"] = "F" if fortran else "C"
            if fortran or array.flags.c_contiguous:
                # Through a map each page would be cleared first, and faulted in.
                flat: Any = np.asarray(array).ravel(order=self.order)
                _write(self.descriptor, memoryview(flat.view(np.uint8)))
            else:
                with mmap.mmap(self.descriptor, array.nbytes) as mapped:
                    copy: Any = np.ndarray(array.shape, array.dtype, mapped, order=self.order)
                    copy[...] = array
                    del copy
        except BaseException:
            _drop(self.descriptor, name, os.getpid())
            raise
        self._finalizer = weakref.finalize(self, _drop, self.descriptor, name, os.getpid())
        self._finalizer.atexit = False


def _write(descriptor: int, data: memoryview) -> None:
    at = 0
    while at < len(data):
        at += os.pwrite(descriptor, data[at:], at)


def _drop(descriptor: int, name: str | None, process: int) -> None:
    os.close(descriptor)
    # In a fork of the process the file is the parent's.
    if name is not None and process == os.getpid():
        with contextlib.suppress(OSError):
            os.unlink(name)


class SharedArrays:
    """The arrays of one call of `Parallel`.

    Args:
        least: Arrays of more bytes than this are shared; None: none is.
        mode: How tasks map them: "r", "r+", "w+" or "c"; None: none is shared.
        place: Where they lie.
    """

    def __init__(self, least: int | None, mode: str | None, place: InMemory | InFolder) -> None:
        self._least = None if mode is None else least
        # "w+" would make an empty file of it.
        self._mode = "r+" if mode == "w+" else mode
        self._place = place
        self._lock = threading.Lock()
        self._known: dict[int, tuple[weakref.ref[Any], SharedFile]] = {}
        self._open: weakref.WeakSet[SharedFile] = weakref.WeakSet()

    def ways(self, used: list[object]) -> Mapping[Any, Callable[[Any], Any]]:
        """How to pickle arrays of tasks.

        Args:
            used: Gets what has to live until these tasks are done.
        """

        def reduce_array(array: Any) -> Any:
            found = _file_of(array)
            if found is not None:
                return found
            if self._least is not None and array.nbytes > self._least and not array.dtype.hasobject:
                shared = self._shared(array)
                if shared is not None:
                    used.append(shared)
                    return open_file, (shared.path, array.dtype, self._mode, 0, array.shape, shared.order, None)
            return _plain(array)

        return {np.ndarray: reduce_array, np.memmap: reduce_array}

    def _shared(self, array: Any) -> SharedFile | None:
        with self._lock:
            known = self._known.get(id(array))
            if known is not None and known[0]() is array:
                return known[1]
            if len(self._open) >= MOST_FILES:
                return None
            try:
                shared = SharedFile(array, self._place)
            except OSError:
                return None
            self._open.add(shared)
            number, known_arrays = id(array), self._known
            self._known[number] = weakref.ref(array, lambda gone: _forget(known_arrays, number, gone)), shared
            return shared

    def close(self) -> None:
        """Let go of all of them; tasks that have mapped them keep them until they are done."""
        with self._lock:
            self._known.clear()


def _forget(known: dict[int, tuple[weakref.ref[Any], SharedFile]], number: int, gone: object) -> None:
    # On any thread, at any time, so without the lock: single steps of a dictionary.
    found = known.get(number)
    if found is not None and found[0] is gone:
        known.pop(number, None)


def _plain(array: Any) -> Any:
    """An array's own bytes, as a plain array."""
    if type(array) is np.memmap:
        array = np.asarray(array)
    return array.__reduce_ex__(5)


def _file_of(array: Any) -> Any:
    """How to open the file that an array lies in; None if it lies in none that another process could open."""
    base: Any = array
    while not (isinstance(base, np.memmap) and isinstance(getattr(base, "base", None), mmap.mmap)):
        base = getattr(base, "base", None)
        if base is None:
            return None
    if not isinstance(base.filename, str | os.PathLike) or not os.path.exists(base.filename) or not array.size:
        return None
    low, high = bounds(array)
    offset = int(base.offset) + low - bounds(base)[0]
    mode = "r+" if base.mode == "w+" else base.mode
    order = "C" if array.flags.c_contiguous else "F" if array.flags.f_contiguous else None
    path = os.fspath(base.filename)
    if order is not None:
        return open_file, (path, array.dtype, mode, offset, array.shape, order, None)
    first = array.__array_interface__["data"][0] - low
    return open_file, (path, array.dtype, mode, offset, array.shape, first, (high - low, array.strides))


def open_file(
    path: str,
    dtype: Any,
    mode: Any,
    offset: int,
    shape: tuple[int, ...],
    order: Any,
    gaps: tuple[int, tuple[int, ...]] | None,
) -> Any:
    """An array in a file.

    Args:
        path: The file.
        dtype: Of the array.
        mode: Of the map.
        offset: Of its lowest byte, in the file.
        shape: Of the array.
        order: "C" or "F"; where it has gaps, how far from its lowest byte the first element is.
        gaps: Its bytes from the lowest to the highest one, and its strides; None if it has none.
    """
    if gaps is None:
        return np.memmap(path, dtype, mode, offset, shape, order)
    span, strides = gaps
    whole: Any = np.memmap(path, np.uint8, mode, offset, (span,))
    return np.ndarray(shape, dtype, whole.data, order, strides)


def _back(array: Any) -> Any:
    """A result: what lies in a file of the call's own is gone with the call, so it is copied."""
    found = _file_of(array)
    if found is None or procfs.is_descriptor(found[1][0]) or f"/{OWN_FOLDER}" in found[1][0]:
        return _plain(array)
    return found


#: how results are pickled
WAYS_BACK: Mapping[Any, Callable[[Any], Any]] = {np.ndarray: _back, np.memmap: _back}


def available() -> bool:
    """Whether this system can share arrays in this way."""
    return posix.LINUX and hasattr(os, "memfd_create") and procfs.AVAILABLE
