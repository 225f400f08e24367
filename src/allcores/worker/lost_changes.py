"""Notices a function of a program that fills or counts in a global: here it does so in a copy, for nobody.

    totals = []
    def work(item):
        totals.append(item * 2)         # of this process
    allcores.map(work, items)           # totals of the program stays empty

Functions of the script, and of modules of the program's own: not of the standard library or of what is installed.
Looked at after the first chunks of a function in a worker, and after some of the later ones: lists, sets, dicts, deques
and numbers that its code names, that its closure holds, or that classes and objects of the program's have as attributes
are compared by identity with what they were. Attributes may be what a call works with, and not what it leaves: where
the function returns values, they count only once they have grown, or risen, several times in a row.

What a setup function has bound is this process's by intention, and in an imported module all of the module that setup
or teardown is of. So is a cache: a plain dict that only grows while the function returns values, and whatever has
"cache" or "memo" in its name. Of a bytearray and of arrays (of `array`, and NumPy's in memory of this process alone)
the bytes are compared, at both ends of large ones, and only while the function returns nothing: else it may compute in
them.
"""

from __future__ import annotations

import zlib
from collections import deque
from types import CodeType

from allcores.worker.reachable import (
    Walk,
    instance_of,
    is_a,
    is_array,
    is_own,
    plain_function,
    sets_attribute,
    value_at,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: of larger containers the first so many elements are compared, and the length
MOST_COMPARED = 1_000
#: of the bytes of an array so many at its beginning and at its end
MOST_BYTES = 32 << 10
#: attributes of functions that return values are told of once they have grown, or risen, after so many chunks in a row
RISES = 4


class Watch:
    """What a function could change, as it was."""

    def __init__(
        self, name: str, held: list[tuple[str, Any]], attributes: list[tuple[str, Any]], codes: list[CodeType]
    ) -> None:
        #: the function's
        self.name = name
        self._held = held + attributes
        #: of the functions that may set attributes
        self._codes = codes
        self._before = [_state(where) for _, where in self._held]
        #: of attributes, by their place in `_held`: what they were last, and how often in a row they had grown
        self._rises = {place: (self._before[place], 0) for place in range(len(held), len(self._held))}

    def changed(self, *, returned: bool) -> list[str]:
        """Names of what is not as it was.

        Args:
            returned: The function gave back values other than None.
        """
        found = []
        for place, ((name, where), before) in enumerate(zip(self._held, self._before, strict=True)):
            after = _state(where)
            grows = place not in self._rises or self._grows(place, after)
            if type(before[0]) is not type(after[0]) or not _differs(before, after):
                continue
            if returned and (
                not grows or is_array(after[0]) or (type(after[0]) is dict and _has_only_grown(before, after))
            ):
                continue
            found.append(name)
        return found

    def _grows(self, place: int, after: tuple[Any, int, list[Any]]) -> bool:
        last, times = self._rises[place]
        times = times + 1 if _accumulates(last, after) else 0
        self._rises[place] = after, times
        if times < RISES:
            return False
        # A number that is also set, and not added to alone, is where a call is, and not what calls have come to.
        attribute = self._held[place][1][1]
        return type(after[0]) not in (int, float) or not any(sets_attribute(code, attribute) for code in self._codes)


def watch(function: Any, left_alone: frozenset[str] = frozenset()) -> Watch | None:
    """What is to be watched of a function that a worker has got; None if there is nothing.

    Args:
        function: As it is called.
        left_alone: Imported modules in which it may change what it likes.
    """
    first = plain_function(function)
    if first is None or not is_own(first.__globals__, left_alone):
        return None
    walk = Walk(left_alone)
    instance = instance_of(function)
    if instance is not None:
        walk.add_owner("self", instance)
    walk.through(first)
    held, attributes = list(walk.globals.values()), list(walk.attributes())
    return Watch(first.__qualname__, held, attributes, walk.codes()) if held or attributes else None


def _state(where: Any) -> tuple[Any, int, list[Any]]:
    """What stands there: the object, how much is in it, and what; by methods of built-in types alone."""
    value = value_at(where)
    if is_a(value, dict):
        parts: list[Any] = []
        for key, part in dict.items(value):
            parts += (key, part)
            if len(parts) >= MOST_COMPARED:
                break
        return value, dict.__len__(value), parts
    if is_a(value, set):
        return value, set.__len__(value), list(set.copy(value)) if set.__len__(value) <= MOST_COMPARED else []
    if is_a(value, (list, deque)):
        return value, len(value), list(value)[:MOST_COMPARED]
    if is_array(value):
        try:
            data = memoryview(value).cast("B")
        except (TypeError, ValueError):  # nothing in it, or numbers that a buffer does not describe
            return value, 0, []
        return value, len(data), [zlib.crc32(data[:MOST_BYTES]), zlib.crc32(data[-MOST_BYTES:])]
    return value, 0, []


def _differs(before: tuple[Any, int, list[Any]], after: tuple[Any, int, list[Any]]) -> bool:
    if type(after[0]) in (int, float):
        return bool(before[0] != after[0])
    if is_array(after[0]):
        return before[1:] != after[1:]
    if before[1] != after[1] or len(before[2]) != len(after[2]):
        return True
    if isinstance(after[0], set):
        return {id(part) for part in before[2]} != {id(part) for part in after[2]}
    return any(old is not new for old, new in zip(before[2], after[2], strict=True))


def _accumulates(before: tuple[Any, int, list[Any]], after: tuple[Any, int, list[Any]]) -> bool:
    """Whether it is the same with more in it, or a number that has risen."""
    value = after[0]
    if type(before[0]) is not type(value):
        return False
    if type(value) in (int, float):
        return bool(before[0] < value)
    if before[0] is not value or before[1] > after[1]:
        return False
    if is_a(value, dict):  # a plain one may be a cache, or what a call works with
        return type(value) is not dict and (before[1] < after[1] or _have_risen(before[2], after[2]))
    if is_a(value, set):
        return before[1] < after[1]
    return before[1] < after[1] and all(old is new for old, new in zip(before[2], after[2], strict=False))


def _have_risen(before: list[Any], after: list[Any]) -> bool:
    """Whether nothing else has changed but numbers, which have risen."""
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old is not new]
    return bool(changed) and all(
        type(old) is type(new) and type(new) in (int, float) and old < new for old, new in changed
    )


def _has_only_grown(before: tuple[Any, int, list[Any]], after: tuple[Any, int, list[Any]]) -> bool:
    return before[1] < after[1] and all(old is new for old, new in zip(before[2], after[2], strict=False))
