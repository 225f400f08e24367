"""What a pool shares: the part of `Pool` that hands out memory with one copy per machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from allcores.errors import NotSupported, PoolClosed, UsageError
from allcores.shared_memory.parent_side import MemoryUsage
from allcores.system import deferral
from allcores.system.tracebacks import hiding

if TYPE_CHECKING:
    from allcores.pool.driver import Driver
    from allcores.shared_memory.arrays import SharedArray
    from allcores.shared_memory.objects import Counter, Flag
    from allcores.shared_memory.parent_side import ParentMemory

T = TypeVar("T")


class Sharing:
    """Base of `Pool`."""

    #: as it is; `_driver` starts it anew in a forked process
    _current: Driver

    @property
    def _driver(self) -> Driver:
        raise NotImplementedError

    @hiding
    def share(self, obj: T) -> T:
        """A read-only copy of `obj` that is never copied again: workers that are given it see the same memory.

        What is returned is of the type of `obj`, and is given to functions like any argument: in items, closures,
        `functools.partial`, `setup_args`; to workers that run already, too. So are contiguous parts of it, and
        arrays inside of it. Writing to it raises what the library raises for read-only data. Its memory is given
        back when nothing refers to it any more, here and in the workers; after `close()` it stays readable here.

        Args:
            obj: An array, a table or frame (pandas, Arrow), or dicts, dataclasses and the like that hold some; whatever
                pickles with protocol-5 buffers. `bytes` and `bytearray` become `SharedBytes`.

        Raises:
            NotPicklable: If it cannot be pickled.
            NotSupported: Where there is no shared memory.
            OSError: If there is not enough.
        """
        from allcores.transport import pickling

        with self._memory_for("share") as parent_memory:
            try:
                return parent_memory.shared_objects.share(obj)  # type: ignore[no-any-return]
            except (OSError, NotSupported):
                raise
            except Exception as error:
                if deferral.raised_by_handler(error) or pickling.pickles(obj):
                    raise  # a signal's handler raised in the middle of it
                raise pickling.explain_with_path(obj, "obj", error) from error

    @hiding
    def empty_shared(self, shape: int | tuple[int, ...], dtype: Any = float) -> SharedArray:
        """A numpy array of zeros that all workers see and write to, as an output that they fill together.

        It and any view of it (slices, rows, steps) travel by reference. Nothing keeps two workers from writing to the
        same place: give each a part of its own. A task that is run again, after a crash or as a retry, writes its part
        again.

        Args:
            shape: Length of each axis, as for `numpy.zeros`.
            dtype: Of the numbers, as for `numpy.zeros`; no object dtypes.

        Raises:
            NotSupported: Without numpy or shared memory.
            OSError: If there is not enough of it.
        """
        with self._memory_for("empty_shared") as parent_memory:
            try:
                from allcores.shared_memory import arrays
            except ImportError as error:
                raise NotSupported("empty_shared needs numpy: pip install numpy") from error
            try:
                return arrays.empty_shared(parent_memory.shared_objects, shape, dtype)
            except (TypeError, ValueError) as error:
                raise UsageError(f"empty_shared(shape={shape!r}, dtype={dtype!r}): {error}") from error

    @hiding
    def counter(self, value: int = 0) -> Counter:
        """A whole number, 64 bits and signed, that workers add to; exact under concurrent changes."""
        from allcores.shared_memory import objects

        with self._memory_for("counter") as parent_memory:
            counter: Counter = objects.word(objects.Counter, parent_memory.shared_objects, parent_memory.arena)
        if value:
            counter.set(value)
        return counter

    def flag(self) -> Flag:
        """A flag that workers, or you, raise for all to see: to tell running tasks to stop early, say."""
        from allcores.shared_memory import objects

        with self._memory_for("flag") as parent_memory:
            flag: Flag = objects.word(objects.Flag, parent_memory.shared_objects, parent_memory.arena)
        return flag

    def _memory(self) -> MemoryUsage:
        parent_memory = self._current.backend.parent_memory(create=False) if not self._current.closed else None
        return MemoryUsage(0, 0, 0) if parent_memory is None else parent_memory.usage()

    @contextmanager
    def _memory_for(self, what: str) -> Iterator[ParentMemory]:
        """The memory, for as long as it is there: a signal's handler or another thread may close the pool meanwhile."""
        driver = self._driver
        parent_memory = self._parent_memory(what)
        try:
            yield parent_memory
        except Exception as error:
            if driver.closed and not deferral.raised_by_handler(error):
                raise PoolClosed(f"Pool {driver.name!r} was closed.") from None
            raise

    def _parent_memory(self, what: str) -> ParentMemory:
        self._driver.check_open()
        if self._driver.backend.node_cores and what != "share":
            raise NotSupported(
                f"{what}() needs memory that all workers see; those of backend={self._driver.backend.name!r} are on "
                "several machines. Return values, and use reduce() or what the tasks write to."
            )
        parent_memory = self._driver.backend.parent_memory()
        if parent_memory is None:
            self._driver.check_open()  # another thread may have closed it meanwhile
            raise NotSupported(f"{what}() needs memory without a name (memfd), which this system does not have.")
        return parent_memory
