"""Parts of a frame on their way to workers: rows or columns from one number to another. It imports no library."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

#: Parts for each worker, at least, where there are enough rows: the more, the less waiting at the end.
PARTS_PER_WORKER = 32
#: Rows of a part, at most: a row that ends its worker costs its part.
MOST_ROWS = 256


class Part:
    """Where a part is. Messages name an item by its `repr`.

    Attributes:
        start: The number of its first row or column.
        stop: The one after its last.
        what: "rows" or "columns".
        goes_on: After a row that fails the others are worked at all the same.
    """

    __slots__ = ("goes_on", "start", "stop", "what")

    def __init__(self, start: int, stop: int, what: str, goes_on: bool = False) -> None:
        self.start = start
        self.stop = stop
        self.what = what
        self.goes_on = goes_on

    def __reduce__(self) -> tuple[Any, ...]:
        return Part, (self.start, self.stop, self.what, self.goes_on)

    def __len__(self) -> int:
        return self.stop - self.start

    def __repr__(self) -> str:
        last = self.stop - 1
        return f"{self.what[:-1]} {last}" if last == self.start else f"{self.what} {self.start} to {last}"


class Parts:
    """All parts of so many rows or columns, made as they are asked for.

    Attributes:
        length: Rows or columns.
        size: Of a part; the last may be smaller.
        what: "rows" or "columns".
        goes_on: See `Part`.
    """

    def __init__(self, length: int, size: int, what: str) -> None:
        self.length = length
        self.size = max(1, size)
        self.what = what
        self.goes_on = False

    @classmethod
    def shared_out(cls, length: int, workers: int, what: str, most: int = MOST_ROWS) -> Parts:
        """Parts for so many workers, of `most` rows at most."""
        return cls(length, min(most, length // (workers * PARTS_PER_WORKER)), what)

    def __len__(self) -> int:
        return -(-self.length // self.size)

    def __getitem__(self, number: int) -> Part:
        start = number * self.size
        if start >= self.length:
            raise IndexError(number)
        return Part(start, min(start + self.size, self.length), self.what, self.goes_on)

    def __iter__(self) -> Iterator[Part]:
        return map(self.__getitem__, range(len(self)))


class PartCall:
    """What a worker does with a part.

    Args:
        frame: All of it; shared.
        work: Called with the frame, the part, and what the pool's setup returned, if anything.
        function: The caller's, which messages name.
    """

    def __init__(self, frame: Any, work: Callable[..., Any], function: Callable[..., Any]) -> None:
        self._frame = frame
        self._work = work
        self.__name__ = getattr(function, "__name__", type(function).__name__)

    def __call__(self, *arguments: Any) -> Any:
        """What came of the part."""
        *_, part = arguments
        return self._work(self._frame, part)
