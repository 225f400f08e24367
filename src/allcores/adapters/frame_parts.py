"""Parts of a frame on their way to workers: rows or columns from one number to another. It imports no library."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
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
    """

    __slots__ = ("start", "stop", "what")

    def __init__(self, start: int, stop: int, what: str) -> None:
        self.start = start
        self.stop = stop
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return Part, (self.start, self.stop, self.what)

    def __repr__(self) -> str:
        last = self.stop - 1
        return f"{self.what[:-1]} {last}" if last == self.start else f"{self.what} {self.start} to {last}"


def parts(length: int, workers: int, what: str, most: int = MOST_ROWS) -> list[Part]:
    """All parts of so many rows or columns."""
    size = max(1, min(most, length // (workers * PARTS_PER_WORKER)))
    return [Part(start, min(start + size, length), what) for start in range(0, length, size)]


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
