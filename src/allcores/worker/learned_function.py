"""A function as a worker has it: what it was sent, and what was noticed of it since."""

from __future__ import annotations

import sys

from allcores.transport.exceptions import add_note
from allcores.transport.pickling import FUNCTION_UNREAD, loads
from allcores.transport.refilled_items import RefilledItems

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class LearnedFunction:
    """A function, by whose number chunks name it.

    Attributes:
        style: How it is called with an item: "one", "star", or else with arguments and keyword arguments.
        target: The function itself; None if it could not be unpickled.
        error: What it raised then; None if it could.
        refilled: Whether it returns one object again and again, as far as that is known.
        within: The same of its generators that give the results of a batch.
    """

    __slots__ = ("error", "refilled", "style", "target", "within")

    def __init__(self, style: str, target: Any, error: BaseException | None = None) -> None:
        self.style = style
        self.target = target
        self.error = error
        self.refilled = RefilledItems()
        self.within = RefilledItems()

    @classmethod
    def of(cls, body: bytes, load: Callable[[bytes], Any]) -> LearnedFunction:
        """From the body of its frame. One that will not load is remembered by its error.

        Args:
            body: Style, pickled function, and the search path that it needs.
            load: Unpickles the function.
        """
        style, payload, path = loads(body)
        sys.path.extend(entry for entry in path if entry not in sys.path)
        try:
            return cls(style, load(payload))
        except BaseException as error:
            if not isinstance(error, Exception):
                add_note(error, FUNCTION_UNREAD)
            return cls(style, None, error)

    def calling(self, state: tuple[Any, ...]) -> Callable[[Any], Any]:
        """What to call with an item.

        Args:
            state: What comes before the item: () or a tuple of one.
        """
        function = self.target
        if self.style == "one":
            if not state:
                return function  # type: ignore[no-any-return]
            (first,) = state
            return lambda item: function(first, item)
        if self.style == "star":
            return lambda item: function(*state, *item)
        return lambda item: function(*state, *item[0], **item[1])
