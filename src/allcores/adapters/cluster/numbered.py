"""The items of a chunk on a node, with the indices that the program has given them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Numbered:
    """Items that have their indices from the program."""

    def __init__(self, items: list[Any], first: int) -> None:
        self._items = iter(items)
        self._first, self._count = first, len(items)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        item = next(self._items)
        self._first += 1
        self._count -= 1
        return item

    def upcoming(self) -> tuple[int, int]:
        """See `pool.input_reader.Numbered`."""
        return self._first, max(1, self._count)
