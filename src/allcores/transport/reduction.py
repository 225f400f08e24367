"""A function and how its values are merged, as one function: what `Pool.reduce` sends, and what comes back.

Where nothing has to travel (threads, "serial") each call gives one value. A worker process merges the values of items
that it reports together, and sends one value for them. Each entry of a report is one of

    (value, None)                          a value
    (data,)                                the pickled value of a run of items
    ()                                     merged into the entry before; only where entries have to be as many as items
    (type name, message, traceback, data)  merging a run has failed, see `exceptions.pack_error`
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: an entry that stands for an item whose value is in one before it
MERGED: tuple[()] = ()


class _Missing:
    """There is no initial value."""

    def __repr__(self) -> str:
        return "no value"


#: None is a value like any other
MISSING: Any = _Missing()


class Reduction:
    """Calls a function.

    Args:
        fn: The function.
        merge: Called as merge(left, right); returns the value of both.
    """

    def __init__(self, fn: Callable[..., Any], merge: Callable[[Any, Any], Any]) -> None:
        self.fn = fn
        self.merge = merge
        self.__qualname__ = getattr(fn, "__qualname__", type(fn).__name__)

    def __call__(self, *args: Any) -> tuple[Any, None]:
        """The function's value, as an entry."""
        return self.fn(*args), None

    def __reduce__(self) -> tuple[Any, ...]:
        return Reduction, (self.fn, self.merge)


def entries(merge: Callable[[Any, Any], Any], values: list[Any]) -> list[tuple[Any, ...]]:
    """Values of several items as one entry for all of them, and one for each other that says so."""
    value = values[0]
    for each in values[1:]:
        value = merged(merge, value, each)
    return [(value, None), *[MERGED] * (len(values) - 1)]


def merged(merge: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """The value of two.

    Raises:
        UsageError: It is None, and neither of the two is: `merge` changes its first argument and forgets to return it.
        Exception: What `merge` raises.
    """
    value = merge(left, right)
    if value is None and left is not None and right is not None:
        from allcores.errors import UsageError

        name = getattr(merge, "__qualname__", type(merge).__name__)
        raise UsageError(
            f"reduce: {name}() merged {type(left).__name__} and {type(right).__name__} and returned None; it must "
            "return the merged value. Methods that change their object return None (Counter.update, list.extend): use "
            "operator.add or operator.iadd, or a function that returns its first argument after changing it."
        )
    return value
