"""Objects that are known as long as they are there, for several threads without a lock.

A `weakref.WeakSet` is gone through in Python's own steps: it raises "set changed size during iteration" if another
thread adds something in the middle of that, also behind `list(...)`.
"""

from __future__ import annotations

import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Generic, TypeVar

    T = TypeVar("T")

    class _Of(Generic[T]):
        pass
else:
    T = None

    class _Of:
        """Workers do without typing, which takes its time to import."""

        def __class_getitem__(cls, _):
            return cls


class WeakObjects(_Of[T]):
    """See the module. Each change of it, and each look at all of them, is one step of the interpreter."""

    def __init__(self) -> None:
        self._references: set[weakref.ref[T]] = set()

    def add(self, each: T) -> None:
        """Know an object, from now on."""
        self._references.add(weakref.ref(each, self._references.discard))

    def discard(self, each: T) -> None:
        """Know it no longer."""
        self._references.discard(weakref.ref(each))

    def all(self) -> list[T]:
        """Those that are there now."""
        # The references are copied in one step, and looked at then.
        return [each for reference in list(self._references) if (each := reference()) is not None]

    def clear(self) -> None:
        """Know none."""
        self._references.clear()
