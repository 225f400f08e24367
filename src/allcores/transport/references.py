"""Items that stand for data: they travel as a few bytes, and the worker that runs them loads the data.

    item: Reference ══ pipe ══► worker ──load, from its OpenFiles──► the data ──► function(data)

A reference is loaded right before its call, inside of the item's own time, so that its deadline counts the reading,
a crash while reading is its crash, and no more than one item's data is in a worker's memory. It is not loaded as it
is unpickled: then a whole chunk would be, and one that fails would take the others along.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any

#: Files that a worker keeps open for its next slices. More spares opening them again where many are read in turns,
#: fewer holds fewer descriptors.
MOST_OPEN = 8


class Reference:
    """An item, or an argument of a call, in whose place the function gets what `load` returns."""

    __slots__ = ()

    def load(self, files: OpenFiles | None = None) -> Any:
        """The data.

        Args:
            files: What keeps files open between two loads; without one they are closed again.
        """
        raise NotImplementedError

    def arguments(self) -> tuple[Any, ...]:
        """What another process makes the same reference of."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        return arrive, (type(self), self.arguments())


class Arrivals:
    """Whether a reference was unpickled. A worker asks once per chunk, so other items pay nothing."""

    seen = False


def arrive(kind: type[Reference], arguments: tuple[Any, ...]) -> Reference:
    """A reference, on the far side of the pipe."""
    Arrivals.seen = True
    return kind(*arguments)


class OpenFiles:
    """One worker's open files, the last few that were used. For one thread at a time."""

    def __init__(self) -> None:
        #: the one used last stands at the end
        self._open: dict[Hashable, Any] = {}

    def handle(self, key: Hashable, opened: Callable[[], Any]) -> Any:
        """What is open under `key`, else what `opened` returns: something that can be closed."""
        handle = self._open.pop(key, None)
        if handle is None:
            while len(self._open) >= MOST_OPEN:
                self.drop(next(iter(self._open)))
            handle = opened()
        self._open[key] = handle
        return handle

    def drop(self, key: Hashable) -> None:
        """Close what is open under `key`, if anything is."""
        handle = self._open.pop(key, None)
        if handle is not None:
            try:
                handle.close()
            except Exception:  # of a file that is damaged or gone, and that nobody wants any more
                pass

    def close(self) -> None:
        """Close everything."""
        for key in list(self._open):
            self.drop(key)

    def load(self, thing: Any) -> Any:
        """`thing`, or its data if it is a reference."""
        return thing.load(self) if isinstance(thing, Reference) else thing

    def loaded(self, style: str, item: Any) -> Any:
        """What a worker calls its function with in place of `item`.

        Args:
            style: See `scheduler.function.Function`.
        """
        load = self.load
        if style == "one":
            return load(item)
        if style == "star":
            return [load(argument) for argument in item]
        arguments, named = item
        return [load(argument) for argument in arguments], {name: load(value) for name, value in named.items()}
