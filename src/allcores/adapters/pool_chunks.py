"""Chunks as tasks: a pool that replaces workers after so many tasks counts a chunk of `map` as one, as the original."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from allcores.transport.refilled_items import as_pulled, call_each


class ChunkCall:
    """Calls a function on each item of a chunk.

    Args:
        fn: The function.
        style: "one" for `fn(item)`, "star" for `fn(*item)`.
    """

    def __init__(self, fn: Callable[..., Any], style: str) -> None:
        self.fn = fn
        self.style = style

    def __call__(self, chunk: list[Any]) -> list[Any]:
        """Results of a chunk."""
        if self.style == "star":
            return call_each(lambda item: self.fn(*item), chunk)
        return call_each(self.fn, chunk)


def chunks_of(items: list[Any], size: int | None, workers: int) -> list[list[Any]]:
    """The items in chunks of that size; None: four chunks for each worker, as the original has it."""
    __tracebackhide__ = True
    if size is None:
        size = -(-len(items) // (4 * workers)) or 1
    return [items[begin : begin + size] for begin in range(0, len(items), max(1, size))]


def in_chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The items of an input in chunks, as they come."""
    source = as_pulled(items)
    while chunk := list(islice(source, size)):
        yield chunk


def flattened(parts: Iterable[list[Any]]) -> list[Any]:
    """All results in one list."""
    return [value for part in parts for value in part]
