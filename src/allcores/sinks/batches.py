"""Functions of batches in front of a sink: each result becomes a line by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class BatchFunction:
    """A function of batches, and what is done with each of its results where the batch ran.

    Workers know it by the mark of its type and take it apart: between its two steps they see whether there is one
    result for each item. Called as it is, it does the first step alone.

    Args:
        function: The caller's; called with a batch.
        each: Called with each result.
    """

    __allcores_batches__ = True

    def __init__(self, function: Callable[..., Any], each: Callable[[Any], str]) -> None:
        self.function = function
        self.each = each

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __repr__(self) -> str:
        return repr(self.function)


def wrapped(
    wrap: Callable[[Callable[..., Any]], Callable[..., str]], function: Callable[..., Any], *, batches: bool
) -> Callable[..., Any]:
    """`function` as a sink wants it to run.

    Args:
        wrap: The sink's, see `WholeSink.wrap`.
        batches: The function gets lists of items, and returns a result for each.
    """
    return BatchFunction(function, wrap(_unchanged)) if batches else wrap(function)


def _unchanged(value: Any) -> Any:
    return value
