"""What messages call an item or a call."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allcores.scheduler.map_state import Chunk


def describe(chunk: Chunk, position: int) -> str:
    """Words for an item: its place and a short look at it."""
    if chunk.future is not None:
        function = chunk.function
        if function.words is None:
            return f"{function.name}(...)"
        return function.words(function.name, *chunk.items[position])
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    try:
        text = short.repr(chunk.items[position])
    except BaseException:
        return f"items[{chunk.first + position}]"
    return f"items[{chunk.first + position}] ({text})"


class _Short(reprlib.Repr):
    """Looks at plain values only: no code of the program runs."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 40
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 3
        self.maxlevel = 2

    def repr_instance(self, x: Any, level: int) -> str:
        if isinstance(x, (float, complex, bool, type(None))):
            return repr(x)
        if isinstance(x, bytes):
            return repr(x[:40])
        if isinstance(x, int):
            return int.__repr__(x)
        if type(x).__module__.startswith("pathlib"):
            return self.repr_str(str(x), level)
        return f"<{type(x).__name__}>"

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() < 200 else f"<int of {x.bit_length()} bits>"


_short = _Short()
#: characters of all arguments of a call that are shown
CALL_CHARACTERS = 80


def call_text(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """A call as it may stand in a program, with a short look at its arguments: `Index.search('word', limit=3)`."""
    try:
        shown = [_short.repr(value) for value in args]
        shown += [f"{key}={_short.repr(value)}" for key, value in kwargs.items()]
    except Exception:  # they change meanwhile
        shown = ["..."]
    text = ", ".join(shown)
    return f"{name}({text if len(text) <= CALL_CHARACTERS else text[: CALL_CHARACTERS - 1] + '…'})"
