"""A group on its way to a worker, and what the worker does with it. It imports no library of frames."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Group:
    """Where the rows of a group are. Messages name an item by its `repr`: the group's key.

    Attributes:
        start: Its first row, in the frame that is in order of groups.
        stop: The row after its last.
        key: Of the group: one value, or a tuple of several.
        names: Of the columns of the key.
    """

    __slots__ = ("key", "names", "start", "stop")

    def __init__(self, start: int, stop: int, key: Any, names: tuple[Any, ...]) -> None:
        self.start = start
        self.stop = stop
        self.key = key
        self.names = names

    def __reduce__(self) -> tuple[Any, ...]:
        return Group, (self.start, self.stop, self.key, self.names)

    def __repr__(self) -> str:
        values = self.key if len(self.names) > 1 else (self.key,)
        pairs = ", ".join(f"{name}={value!r}" for name, value in zip(self.names, values, strict=True))
        return f"group {pairs}"


class GroupCall:
    """The function of one group, which it cuts out of the shared frame.

    Args:
        frame: In order of groups; shared.
        cut: Makes a group's frame of it.
        function: The caller's.
    """

    def __init__(self, frame: Any, cut: Callable[[Any, Group], Any], function: Callable[..., Any]) -> None:
        self._frame = frame
        self._cut = cut
        self._function = function
        # Messages about the function name the caller's.
        self.__name__ = getattr(function, "__name__", type(function).__name__)

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns for one group."""
        # What the pool's setup returned comes first.
        *before, group = arguments
        return self._function(*before, self._cut(self._frame, group))
