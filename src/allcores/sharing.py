"""What a pool shares: the part of `Pool` that hands out memory with one copy per machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from allcores import deferral
from allcores.backends import Usage
from allcores.errors import NotSupported, UsageError

if TYPE_CHECKING:
    from allcores.backends.freight import Freight
    from allcores.engine.driver import Driver
    from allcores.transport.arrays import SharedArray
    from allcores.transport.sharing import Counter, Flag

T = TypeVar("T")


class Sharing:
    """Base of `Pool`."""

    #: as it is; `_driver` starts it anew in a forked process
    _current: Driver

    @property
    def _driver(self) -> Driver:
        raise NotImplementedError

    def share(self, obj: T) -> T:
        """A read-only copy of `obj` that is never copied again: workers that are given it see the same memory.

        obj: an array, a table or frame (pandas, Arrow), or dicts, dataclasses and the like that hold some;
            whatever pickles with protocol-5 buffers. `bytes` and `bytearray` become `SharedBytes`.
        What is returned is of the type of `obj`, and is given to functions like any argument: in items, closures,
        `functools.partial`, `setup_args`; to workers that run already, too. So are contiguous parts of it, and
        arrays inside of it. Writing to it raises what the library raises for read-only data. Its memory is given
        back when nothing refers to it any more, here and in the workers; after `close()` it stays readable here.

        Raises: NotPicklable, NotSupported where there is no shared memory, OSError if there is not enough.
        """
        from allcores.transport import pickling

        shelf = self._freight("share").shelf
        try:
            return shelf.share(obj)  # type: ignore[no-any-return]
        except (OSError, NotSupported):
            raise
        except Exception as error:
            if deferral.raised_by_handler(error) or pickling.pickles(obj):
                raise  # a signal's handler raised in the middle of it
            raise pickling.explain_with_path(obj, "obj", error) from error

    def empty_shared(self, shape: int | tuple[int, ...], dtype: Any = float) -> SharedArray:
        """A numpy array of zeros that all workers see and write to, as an output that they fill together.

        shape, dtype: as for `numpy.zeros`; no object dtypes. It and any view of it (slices, rows, steps) travel by
        reference. Nothing keeps two workers from writing to the same place: give each a part of its own. A task
        that is run again, after a crash or as a retry, writes its part again.

        Raises: NotSupported without numpy or shared memory, OSError if there is not enough of it.
        """
        freight = self._freight("empty_shared")
        try:
            from allcores.transport import arrays
        except ImportError as error:
            raise NotSupported("empty_shared needs numpy: pip install numpy") from error
        try:
            return arrays.empty_shared(freight.shelf, shape, dtype)
        except (TypeError, ValueError) as error:
            raise UsageError(f"empty_shared(shape={shape!r}, dtype={dtype!r}): {error}") from error

    def counter(self, value: int = 0) -> Counter:
        """A whole number, 64 bits and signed, that workers add to; exact under concurrent changes."""
        from allcores.transport import sharing

        freight = self._freight("counter")
        counter: Counter = sharing.word(sharing.Counter, freight.shelf, freight.arena)
        if value:
            counter.set(value)
        return counter

    def flag(self) -> Flag:
        """A flag that workers, or you, raise for all to see: to tell running tasks to stop early, say."""
        from allcores.transport import sharing

        freight = self._freight("flag")
        flag: Flag = sharing.word(sharing.Flag, freight.shelf, freight.arena)
        return flag

    def _memory(self) -> Usage:
        freight = self._current.backend.freight(create=False) if not self._current.closed else None
        return Usage(0, 0, 0) if freight is None else freight.usage()

    def _freight(self, what: str) -> Freight:
        self._driver.check_open()
        freight = self._driver.backend.freight()
        if freight is None:
            raise NotSupported(f"{what}() needs memory without a name (memfd), which this system does not have.")
        return freight
