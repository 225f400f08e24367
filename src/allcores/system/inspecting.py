"""What the standard library's `inspect` finds, on any thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

#: Looks that fail by chance, one after the other, until the last is what is told. It takes other threads that parse
#: without a pause for one in ten to fail.
MOST_TRIES = 100


def inspected(look: Callable[[Any], T], subject: Any) -> T:
    """`look(subject)`, for a function of `inspect` that parses text.

    So do `getsource` of a class, and `signature` of a function in C. In CPython 3.11 threads that parse at the same
    time may get a SystemError ("AST constructor recursion depth mismatch"), which says nothing of the text.
    """
    for _ in range(MOST_TRIES - 1):
        try:
            return look(subject)
        except SystemError:
            continue
    return look(subject)
